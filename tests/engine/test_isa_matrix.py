"""Each operation of I, M, F, D, Zba, Zbb and Zbs over a grid of corner operands: the core against QEMU."""

from __future__ import annotations

import os
import random
import struct

import pytest
from rv64asm import INSTRUCTIONS
from rv64gen import BOX, DOUBLES, INTEGERS, SINGLES, random_float, random_integer
from rv64matrix import Op, Row, differences, named, ops
from rv64run import missing_core, missing_tool, run_core, run_qemu_user

ROUNDS = int(os.environ.get("VMRUN_ISA_ROUNDS", "1"))
_MISSING = missing_tool("qemu-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)
_INTEGER = ("I", "M", "Zba", "Zbb", "Zbs")


TWO_REGISTERS = [n for n, i in INSTRUCTIONS.items() if i.extension in _INTEGER and i.operands == ("rd", "rs1", "rs2")]
ONE_REGISTER = [n for n, i in INSTRUCTIONS.items() if i.extension in _INTEGER and i.operands == ("rd", "rs1")]
IMMEDIATE = [
    n
    for n, i in INSTRUCTIONS.items()
    if i.extension in _INTEGER and i.operands in (("rd", "rs1", "s"), ("rd", "rs1", "u"))
]


def check(operations: list[Op], rows: list[Row], *, flags: bool) -> None:
    found = differences(operations, rows, run_core, run_qemu_user, flags=flags)
    assert not found, "core (left) and QEMU (right) differ:\n" + "\n".join(found)


def test_the_grids_cover_the_integer_instructions() -> None:
    others = {"lui", "auipc", "jal", "jalr", "fence", "fence.tso", "pause", "ecall", "ebreak"}
    memory = {n for n, i in INSTRUCTIONS.items() if i.operands[-2:] == ("s", "rs1")}
    branches = {n for n, i in INSTRUCTIONS.items() if i.operands == ("rs1", "rs2", "p")}
    everything = {n for n, i in INSTRUCTIONS.items() if i.extension in _INTEGER}
    assert everything == {*TWO_REGISTERS, *ONE_REGISTER, *IMMEDIATE} | others | (memory & everything) | branches


def test_integer_register_operations() -> None:
    rng = random.Random(10)
    rows: list[Row] = [(a, b, 0) for a in INTEGERS for b in INTEGERS]
    rows += [(random_integer(rng), random_integer(rng), 0) for _ in range(2000 * ROUNDS)]
    check(named(*TWO_REGISTERS), rows, flags=False)


def test_integer_immediates() -> None:
    rng = random.Random(11)
    operations = named(*ONE_REGISTER)
    for name in IMMEDIATE:
        kind, _, high = INSTRUCTIONS[name].immediate() or ("u", 0, 0)
        corners = [-2048, -2047, -1025, -1, 0, 1, 2, 31, 32, 63, 64, 255, 1023, 2046, 2047]
        operations += ops(INSTRUCTIONS[name], range(2 << high) if kind == "u" else corners)
    rows: list[Row] = [(a, 0, 0) for a in INTEGERS] + [(random_integer(rng), 0, 0) for _ in range(200 * ROUNDS)]
    check(operations, rows, flags=False)


def _boxed(rng: random.Random, count: int) -> list[int]:
    """Every corner single in its box, and some of them in bad ones."""
    bad = [
        rng.choice(SINGLES) | rng.choice([0, 0xFFFFFFFE00000000, 0x7FFFFFFF00000000, 0x3FF0000000000000])
        for _ in range(count)
    ]
    return [BOX | s for s in SINGLES] + bad


FLOAT_TWO = ("fadd", "fsub", "fmul", "fdiv", "fmin", "fmax", "feq", "flt", "fle", "fsgnj", "fsgnjn", "fsgnjx")


@pytest.mark.parametrize("precision", ["s", "d"])
def test_float_two_operands(precision: str) -> None:
    rng = random.Random(12)
    values = list(DOUBLES) if precision == "d" else _boxed(rng, 12)
    rows: list[Row] = [(a, b, 0) for a in values for b in values]
    rows += [(random_float(rng), random_float(rng), 0) for _ in range(2000 * ROUNDS)]
    check(named(*(f"{n}.{precision}" for n in FLOAT_TWO)), rows, flags=True)


def _to_bits(value: float, precision: str) -> int:
    if precision == "d":
        return int(struct.unpack("<Q", struct.pack("<d", value))[0])
    try:
        return BOX | int(struct.unpack("<I", struct.pack("<f", value))[0])
    except OverflowError:
        return BOX | 0x7F800000


def _from_bits(bits: int, precision: str) -> float:
    if precision == "d":
        return float(struct.unpack("<d", struct.pack("<Q", bits))[0])
    return float(struct.unpack("<f", struct.pack("<I", bits & 0xFFFFFFFF))[0])


def _triples(rng: random.Random, precision: str, count: int) -> list[Row]:
    """Operands of fused multiply-add: corners, random ones, and sums that cancel down to the product's last bits."""
    corners = DOUBLES if precision == "d" else tuple(_boxed(rng, 8))
    rows: list[Row] = [(rng.choice(corners), rng.choice(corners), rng.choice(corners)) for _ in range(count)]
    rows += [(random_float(rng), random_float(rng), random_float(rng)) for _ in range(count // 2)]
    for _ in range(count):
        a, b = (
            _to_bits(rng.choice([1, -1]) * rng.uniform(1, 2) * 2.0 ** rng.randint(-60, 60), precision) for _ in range(2)
        )
        product = _to_bits(_from_bits(a, precision) * _from_bits(b, precision), precision)
        near = product + rng.choice([0, 0, 1, -1, 2])
        rows.append((a, b, near ^ rng.choice([0, 1]) << (63 if precision == "d" else 31)))
    return rows


@pytest.mark.parametrize("precision", ["s", "d"])
def test_fused_multiply_add(precision: str) -> None:
    rows = _triples(random.Random(13), precision, 2500 * ROUNDS)
    check(named(*(f"{n}.{precision}" for n in ("fmadd", "fmsub", "fnmadd", "fnmsub"))), rows, flags=True)


def _conversion_inputs(rng: random.Random) -> list[int]:
    """Doubles and boxed singles around every integer type's limits, around halves, and where precision ends."""
    reals: list[float] = []
    for bit in (0, 1, 7, 8, 15, 16, 22, 23, 24, 25, 30, 31, 32, 33, 51, 52, 53, 54, 61, 62, 63, 64, 65):
        for delta in (
            0,
            0.25,
            0.5,
            0.75,
            1,
            1.25,
            1.5,
            1.75,
            2,
            2.5,
            1024,
            2048,
            0.5 + 2**-20,
            0.5 - 2**-20,
            2.0 ** (bit - 24),
        ):
            reals += [2.0**bit + delta, 2.0**bit - delta]
    values: list[int] = []
    for real in reals + [-r for r in reals]:
        for step in (-1, 0, 1):
            values.append(_to_bits(real, "d") + step & (1 << 64) - 1)
            values.append(BOX | (_to_bits(real, "s") + step & 0xFFFFFFFF))
    values += [*DOUBLES, *_boxed(rng, 40)] + [random_float(rng) for _ in range(1500 * ROUNDS)]
    return list(dict.fromkeys(values))


def test_float_to_anything() -> None:
    rng = random.Random(14)
    names = [
        n for n, i in INSTRUCTIONS.items() if i.extension in ("F", "D") and "fs1" in i.fields and "fs2" not in i.fields
    ]
    assert len(names) == 16  # 8 to integers, 2 between formats, 2 roots, 2 classes, 2 moves
    rows: list[Row] = [(value, 0, 0) for value in _conversion_inputs(rng)]
    check(named(*names), rows, flags=True)


def test_integer_to_float() -> None:
    rng = random.Random(15)
    names = [
        n
        for n, i in INSTRUCTIONS.items()
        if i.extension in ("F", "D") and "rs1" in i.fields and "fd" in i.fields and not i.immediate()
    ]
    assert len(names) == 10
    values = set(INTEGERS)
    for bit in range(20, 64):
        for step in (24, 25, 53, 54):  # one bit and a half beyond the precision of F and of D
            low = 1 << max(bit - step, 0)
            values |= {
                (1 << bit) + low,
                (1 << bit) + low - 1,
                (1 << bit) + low + 1,
                (1 << bit) + 3 * low,
                (2 << bit) - low,
            }
    values |= {-v for v in values} | {rng.getrandbits(64) for _ in range(500 * ROUNDS)}
    check(named(*names), [(v & (1 << 64) - 1, 0, 0) for v in sorted(values)], flags=True)
