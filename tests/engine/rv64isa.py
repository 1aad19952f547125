"""RV64 encodings from the table in ``rv64table``: encode, decode, disassemble."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from rv64table import CSRS, FIELDS, TABLE

X_NAMES = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
    "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
]  # fmt: skip
F_NAMES = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5",
    "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10",
    "ft11",
]  # fmt: skip
X_NUMBERS = {n: i for i, n in enumerate(X_NAMES)} | {f"x{i}": i for i in range(32)} | {"fp": 8}
F_NUMBERS = {n: i for i, n in enumerate(F_NAMES)} | {f"f{i}": i for i in range(32)}
ROUNDING = ["rne", "rtz", "rdn", "rup", "rmm", "rm5", "rm6", "dyn"]
CSR_NAMES = {number: name for name, number in CSRS.items()}


class AsmError(ValueError):
    """The program cannot be assembled: what is wrong, and in which line."""


@dataclass(frozen=True, slots=True)
class Part:
    """A field's or immediate's place in the encoding: value bits ``[value_low, +width)`` stand at ``position``."""

    name: str
    value_low: int
    width: int
    position: int


@dataclass(frozen=True, slots=True)
class Instruction:
    """One line of the table. ``match`` and ``mask`` give the fixed bits, ``size`` is 2 or 4 bytes."""

    name: str
    extension: str
    operands: tuple[str, ...]
    size: int
    match: int
    mask: int
    parts: tuple[Part, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields in encoding order; an immediate is called by its kind (s, u, p, n or z)."""
        return tuple(dict.fromkeys(p.name for p in self.parts))

    def immediate(self) -> tuple[str, int, int] | None:
        """The immediate's kind, lowest bit and highest bit, or None."""
        parts = [p for p in self.parts if p.name in "supnz"]
        if not parts:
            return None
        return parts[0].name, min(p.value_low for p in parts), max(p.value_low + p.width - 1 for p in parts)

    def encode(self, values: dict[str, int]) -> int:
        """Return the encoding with these field values (register numbers count from 0 also for primed fields).

        Raises AsmError where a value does not fit.
        """
        for name in self.fields:
            self._check(name, values[name])
        word = self.match
        for part in self.parts:
            value = values[part.name] - (8 if part.name.endswith("'") else 0)
            word |= (value >> part.value_low & (1 << part.width) - 1) << part.position
        return word

    def _check(self, name: str, value: int) -> None:
        if name in "supnz":
            kind, low, high = self.immediate() or ("u", 0, 0)
            if kind in "spn":
                fits = -(1 << high) <= value < 1 << high
            else:
                fits = 0 <= value < 1 << (high + 1)
            if not fits or value & (1 << low) - 1 or (kind in "nz" and value == 0):
                raise AsmError(f"{self.name}: immediate {value:#x} does not fit")
            return
        low = 8 if name.endswith("'") else 0
        banned = {"+": (0,), "*": (0, 2)}.get(name[-1], ())
        if not low <= value < low + (1 << FIELDS[name]) or value in banned:
            raise AsmError(f"{self.name}: {name} cannot be {value}")

    def decode(self, word: int) -> dict[str, int] | None:
        """Return the field values of ``word``, or None where it is not this instruction."""
        if word & self.mask != self.match:
            return None
        values = dict.fromkeys(self.fields, 0)
        for part in self.parts:
            values[part.name] |= (word >> part.position & (1 << part.width) - 1) << part.value_low
        for name in values:
            if name.endswith("'"):
                values[name] += 8
            elif name in "spn":
                high = (self.immediate() or ("s", 0, 0))[2]
                values[name] -= (values[name] >> high) << (high + 1)
        try:
            for name, value in values.items():
                self._check(name, value)
        except AsmError:
            return None
        return values


