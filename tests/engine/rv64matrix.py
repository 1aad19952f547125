"""Every operation with every row of operands: a loop in the guest that stores each result, for F and D with fflags."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rv64asm import INSTRUCTIONS, ROUNDING, Asm, Instruction, disassemble
from rv64case import Runner
from rv64run import FINISH, PAYLOAD, Program

Row = tuple[int, int, int]
_OPERANDS = {
    "rs1": 10, "rs2": 11, "rd": 12, "fs1": 10, "fs2": 11, "fs3": 12, "fd": 13,
}  # a0, a1 -> a2; fa0, fa1, fa2 -> fa3  # fmt: skip


@dataclass(frozen=True, slots=True)
class Op:
    """One encoded instruction and the rounding mode in frm while it runs. It reads a0, a1, fa0, fa1, fa2."""

    word: int
    frm: int
    float_result: bool

    def __str__(self) -> str:
        return f"{disassemble(self.word)} (frm {ROUNDING[self.frm]})"


def ops(instruction: Instruction, immediates: Iterable[int] = (0,)) -> list[Op]:
    """Return the instruction with each immediate, or with each rounding mode, static and through frm."""
    fixed = {name: number for name, number in _OPERANDS.items() if name in instruction.fields}
    is_float = "fd" in fixed
    immediate = instruction.immediate()
    if immediate:
        return [Op(instruction.encode(fixed | {immediate[0]: value}), 0, is_float) for value in immediates]
    if "rm" not in instruction.fields:
        return [Op(instruction.encode(fixed), 0, is_float)]
    static = [Op(instruction.encode(fixed | {"rm": mode}), (mode + 1) % 5, is_float) for mode in range(5)]
    return static + [Op(instruction.encode(fixed | {"rm": 7}), mode, is_float) for mode in range(5)]


def named(*names: str) -> list[Op]:
    """Return the operations of several mnemonics."""
    return [op for name in names for op in ops(INSTRUCTIONS[name])]


def program(operations: Sequence[Op], rows: Sequence[Row], flags: bool) -> Program:
    """Build the loop. The dump has, by row and operation, the result (8 bytes) and, with ``flags``, fcsr (8 bytes)."""
    step = 16 if flags else 8
    asm = Asm()
    inputs_at = PAYLOAD + (64 * len(operations) + 256 + 4095 & ~4095)
    outputs_at = inputs_at + (24 * len(rows) + 4095 & ~4095)
    asm.text(f"li s0, {inputs_at}\nli s1, {outputs_at}\nli s2, {len(rows)}\nli s3, {24}")
    asm.text("""
    loop: ld a0, 0(s0)
          ld a1, 8(s0)
          fld fa0, 0(s0)
          fld fa1, 8(s0)
          fld fa2, 16(s0)
    """)
    for op in operations:
        if flags:
            asm("li", "t0", op.frm << 5)("fscsr", "t0")
        asm.raw(op.word.to_bytes(4, "little"))
        if flags:
            asm("frcsr", "t1")("sd", "t1", "8(s1)")
        asm("fsd" if op.float_result else "sd", "fa3" if op.float_result else "a2", "0(s1)")
        asm("addi", "s1", "s1", step)
    asm.text(f"add s0, s0, s3\naddi s2, s2, -1\nbeqz s2, end\nj loop\nend: {FINISH}")
    image = asm.assemble(PAYLOAD).ljust(inputs_at - PAYLOAD, b"\0") + b"".join(struct.pack("<3Q", *row) for row in rows)
    return Program(image, outputs_at, len(rows) * len(operations) * step)


def differences(
    operations: Sequence[Op], rows: Sequence[Row], left: Runner, right: Runner, *, flags: bool, most: int = 8
) -> list[str]:
    """Run on both sides; describe at most ``most`` results that differ."""
    made = program(operations, rows, flags)
    one, other = left(made), right(made)
    step = 16 if flags else 8
    found: list[str] = []
    if one == other:
        return found
    for at in range(0, len(one), step):
        if one[at : at + step] != other[at : at + step]:
            row, op = divmod(at // step, len(operations))
            values = [struct.unpack(f"<{step // 8}Q", side[at : at + step]) for side in (one, other)]
            results = ", ".join(
                f"{name} {v[0]:#018x}" + (f" fcsr {v[1]:#x}" if flags else "")
                for name, v in zip(("left", "right"), values, strict=True)
            )
            inputs = " ".join(f"{v:#018x}" for v in rows[row])
            found.append(f"{operations[op]} of {inputs}: {results}")
            if len(found) >= most:
                break
    return found
