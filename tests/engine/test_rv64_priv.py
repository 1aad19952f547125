"""Traps, CSRs, translation, fences, interrupts and the SBI of the software core, each by a small program of its own."""

from __future__ import annotations

import os
import threading
import time

import pytest

from patience import patience

_core = pytest.importorskip("vmrun._core", reason="needs the built extension vmrun._core")
lib = _core.lib

from rv64_priv_kit import (  # noqa: E402
    ALL,
    CODE,
    CSR,
    OUT,
    PC,
    POWEROFF,
    PRIVILEGE,
    RAM,
    RAM_SIZE,
    RWXAD,
    SCAUSE,
    STVEC,
    TABLES,
    A,
    D,
    Guest,
    R,
    V,
    W,
    console,
    guest,
    leaf,
    program,
    ran,
)  # fmt: skip
from rv64asm import Asm, li_parts  # noqa: E402

from vmrun.devices.testing import wait_for  # noqa: E402

M64 = (1 << 64) - 1
ILLEGAL, BREAKPOINT = 2, 3


# ---- traps


@pytest.mark.parametrize(
    ("instruction", "cause", "value"),
    [
        (".word 0", ILLEGAL, 0),
        ("ebreak", BREAKPOINT, "pc"),
        (".word 0xffffffff", ILLEGAL, 0xFFFFFFFF),
        (".word 0x30002073", ILLEGAL, 0x30002073),  # csrr zero, mstatus
        (".word 0x30200073", ILLEGAL, 0x30200073),  # mret
        (".word 0xc0001073", ILLEGAL, 0xC0001073),  # csrw cycle, zero
        ("csrr t0, 0xc03", ILLEGAL, 0xC03022F3),  # hpmcounter3
        ("ld t0, 0(zero)", 5, 0),
        ("sd t0, 0(zero)", 7, 0),
        ("li t0, -8; lw t1, 4(t0)", 5, -4),
        ("amoadd.d t0, t1, (zero)", 7, 0),
        ("lr.w t0, (zero)", 5, 0),
        ("li t0, 1; amoadd.w t0, t1, (t0)", 6, 1),
        ("li t0, 2; lr.d t0, (t0)", 4, 2),
        ("li t0, 4; sc.d t0, t1, (t0)", 6, 4),
        ("li t0, 3; ld t1, 0(t0)", 4, 3),  # misaligned where there is no RAM
    ],
)
def test_exception_cause_and_value(instruction: str, cause: int, value: int | str) -> None:
    first, _, last = instruction.rpartition(";")
    with ran(f"{first}\nhere: {last}\n la t2, here; sd t2, 0(s0)") as made:
        trap = made.trap()
        assert (trap.count, trap.cause) == (1, cause)
        assert trap.value == (made.out(0) if value == "pc" else int(value) % (1 << 64))
        assert trap.pc == made.out(0)


def test_jump_to_where_no_memory_is_traps_at_the_target() -> None:
    text = "li s11, 0; la t0, on; csrw stvec, t0; li t1, 0x1000; jr t1; .align 4\non: csrr t0, scause; sd t0, 0(s0)\n"
    with ran(text + "csrr t0, sepc; sd t0, 8(s0); csrr t0, stval; sd t0, 16(s0)") as made:
        assert [made.out(i) for i in range(3)] == [1, 0x1000, 0x1000]


@pytest.mark.parametrize("jump", ["jalr t4, 2(t3)", "jal t4, pc+6", "beq zero, zero, pc+6"])
def test_misaligned_target_without_compressed_instructions(jump: str) -> None:
    with ran(f"la t3, here; li t4, 7\nhere: {jump}\n sd t4, 0(s0); sd t3, 8(s0)", isa=ALL & ~lib.VMR_RV64_C) as made:
        trap = made.trap()
        offset = 2 if jump.startswith("jalr") else 6
        assert (trap.count, trap.cause, trap.value, trap.pc) == (1, 0, made.out(1) + offset, made.out(1))
        assert made.out(0) == 7, "the link register is written although the jump trapped"


@pytest.mark.parametrize(
    ("instruction", "bit"),
    [
        ("mul t1, t1, t1", "M"),
        ("amoadd.w t1, t1, (s0)", "A"),
        ("c.addi t1, 1", "C"),
        ("fadd.s ft0, ft0, ft0", "F"),
        ("csrr t1, fcsr", "F"),
        ("fadd.d ft0, ft0, ft0", "D"),
        ("fcvt.s.d ft0, ft0", "D"),
        ("sh1add t1, t1, t1", "ZBA"),
        ("andn t1, t1, t1", "ZBB"),
        ("bset t1, t1, t1", "ZBS"),
        ("csrr t1, stimecmp", "SSTC"),
        ("csrr t1, stopi", "SSAIA"),
        ("sinval.vma t1, t1", "SVINVAL"),
    ],
)
def test_instruction_outside_the_isa_is_illegal(instruction: str, bit: str) -> None:
    text = f"li t0, 0x6000; csrs sstatus, t0\n{instruction}"
    if bit == "C":
        text += "; c.addi t1, 1"  # two, for there are no addresses that are not multiples of 4 without C
    with ran(text) as made:
        assert made.trap().count == 0
    without = ALL & ~getattr(lib, f"VMR_RV64_{bit}")
    if bit == "F":
        without &= ~lib.VMR_RV64_D
    with ran(text, isa=without) as made:
        assert (made.trap().count, made.trap().cause) == (1, ILLEGAL)


