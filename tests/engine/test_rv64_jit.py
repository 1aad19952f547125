"""The translator against the interpreter: the same states wherever a run is cut, and the cases that translation can get
wrong. What instructions do is held by the oracles of test_isa_*, which run with both."""

from __future__ import annotations

import os
import random

import pytest
import rv64translator
from rv64_priv_kit import ALL, CODE, OUT, PC, POWEROFF, Guest, program
from rv64asm import Asm
from rv64case import program as program_of
from rv64gen import cases
from rv64run import supervisor_image
from rv64twins import LEAST, Twins, twins

from vmrun._core import ffi, lib

ROUNDS = int(os.environ.get("VMRUN_ISA_ROUNDS", "1"))
pytestmark = pytest.mark.skipif(bool(rv64translator.missing_translator()), reason=rv64translator.missing_translator())
DEVICE = 0x1000_0000


def code(text: str) -> bytes:
    return Asm().text(program(text)).assemble(CODE)


def run_in_pieces(made: Twins, rng: random.Random, longest: int) -> None:
    """Cut the run at random; one instruction at a time is what the last few thousand of each bound are done by."""
    for _ in range(100_000):
        if made.step(rng.choice((1, 2, rng.randint(1, 50), rng.randint(4097, longest)))) == lib.VMR_EXIT_SYSTEM:
            return
    raise AssertionError("the guest does not end")


# ---- random code


@pytest.mark.parametrize("threshold", [1, 3])
@pytest.mark.parametrize("seed", range(2 * ROUNDS))
def test_random_code_stands_alike_wherever_it_is_cut(seed: int, threshold: int) -> None:
    """All user-level instructions in random order and in loops, with registers, memory, flags and counts compared."""
    rng = random.Random(seed)
    image, entry = supervisor_image(program_of(list(cases(1000 + seed, 3, 8, loops=3))))
    with twins(image, threshold=threshold) as made:
        made.set(PC, entry)
        run_in_pieces(made, rng, 9000)
        assert made.stats.jit_blocks > (100 if threshold == 1 else 10)


@pytest.mark.parametrize("name", ["code", "pages"])
def test_random_code_with_little_room(name: str) -> None:
    """The code memory fills again and again, or the decoded pages under it are given up."""
    image, entry = supervisor_image(program_of(list(cases(77, 6, 8, loops=3))))
    room = {"code_bytes": LEAST} if name == "code" else {"cache": 0}
    with twins(image, **room) as made:
        made.set(PC, entry)
        for _ in range(3):
            made.step(20_000)
        made.finish()
        assert made.stats.jit_drops > 0


def branches(rng: random.Random) -> str:
    """A maze: blocks that count instructions and go on to others, near, far, through registers, by a random number."""
    count = 24
    wide = rng.random() < 0.5  # too wide for branches to reach all of it
    parts = ["li s1, 88172645463325252; li s2, 400; li s3, 0"]
    for n in range(count):
        to = [rng.randrange(count) for _ in range(3)]
        how = rng.choice(("beqz a1", "bnez a1", "bltz a2", "bgez a2", "bltu a1, a2", "bgeu a1, a2", "blt a1, a2"))
        leave = rng.choice((f"j m{to[1]}", f"la t1, m{to[1]}; jr t1", f"la t1, m{to[1]}; jalr ra, 0(t1)", ""))
        align = ".align 4096" if wide and rng.random() < 0.2 else ""
        parts.append(
            f"{align}\nm{n}: slli t0, s1, 13; xor s1, s1, t0; srli t0, s1, 7; xor s1, s1, t0; slli t0, s1, 17\n"
            f"xor s1, s1, t0; andi a1, s1, {rng.choice((1, 3, 7))}; srai a2, s1, {rng.randint(0, 63)}\n"
            f"rdinstret t2; add s3, s3, t2; mul s3, s3, s1; addi s2, s2, -1; bgez s2, g{n}; j out\n"
            f"g{n}: {how}, {f'over{n}' if wide else f'm{to[0]}'}\n"
            + (f"j past{n}\nover{n}: j m{to[0]}\npast{n}: " if wide else "")
            + f"addi s3, s3, {n}\n{leave}"
        )
    return "\n".join(parts) + "\nj m0\nout: sd s3, 0(s0)"


@pytest.mark.parametrize("seed", range(4 * ROUNDS))
def test_mazes_of_jumps(seed: int) -> None:
    rng = random.Random(seed)
    with twins(code(branches(rng)), threshold=rng.choice((1, 2, 5))) as made:
        run_in_pieces(made, rng, 6000)


