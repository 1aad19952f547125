"""One short instruction sequence with its inputs; many of them in one program; their results compared and cut down.

A case loads every x register but one (``base``), every f register and fcsr from memory, runs its units and stores all
of it again. Its units are independent of their place, so any of them can be left out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from rv64asm import F_NAMES, X_NAMES, Asm, disassemble_all
from rv64run import FINISH, PAYLOAD, Program, RunError

SCRATCH_SIZE = 512
_STATE = 31 * 8 + 32 * 8 + 8 + 8  # x1 to x31, f0 to f31, fcsr, padding
_OUT = _STATE + SCRATCH_SIZE
_F = 31 * 8
_FCSR = _F + 32 * 8
MASK = (1 << 64) - 1
Runner = Callable[[Program], bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """``units``: pieces of code in order. ``pointers``: registers that hold scratch memory's address plus an offset."""

    base: int
    x: tuple[int, ...]
    f: tuple[int, ...]
    fcsr: int
    scratch: bytes
    pointers: tuple[tuple[int, int], ...]
    units: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A case whose results differ, with both states (None: the run did not end) and the runs' own words."""

    case: Case
    left: bytes | None
    right: bytes | None
    note: str


@cache
def _load_state(base: int) -> bytes:
    asm = Asm()
    name = X_NAMES[base]
    other = X_NAMES[1 if base != 1 else 2]
    asm("ld", other, f"{_FCSR}({name})")("fscsr", other)
    for n in range(32):
        asm("fld", F_NAMES[n], f"{_F + 8 * n}({name})")
    for n in range(1, 32):
        if n != base:
            asm("ld", X_NAMES[n], f"{8 * (n - 1)}({name})")
    return asm.assemble()


@cache
def _store_state(base: int) -> bytes:
    asm = Asm()
    name = X_NAMES[base]
    other = X_NAMES[1 if base != 1 else 2]
    for n in range(1, 32):
        if n != base:
            asm("sd", X_NAMES[n], f"{8 * (n - 1)}({name})")
    for n in range(32):
        asm("fsd", F_NAMES[n], f"{_F + 8 * n}({name})")
    asm("frcsr", other)("sd", other, f"{_FCSR}({name})")
    return asm.assemble()


def program(cases: Sequence[Case]) -> Program:
    """Put cases into one program; its dump holds one record of state and scratch memory for each."""
    code_size = (
        sum(16 + len(_load_state(c.base)) + len(_store_state(c.base)) + sum(map(len, c.units)) for c in cases) + 64
    )
    inputs_at = PAYLOAD + (code_size + 4095 & ~4095)
    outputs_at = inputs_at + (len(cases) * _STATE + 4095 & ~4095)
    asm = Asm()
    inputs, outputs = b"", b""
    parts_in, parts_out = [], []
    for number, case in enumerate(cases):
        source = inputs_at + number * _STATE
        sink = outputs_at + number * _OUT
        asm.symbols |= {f"i{number}": source, f"o{number}": sink}
        name = X_NAMES[case.base]
        asm("la", name, f"i{number}").raw(_load_state(case.base)).raw(b"".join(case.units))
        asm("la", name, f"o{number}").raw(_store_state(case.base))
        x = list(case.x)
        for register, offset in case.pointers:
            x[register] = sink + _STATE + offset
        parts_in.append(struct.pack("<31Q32QQ8x", *x[1:], *case.f, case.fcsr))
        parts_out.append(bytes(_STATE) + case.scratch)
    inputs, outputs = b"".join(parts_in), b"".join(parts_out)
    asm.text(FINISH)
    code = asm.assemble(PAYLOAD)
    image = code.ljust(inputs_at - PAYLOAD, b"\0") + inputs
    image = image.ljust(outputs_at - PAYLOAD, b"\0") + outputs
    return Program(image, outputs_at, len(outputs))


def _run(runner: Runner, cases: Sequence[Case]) -> list[bytes] | str:
    """Return each case's record, or what stopped the run."""
    try:
        dump = runner(program(cases))
    except RunError as error:
        return str(error)
    return [dump[i : i + _OUT] for i in range(0, len(dump), _OUT)]


def compare(cases: Sequence[Case], left: Runner, right: Runner, most: int = 5) -> list[Difference]:
    """Run the cases on both sides and return those that differ, at most ``most``. A run that dies is cut in halves."""
    one, other = _run(left, cases), _run(right, cases)
    if isinstance(one, str) or isinstance(other, str):
        if len(cases) == 1:
            states = [None if isinstance(s, str) else s[0] for s in (one, other)]
            note = "; ".join(s for s in (one, other) if isinstance(s, str))
            return [Difference(cases[0], states[0], states[1], note)]
        half = len(cases) // 2
        found = compare(cases[:half], left, right, most)
        return found if len(found) >= most else found + compare(cases[half:], left, right, most - len(found))
    triples = zip(cases, one, other, strict=True)
    return [Difference(c, a, b, "") for c, a, b in triples if a != b][:most]


def shorten(difference: Difference, left: Runner, right: Runner) -> Difference:
    """Leave out units as long as the two sides still differ."""
    while len(difference.case.units) > 1:
        case = difference.case
        fewer = [replace(case, units=case.units[:i] + case.units[i + 1 :]) for i in range(len(case.units))]
        found = compare(fewer, left, right, most=1)
        if not found:
            break
        difference = found[0]
    return difference


def describe(difference: Difference) -> str:
    """Format a difference: the instructions, the inputs they name, and what came out on each side."""
    case = difference.case
    lines = ["", disassemble_all(b"".join(case.units))]
    if difference.note:
        lines.append(difference.note)
    before = struct.pack("<31Q32QQ8x", *case.x[1:], *case.f, case.fcsr) + case.scratch
    names = [*X_NAMES[1:], *F_NAMES, "fcsr", "-"] + [f"scratch+{o:#x}" for o in range(0, SCRATCH_SIZE, 8)]
    text = lines[1]
    for register, offset in case.pointers:
        names[register - 1] += f" (at first scratch+{offset:#x})"
    left, right = difference.left or before, difference.right or before
    for number, name in enumerate(names):
        was, one, other = (int.from_bytes(s[8 * number : 8 * number + 8], "little") for s in (before, left, right))
        if one != other:
            lines.append(f"  {name}: was {was:#018x}, left {one:#018x}, right {other:#018x}")
        elif name.split()[0] in text.replace(",", " ").replace("(", " ").replace(")", " ").split() or name == "fcsr":
            lines.append(f"  {name}: was {was:#018x}, both {one:#018x}")
    return "\n".join(lines)