@pytest.mark.parametrize(
    "instruction", ["fadd.d ft0, ft0, ft0", "fsd ft0, 0(s0)", "fld ft0, 0(s0)", "csrr t0, frm", "fmv.x.d t0, ft0"]
)
def test_floating_point_is_illegal_while_off(instruction: str) -> None:
    with ran(f"li t0, 0x6000; csrc sstatus, t0\n{instruction}") as made:
        assert (made.trap().count, made.trap().cause) == (1, ILLEGAL)


def test_floating_point_state_becomes_dirty() -> None:
    text = "li t0, 0x6000; csrc sstatus, t0; li t0, 0x2000; csrs sstatus, t0; csrr t1, sstatus; sd t1, 0(s0)\n"
    with ran(text + "fmv.d.x ft0, zero; csrr t1, sstatus; sd t1, 8(s0)") as made:
        assert made.out(0) >> 13 & 3 == 1
        assert made.out(0) >> 63 == 0
        assert made.out(1) >> 13 & 3 == 3
        assert made.out(1) >> 63 == 1


@pytest.mark.parametrize("frm", [5, 6, 7])
def test_reserved_dynamic_rounding_mode_is_illegal(frm: int) -> None:
    with ran(f"li t0, 0x6000; csrs sstatus, t0; csrwi frm, {frm}; fadd.s ft0, ft0, ft0") as made:
        assert (made.trap().count, made.trap().cause) == (1, ILLEGAL)


# ---- CSRs


@pytest.mark.parametrize(
    ("csr", "written", "read"),
    [
        ("sstatus", M64, 1 << 63 | 2 << 32 | 0xC6122),
        ("sie", M64, 0x222),
        ("stvec", CODE + 1, CODE + 1),
        ("scounteren", M64, 7),
        ("senvcfg", M64, 1),
        ("sscratch", 0x123456789ABCDEF0, 0x123456789ABCDEF0),
        ("sepc", M64, M64 - 1),
        ("scause", M64, M64),
        ("stval", M64, M64),
        ("sip", M64, 2),
        ("satp", 10 << 60 | 5, 0),
        ("satp", 0xFFFF << 44 | 5, 5),
        ("stimecmp", M64 - 5, M64 - 5),
    ],
)
def test_writable_bits(csr: str, written: int, read: int) -> None:
    put = f"csrw {csr}, t1" if csr != "sstatus" else "csrc sstatus, t1; li t2, -3; and t1, t1, t2; csrw sstatus, t1"
    keep = 2 if csr == "sstatus" else 0  # SIE stays off
    with ran(f"li t1, {written}; {put}; csrr t1, {csr}; csrw stvec, zero; sd t1, 0(s0)") as made:
        assert made.out(0) == read & ~keep


def test_reserved_stvec_mode_is_ignored() -> None:
    with ran("csrr t0, stvec; sd t0, 0(s0); ori t1, t0, 2; csrw stvec, t1; csrr t1, stvec; sd t1, 8(s0)") as made:
        assert made.out(0) == made.out(1)


def test_csr_set_and_clear_with_x0_do_not_write() -> None:
    with ran("csrr t0, cycle; csrrc t0, instret, zero; csrrsi t0, time, 0; li t1, 0; csrrs t0, cycle, t1") as made:
        assert made.trap().count == 1, "only csrrs with a register other than x0 writes, whatever it holds"


def test_instret_counts_exactly() -> None:
    text = "rdinstret t0; nop; nop; add t3, t3, t3; rdinstret t1; sub t1, t1, t0; sd t1, 0(s0)\n"
    loop = (
        "rdinstret t0; li t2, 5000\nloop: addi t2, t2, -1; bnez t2, loop; rdinstret t1; sub t1, t1, t0; sd t1, 8(s0)\n"
    )
    trap = "rdinstret t3; ebreak; rdinstret t4; sub t4, t4, t3; sd t4, 16(s0)"
    with ran(text + loop + trap) as made:
        assert made.out(0) == 4
        assert made.out(1) == 1 + 2 + 2 * 5000  # li 5000 is lui and addiw
        handler = len(li_parts(OUT + 0xF00)) + 12
        assert made.out(2) == 1 + handler, "the ebreak does not retire"


USER = """
        li   t0, 0x100
        csrc sstatus, t0
        la   t0, user
        csrw sepc, t0
        la   t0, back
        csrw stvec, t0
        sret
        .align 4
back:   csrr t0, scause
        sd   t0, 0(s0)
        csrr t0, sstatus
        andi t0, t0, 0x100
        sd   t0, 8(s0)
"""


