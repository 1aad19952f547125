"""The F and D arithmetic under test, its operations as a table, and the operands that its oracles share."""

from __future__ import annotations

import importlib
import itertools
import os
import random
import re
import shutil
import struct
import subprocess
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cffi import FFI

from patience import patience

CORE = Path(__file__).parents[2] / "vmrun" / "rv64" / "core"
ROUNDING = ("rne", "rtz", "rdn", "rup", "rmm")
NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16
SOFT = 256
M32, M64 = (1 << 32) - 1, (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Format:
    """A binary interchange format. ``prefix`` gives the top bits of an exponent field for a kind of magnitude."""

    bits: int
    fraction: int
    low_exponent_bits: int
    prefix: dict[str, int]

    @property
    def bias(self) -> int:
        return (1 << (self.bits - self.fraction - 2)) - 1

    @property
    def sign(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def infinity(self) -> int:
        return (self.sign - 1) >> self.fraction << self.fraction

    @property
    def nan(self) -> int:
        return self.infinity | 1 << (self.fraction - 1)


# "near" is just below and at 1, "whole" has integers; "low" reaches the subnormals, "high" infinities and NaNs.
FORMATS = {
    "s": Format(32, 23, 5, {"low": 0, "near": 3, "whole": 4, "beyond": 5, "high": 7}),
    "d": Format(64, 52, 6, {"low": 0, "near": 15, "whole": 16, "beyond": 17, "high": 31}),
}


@dataclass(frozen=True, slots=True)
class Op:
    """An operation: its instruction, what it reads (s, d; w, u, l, m for int32, uint32, int64, uint64) and writes
    (s, d, or x for an integer register), and whether the instruction has a rounding mode."""

    name: str
    instruction: str
    operands: str
    result: str
    rounds: bool

    @property
    def modes(self) -> range:
        return range(5 if self.rounds else 1)


def _table() -> Iterator[Op]:
    for f in "sd":
        for stem, arity, rounds in (
            ("add", 2, True), ("sub", 2, True), ("mul", 2, True), ("div", 2, True), ("sqrt", 1, True),
            ("fma", 3, True), ("min", 2, False), ("max", 2, False),
        ):  # fmt: skip
            name = "fmadd" if stem == "fma" else f"f{stem}"
            yield Op(f"{stem}_{f}".upper(), f"{name}.{f}", f * arity, f, rounds)
        for stem, arity in (("eq", 2), ("lt", 2), ("le", 2), ("class", 1)):
            yield Op(f"{stem}_{f}".upper(), f"f{stem}.{f}", f * arity, "x", False)
        for name, kind in (("w", "w"), ("wu", "u"), ("l", "l"), ("lu", "m")):
            yield Op(f"CVT_{name}_{f}".upper(), f"fcvt.{name}.{f}", f, "x", True)
            yield Op(f"CVT_{f}_{name}".upper(), f"fcvt.{f}.{name}", kind, f, True)
    yield Op("CVT_S_D", "fcvt.s.d", "d", "s", True)
    yield Op("CVT_D_S", "fcvt.d.s", "s", "d", True)


OPS = tuple(_table())
by_name = {op.name: op for op in OPS}


def compiler() -> str:
    """The C compiler, or a skipped test."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    pytest.skip("needs a C compiler (cc, gcc or clang) for the F and D test library")


def declarations() -> str:
    """fp_api.h as cffi reads it."""
    text = (CORE / "fp_api.h").read_text()
    return re.sub(r"^#(ifndef|endif|include|define \w+$).*$", "", text, flags=re.MULTILINE)


@cache
def _scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vmrun-fp-")


def compile_shared(name: str, sources: Iterable[Path], *flags: str) -> str:
    """Compile C files with the core's headers at hand; the library's path."""
    output = str(Path(_scratch().name) / name)
    command = [compiler(), "-std=c11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", f"-I{CORE}", *flags]
    done = subprocess.run(
        [*command, "-o", output, *map(str, sources), "-lm"],
        capture_output=True,
        text=True,
        timeout=patience(120),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return output


@dataclass(frozen=True, slots=True)
class Operands:
    """Columns of operands; integers and binary32 in the low bits, the rest of a column zero."""

    a: array[int]
    b: array[int]
    c: array[int]

    def __len__(self) -> int:
        return len(self.a)


Runner = Callable[..., int]


@dataclass(frozen=True, slots=True)
class Library:
    """A library with the entry points of fp_api.h: the one under test, or an oracle with the same face."""

    ffi: Any
    lib: Any

    def code(self, op: Op) -> int:
        code: int = getattr(self.lib, f"VMR_FP_{op.name}")
        return code

    def call(self, op: Op, rm: int, *values: int, flags: int = 0, soft: bool = False) -> tuple[int, int]:
        """One operation: result and flags."""
        a, b, c = (*values, 0, 0)[:3]
        result, raised = self.ffi.new("uint64_t *"), self.ffi.new("uint32_t *", flags)
        assert self.lib.vmr_fp_op(self.code(op) | SOFT * soft, rm, a, b, c, result, raised) == 0
        return result[0], raised[0]

    def run(
        self, op: Op, rm: int, x: Operands, *, flags: int = 0, soft: bool = False, entry: str = "vmr_fp_ops"
    ) -> tuple[array[int], array[int]]:
        """Every row: results and flags, the latter starting from ``flags``."""
        results, raised = array("Q", bytes(8 * len(x))), array("I", [flags]) * len(x)
        columns = [self.ffi.from_buffer("uint64_t[]", column) for column in (x.a, x.b, x.c)]
        status = getattr(self.lib, entry)(
            self.code(op) | SOFT * soft,
            rm,
            len(x),
            *columns,
            self.ffi.from_buffer("uint64_t[]", results, require_writable=True),
            self.ffi.from_buffer("uint32_t[]", raised, require_writable=True),
        )
        assert status == 0, op
        return results, raised


@cache
def under_test() -> Library:
    """The package's extension, or, where it is not built, a library of the arithmetic alone."""
    try:
        core = importlib.import_module("vmrun._core")
    except ImportError:
        return compiled("fp.so")
    return Library(core.ffi, core.lib) if hasattr(core.lib, "vmr_fp_ops") else compiled("fp.so")


def compiled(name: str, *flags: str) -> Library:
    """The arithmetic alone, compiled with further flags."""
    ffi = FFI()
    ffi.cdef(declarations())
    return Library(ffi, ffi.dlopen(compile_shared(name, sorted(CORE.glob("fp*.c")), *flags)))


@cache
def host() -> Library:
    """The oracle of fp_host.c."""
    ffi = FFI()
    ffi.cdef(
        declarations()
        + """
        uint32_t unbox(uint64_t reg);
        uint64_t box(uint32_t value);
        int host_fp_ops(uint32_t, uint32_t, uint64_t, const uint64_t *, const uint64_t *, const uint64_t *,
                        uint64_t *, uint32_t *);
        int flushing_fp_ops(void *ops, uint32_t, uint32_t, uint64_t, const uint64_t *, const uint64_t *,
                            const uint64_t *, uint64_t *, uint32_t *);"""
    )
    source = Path(__file__).with_name("fp_host.c")
    return Library(ffi, ffi.dlopen(compile_shared("host.so", [source], "-O1", "-frounding-math", "-ffp-contract=off")))


def assert_same(
    op: Op, rm: int, x: Operands, got: tuple[array[int], array[int]], want: tuple[array[int], array[int]]
) -> None:
    """Fail with the first row that differs."""
    if got == want:
        return
    rows = (i for i in range(len(x)) if (got[0][i], got[1][i]) != (want[0][i], want[1][i]))
    i = next(rows)
    operands = " ".join(f"{column[i]:#x}" for column in (x.a, x.b, x.c)[: len(op.operands)])
    pytest.fail(
        f"{op.instruction} {ROUNDING[rm]} {operands}: got {got[0][i]:#x} flags {got[1][i]:#x}, "
        f"want {want[0][i]:#x} flags {want[1][i]:#x}; {1 + sum(1 for _ in rows)} of {len(x)} rows differ"
    )


def with_flags(outcome: tuple[array[int], array[int]], flags: int) -> tuple[array[int], array[int]]:
    return outcome[0], array("I", [f | flags for f in outcome[1]])


# Directed operands ----------------------------------------------------------------------------------------------------


def _bits(f: str, value: float) -> int:
    pattern: int = struct.unpack("<I" if f == "s" else "<Q", struct.pack("<f" if f == "s" else "<d", value))[0]
    return pattern


def _both_signs(f: str, magnitudes: Iterable[int]) -> list[int]:
    return sorted({m | s for m in magnitudes for s in (0, FORMATS[f].sign)})


@cache
def corners(f: str) -> list[int]:
    """Zeros, subnormals, the ends of every range, small integers, NaNs, in both signs."""
    fmt = FORMATS[f]
    least_normal, one = 1 << fmt.fraction, fmt.bias << fmt.fraction
    ends = [0, 1, 2, 3, least_normal >> 1, least_normal - 1, least_normal, least_normal + 1, 2 * least_normal]
    ends += [one - 1, one, one + 1, fmt.infinity - 2, fmt.infinity - 1, fmt.infinity]
    ends += [fmt.infinity + 1, fmt.nan - 1, fmt.nan, fmt.nan + 5]
    return _both_signs(f, [*ends, *(_bits(f, v) for v in (0.5, 1.5, 2.0, 2.5, 3.0, 1 / 3, 10.0, 2.0**fmt.fraction))])


@cache
def boundaries(f: str) -> list[int]:
    """What a conversion may trip over: both sides of every power of two that an integer or the other format can end at,
    halves, and halfway cases."""
    fmt = FORMATS[f]
    found = set(corners(f))
    for power in [*range(-3, 68), 127, 128, -126, -127, -149, -150, -151]:
        if power + fmt.bias < 1:
            continue
        exact = (power + fmt.bias) << fmt.fraction
        found.update(exact + step for step in (-2, -1, 0, 1, 2))
        if 0 <= power < fmt.fraction:
            for away in (-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0):
                found.update(_bits(f, 2.0**power + away) + step for step in (-1, 0, 1))
        if f == "d" and power <= 128:
            # Halfway between two binary32, for normal and subnormal ones, and one unit to either side.
            for lost in (29, 30, 40, 51):
                found.update(exact + k + step for k in (1 << (lost - 1), 3 << (lost - 1)) for step in (-1, 0, 1))
    largest_single = 0x47EFFFFFE0000000
    if f == "d":
        found.update(largest_single + k for k in (-1, 0, 1, (1 << 28) - 1, 1 << 28, (1 << 28) + 1, 1 << 29))
    return _both_signs(f, (v for v in found if v >= 0))


@cache
def integers(kind: str) -> list[int]:
    """Powers of two and the numbers beside them, with runs of ones below, in both signs."""
    values = {0, 1, 2, 3, 5, 7, 10}
    for power in range(65):
        values.update(2**power + step for step in (-2, -1, 0, 1, 2))
        for significand in (24, 53):
            if power > significand:
                half = 1 << (power - significand)
                values.update(2**power + k * half + step for k in (1, 2, 3) for step in (-1, 0, 1))
                values.update(2**power - k * half // 2 + step for k in (1, 2, 3) for step in (-1, 0, 1))
    mask = M32 if kind in "wu" else M64
    return sorted({v & mask for v in values} | {-v & mask for v in values})


# Random operands, made in bulk: a column is one long integer, eight bytes a lane --------------------------------------


def _every_lane(n: int, value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little") * n, "little")


def random_column(rng: random.Random, n: int, operand: str, kind: str, style: str) -> array[int]:
    """``n`` operands: ``style`` thins out (few), fills (many) or leaves (any) the fraction's or integer's ones."""
    lanes = [int.from_bytes(rng.randbytes(8 * n), "little") for _ in range(3)]
    value = {
        "any": lanes[0],
        "few": lanes[0] & lanes[1] & lanes[2],
        "many": lanes[0] | lanes[1] | lanes[2],
    }[style]
    if operand in FORMATS:
        fmt = FORMATS[operand]
        # Sign and exponent are always evenly spread: only the fraction's style differs.
        head = fmt.sign | fmt.infinity
        value = (value & _every_lane(n, fmt.sign * 2 - 1 - head)) | (lanes[0] & _every_lane(n, head))
        if kind != "any":
            low = ((1 << fmt.low_exponent_bits) - 1) << fmt.fraction
            prefix = fmt.prefix[kind] << (fmt.fraction + fmt.low_exponent_bits)
            value = (value & _every_lane(n, M64 ^ fmt.infinity | low)) | _every_lane(n, prefix)
            value &= _every_lane(n, fmt.sign * 2 - 1)
    else:
        shift = {"near": 40, "low": 56, "whole": 11, "beyond": 8, "high": 32, "any": 0}[kind]
        value = (value >> shift) & _every_lane(n, M64 >> shift)
        value ^= int.from_bytes(b"".join(rng.choice((bytes(8), b"\xff" * 8)) for _ in range(n)), "little")
        value &= _every_lane(n, M32 if operand in "wu" else M64)
    column = array("Q")
    column.frombytes(value.to_bytes(8 * n, "little"))
    return column


KINDS: dict[int, list[tuple[str, ...]]] = {
    1: [(k,) for k in ("low", "near", "whole", "beyond", "high", "any")],
    2: [("near", "near"), ("low", "near"), ("near", "low"), ("high", "near"), ("high", "low"), ("low", "low"),
        ("whole", "near"), ("any", "any")],
    3: [("near", "near", "near"), ("low", "near", "low"), ("near", "near", "low"), ("low", "low", "low"),
        ("high", "near", "high"), ("whole", "near", "near"), ("near", "whole", "high"), ("any", "any", "any")],
}  # fmt: skip
STYLES = ("any", "few", "many")


def random_operands(op: Op, n_each: int, seed: int) -> Operands:
    """``n_each`` rows for every kind of magnitude and style."""
    rng = random.Random(f"{op.operands} {seed}")
    columns = [array("Q") for _ in range(3)]
    for kinds, style in itertools.product(KINDS[len(op.operands)], STYLES):
        for i, column in enumerate(columns):
            if i < len(kinds):
                column.extend(random_column(rng, n_each, op.operands[i], kinds[i], style))
            else:
                column.extend(array("Q", bytes(8 * n_each)))
    return Operands(*columns)


def _columns(rows: Iterable[tuple[int, ...]]) -> Operands:
    flat = [array("Q", column) for column in zip(*rows, strict=True)]
    zeros = array("Q", bytes(8 * len(flat[0])))
    return Operands(*[*flat, zeros, zeros][:3])


def _join(*parts: Operands) -> Operands:
    return Operands(*(sum((getattr(p, name) for p in parts), array("Q")) for name in "abc"))


def _squares(f: str, rng: random.Random) -> list[int]:
    """Exact squares and their neighbours, whose roots sit on or beside a number."""
    fmt = FORMATS[f]
    found: set[int] = set()
    for _ in range(500):
        root = rng.getrandbits(fmt.fraction // 2) | 1
        square = _bits(f, float(root * root))
        found.update(square + (rng.randrange(-20, 20) * 2 << fmt.fraction) + step for step in (-1, 0, 1))
    return sorted(found)


def _cancelling(library: Library, op: Op, x: Operands) -> Operands:
    """The same factors with an addend that is their product's opposite, or a unit or two off."""
    f = op.operands[0]
    product, _ = library.run(by_name[f"MUL_{f.upper()}"], 0, x)
    sign, mask = FORMATS[f].sign, FORMATS[f].sign * 2 - 1
    return Operands(x.a, x.b, array("Q", [((p ^ sign) + i % 5 - 2) & mask for i, p in enumerate(product)]))


@cache
def _operands(signature: str, library: Library, n_each: int, seed: int) -> Operands:
    """Directed operands crossed, and random ones, for operations that read ``signature``."""
    op = next(o for o in OPS if o.operands == signature and o.rounds)
    f = signature[0]
    random_part = random_operands(op, n_each, seed)
    if len(signature) == 1:
        directed = integers(f) if f not in FORMATS else boundaries(f) + _squares(f, random.Random(seed))
        return _join(_columns((v,) for v in directed), random_part)
    if len(signature) == 2:
        return _join(_columns(itertools.product(corners(f), repeat=2)), random_part)
    few = [*corners(f)[::2], FORMATS[f].nan - 1, FORMATS[f].infinity | FORMATS[f].sign]
    return _join(
        _columns(itertools.product(few, repeat=3)),
        random_part,
        _cancelling(library, op, random_operands(op, n_each, seed + 1)),
    )


def operands(library: Library, op: Op, n_each: int = 150, seed: int = 1) -> Operands:
    return _operands(op.operands, library, n_each, seed)
