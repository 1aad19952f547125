"""F and D arithmetic against QEMU's: every instruction in every rounding mode, RMM too, on the same operands.

One static RV64 program, assembled here, has a loop for each instruction and mode. It reads (loop, count) and the
operands from stdin and writes each result and its flags to stdout, so one process answers millions of questions."""

from __future__ import annotations

import shutil
import struct
import subprocess
from array import array
from dataclasses import dataclass
from pathlib import Path

import fp_kit as kit
import pytest
from fp_kit import M32, OPS, ROUNDING, Library, Op, Operands
from rv64asm import Asm

from patience import patience

QEMU = shutil.which("qemu-riscv64")
pytestmark = pytest.mark.skipif(QEMU is None, reason="needs qemu-riscv64 (Debian: qemu-user)")

ORIGIN = 0x10000
HEADER, INPUT, OUTPUT, TOP = 0x100000, 0x200000, 0x400000, 0x600000
MOST_ROWS = (OUTPUT - INPUT) // 24

MAIN = f"""
start:
    li   a1, {HEADER}
    li   a2, 16
    jal  ra, read
    li   s2, {HEADER}
    ld   s3, 0(s2)
    ld   s4, 8(s2)
    li   t0, 24
    mul  a2, s4, t0
    li   a1, {INPUT}
    jal  ra, read
    li   s0, {INPUT}
    li   s1, {OUTPUT}
    mv   t1, s4
    jalr ra, 0(s3)
    li   a1, {OUTPUT}
    slli a2, s4, 4
write:
    li   a0, 1
    li   a7, 64
    ecall
    blez a0, exit
    add  a1, a1, a0
    sub  a2, a2, a0
    bnez a2, write
    j    start
read:
    li   a0, 0
    li   a7, 63
    ecall
    blez a0, exit
    add  a1, a1, a0
    sub  a2, a2, a0
    bnez a2, read
    ret
exit:
    li   a0, 0
    li   a7, 93
    ecall
"""
LOAD = {"s": "flw fa{0}", "d": "fld fa{0}"}
SOURCE = {"s": "fa{0}", "d": "fa{0}"}


def loop(op: Op, rm: int) -> str:
    """The instruction over all rows. A binary32 result is stored whole, so its box is seen."""
    numbered = list(enumerate(op.operands))
    target, store = ("a3", "sd") if op.result == "x" else ("fa3", "fsd")
    sources = [SOURCE.get(kind, "a{0}").format(i) for i, kind in numbered]
    lines = [f"{LOAD.get(kind, 'ld a{0}').format(i)}, {8 * i}(s0)" for i, kind in numbered]
    fields = [target, *sources, *([ROUNDING[rm]] if op.rounds else [])]
    lines += ["fsflags zero", f"{op.instruction} {', '.join(fields)}", f"{store} {target}, 0(s1)"]
    return _body(f"{op.name}_{rm}", lines)


def _body(label: str, lines: list[str]) -> str:
    flags = ["frflags t0", "sd t0, 8(s1)"]
    step = ["addi s0, s0, 24", "addi s1, s1, 16", "addi t1, t1, -1", f"bnez t1, {label}", "ret"]
    return "\n".join([f"{label}:", *lines, *flags, *step, ""])


# Reads a register as binary32 without the load that would box it.
UNBOX = _body("unbox", ["fld fa0, 0(s0)", "fsflags zero", "fsgnj.s fa3, fa0, fa0", "fsd fa3, 0(s1)"])


@dataclass(frozen=True, slots=True)
class Program:
    """The oracle's ELF file and where its loops are."""

    path: Path
    assembled: Asm

    def answers(self, questions: list[tuple[str, Operands]]) -> list[tuple[array[int], array[int]]]:
        """Results and flags for each (loop, operands), in one run."""
        request, sizes = bytearray(), []
        for label, x in questions:
            assert len(x) <= MOST_ROWS
            rows = array("Q", bytes(24 * len(x)))
            rows[0::3], rows[1::3], rows[2::3] = x.a, x.b, x.c
            request += struct.pack("<QQ", self.assembled.address(label), len(x)) + rows.tobytes()
            sizes.append(len(x))
        assert QEMU is not None
        done = subprocess.run(
            [QEMU, str(self.path)], input=request, capture_output=True, timeout=patience(120), check=False
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert len(done.stdout) == 16 * sum(sizes)
        answer = array("Q", done.stdout)
        parts, start = [], 0
        for size in sizes:
            part = answer[2 * start : 2 * (start + size)]
            parts.append((part[0::2], array("I", part[1::2])))
            start += size
        return parts


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    code_start = ORIGIN + 64 + 56
    asm = Asm()
    asm.text(MAIN + UNBOX + "".join(loop(op, rm) for op in OPS for rm in op.modes))
    code = asm.assemble(code_start)
    assert code_start + len(code) <= HEADER
    file_size = 64 + 56 + len(code)
    # ELF64, little-endian, EXEC, RISC-V, double-float ABI; one segment, readable, writable, executable.
    elf = b"\x7fELF\x02\x01\x01" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 243, 1, code_start, 64, 0, 4, 64, 56, 1, 64, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 1, 7, 0, ORIGIN, ORIGIN, file_size, TOP - ORIGIN, 4096)
    path = tmp_path_factory.mktemp("fp") / "oracle.elf"
    path.write_bytes(elf + code)
    path.chmod(0o755)
    return Program(path, asm)


def _boxed(op: Op, outcome: tuple[array[int], array[int]]) -> tuple[array[int], array[int]]:
    return (array("Q", [r | M32 << 32 for r in outcome[0]]), outcome[1]) if op.result == "s" else outcome


def _compare(program: Program, library: Library, op: Op, rows: Operands) -> None:
    for rm, want in zip(op.modes, program.answers([(f"{op.name}_{rm}", rows) for rm in op.modes]), strict=True):
        kit.assert_same(op, rm, rows, _boxed(op, library.run(op, rm, rows, soft=True)), want)
        with_nx = _boxed(op, library.run(op, rm, rows, flags=kit.NX))
        kit.assert_same(op, rm, rows, with_nx, kit.with_flags(want, kit.NX))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_against_qemu(op: Op, program: Program) -> None:
    library = kit.under_test()
    _compare(program, library, op, kit.operands(library, op))


@pytest.mark.parametrize("op", [op for op in OPS if op.result == "x" and op.rounds], ids=lambda op: op.name)
def test_conversions_to_integers_against_qemu(op: Op, program: Program) -> None:
    """Once more with other seeds and more rows: saturation and flags of these are what emulators get wrong."""
    _compare(program, kit.under_test(), op, kit.random_operands(op, 1500, seed=3))


def test_unboxing_against_qemu(program: Program) -> None:
    values = [upper << 32 | lower for upper in (0, 1, M32 - 1, M32) for lower in (0, 1, 0x3F800000, 0x7F800001, M32)]
    rows = Operands(array("Q", values), array("Q", bytes(8 * len(values))), array("Q", bytes(8 * len(values))))
    ((results, flags),) = program.answers([("unbox", rows)])
    assert [kit.host().lib.box(kit.host().lib.unbox(v)) for v in values] == list(results)
    assert set(flags) == {0}