@pytest.mark.parametrize(
    ("instruction", "cause"),
    [
        ("ecall", 8),
        ("ebreak", 3),
        ("wfi", 2),
        ("sret", 2),
        ("sfence.vma", 2),
        ("sinval.vma t0, t0", 2),
        ("sfence.w.inval", 2),
        ("csrr t0, sstatus", 2),
        ("csrr t0, stimecmp", 2),
        ("csrw siselect, t0", 2),
        ("csrr t0, sireg", 2),
        ("csrrw t0, sireg, t0", 2),
        ("csrrw t0, stopei, zero", 2),
        ("csrr t0, stopi", 2),
        ("csrr t0, 0xc04", 2),  # hpmcounter4
    ],
)
def test_user_mode_may_not(instruction: str, cause: int) -> None:
    with ran(f"{USER} j over\nuser: {instruction}\nover: nop") as made:
        assert made.out(0) == cause
        assert made.out(1) == 0, "SPP says that the trap came from U-mode"


@pytest.mark.parametrize(("counteren", "bit", "csr"), [(0, 1, "cycle"), (5, 2, "time"), (3, 4, "instret")])
def test_counters_in_user_mode_obey_scounteren(counteren: int, bit: int, csr: str) -> None:
    with ran(f"csrwi scounteren, {counteren}; {USER} j over\nuser: csrr t0, {csr}\n ecall\nover: nop") as made:
        assert made.out(0) == 2
    with ran(f"csrwi scounteren, {bit}; {USER} j over\nuser: csrr t0, {csr}\n ecall\nover: nop") as made:
        assert made.out(0) == 8


# ---- memory


@pytest.mark.parametrize("offset", [1, 3, 7, 0xFF9, 0xFFC, 0xFFF])
def test_misaligned_accesses_work_across_pages_too(offset: int) -> None:
    base = OUT + 0x1000 + offset
    text = f"li t0, {base}; li t1, 0x1122334455667788; sd t1, 0(t0); ld t2, 0(t0); sd t2, 0(s0)\n"
    text += "lw t2, 2(t0); sd t2, 8(s0)\n"
    with ran(text + "lhu t2, 3(t0); sd t2, 16(s0); sh t1, 1(t0); ld t2, 0(t0); sd t2, 24(s0)") as made:
        assert made.out(0) == 0x1122334455667788
        assert made.out(1) == 0x33445566
        assert made.out(2) == 0x4455
        assert made.out(3) == 0x1122334455778888
        assert made.trap().count == 0


def sv_tables(made_text: str, mode: int) -> str:
    """Return code that maps RAM's first GiB onto itself by one leaf, and page 0x40000000 by 4 KiB entries."""
    top = TABLES if mode == 8 else TABLES + 0x4000
    third = "" if mode == 8 else f"li t0, {top}; li t1, {TABLES >> 12 << 10 | V}; sd t1, 0(t0)\n"
    return f"""{third}
        li t0, {TABLES}
        li t1, {leaf(RAM, RWXAD)}
        sd t1, 16(t0)
        li t1, {(TABLES + 0x1000) >> 12 << 10 | V}
        sd t1, 8(t0)
        li t0, {TABLES + 0x1000}
        li t1, {(TABLES + 0x2000) >> 12 << 10 | V}
        sd t1, 0(t0)
        li t0, {mode << 60 | top >> 12}
        csrw satp, t0
        sfence.vma
        li s1, 0x40000000
        li s2, {TABLES + 0x2000}
        {made_text}
    """


@pytest.mark.parametrize("mode", [8, 9])
def test_translation_sets_accessed_and_dirty(mode: int) -> None:
    page = OUT + 0x2000
    text = f"li t1, {leaf(page, V | R | W)}; sd t1, 0(s2); ld t2, 0(s1); ld t2, 0(s2); sd t2, 0(s0)\n"
    text += "sd t1, 8(s1); ld t2, 0(s2); sd t2, 8(s0)"
    with ran(sv_tables(text, mode)) as made:
        assert made.trap().count == 0
        assert made.out(0) == leaf(page, V | R | W | A)
        assert made.out(1) == leaf(page, V | R | W | A | D)
        assert made.read(page + 8, 8) == leaf(page, V | R | W).to_bytes(8, "little")


@pytest.mark.parametrize(
    "fence",
    [
        "sfence.vma",
        "sfence.vma s1, zero",
        "sfence.vma zero, t0",
        "sfence.vma s1, t0",
        "sfence.w.inval; sinval.vma s1, zero; sfence.inval.ir",
    ],
)
@pytest.mark.parametrize("mode", [8, 9])
def test_remapping_shows_after_the_fence(mode: int, fence: str) -> None:
    one, two = OUT + 0x2000, OUT + 0x3000
    text = f"""li t1, {leaf(one, RWXAD)}; sd t1, 0(s2); sfence.vma; li t2, 11; sd t2, 0(s1)
        li t1, {leaf(two, RWXAD)}; sd t1, 0(s2); li t0, 0; {fence}; ld t2, 0(s1); sd t2, 0(s0); li t2, 22; sd t2, 0(s1)
        sd zero, 0(s2); {fence}; ld t2, 0(s1)"""
    with guest(program(sv_tables(text, mode))) as made:
        made.write_words(two, 77)
        made.run()
        assert made.out(0) == 77
        assert (made.read(one, 8)[0], made.read(two, 8)[0]) == (11, 22)
        assert (made.trap().count, made.trap().cause, made.trap().value) == (1, 13, 0x40000000)