def test_without_compressed_instructions() -> None:
    """Then a target of halfwords is an exception, of a branch as well as of a jump."""
    text = """
        li   s1, 2000
        la   s2, on
    loop: addi a0, a0, 1
        andi a1, a0, 511
        bnez a1, on
        addi s3, s2, 2
        jalr ra, 0(s3)          # traps, and goes on after it
    on: addi s1, s1, -1
        bnez s1, loop
        sd   a0, 0(s0)
    """
    with twins(code(text), isa=ALL & ~lib.VMR_RV64_C) as made:
        made.finish()
        assert made.plain.trap().count == 3


# ---- memory


ACCESSES = ("lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "sb", "sh", "sw", "sd")


@pytest.mark.parametrize("access", ACCESSES)
@pytest.mark.parametrize("register", ["a3", "s5", "zero"])
def test_accesses_of_every_alignment(access: str, register: str) -> None:
    """Aligned, misaligned, over a page's border, and to nowhere: in the midst of a loop, to registers of each sort."""
    text = f"""
        li   a3, 0x8877665544332211
        mv   s5, a3
        li   s1, {OUT + 0x2000 - 16}
        li   s2, 32
    loop: {access} {register}, 3(s1)
        add  s4, s4, s5
        add  s4, s4, a3
        addi s1, s1, 1
        addi s2, s2, -1
        bnez s2, loop
        li   s1, 0x4000000000
        {access} {register}, 0(s1)
        sd   s4, 0(s0)
    """
    with twins(code(text)) as made:
        made.finish(50_000)
        assert made.plain.trap().count == 1


@pytest.mark.parametrize("access", ACCESSES)
def test_a_device_of_python_in_the_midst(access: str) -> None:
    """The load or store leaves, is answered, and the code goes on after it."""
    text = f"""
        li   s1, {DEVICE}
        li   s2, 50
        li   a3, 0x1122334455667788
    loop: addi s4, s4, 3
        {access} a3, 8(s1)
        add  s4, s4, a3
        addi s2, s2, -1
        bnez s2, loop
        sd   s4, 0(s0)
    """
    with twins(code(text)) as made:
        for guest in made.both:
            guest.check(lib.vmr_bus_claim(guest.machine, DEVICE, 0x100, 7, 1, 0, ffi.new("vmr_window **")))
        kind = lib.VMR_EXIT_MMIO_WRITE if access.startswith("s") else lib.VMR_EXIT_MMIO_READ
        for turn in range(50):
            assert made.step(100_000, answer=0x8899AABBCCDDEEFF + turn) == kind
        made.finish()


# ---- code that changes


def test_code_that_changes_itself() -> None:
    """The instruction after the fence is the new one, in this turn; before it, the old one, as interpreted."""
    text = """
        li   s1, 300
    again: la s2, patch
        lw   t0, 0(s2)
        li   t1, 0x100000
        add  t0, t0, t1
        sw   t0, 0(s2)
        andi t1, s1, 3
        bnez t1, patch
        fence.i
    patch: addi a0, a0, 0
        addi s1, s1, -1
        beqz s1, end
        j    again
    end: sd   a0, 0(s0)
    """
    with twins(code(text)) as made:
        made.finish()
        assert made.stats.jit_drops > 10


def test_a_hot_loop_whose_code_another_hart_changes() -> None:
    """By FENCE.I from afar (SBI): the loop, which calls nothing, comes to its end by the new instruction."""
    text = f"""
        li   s0, {OUT}
        li   a7, 0x48534d; li a6, 0; li a0, 1; la a1, other; li a2, 0; ecall
    loop: addi s1, s1, 1
    patch: addi s2, zero, 0
        beqz s2, loop
        sd   s1, 0(s0)
        {POWEROFF}
    other: li s0, {OUT}
        li   t0, 3000000
    wait: addi t0, t0, -1
        bnez t0, wait
        la   s1, patch
        lw   t0, 0(s1)
        li   t1, 0x100000
        add  t0, t0, t1
        sw   t0, 0(s1)
        li   a7, 0x52464e43; li a6, 0; li a0, 1; li a1, 0; ecall
    end: wfi
        j    end
    """
    rv64translator.choose(1)
    try:
        made = Guest(Asm().text(text).assemble(CODE), harts=2)
        try:
            made.run()
            assert made.out(0) > 0
            assert made.stats().jit_drops > 0
        finally:
            made.close()
    finally:
        rv64translator.choose(0)


def test_one_page_at_two_addresses() -> None:
    """What depends on the pc (auipc, links) is that of the address by which the page is entered."""
    tables = OUT + 0x10_0000
    alias = 0x10_0000_0000
    text = f"""
        li   t0, {tables}
        li   t1, {(0x8000_0000 >> 12 << 10) | 0xCF}
        sd   t1, 16(t0)                # RAM, one to one
        sd   t1, {8 * (alias >> 30 & 511)}(t0)
        li   t0, {8 << 60 | tables >> 12}
        csrw satp, t0
        sfence.vma
        la   s1, piece
        li   s2, {alias - 0x8000_0000}
        add  s2, s2, s1
        li   s3, 200
    turn: jalr ra, 0(s1)
        add  s4, s4, a0
        jalr ra, 0(s2)
        xor  s4, s4, a0
        slli s4, s4, 1
        addi s3, s3, -1
        bnez s3, turn
        sd   s4, 0(s0)
        j    end
        .align 4096
    piece: mv t2, ra
        auipc a0, 0
        jal  ra, inner
        add  a0, a0, ra
        mv   ra, t2
        ret
    inner: auipc t3, 16
        add  a0, a0, t3
        ret
    end: csrw satp, zero
        sfence.vma
    """
    with twins(code(text)) as made:
        made.finish()


def test_a_mapping_that_changes_under_a_chain() -> None:
    """After SFENCE.VMA the same address is another page's code, in a loop that was chained to the first one's."""
    tables = OUT + 0x10_0000
    where = 0x10_0000_0000
    slot = tables + 0x2000
    text = f"""
        li   t0, {tables}
        li   t1, {(0x8000_0000 >> 12 << 10) | 0xCF}
        sd   t1, 16(t0)
        li   t1, {((tables + 0x1000) >> 12 << 10) | 1}
        sd   t1, {8 * (where >> 30 & 511)}(t0)
        li   t2, {tables + 0x1000}
        li   t1, {(slot >> 12 << 10) | 1}
        sd   t1, 0(t2)
        la   s1, one; la s2, two
        srli s1, s1, 12; slli s1, s1, 10; ori s1, s1, 0xcb
        srli s2, s2, 12; slli s2, s2, 10; ori s2, s2, 0xcb
        li   s5, {slot}
        sd   s1, 0(s5)
        li   t0, {8 << 60 | tables >> 12}
        csrw satp, t0
        li   s3, {where}
        li   s4, 300
    turn: andi t0, s4, 15
        bnez t0, call
        ld   t1, 0(s5)                 # the other page
        xor  t1, t1, s1
        xor  t1, t1, s2
        sd   t1, 0(s5)
        andi t0, s4, 16
        beqz t0, all
        sfence.vma s3
        j    call
    all: sfence.vma
    call: jalr ra, 0(s3)
        addi s4, s4, -1
        bnez s4, turn
        sd   a0, 0(s0)
        j    end
        .align 4096
    one: addi a0, a0, 1
        slli a0, a0, 1
        ret
        .align 4096
    two: addi a0, a0, 3
        slli a1, a0, 7
        xor  a0, a0, a1
        ret
        .align 4096
    end: csrw satp, zero
        sfence.vma
    """
    with twins(code(text)) as made:
        made.finish()


# ---- the function itself


def test_what_the_translator_refuses() -> None:
    with_cpu = Guest(code("nop"))
    hart = with_cpu.harts[0]
    try:
        assert lib.vmr_rv64_jit(hart, 256, 1 << 20) < 0
        assert lib.vmr_rv64_jit(hart, 1, LEAST - 1) < 0
        assert lib.vmr_rv64_jit(hart, 1, 1 << 40) < 0
        assert lib.vmr_rv64_jit(hart, 0, 0) == 0
        assert lib.vmr_rv64_jit(hart, 1, LEAST) == 0
        assert lib.vmr_rv64_jit(hart, 1, LEAST) < 0
        assert b"has run already" in ffi.string(lib.vmr_machine_error(with_cpu.machine))
    finally:
        with_cpu.close()
    with_cpu = Guest(code("nop"))
    try:
        with_cpu.step(10_000)
        assert lib.vmr_rv64_jit(with_cpu.harts[0], 1, LEAST) < 0
    finally:
        with_cpu.close()


def test_what_is_run_seldom_is_not_translated() -> None:
    text = "li s1, 19\nloop: addi s1, s1, -1; bnez s1, loop"
    for threshold, blocks in ((20, 0), (19, 1)):
        rv64translator.choose(0)
        made = Guest(code(text))
        try:
            made.check(rv64translator.equip(made.harts[0], threshold))
            made.run()
            assert made.stats().jit_blocks == blocks
        finally:
            made.close()
