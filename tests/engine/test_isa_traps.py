"""Exceptions from S-mode and U-mode, and sret: the same probes on the core and under QEMU's virt board."""

from __future__ import annotations

import pytest
from rv64lab import (
    BARE,
    FIELDS,
    FLAGS_S,
    FLAGS_U,
    MAPPED,
    MXR,
    NOWHERE,
    PAGES,
    SIE,
    SPIE,
    SPP,
    STALE,
    SUM,
    TRANSLATE,
    Lab,
    compare,
    entry,
    leaf_slot,
)
from rv64run import RAM, missing_core, missing_tool, run_core

_MISSING = missing_tool("qemu-system-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


_SUPERVISOR_TRAPS = {
    "ebreak": "ebreak",
    "c.ebreak": "c.ebreak",
    "illegal, 32 bits": ".word 0xffffffff",
    "illegal, zero": ".half 0",
    "illegal, 16 bits": ".half 0x8000",
    "CSR that is not there": "csrr a0, 0x5ff",
    "write to a CSR that cannot be written": "csrw time, a0",
    "mret": "mret",
    "M-mode CSR": "csrr a0, mstatus",
    "load from nowhere": f"li a0, {NOWHERE}; ld a1, 8(a0)",
    "byte load from nowhere": f"li a0, {NOWHERE + 3}; lbu a1, 0(a0)",
    "store to nowhere": f"li a0, {NOWHERE}; sw a1, 4(a0)",
    "amo to nowhere": f"li a0, {NOWHERE}; amoadd.w a1, a2, (a0)",
    "lr from nowhere": f"li a0, {NOWHERE}; lr.d a1, (a0)",
    "fetch from nowhere": f"li a0, {NOWHERE}; jalr a0",
    "fetch from nowhere, odd": f"li a0, {NOWHERE + 1}; jalr a0",
    "fetch from the top": "li a0, -2; jr a0",
    "load beyond RAM's end": f"li a0, {RAM + (64 << 20)}; ld a1, 0(a0)",
    "load across RAM's end": f"li a0, {RAM + (64 << 20) - 4}; ld a1, 0(a0)",
    "amo.w misaligned": f"li a0, {PAGES + 2}; amoadd.w a1, a2, (a0)",
    "amo.d misaligned": f"li a0, {PAGES + 4}; amoadd.d a1, a2, (a0)",
    "lr.w misaligned": f"li a0, {PAGES + 1}; lr.w a1, (a0)",
    "sc.d misaligned": f"li a0, {PAGES}; lr.d a1, (a0); addi a0, a0, 4; sc.d a1, a2, (a0)",
    "load misaligned": f"li a0, {PAGES + 4093}; ld a1, 0(a0)",
    "store misaligned": f"li a0, {PAGES + 4095}; sw zero, 0(a0)",
    "fadd with FS off": "li t0, 0x6000; csrc sstatus, t0; fadd.d fa0, fa0, fa0",
    "c.fld with FS off": "li t0, 0x6000; csrc sstatus, t0; c.fld fa0, 0(a0)",
    "fcsr with FS off": "li t0, 0x6000; csrc sstatus, t0; frcsr a0",
    "rm 5": "li t0, 0x6000; csrs sstatus, t0; .word 0x02b55553",
    "rm 7 with frm 6": "li t0, 0x6000; csrs sstatus, t0; fsrm zero; li t0, 6; fsrm t0; fadd.d fa0, fa1, fa2",
    "rm 7 with frm 5 where rm is no field": "fmv.x.d a0, fa0; fclass.d a0, fa0",
    "load at the very top": "li a0, -1; lb a1, 0(a0)",
    "store at the very top": "li a0, -8; sd a1, 0(a0)",
    "amo at the very top": "li a0, -8; amoor.d a1, a1, (a0)",
    "frm valid again": "fsrm zero; fadd.d fa0, fa1, fa2",
}


def test_exceptions_in_supervisor_mode() -> None:
    lab = Lab()
    for name, code in _SUPERVISOR_TRAPS.items():
        lab.probe(name, code)
    split = "the core reports a misaligned access that memory cannot serve; QEMU splits it and the second part faults"
    read_first = "QEMU reads first and calls it a load; an AMO raises store/AMO exceptions (volume I, 13.4)"
    failed = "QEMU compares the reservation before it looks at the address; the core checks alignment first"
    log = compare(
        lab,
        {
            "mret: stval": STALE,
            "load across RAM's end: scause": split,
            "load across RAM's end: stval": split,
            "amo.w misaligned: scause": read_first,
            "amo.d misaligned: scause": read_first,
            **{f"sc.d misaligned: {field}": failed for field in FIELDS},
        },
    )
    assert log["ebreak: scause"] == 3
    assert log["illegal, 32 bits: stval"] == 0xFFFFFFFF
    assert log["illegal, 16 bits: stval"] == 0x8000
    assert log["fetch from nowhere: stval"] == log["fetch from nowhere: sepc"] == NOWHERE
    assert log["amo.w misaligned: scause"] == 6
    assert log["lr.w misaligned: scause"] == 4
    assert log["load misaligned: scause"] == -1
    assert log["sc.d misaligned: scause"] == 6
    assert log["load across RAM's end: scause"] in (4, 5)


def test_exceptions_in_user_mode() -> None:
    lab = Lab().run_code(TRANSLATE)
    cases = {
        "ecall": "ecall", "ebreak": "nop", "illegal": ".word 0", "sret": "sret", "mret": "mret", "wfi": "wfi",
        "sfence.vma": "sfence.vma", "sinval.vma": "sinval.vma a0, a1", "S-mode CSR": "csrr a0, sstatus",
        "S-mode CSR write": "csrw sscratch, a0", "M-mode CSR": "csrr a0, mstatus", "fcsr": "frcsr a0",
        "load of S-mode's page": f"li a0, {MAPPED + 4 * 4096}; ld a1, 16(a0)",
        "store to S-mode's page": f"li a0, {MAPPED + 4 * 4096}; sd a1, 24(a0)",
        "jump to S-mode's page": f"li a0, {MAPPED + 4 * 4096}; jr a0",
        "load of an unmapped page": f"li a0, {MAPPED + 9 * 4096}; ld a1, 16(a0)",
        "amo to an unmapped page": f"li a0, {MAPPED + 9 * 4096}; amoor.w a1, a1, (a0)",
        "jump to an unmapped page": f"li a0, {MAPPED + 9 * 4096 + 2}; jr a0",
        "jump to a page without memory": "li a0, 0x50; jr a0",
        "load not canonical": f"li a0, {1 << 60}; lb a1, 1(a0)",
        "jump not canonical": f"li a0, {1 << 60}; jr a0",
        "fadd with FS off": "fadd.d fa0, fa0, fa0",
    }  # fmt: skip
    for name, code in cases.items():
        if name == "fadd with FS off":
            lab.run_code("li t0, 0x6000; csrc sstatus, t0")
        lab.user(name, code)
    lab.run_code(BARE)
    log = compare(lab, {"mret: stval": STALE})
    assert log["ecall: scause"] == 8
    assert log["mret: stval"] == 0x30200073
    assert log["ecall: stval"] == 0
    assert not log["ecall: sstatus"] & SPP
    assert log["load of S-mode's page: stval"] == MAPPED + 4 * 4096 + 16


def test_an_instruction_in_two_pages() -> None:
    """Its second half missing: stval names the second page, sepc the instruction; and once mapped, it runs."""
    halves = 0x02A00513  # li a0, 42
    place = PAGES + 4096 - 2
    lab = Lab().run_code(f"""
        li   t0, {place}
        li   t1, {halves & 0xFFFF}
        sh   t1, 0(t0)
        li   t1, {halves >> 16}
        li   t0, {PAGES + 2 * 4096}
        sh   t1, 0(t0)
        li   t1, 0x9002
        sh   t1, 2(t0)
        fence.i
        {TRANSLATE}
        li   t0, {leaf_slot(1)}
        sd   zero, 0(t0)
        sfence.vma
    """)
    lab.user("second half missing", f"li a0, {MAPPED + 4096 - 2}; jr a0")
    lab.run_code(f"li t0, {leaf_slot(1)}; li t1, {entry(PAGES + 2 * 4096, FLAGS_U)}; sd t1, 0(t0); sfence.vma")
    lab.user("second half there, pages apart", f"li a0, {MAPPED + 4096 - 2}; jr a0")
    lab.value("its result", "mv a0, a0")
    lab.run_code(f"li t0, {leaf_slot(1)}; li t1, {entry(PAGES + 2 * 4096, FLAGS_U & ~8)}; sd t1, 0(t0); sfence.vma")
    lab.user("second half not executable", f"li a0, {MAPPED + 4096 - 2}; jr a0")
    lab.run_code(BARE)
    log = compare(lab)
    assert log["second half missing: scause"] == 12
    assert log["second half missing: stval"] == MAPPED + 4096
    assert log["second half missing: sepc"] == MAPPED + 4096 - 2
    assert log["its result"] == 42


def test_data_across_pages_that_lie_apart() -> None:
    """Misaligned loads and stores over two pages whose physical pages are not neighbours."""
    lab = Lab().run_code(TRANSLATE)
    lab.run_code(f"li t0, {leaf_slot(4)}; li t1, {entry(PAGES + 3 * 4096, FLAGS_S)}; sd t1, 0(t0)")
    lab.run_code(f"li t0, {leaf_slot(5)}; li t1, {entry(PAGES + 4096, FLAGS_S)}; sd t1, 0(t0); sfence.vma")
    boundary = MAPPED + 5 * 4096
    for offset in range(1, 8):
        lab.run_code(f"li t0, {boundary - offset}; li t1, {0x1122334455667788 + offset}; sd t1, 0(t0)")
        lab.value(f"ld {offset}", f"li a1, {boundary - offset}; ld a0, 0(a1)")
        lab.value(f"first {offset}", f"li a1, {PAGES + 4 * 4096 - 8}; ld a0, 0(a1)")
        lab.value(f"second {offset}", f"li a1, {PAGES + 4096}; ld a0, 0(a1)")
        lab.run_code(f"li t0, {boundary - offset}; fld fa0, 0(t0); fsd fa0, 16(t0)")
        lab.value(f"fld {offset}", f"li a1, {boundary - offset}; ld a0, 16(a1)")
        if offset < 4:
            lab.value(f"lw {offset}", f"li a1, {boundary - offset}; lw a0, 0(a1)")
            lab.run_code(f"li t0, {boundary - offset}; sw t1, 0(t0)")
            lab.value(f"lwu {offset}", f"li a1, {boundary - offset}; lwu a0, 0(a1)")
        if offset == 1:
            lab.value("lh", f"li a1, {boundary - 1}; lh a0, 0(a1)")
            lab.run_code(f"li t0, {boundary - 1}; sh a1, 0(t0)")
            lab.value("lhu", f"li a1, {boundary - 1}; lhu a0, 0(a1)")
    lab.run_code(BARE)
    assert compare(lab)["ld 3"] == 0x1122334455667788 + 3


_MANY = {
    "illegal": (".word 0xffffffff", 2), "ebreak": ("ebreak", 3), "load from nowhere": ("ld t1, 0(s5)", 5),
    "store to nowhere": ("sd t1, 0(s5)", 7), "amo misaligned": ("amoadd.d t1, t1, (s6)", 6),
    "no such CSR": ("csrr t1, 0x5ff", 2),
    "F off": ("fadd.d fa0, fa0, fa0", 2), "fetch": ("jalr ra, 0(s5)", 1), "no trap: fence.i": ("fence.i", None),
    "no trap: sfence.vma": ("sfence.vma", None), "no trap: csr": ("csrrw t1, sscratch, t1", None),
    "no trap: misaligned": ("ld t1, 0(s7)", None),
}  # fmt: skip


@pytest.mark.parametrize("kind", _MANY)
def test_many_in_a_row(kind: str) -> None:
    """Half a million of each without a pause: nothing piles up in the host."""
    code, cause = _MANY[kind]
    rounds = 500_000
    lab = Lab().value(
        "count",
        f"""
        csrr s8, stvec
        la   t0, handler@
        csrw stvec, t0
        li   t0, 0x6000
        csrc sstatus, t0
        li   s5, {NOWHERE}
        li   s6, {PAGES + 4}
        li   s7, {PAGES + 4093}
        li   s4, 0
        li   s3, {rounds}
    again@: la   ra, over@
        {code}
    over@: addi s3, s3, -1
        bnez s3, again@
        j    end@
        .align 4
    handler@: csrr t0, scause
        addi t0, t0, -{cause or 0}
        seqz t0, t0
        add  s4, s4, t0
        csrw sepc, ra
        sret
    end@: csrw stvec, s8
        mv   a0, s4
    """,
    )
    assert lab.run(run_core)[0]["count"] == (rounds if cause else 0)


def test_sret() -> None:
    """Every SPP, SPIE and SIE: where it goes and what sstatus is afterwards."""
    lab = Lab().run_code(f"csrw sie, zero; {TRANSLATE}")
    for spie in (0, SPIE):
        for sie in (0, SIE):
            clear = f"li t0, {SPP | SPIE | SIE}; csrc sstatus, t0; li t0, {spie | sie | SUM | MXR}; csrs sstatus, t0"
            lab.probe(
                f"to S, SPIE {spie}, SIE {sie}",
                f"{clear}; li t0, {SPP}; csrs sstatus, t0; la t0, on@; csrw sepc, t0; sret\non@: ebreak",
            )
            lab.value(
                f"sstatus in S, SPIE {spie}, SIE {sie}",
                f"{clear}; li t0, {SPP}; csrs sstatus, t0; la t0, on@; csrw sepc, t0; sret\non@: csrr a0, sstatus",
            )
            lab.run_code(clear)
            lab.user(f"to U, SPIE {spie}, SIE {sie}", "ecall")
    lab.probe(
        "to an odd address",
        f"li t0, {SPP}; csrs sstatus, t0; la t0, on@; addi t0, t0, 1; csrw sepc, t0; sret\non@: ebreak",
    )
    lab.run_code(BARE)
    odd = "sepc has no bit 0 (volume II, 11.1.7); QEMU 10.0 keeps it and goes on there"
    log = compare(lab, {f"to an odd address: {field}": odd for field in FIELDS})
    assert log["to an odd address: scause"] == 3
    assert log["to an odd address: sepc"] % 2 == 0