def test_one_address_of_a_superpage_flushes_all_of_it() -> None:
    one, two = RAM + 0x60_0000, RAM + 0x80_0000
    text = f"""li s3, {TABLES + 0x1000}; li t1, {leaf(one, RWXAD)}; sd t1, 8(s3); sfence.vma
        li s1, 0x40200000; ld t2, 0(s1); li s4, 0x403ff000; ld t2, 0(s4); sd t2, 0(s0)
        li t1, {leaf(two, RWXAD)}; sd t1, 8(s3); sfence.vma s1, zero; ld t2, 0(s4); sd t2, 8(s0)"""
    with guest(program(sv_tables(text, 8))) as made:
        made.write_words(one + 0x1FF000, 1)
        made.write_words(two + 0x1FF000, 2)
        made.run()
        assert (made.out(0), made.out(1)) == (1, 2)


def test_a_misaligned_store_into_a_missing_page_names_that_page_and_writes_nothing() -> None:
    page = OUT + 0x2000
    text = f"li t1, {leaf(page, RWXAD)}; sd t1, 0(s2); sd zero, 8(s2); sfence.vma\n"
    text += "li t0, 0x40000ffc; li t1, -1; sd t1, 0(t0)"
    with ran(sv_tables(text, 8)) as made:
        assert (made.trap().count, made.trap().cause, made.trap().value) == (1, 15, 0x40001000)
        assert made.read(page + 0xFFC, 4) == bytes(4)


@pytest.mark.parametrize("second", ["mapped", "missing"])
def test_an_instruction_across_two_pages(second: str) -> None:
    one, two = OUT + 0x2000, OUT + 0x5000
    entry = leaf(two, RWXAD) if second == "mapped" else 0
    text = f"""li t1, {leaf(one, RWXAD)}; sd t1, 0(s2); li t1, {entry}; sd t1, 8(s2); sfence.vma; fence.i
        la t0, on; csrw stvec, t0; la ra, on; li t0, 0x40000ffe; li t2, 5; jr t0
        .align 4
on:     sd t2, 0(s0); csrr t0, scause; sd t0, 8(s0); csrr t0, stval; sd t0, 16(s0); csrr t0, sepc; sd t0, 24(s0)"""
    word = 0x02A38393  # addi t2, t2, 42
    with guest(program(sv_tables(text, 8))) as made:
        made.write(one + 0xFFE, word.to_bytes(4, "little")[:2])
        made.write(two, word.to_bytes(4, "little")[2:] + (0x8082).to_bytes(2, "little"))  # ret
        made.run()
        if second == "mapped":
            assert made.out(0) == 47
        else:
            assert [made.out(i) for i in range(4)] == [5, 12, 0x40001000, 0x40000FFE]


# ---- code that changes


def test_code_changes_show_after_fence_i() -> None:
    text = """
        la   s1, patch
        li   s2, 200
        li   s3, 0
loop:   lw   t0, 0(s1)
        li   t1, 0x100000      # one more in the immediate of addi
        add  t0, t0, t1
        sw   t0, 0(s1)
        fence.i
        li   t2, 0
patch:  addi t2, t2, 0
        add  s3, s3, t2
        addi s2, s2, -1
        bnez s2, loop
        sd   s3, 0(s0)
    """
    with ran(text) as made:
        assert made.out(0) == sum(range(1, 201))


