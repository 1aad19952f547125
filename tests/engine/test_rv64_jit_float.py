"""Floating point as it is translated to the host's, which it is while NX is raised: each instruction with operands of
all kinds against the interpreter, result and flags; and the state on which that depends, changed under a loop."""

from __future__ import annotations

import random
import struct

import pytest
import rv64translator
from rv64_priv_kit import CODE, OUT, POWEROFF
from rv64asm import INSTRUCTIONS, Asm, Instruction
from rv64gen import BOX, DOUBLES, INTEGERS, SINGLES
from rv64twins import twins

pytestmark = pytest.mark.skipif(bool(rv64translator.missing_translator()), reason=rv64translator.missing_translator())
ROWS = 240
INPUTS = OUT + 0x10_0000
RESULTS = OUT + 0x20_0000
FLOATS = [
    i
    for i in INSTRUCTIONS.values()
    if i.extension in ("F", "D") and i.size == 4 and "s" not in i.fields and i.name[:2] != "c."
]
"""All but loads and stores, which have an offset."""
PLAIN_F = (0x3FF8000000000000, 0x4008000000000000, 0xC000000000000000, 0x3FB999999999999A, 0x40590CCCCCCCCCCD)


def rows(rng: random.Random) -> list[tuple[int, int, int]]:
    """Operands: the corners, and as many ordinary numbers, whose results are plain."""

    def one(single: bool) -> int:
        if rng.random() < 0.5:
            return BOX | rng.choice(SINGLES) if single else rng.choice(DOUBLES)
        if rng.random() < 0.1:
            return rng.choice(INTEGERS)
        sign, rest = rng.getrandbits(1), rng.getrandbits(52)
        if single:
            return BOX | sign << 31 | rng.randint(100, 150) << 23 | rest >> 29
        return sign << 63 | rng.randint(1000, 1050) << 52 | rest

    made = [[one(single) for _ in range(3)] for single in (False, True) for _ in range(ROWS // 2)]
    return [(a, a if rng.random() < 0.1 else b, c) for a, b, c in made]


def words(instruction: Instruction) -> list[int]:
    """The instruction on fa0, fa1, fa2 (or a0) to fa3 (or a3); to nearest, by frm, and towards zero."""
    fixed = {"rs1": 10, "fs1": 10, "fs2": 11, "fs3": 12, "rd": 13, "fd": 13}
    chosen = {name: number for name, number in fixed.items() if name in instruction.fields}
    if "rm" not in instruction.fields:
        return [instruction.encode(chosen)]
    return [instruction.encode(chosen | {"rm": mode}) for mode in (0, 7, 1)]


@pytest.mark.parametrize("instruction", FLOATS, ids=lambda i: i.name)
def test_results_and_flags(instruction: Instruction) -> None:
    asm = Asm().text(f"""
        li   t0, 0x6000
        csrs sstatus, t0
        li   s0, {INPUTS}; li s1, {RESULTS}; li s2, {ROWS}
    loop: ld a0, 0(s0)
        fld  fa0, 0(s0)
        fld  fa1, 8(s0)
        fld  fa2, 16(s0)
    """)
    for word in words(instruction):
        asm.text("li t0, 1; fscsr t0; li a3, 0; fmv.d.x fa3, zero").raw(word.to_bytes(4, "little"))
        asm.text("frcsr t1; sd t1, 0(s1); sd a3, 8(s1); fsd fa3, 16(s1); addi s1, s1, 24")
    asm.text(f"addi s0, s0, 24; addi s2, s2, -1; beqz s2, end\nj loop\nend: {POWEROFF}")
    with twins(asm.assemble(CODE)) as made:
        data = b"".join(struct.pack("<3Q", *row) for row in rows(random.Random(instruction.name)))
        for guest in made.both:
            guest.write(INPUTS, data)
        made.finish()
        results = made.plain.read(RESULTS, 24 * ROWS * len(words(instruction)))
        assert len({results[i : i + 24] for i in range(0, len(results), 24)}) > 1


def test_the_state_changes_under_a_loop() -> None:
    """FS is switched off, frm changed, NX cleared: what was translated for the usual state holds to the new one."""
    text = f"""
        j start
        .align 4
    trap: csrr t0, sepc
        addi s5, s5, 1
        li   t1, 0x6000
        csrs sstatus, t1           # FS on again, and once more
        csrw sepc, t0
        sret
    start: la t0, trap
        csrw stvec, t0
        li   t0, 0x6000
        csrs sstatus, t0
        li   s0, {RESULTS}; li s1, {INPUTS}; li s2, 400
        fld  fa0, 0(s1)
        fld  fa1, 8(s1)
        fld  fa2, 16(s1)
        fld  fa3, 24(s1)
    loop: andi t0, s2, 15
        addi t1, t0, -3
        bnez t1, a
        li   t2, 0x6000
        csrc sstatus, t2
    a: addi t1, t0, -6
        bnez t1, b
        csrwi frm, 2
    b: addi t1, t0, -9
        bnez t1, c
        csrwi fcsr, 0
    c: addi t1, t0, -12
        bnez t1, d
        csrwi frm, 4
    d: fadd.d fa4, fa0, fa3
        fdiv.d fa5, fa4, fa1
        fmadd.d fa0, fa5, fa2, fa3
        fcvt.w.d a0, fa0
        fcvt.d.w fa6, a0
        fsub.d fa0, fa0, fa6
        csrr t2, sstatus
        frcsr t3
        fsd  fa0, 0(s0)
        sd   t2, 8(s0)
        sd   t3, 16(s0)
        sd   a0, 24(s0)
        addi s0, s0, 32
        addi s2, s2, -1
        beqz s2, end
        j    loop
    end: {POWEROFF}
    """
    with twins(Asm().text(text).assemble(CODE)) as made:
        for guest in made.both:
            guest.write_words(INPUTS, *PLAIN_F)
        made.finish()
        assert made.plain.get(21) > 0, "FS off has trapped"
