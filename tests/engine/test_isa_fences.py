"""sfence.vma, Svinval, fence.i, new roots and modes, LR and SC: the core against QEMU's virt board."""

from __future__ import annotations

import pytest
from rv64lab import (
    BARE,
    FLAGS_S,
    LEAF2,
    MAPPED,
    MIDDLE,
    MXR,
    NOWHERE,
    PAGES,
    ROOT,
    ROOT2,
    SUM,
    TRANSLATE,
    Lab,
    compare,
    entry,
    leaf_slot,
)
from rv64run import RAM, missing_core, missing_tool

_MISSING = missing_tool("qemu-system-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


_FENCES = {
    "sfence.vma": "sfence.vma", "sfence.vma va": "sfence.vma a1", "sfence.vma asid": "sfence.vma zero, a4",
    "sfence.vma va asid": "sfence.vma a1, a4", "sinval": "sfence.w.inval; sinval.vma a1, a4; sfence.inval.ir",
    "sinval all": "sfence.w.inval; sinval.vma zero, zero; sfence.inval.ir",
}  # fmt: skip


def test_fences_after_a_change_of_entry() -> None:
    """After each form of fence the new entry counts: for loads, stores, fetches and permissions."""
    lab = Lab().run_code(
        f"li t0, {PAGES}; li t1, 111; sd t1, 64(t0); li t2, 4096; add t0, t0, t2; li t1, 222; sd t1, 64(t0)"
    )
    lab.run_code(TRANSLATE)
    at = MAPPED + 4 * 4096
    to_first, to_second = entry(PAGES, FLAGS_S), entry(PAGES + 4096, FLAGS_S)
    common = f"li a1, {at}; li a2, {leaf_slot(4)}; li a4, 0"
    for name, fence in _FENCES.items():
        lab.value(f"{name}: first", f"{common}; li a3, {to_first}; sd a3, 0(a2); {fence}; ld a0, 64(a1)")
        lab.value(f"{name}: second", f"{common}; li a3, {to_second}; sd a3, 0(a2); {fence}; ld a0, 64(a1)")
        lab.probe(f"{name}: no write", f"{common}; li a3, {to_second & ~4}; sd a3, 0(a2); {fence}; sd a0, 72(a1)")
        lab.probe(f"{name}: gone", f"{common}; sd zero, 0(a2); {fence}; ld a0, 64(a1)")
        lab.value(f"{name}: back", f"{common}; li a3, {to_first}; sd a3, 0(a2); {fence}; ld a0, 64(a1)")
        lab.probe(f"{name}: no fetch", f"{common}; li a3, {to_first & ~8}; sd a3, 0(a2); {fence}; jr a1")
    lab.run_code(BARE)
    log = compare(lab)
    assert log["sfence.vma va: second"] == 222
    assert log["sinval: no write: scause"] == 15


def test_modes_that_need_no_fence() -> None:
    """SUM, MXR, the privilege and satp.MODE count at once, whatever was cached under the old ones."""
    execute_only, user_page = MAPPED + 4 * 4096, MAPPED + 4096
    lab = Lab().run_code(
        f"li t0, {PAGES}; li t1, 111; sd t1, 64(t0); li t2, 4096; add t0, t0, t2; li t1, 222; sd t1, 64(t0)"
    )
    lab.run_code(
        f"li t0, {leaf_slot(4)}; li t1, {entry(PAGES, FLAGS_S & ~6)}; sd t1, 0(t0)\n"
        f"li s4, {SUM}; li s5, {MXR}; {TRANSLATE}"
    )
    for turn in range(2):
        lab.value(f"MXR on {turn}", f"csrs sstatus, s5; li a1, {execute_only}; ld a0, 64(a1)")
        lab.probe(f"MXR off {turn}", f"csrc sstatus, s5; li a1, {execute_only}; ld a0, 64(a1)")
        lab.value(f"SUM on {turn}", f"csrs sstatus, s4; li a1, {user_page}; ld a0, 64(a1); sd a0, 72(a1)")
        lab.probe(f"SUM off, load {turn}", f"csrc sstatus, s4; li a1, {user_page}; ld a0, 64(a1)")
        lab.probe(f"SUM off, store {turn}", f"li a1, {user_page}; sd a0, 80(a1)")
        lab.probe(f"SUM off, amo {turn}", f"li a1, {user_page}; amoadd.d a0, a0, (a1)")
        lab.probe(f"S jumps to U's page {turn}", f"csrs sstatus, s4; li a1, {user_page}; jr a1")
        lab.user(f"U loads {turn}", f"li a1, {user_page}; ld a0, 64(a1)")
        lab.user(f"U loads from S's page {turn}", f"li a1, {execute_only + 4096}; ld a0, 64(a1)")
        lab.value(f"S loads from it {turn}", f"li a1, {execute_only + 4096}; ld a0, 64(a1)")
        lab.value(
            f"S copies under MXR {turn}", f"csrs sstatus, s5; li a1, {execute_only}; ld a0, 64(a1); csrc sstatus, s5"
        )
        lab.user(f"U under MXR {turn}", f"li a1, {execute_only}; ld a0, 64(a1)", status=MXR)
        lab.run_code("csrc sstatus, s5")
        lab.probe(f"bare {turn}", f"csrr s6, satp; csrw satp, zero; li a1, {NOWHERE}; ld a0, 64(a1)")
        lab.value(f"bare, memory {turn}", f"li a1, {PAGES + 4096}; ld a0, 64(a1)")
        lab.value(f"translated again {turn}", f"csrw satp, s6; li a1, {MAPPED + 5 * 4096}; ld a0, 64(a1)")
    lab.run_code(BARE)
    log = compare(lab)
    assert log["MXR off 1: scause"] == 13
    assert log["SUM off, store 1: scause"] == 15


def test_a_fence_by_address_reaches_both_halves() -> None:
    """An instruction in two pages, executed; then its second page moves, with a fence for that page alone."""
    place = MAPPED + 5 * 4096 - 2
    lab = Lab().run_code(f"""
        li   t0, {PAGES + 4096 - 2}
        li   t1, 0x0513             # li a0, ... : its immediate stands in the second half
        sh   t1, 0(t0)
        li   t1, 0x80820110         # 17; ret
        sw   t1, 2(t0)
        li   t0, {PAGES + 2 * 4096}
        li   t1, 0x80820220         # 34; ret
        sw   t1, 0(t0)
        fence.i
        {TRANSLATE}
    """)
    lab.value("first", f"li t2, {place}; jalr t2")
    for turn, (page, fence) in enumerate(
        [(2, "sfence.vma a1"), (1, "sfence.vma a1, zero"), (2, "sfence.vma a1, a4"), (1, "sfence.vma")]
    ):
        moved = entry(PAGES + page * 4096, FLAGS_S)
        change = f"li a1, {place + 2}; li a4, 0; li a2, {leaf_slot(5)}; li a3, {moved}; sd a3, 0(a2); {fence}"
        lab.value(f"turn {turn}", f"{change}; li t2, {place}; jalr t2")
    lab.run_code(f"li a1, {place + 2}; li a2, {leaf_slot(5)}; sd zero, 0(a2); sfence.vma a1")
    lab.probe("second half gone", f"li t2, {place}; jalr t2")
    lab.run_code(BARE)
    log = compare(lab)
    assert [log[n] for n in ("first", "turn 0", "turn 1", "turn 2", "turn 3")] == [17, 34, 17, 34, 17]


def test_a_new_root() -> None:
    """Two roots with ASIDs of their own, switched without a fence; and one root filled anew, with a fence by ASID."""
    lab = Lab().run_code(f"""
        li t0, {PAGES}
        li t1, 111
        sd t1, 64(t0)
        li t2, 4096
        add t0, t0, t2
        li t1, 222
        sd t1, 64(t0)
        li t0, {ROOT2 + 8 * 8}
        li t1, {entry(LEAF2, 1)}         # the second root's own middle table
        sd t1, 0(t0)
        li t0, {LEAF2}
        li t1, {entry(RAM, FLAGS_S)}     # a 2 MiB page: RAM's beginning
        sd t1, 0(t0)
    """)
    at = MAPPED + 4 * 4096
    first, second = (8 << 60 | asid << 44 | root >> 12 for asid, root in ((1, ROOT), (2, ROOT2)))
    same_asid = 8 << 60 | 1 << 44 | ROOT2 >> 12
    lab.run_code(f"li t0, {first}; csrw satp, t0; sfence.vma")
    lab.value("first", f"li a1, {at}; ld a0, 64(a1)")
    lab.run_code(f"li t1, 333; li t0, {RAM + 4 * 4096}; sd t1, 64(t0)")
    for turn in range(3):
        lab.value(f"second {turn}", f"li t0, {second}; csrw satp, t0; li a1, {at}; ld a0, 64(a1)")
        lab.value(f"first {turn}", f"li t0, {first}; csrw satp, t0; li a1, {at}; ld a0, 64(a1)")
    lab.value(
        "same ASID, fenced",
        f"li t0, {same_asid}; csrw satp, t0; li t0, 1; sfence.vma zero, t0; li a1, {at}; ld a0, 64(a1)",
    )
    lab.value("bare again", f"{BARE}; li a1, {PAGES + 4096}; ld a0, 64(a1)")
    lab.value(
        "a table changed",
        f"""
        li t0, {first}
        csrw satp, t0
        li t0, {MIDDLE}
        li t1, {entry(RAM, FLAGS_S)}
        sd t1, 0(t0)
        sfence.vma
        li a1, {at}
        ld a0, 64(a1)
        {BARE}
    """,
    )
    log = compare(lab)
    assert [log[f"{n} {t}"] for t in range(3) for n in ("second", "first")] == [333, 111] * 3
    assert log["same ASID, fenced"] == log["a table changed"] == 333


def test_code_that_writes_code() -> None:
    """fence.i makes new code count, also where it was written under another address and right in front of the pc."""
    word = {n: 0x00000513 | n << 20 for n in range(8)}  # li a0, n
    lab = Lab()
    lab.value("old", "la t0, spot@; j spot@\nspot@: li a0, 1")
    for n in range(2, 6):
        lab.value(f"new {n}", f"la t0, spot@; li t1, {word[n]}; sw t1, 0(t0); fence.i; j spot@\nspot@: li a0, 1")
        lab.value(f"next instruction {n}", f"la t0, spot@; li t1, {word[n]}; sw t1, 0(t0); fence.i\nspot@: li a0, 1")
    lab.value(
        "in a loop",
        f"""
        li   a3, 0
        li   a4, 6
    again@: la t0, spot@
        slli t1, a4, 20
        li   t2, {word[0]}
        or   t1, t1, t2
        sw   t1, 0(t0)
        fence.i
    spot@: li a0, 0
        slli a3, a3, 4
        add  a3, a3, a0
        addi a4, a4, -1
        bnez a4, again@
        mv   a0, a3
    """,
    )
    lab.run_code(TRANSLATE)
    under = MAPPED + 5 * 4096
    for n in (3, 4):
        lab.value(
            f"written elsewhere {n}",
            f"li t0, {PAGES + 4096}; li t1, {word[n]}; sw t1, 0(t0); li t1, 0x8082; sh t1, 4(t0)\n"
            f"fence.i; li t2, {under}; jalr t2",
        )
    lab.run_code(BARE)
    log = compare(lab)
    assert log["in a loop"] == 0x654321
    assert [log[f"new {n}"] for n in range(2, 6)] == [2, 3, 4, 5]
    assert log["written elsewhere 4"] == 4


def test_reservations() -> None:
    """What an SC after an LR does: succeed; fail without one, the second time, and at another address."""
    lr, sc = f"li a1, {PAGES}; lr.d a2, (a1)", "sc.d a0, a3, (a1)"
    lab = Lab().run_code("li a3, 77")
    lab.value("pair", f"{lr}; {sc}")
    lab.value("memory", f"li a1, {PAGES}; ld a0, 0(a1)")
    lab.value("second", f"{lr}; {sc}; {sc}")
    lab.value("alone", f"li a1, {PAGES}; {sc}")
    lab.value("elsewhere", f"{lr}; addi a1, a1, 2000; {sc}")
    lab.value("after one elsewhere", f"{lr}; addi a1, a1, 2000; {sc}; addi a1, a1, -2000; {sc}")
    lab.value("lr twice", f"{lr}; addi a1, a1, 64; lr.d a2, (a1); {sc}")
    log = compare(lab)
    assert [log[n] for n in ("pair", "second", "alone", "elsewhere", "after one elsewhere")] == [0, 1, 1, 1, 1]