@pytest.mark.parametrize("offset", range(34, 72, 2))
def test_instructions_beside_changed_code_still_do_their_work(offset: int) -> None:
    """Fused pairs at every place around the border of what is decoded anew."""
    before = "c.nop\n" * (offset // 2)
    after = "c.nop\n" * ((80 - offset - 8) // 2 + 1)
    text = f"""
        li   s2, 3
        li   a0, 0
        j    here
        .align 64
here:   {before}
        addi a0, a0, 1
        addi a0, a0, 2
        {after}
        .align 4
patch:  addi a1, a1, 0
        la   s1, patch
        lw   t0, 0(s1)
        li   t1, 0x100000
        add  t0, t0, t1
        sw   t0, 0(s1)
        fence.i
        addi s2, s2, -1
        beqz s2, end
        j    here
end:    sd   a0, 0(s0)
    """
    with ran(text) as made:
        assert made.out(0) == 9


@pytest.mark.parametrize("cache", [1, 64 << 20])
def test_code_larger_than_the_cache(cache: int) -> None:
    pages = 40
    body = "".join(f".align 4096\np{i}: addi a0, a0, {i}\n j p{i + 1}\n" for i in range(pages))
    last = f".align 4096\np{pages}: addi s2, s2, -1; beqz s2, done; j again\ndone: sd a0, 0(s0)"
    with ran(f"li s2, 50; li a0, 0\nagain: j p0\n{body}{last}", cache=cache) as made:
        assert made.out(0) == 50 * sum(range(pages))
        decoded = made.stats().pages_decoded
        assert decoded > 1000 if cache == 1 else decoded < 60


# ---- interrupts


VECTORS = """
        la t0, vectors; ori t0, t0, 1; csrw stvec, t0; j go
        .align 64
vectors: j bad
        j soft
        j bad
        j bad
        j bad
        j timer
        j bad
        j bad
        j bad
        j external
bad:    li s5, -1
soft:   addi s5, s5, 1; csrci sip, 2; sret
timer:  addi s6, s6, 1; li t0, -1; csrw stimecmp, t0; sret
external: addi s7, s7, 1; li t0, 0x200; csrc sie, t0; sret
go:     li s5, 0; li s6, 0; li s7, 0
"""
RESULTS = "sd s5, 0(s0); sd s6, 8(s0); sd s7, 16(s0)"


def test_software_interrupt_is_taken_at_once_when_enabled() -> None:
    with ran(f"{VECTORS} csrsi sip, 2; csrsi sie, 2; csrsi sstatus, 2; mv s8, s5; sd s8, 24(s0); {RESULTS}") as made:
        assert (made.out(0), made.out(3)) == (1, 1)


def test_timer_interrupt_fires_in_a_loop_and_from_wfi() -> None:
    text = f"""{VECTORS} li t0, 0x20; csrs sie, t0; csrsi sstatus, 2
        rdtime t1; addi t1, t1, 100; csrw stimecmp, t1
spin:   beqz s6, spin
        rdtime t1; li t2, 20000; add s8, t1, t2; csrw stimecmp, s8
        wfi
        rdtime t1; sltu t1, t1, s8; sd t1, 24(s0); {RESULTS}"""
    with ran(text) as made:
        assert made.out(1) == 2
        assert made.out(3) == 0, "woke before stimecmp"
        assert made.stats().wfi_ns > 0


def test_timer_that_fires_while_interrupts_are_off_is_taken_when_they_are_on_briefly() -> None:
    text = f"""{VECTORS} li t0, 0x20; csrs sie, t0; rdtime t1; csrw stimecmp, t1
        wfi
        csrsi sstatus, 2
        csrci sstatus, 2
        {RESULTS}"""
    with ran(text) as made:
        assert made.out(1) == 1


def test_external_interrupt_wakes_a_sleeping_hart() -> None:
    with guest(program(f"{VECTORS} li t0, 0x200; csrs sie, t0; csrsi sstatus, 2; wfi; {RESULTS}")) as made:
        line = threading.Timer(patience(0.05), lambda: raise_external(made))
        line.start()
        made.run()
        assert (made.out(0), made.out(1), made.out(2)) == (0, 0, 1)


def raise_external(made: Guest) -> None:
    made.line(9).raise_()


def test_external_comes_before_software_before_timer() -> None:
    text = """la t0, order; csrw stvec, t0; li t0, 0x222; csrs sie, t0; csrwi stimecmp, 1; csrsi sip, 2; mv s1, s0
        csrsi sstatus, 2; j end
        .align 4
order:  csrr t0, scause; sd t0, 0(s1); addi s1, s1, 8; li t1, 1; sll t1, t1, t0; csrc sie, t1; sret
end:    nop"""
    with guest(program(text)) as made:
        raise_external(made)
        made.run()
        assert [made.out(i) & 63 for i in range(3)] == [9, 1, 5]
        assert all(made.out(i) >> 63 for i in range(3))


# ---- SBI


def sbi(extension: int, function: int, *arguments: str | int) -> str:
    loads = "".join(f"li a{i}, {a}\n" for i, a in enumerate(arguments))
    return f"{loads} li a7, {extension}; li a6, {function}; ecall\n"


BASE, TIME, IPI, RFENCE, HSM, SRST, DBCN = 0x10, 0x54494D45, 0x735049, 0x52464E43, 0x48534D, 0x53525354, 0x4442434E
NOT_SUPPORTED, INVALID, INVALID_ADDRESS, ALREADY = (-2) & M64, (-3) & M64, (-5) & M64, (-6) & M64


@pytest.mark.parametrize(
    ("call", "error", "value"),
    [
        ((BASE, 0), 0, 0x02000000),
        ((BASE, 1), 0, 0x766D72),
        ((BASE, 3, DBCN), 0, 1),
        ((BASE, 3, 0x504D55), 0, 0),
        ((BASE, 99), NOT_SUPPORTED, 0),
        ((0x504D55, 0), NOT_SUPPORTED, 0),
        ((0, 65), NOT_SUPPORTED, 0),  # a legacy extension
        ((IPI, 0, 2, 0), INVALID, 0),
        ((IPI, 0, 1, 7), INVALID, 0),
        ((IPI, 0, 0, -1), 0, 0),
        ((RFENCE, 0, 3, 0), INVALID, 0),
        ((RFENCE, 1, 0, -1, 0, 0), 0, 0),
        ((RFENCE, 2, 1, 0, 0x1000, 0x1000, 5), 0, 0),
        ((RFENCE, 3, 1, 0), NOT_SUPPORTED, 0),
        ((HSM, 0, 0, CODE, 0), ALREADY, 0),
        ((HSM, 0, 9, CODE, 0), INVALID, 0),
        ((HSM, 0, 0, 0x1000, 0), INVALID_ADDRESS, 0),
        ((HSM, 2, 0), 0, 0),
        ((HSM, 2, 1), INVALID, 0),
        ((HSM, 3, 5), INVALID, 0),
        ((HSM, 3, 0x80000000), NOT_SUPPORTED, 0),
        ((SRST, 0, 7, 0), INVALID, 0),
        ((SRST, 0, 0, 5), INVALID, 0),
        ((SRST, 1, 0, 0), NOT_SUPPORTED, 0),
        ((DBCN, 0, 16, 0x1000, 0), INVALID, 0),
        ((DBCN, 0, 1, RAM, 1), INVALID, 0),
        ((DBCN, 0, 2, RAM + RAM_SIZE - 1, 0), INVALID, 0),
        ((DBCN, 0, -1, RAM, 0), INVALID, 0),
        ((DBCN, 1, 2, RAM + RAM_SIZE - 1, 0), INVALID, 0),
        ((DBCN, 9), NOT_SUPPORTED, 0),
    ],
)
def test_sbi_answers(call: tuple[int, ...], error: int, value: int) -> None:
    with ran(sbi(call[0], call[1], *call[2:]) + "sd a0, 0(s0); sd a1, 8(s0)") as made:
        assert (made.out(0), made.out(1)) == (error, value)


def test_debug_console() -> None:
    text = (
        sbi(DBCN, 2, ord("A")) + sbi(DBCN, 0, 5, OUT + 0x100, 0) + "sd a1, 0(s0)\n" + sbi(DBCN, 1, 64, OUT + 0x200, 0)
    )
    with guest(program(text + "sd a1, 8(s0)\n" + sbi(DBCN, 1, 64, OUT + 0x300, 0) + "sd a1, 16(s0)")) as made:
        made.write(OUT + 0x100, b"hello")
        with console(made, b"typed") as output:
            made.run()
            assert os.read(output, 100) == b"Ahello"
        assert [made.out(i) for i in range(3)] == [5, 5, 0]
        assert made.read(OUT + 0x200, 6) == b"typed\0"


@pytest.mark.parametrize(("kind", "reason"), [(0, 0), (0, 1), (1, 0), (2, 0xE0000001)])
def test_system_reset_leaves_with_type_and_reason(kind: int, reason: int) -> None:
    with guest(sbi(SRST, 0, kind, reason)) as made:
        made.run()
        assert made.kinds[0] == (lib.VMR_EXIT_SYSTEM, kind, reason)


def start_others(count: int, where: str = "other") -> str:
    return "".join(
        f"li a0, {i}; la a1, {where}; li a2, {0x100 + i}; li a7, {HSM}; li a6, 0; ecall\n" for i in range(1, count)
    )


def test_harts_start_in_the_state_sbi_says_and_stop() -> None:
    text = f"""{start_others(2)}
wait:   {sbi(HSM, 2, 1)} li t0, 1; bne a1, t0, wait
        ld   t0, 64(s0)
        beqz t0, wait
        {sbi(HSM, 0, 1, 0)}
        j    end
other:  li   s0, {OUT}; sd a0, 0(s0); sd a1, 8(s0); csrr t0, satp; sd t0, 16(s0); csrr t0, sstatus; andi t0, t0, 2
        sd   t0, 24(s0); csrr t0, sie; sd t0, 32(s0); li t0, 1; sd t0, 64(s0); {sbi(HSM, 1)}
end:    nop"""
    with ran(text, harts=2) as made:
        assert [made.out(i) for i in range(5)] == [1, 0x101, 0, 0, 0]


def test_suspended_hart_wakes_by_ipi() -> None:
    text = f"""{start_others(2)}
wait:   {sbi(HSM, 2, 1)} li t0, 4; bne a1, t0, wait
        {sbi(IPI, 0, 1, 1)}
done:   ld   t0, 0(s0)
        beqz t0, done
        j    end
other:  csrsi sie, 2; {sbi(HSM, 3, 0, 0, 0)}
        addi a0, a0, 1; li s0, {OUT}; csrr t0, sip; sd t0, 8(s0); sd a0, 0(s0)
hang:   wfi; j hang
end:    nop"""
    with ran(text, harts=2) as made:
        assert (made.out(0), made.out(1)) == (1, 2)


@pytest.mark.parametrize("method", ["amo", "lrsc", "amo.w"])
def test_atomic_counters_are_exact_across_harts(method: str) -> None:
    harts, rounds = 4, 20000
    add = {
        "amo": "li t1, 1; amoadd.d zero, t1, (s1)",
        "amo.w": "li t1, 1; amoadd.w zero, t1, (s1)",
        "lrsc": "lr.d t1, (s1); addi t1, t1, 1; sc.d t2, t1, (s1); bnez t2, loop",
    }[method]
    text = f"""{start_others(harts)} li a0, 0
other:  li   s0, {OUT}
        addi s1, s0, 128
        li   s2, {rounds}
        mv   s3, a0
loop:   {add}
        addi s2, s2, -1
        bnez s2, loop
        li   t1, 1
        addi t0, s0, 256
        amoadd.d zero, t1, (t0)
last:   ld   t1, 256(s0)
        li   t2, {harts}
        bne  t1, t2, last
        beqz s3, end
sleep:  wfi
        j    sleep
end:    nop"""
    with ran(text, harts=harts) as made:
        assert made.out(16) == harts * rounds


def test_two_harts_that_fence_each_other_get_through() -> None:
    rounds = 2000
    fence = sbi(RFENCE, 1, 0, -1, 0, -1) + sbi(RFENCE, 0, 3, 0)
    text = f"""{start_others(2)} li a0, 0
other:  li s0, {OUT}; mv s3, a0; li s2, {rounds}
loop:   {fence} add s4, s4, a0; addi s2, s2, -1; bnez s2, loop
        li t1, 1; addi t0, s0, 256; amoadd.d zero, t1, (t0)
last:   ld t1, 256(s0); li t2, 2; bne t1, t2, last; beqz s3, end
sleep:  wfi; j sleep
end:    sd s4, 0(s0)"""
    with ran(text, harts=2) as made:
        assert made.out(0) == 0


def test_remote_fence_i_makes_new_code_visible_and_waits() -> None:
    """Hart 1 calls a function for ever; hart 0 rewrites it and, after the remote fence, sees only new results."""
    text = f"""{start_others(2)}
ready:  ld   t0, 8(s0); beqz t0, ready
        la   s1, patch; li s2, 300
loop:   lw   t0, 0(s1); li t1, 0x100000; add t0, t0, t1; sw t0, 0(s1); fence
        {sbi(RFENCE, 0, 2, 0)}
        ld   s4, 16(s0)
turn:   ld   t0, 16(s0); addi t1, s4, 2; bltu t0, t1, turn
        ld   t0, 8(s0); lw t1, 0(s1); srli t1, t1, 20; bne t0, t1, wrong
        addi s2, s2, -1; bnez s2, loop
        li   t0, 1; sd t0, 0(s0); j end
wrong:  sd   s2, 24(s0); j end
other:  li   s0, {OUT}
call:   li   a0, 0
patch:  addi a0, a0, 1
        sd   a0, 8(s0); fence; ld t0, 16(s0); addi t0, t0, 1; sd t0, 16(s0); fence; j call
end:    nop"""
    with ran(text, harts=2) as made:
        assert (made.out(0), made.out(3)) == (1, 0)


def test_reservation_is_lost_by_a_trap_return() -> None:
    with ran("lr.d t1, (s0); ebreak; sc.d t3, t1, (s0); sd t3, 8(s0); sc.d t3, t1, (s0); sd t3, 16(s0)") as made:
        assert (made.out(1), made.out(2)) == (1, 1)


# ---- the engine's own interface


def test_the_bound_on_instructions_is_exact() -> None:
    with guest("loop: addi a0, a0, 1\n j loop") as made:
        made.set(10, 0)
        total = 0
        for count in (1, 2, 3, 1000, 4095, 12345, 1):
            assert made.step(count) == lib.VMR_EXIT_BUDGET
            total += count
            assert made.get(10) * 2 - (made.get(PC) != CODE) == total
            assert made.stats().instructions == total


def test_a_guest_that_traps_for_ever_still_comes_back() -> None:
    with guest("csrw stvec, zero; .word 0") as made:
        assert made.step(100_000) == lib.VMR_EXIT_BUDGET
        assert made.get(CSR + SCAUSE) == 1


def test_registers_can_be_set_and_read() -> None:
    with guest("add a0, a1, a2") as made:
        made.set(11, 40)
        made.set(12, 2)
        made.set(0, 5)
        assert made.step(1) == lib.VMR_EXIT_BUDGET
        assert (made.get(10), made.get(0), made.get(PC), made.get(PRIVILEGE)) == (42, 0, CODE + 4, 1)
        made.set(64 + 3, 0x1234)
        made.set(CSR + STVEC, 0x8000)
        assert (made.get(64 + 3), made.get(CSR + STVEC)) == (0x1234, 0x8000)
        assert lib.vmr_rv64_set(made.harts[0], 50, 0) < 0
        assert lib.vmr_rv64_set(made.harts[0], CSR + 0x300, 0) < 0


@pytest.mark.parametrize(
    ("access", "size", "value"),
    [
        ("lb t0, 8(s1)", 1, 0x80),
        ("lbu t0, 8(s1)", 1, 0x80),
        ("lh t0, 8(s1)", 2, 0x8000),
        ("lw t0, 8(s1)", 4, 0x80000000),
        ("lwu t0, 8(s1)", 4, 0x80000000),
        ("ld t0, 8(s1)", 8, 1 << 63),
    ],
)
def test_a_device_in_python_answers_a_load(access: str, size: int, value: int) -> None:
    with guest(f"li s1, 0x10000000; {access}; sw t0, 16(s1)") as made:
        made.check(lib.vmr_bus_claim(made.machine, 0x10000000, 0x100, 7, 1, 0, _core.ffi.new("vmr_window **")))
        assert made.step(100) == lib.VMR_EXIT_MMIO_READ
        assert (made.exit.gpa, made.exit.size, made.exit.window) == (0x10000008, size, 7)
        made.exit.data = value
        assert made.step(100) == lib.VMR_EXIT_MMIO_WRITE
        signed = "u" not in access and size < 8
        assert made.get(5) == (value - (1 << 8 * size) if signed else value) % (1 << 64)
        assert (made.exit.gpa, made.exit.size, made.exit.data) == (0x10000010, 4, made.get(5) & 0xFFFFFFFF)


def test_misaligned_access_to_a_device_traps() -> None:
    with guest(program("li s1, 0x10000000; lw t0, 2(s1)")) as made:
        made.check(lib.vmr_bus_claim(made.machine, 0x10000000, 0x100, 7, 1, 0, _core.ffi.new("vmr_window **")))
        made.run()
        assert (made.trap().cause, made.trap().value) == (4, 0x10000002)


def test_stop_reaches_a_sleeping_a_stopped_and_a_busy_hart() -> None:
    with guest(f"{start_others(2)} wfi\nother: j other", harts=3) as made:
        made.check(lib.vmr_machine_start(made.machine))
        kinds: list[int] = []

        def body(index: int) -> None:
            left = _core.ffi.new("vmr_exit *")
            lib.vmr_vcpu_run(made.harts[index], left)
            kinds.append(left.kind)

        threads = [threading.Thread(target=body, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(patience(0.05))
        lib.vmr_machine_stop(made.machine)
        for thread in threads:
            thread.join(patience(10))
        assert kinds == [lib.VMR_EXIT_STOPPED] * 3


def test_bad_arguments_are_refused() -> None:
    with guest("nop") as made:
        cpu = _core.ffi.new("vmr_vcpu **")
        assert lib.vmr_rv64_new(made.machine, 1 << 30, 10, 0, cpu) < 0
        assert lib.vmr_rv64_new(made.machine, lib.VMR_RV64_D, 10, 0, cpu) < 0
        assert lib.vmr_rv64_new(made.machine, ALL, 0, 0, cpu) < 0
        assert lib.vmr_rv64_boot(made.harts[0], CODE, 0) < 0


# ---- a guest that traps for ever -------------------------------------------------------------------------------------

RFENCE = 0x52464E43
LOST = "li t0, {}; csrw stvec, t0; .word 0"
"""Sets stvec, and traps there."""


def left_by(made: Guest, hart: int = 0) -> int:
    """Run one hart on this thread until it leaves; return the exit's kind."""
    guard = threading.Timer(patience(120), lambda: lib.vmr_machine_stop(made.machine))
    guard.start()
    try:
        made.check(lib.vmr_vcpu_run(made.harts[hart], made.exit))
    finally:
        guard.cancel()
    return int(made.exit.kind)


def fault_of(made: Guest, hart: int = 0) -> str:
    return str(_core.ffi.string(lib.vmr_vcpu_fault(made.harts[hart])).decode())


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (0, "at pc 0x0, its trap handler: cause 1 (instruction access fault), stval 0x0"),
        (OUT, f"at pc {OUT:#x}, its trap handler: cause 2 (illegal instruction), stval 0x0"),
    ],
)
def test_a_guest_that_traps_for_ever_is_a_fault(handler: int, told: str) -> None:
    with guest(LOST.format(handler)) as made:
        assert left_by(made) == lib.VMR_EXIT_FAULT
        assert fault_of(made) == f"the guest traps for ever {told}"


def test_a_guest_whose_harts_are_all_lost_is_a_fault() -> None:
    with guest(f"{start_others(2)}\n{LOST.format(0)}\nother: {LOST.format(OUT)}", harts=2) as made:
        kinds: dict[int, int] = {}
        left = _core.ffi.new("vmr_exit *")

        def other() -> None:
            lib.vmr_vcpu_run(made.harts[1], left)
            kinds[1] = left.kind
            lib.vmr_machine_stop(made.machine)

        thread = threading.Thread(target=other)
        thread.start()
        kinds[0] = left_by(made)
        lib.vmr_machine_stop(made.machine)
        thread.join()
        assert lib.VMR_EXIT_FAULT in kinds.values() and set(kinds.values()) <= {
            lib.VMR_EXIT_FAULT,
            lib.VMR_EXIT_STOPPED,
        }


def test_a_lost_hart_is_found_again_by_another_that_runs() -> None:
    handler, flag = OUT + 0x800, OUT
    text = f"""{start_others(2)}
        {LOST.format(handler)}
other:  li   s0, {flag}
wait:   ld   t0, 0(s0)
        beqz t0, wait
        li   t1, {handler}
        ld   t0, 8(s0)
        sd   t0, 0(t1)
        {sbi(RFENCE, 0, 1, 0)}
hang:   j hang"""
    ends = Asm().text(POWEROFF).assemble(handler + 8)
    with guest(text, harts=2) as made:
        made.write(handler + 8, ends)
        made.write_words(flag + 8, 0x13 | 0x13 << 32)  # two nops in front of it

        def mend() -> None:
            wait_for(lambda: made.stats().traps > 20 << 20, "a hart that is lost")
            made.write_words(flag, 1)

        mender = threading.Thread(target=mend)
        mender.start()
        made.run()
        mender.join()
        assert made.kinds[0][0] == lib.VMR_EXIT_SYSTEM