def _instruction(line: str, extension: str) -> Instruction:
    name, operands, *tokens = line.split()
    size = 2 if name.startswith("c.") else 4
    position = size * 8
    match = mask = 0
    parts: list[Part] = []
    for token in tokens:
        if re.fullmatch("[01]+", token):
            position -= len(token)
            match |= int(token, 2) << position
            mask |= (1 << len(token)) - 1 << position
        elif token in FIELDS:
            position -= FIELDS[token]
            parts.append(Part(token, 0, FIELDS[token], position))
        else:
            kind, slices = token.split(".")
            for piece in slices.split("|"):
                high, _, low = piece.partition(":")
                width = int(high) - int(low or high) + 1
                position -= width
                parts.append(Part(kind, int(low or high), width, position))
    if position:
        raise AsmError(f"{name}: the table's encoding misses {position} bits")
    names = () if operands == "-" else tuple(re.findall(r"[^,()]+", operands))
    return Instruction(name, extension, names, size, match, mask, tuple(parts))


def _read_table() -> dict[str, Instruction]:
    found: dict[str, Instruction] = {}
    extension = ""
    for line in TABLE.strip().splitlines():
        if line.startswith("["):
            extension = line.strip("[]")
        else:
            instruction = _instruction(line, extension)
            found[instruction.name] = instruction
    return found


INSTRUCTIONS: dict[str, Instruction] = _read_table()
"""Every instruction by mnemonic, in the table's order (an encoding stands before a wider one that holds it)."""


@cache
def _by_low_bits(low: int) -> tuple[Instruction, ...]:
    """Instructions that can have these low seven bits."""
    return tuple(
        i for i in INSTRUCTIONS.values() if (low ^ i.match) & i.mask & 0x7F == 0 and (i.size == 4) == (low & 3 == 3)
    )


def decode(word: int) -> tuple[Instruction, dict[str, int]] | None:
    """Find the instruction of ``word`` (its low 16 bits where compressed) in the table, or None."""
    for instruction in _by_low_bits(word & 0x7F):
        values = instruction.decode(word if instruction.size == 4 else word & 0xFFFF)
        if values is not None:
            return instruction, values
    return None


def _operand_text(name: str, value: int) -> str:
    if name == "sp":
        return "sp"
    if name[0] == "f":
        return F_NAMES[value]
    if name[0] == "r" and name != "rm":
        return X_NAMES[value]
    if name == "rm":
        return ROUNDING[value]
    if name == "csr":
        return CSR_NAMES.get(value, hex(value))
    if name in ("pred", "succ"):
        return "".join(letter for bit, letter in zip((8, 4, 2, 1), "iorw", strict=True) if value & bit) or "0"
    return f"pc{value:+d}" if name == "p" else str(value)


def disassemble(word: int) -> str:
    """One instruction as text; an encoding that the table lacks as ``.word`` or ``.half``."""
    found = decode(word)
    if found is None:
        return f".word {word:#010x}" if word & 3 == 3 else f".half {word & 0xFFFF:#06x}"
    instruction, values = found
    suffix = ["", ".rl", ".aq", ".aqrl"][values.get("aq", 0) * 2 + values.get("rl", 0)]
    texts = [_operand_text(n, values.get(n, 0)) for n in instruction.operands]
    if instruction.operands and "(" in _table_operands(instruction.name):
        base = texts.pop()
        offset = texts.pop() if instruction.immediate() else ""
        texts.append(f"{offset}({base})")
    return f"{instruction.name}{suffix} {', '.join(texts)}".rstrip()


@cache
def _table_operands(name: str) -> str:
    return next(line.split()[1] for line in TABLE.splitlines() if line.split()[:1] == [name])


def disassemble_all(code: bytes, origin: int = 0) -> str:
    """Every instruction of ``code`` on a line of its own with its address."""
    lines = []
    at = 0
    while at + 2 <= len(code):
        word = int.from_bytes(code[at : at + 4], "little")
        size = 4 if word & 3 == 3 else 2
        shown = word if size == 4 else word & 0xFFFF
        lines.append(f"{origin + at:#x}: {shown:0{size * 2}x}  {disassemble(word)}")
        at += size
    return "\n".join(lines)
