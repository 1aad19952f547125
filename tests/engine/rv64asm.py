"""A small RV64 assembler and disassembler for tests, driven by the table in ``rv64table``.

    asm = Asm()
    asm.text('''
    start:  li    t0, 0x123456789abcdef0
            la    a1, data
            ld    a0, 8(a1)
            amoadd.d.aqrl a2, a0, (a1)
            beqz  a0, start
    ''')
    asm("addi", "a0", "a0", 1)
    asm.align(8).label("data").dword(1, 2, "start")
    code = asm.assemble(0x8020_0000)

Operands are registers (``a0``, ``x10``, ``fa0``, ``f10``), integers and labels, as text or, for integers, as ``int``.
Each instruction has one size whatever its operands (no relaxation), so ``li`` of one value always takes the same
bytes. Anything wrong raises ``AsmError`` with the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from rv64isa import (
    CSR_NAMES,
    F_NAMES,
    F_NUMBERS,
    INSTRUCTIONS,
    ROUNDING,
    X_NAMES,
    X_NUMBERS,
    AsmError,
    Instruction,
    decode,
    disassemble,
    disassemble_all,
)  # fmt: skip
from rv64table import CSRS, FIELDS

__all__ = [
    "CSRS", "CSR_NAMES", "FIELDS", "F_NAMES", "INSTRUCTIONS", "ROUNDING", "X_NAMES",
    "Asm", "AsmError", "Instruction", "assemble", "decode", "disassemble", "disassemble_all", "li_parts",
]  # fmt: skip

Operand = str | int


def li_parts(value: int) -> list[tuple[str, int]]:
    """Return the usual ``lui``, ``addi``, ``addiw``, ``slli`` with their immediates that make a 64-bit value."""
    value = (value & (1 << 64) - 1) - ((value >> 63 & 1) << 64)
    low = (value & 0xFFF) - ((value >> 11 & 1) << 12)
    if -(1 << 31) <= value < 1 << 31:
        high = (value - low) >> 12 & 0xFFFFF
        if not high:
            return [("addi", low)]
        return [("lui", high)] + ([("addiw", low)] if low else [])
    rest = value - low
    shift = (rest & -rest).bit_length() - 1
    return [*li_parts(rest >> shift), ("slli", shift)] + ([("addi", low)] if low else [])


_PSEUDO = """
nop=addi zero,zero,0; mv A,B=addi A,B,0; not A,B=xori A,B,-1; neg A,B=sub A,zero,B; negw A,B=subw A,zero,B
sext.w A,B=addiw A,B,0; zext.b A,B=andi A,B,255; zext.w A,B=add.uw A,B,zero
seqz A,B=sltiu A,B,1; snez A,B=sltu A,zero,B; sltz A,B=slt A,B,zero; sgtz A,B=slt A,zero,B
beqz A,B=beq A,zero,B; bnez A,B=bne A,zero,B; blez A,B=bge zero,A,B; bgez A,B=bge A,zero,B; bltz A,B=blt A,zero,B
bgtz A,B=blt zero,A,B; bgt A,B,C=blt B,A,C; ble A,B,C=bge B,A,C; bgtu A,B,C=bltu B,A,C; bleu A,B,C=bgeu B,A,C
j A=jal zero,A; jal A=jal ra,A; jr A=jalr zero,0(A); jalr A=jalr ra,0(A); ret=jalr zero,0(ra)
csrr A,B=csrrs A,B,zero; csrw A,B=csrrw zero,A,B; csrs A,B=csrrs zero,A,B; csrc A,B=csrrc zero,A,B
csrwi A,B=csrrwi zero,A,B; csrsi A,B=csrrsi zero,A,B; csrci A,B=csrrci zero,A,B
rdtime A=csrrs A,time,zero; rdcycle A=csrrs A,cycle,zero; rdinstret A=csrrs A,instret,zero
frcsr A=csrrs A,fcsr,zero; fscsr A=csrrw zero,fcsr,A; frrm A=csrrs A,frm,zero; fsrm A=csrrw zero,frm,A
frflags A=csrrs A,fflags,zero; fsflags A=csrrw zero,fflags,A
fmv.s A,B=fsgnj.s A,B,B; fabs.s A,B=fsgnjx.s A,B,B; fneg.s A,B=fsgnjn.s A,B,B
fmv.d A,B=fsgnj.d A,B,B; fabs.d A,B=fsgnjx.d A,B,B; fneg.d A,B=fsgnjn.d A,B,B
fence=fence iorw,iorw; sfence.vma=sfence.vma zero,zero; sfence.vma A=sfence.vma A,zero
"""


def _read_pseudo() -> dict[tuple[str, int], tuple[str, list[str]]]:
    found = {}
    for rule in re.split(r"[;\n]", _PSEUDO.strip()):
        left, right = rule.strip().split("=")
        name, _, formals = left.partition(" ")
        target, _, actuals = right.partition(" ")
        found[name, len([f for f in formals.split(",") if f])] = (target, actuals.split(","))
    return found


PSEUDO = _read_pseudo()
_LATE = {"p"}


@dataclass(slots=True)
class Item:
    """Bytes at an offset, made when the labels are known."""

    offset: int
    size: int
    make: Callable[[int], bytes]
    line: str


@dataclass(slots=True)
class Asm:
    """A program under construction. Offsets count from 0; ``assemble`` gives them their addresses."""

    size: int = 0
    items: list[Item] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    _local: Iterator[int] = field(default_factory=count)
    _origin: int = 0

    # ---- placing things

    def label(self, name: str) -> Asm:
        """Name the current place. Raises AsmError where the name is taken."""
        if name in self.labels or name in self.symbols:
            raise AsmError(f"label {name} is there twice")
        self.labels[name] = self.size
        return self

    def equ(self, name: str, value: int) -> Asm:
        """Name a number, for operands."""
        self.symbols[name] = value
        return self

    def unique(self, stem: str = "L") -> str:
        """Return a label name that nobody else has."""
        return f".{stem}{next(self._local)}"

    def raw(self, data: bytes) -> Asm:
        """Place bytes."""
        return self._put(len(data), lambda _: data, repr(data))

    def zero(self, size: int) -> Asm:
        """Place ``size`` zero bytes."""
        return self.raw(bytes(size))

    def align(self, alignment: int) -> Asm:
        """Fill with zeros up to a multiple of ``alignment`` bytes (of the offset)."""
        return self.zero(-self.size % alignment)

    def byte(self, *values: Operand) -> Asm:
        return self._data(1, values)

    def half(self, *values: Operand) -> Asm:
        return self._data(2, values)

    def word(self, *values: Operand) -> Asm:
        return self._data(4, values)

    def dword(self, *values: Operand) -> Asm:
        """Place 64-bit values; a label stands for its address."""
        return self._data(8, values)

    def _data(self, size: int, values: tuple[Operand, ...]) -> Asm:
        for value in values:
            self._put(size, partial(self._encoded, value, size), f"{value}")
        return self

    def _encoded(self, value: Operand, size: int, _address: int) -> bytes:
        return (self._number(value) % (1 << 8 * size)).to_bytes(size, "little")

    def _put(self, size: int, make: Callable[[int], bytes], line: str) -> Asm:
        self.items.append(Item(self.size, size, make, line))
        self.size += size
        return self

    # ---- instructions

    def __call__(self, name: str, *operands: Operand) -> Asm:
        """Place one instruction or pseudo-instruction."""
        if name == "li":
            return self._li(str(operands[0]), self._number(operands[1]))
        if name in ("la", "call", "tail"):
            return self._far(name, *map(str, operands))
        if (name, len(operands)) in PSEUDO:
            target, actuals = PSEUDO[name, len(operands)]
            formal = dict(zip("ABC", operands, strict=False))
            filled = [
                formal.get(a, a) if len(a) == 1 else a.replace("(A)", f"({formal.get('A')})") for a in actuals if a
            ]
            return self._place(target, tuple(filled))
        return self._place(name, operands)

    def _place(self, name: str, operands: tuple[Operand, ...]) -> Asm:
        line = f"{name} {', '.join(map(str, operands))}"
        base, suffix = name, ""
        if name not in INSTRUCTIONS:
            base, _, suffix = name.rpartition(".")
        if base not in INSTRUCTIONS or (
            suffix and (suffix not in ("aq", "rl", "aqrl") or INSTRUCTIONS[base].extension != "A")
        ):
            raise AsmError(f"no such instruction: {line}")
        instruction = INSTRUCTIONS[base]
        ordering = {"aq": int(suffix.startswith("aq")), "rl": int(suffix.endswith("rl"))}
        texts = self._split(instruction, operands, line)

        def make(address: int) -> bytes:
            values = {
                n: self._value(n, t, address) for n, t in zip(instruction.operands, texts, strict=True) if n != "sp"
            }
            return instruction.encode(ordering | values).to_bytes(instruction.size, "little")

        if not any(n in _LATE for n in instruction.operands):
            ready = self._checked(make, 0, line)
            return self._put(instruction.size, lambda _: ready, line)
        return self._put(instruction.size, make, line)

    @staticmethod
    def _split(instruction: Instruction, operands: tuple[Operand, ...], line: str) -> list[Operand]:
        """Take ``imm(reg)`` apart and add the rounding mode where it is left out."""
        texts: list[Operand] = []
        for operand in operands:
            memory = re.fullmatch(r"(.*)\((\w+)\)", operand.strip()) if isinstance(operand, str) else None
            if memory is None:
                texts.append(operand)
                continue
            if instruction.immediate():
                texts.append(memory[1].strip() or 0)
            elif memory[1].strip() not in ("", "0"):
                raise AsmError(f"no offset possible: {line}")
            texts.append(memory[2])
        if instruction.operands[-1:] == ("rm",) and len(texts) == len(instruction.operands) - 1:
            texts.append("dyn")
        for name, given in zip(instruction.operands, texts, strict=False):
            if name == "sp" and given not in ("sp", "x2"):
                raise AsmError(f"sp expected: {line}")
        if len(texts) != len(instruction.operands):
            raise AsmError(f"{len(instruction.operands)} operands expected: {line}")
        return texts

    def _value(self, name: str, text: Operand, address: int) -> int:
        if name == "rm" and text in ROUNDING:
            return ROUNDING.index(str(text))
        if name[0] == "f" and name in FIELDS and isinstance(text, str):
            return self._named(F_NUMBERS, text)
        if name[0] == "r" and name != "rm" and isinstance(text, str):
            return self._named(X_NUMBERS, text)
        if name == "csr" and text in CSRS:
            return CSRS[str(text)]
        if name in ("pred", "succ") and isinstance(text, str) and text not in ("", "0"):
            return sum({"i": 8, "o": 4, "r": 2, "w": 1}[c] for c in text)
        if name == "p" and isinstance(text, str) and (text.startswith("pc") or text in self.labels):
            return (
                self._number(text[2:])
                if text.startswith("pc") and text not in self.labels
                else self._number(text) - address
            )
        return self._number(text)

    @staticmethod
    def _named(numbers: dict[str, int], text: str) -> int:
        if text not in numbers:
            raise AsmError(f"no such register: {text}")
        return numbers[text]

    def _number(self, text: Operand) -> int:
        """An integer, a symbol, a label's address, or such with ``+n`` or ``-n`` behind it."""
        if isinstance(text, int):
            return text
        text = text.strip()
        try:
            return int(text, 0)
        except ValueError:
            pass
        if text in self.symbols:
            return self.symbols[text]
        if text in self.labels:
            return self._origin + self.labels[text]
        offset = re.fullmatch(r"(.+?)\s*([+-])\s*(\w+)", text)
        if offset:
            return self._number(offset[1]) + int(f"{offset[2]}1") * self._number(offset[3])
        raise AsmError(f"neither a number nor a label: {text}")

    def _li(self, rd: str, value: int) -> Asm:
        source = "zero"
        for name, immediate in li_parts(value):
            if name == "lui":
                self._place(name, (rd, immediate))
            else:
                self._place(name, (rd, source, immediate))
            source = rd
        return self

    def _far(self, name: str, *operands: str) -> Asm:
        """``la rd,label``, ``call label``, ``tail label``: auipc and one more, 8 bytes, +-2 GiB."""
        target = operands[-1]
        base = {"call": "ra", "tail": "t1"}.get(name) or operands[0]
        link = {"call": "ra", "tail": "zero"}.get(name, base)

        def make(address: int) -> bytes:
            distance = self._number(target) - address
            low = (distance & 0xFFF) - ((distance >> 11 & 1) << 12)
            upper = distance - low >> 12 & 0xFFFFF
            if not -(1 << 31) <= distance - low < 1 << 31:
                raise AsmError(f"{target} is further than 2 GiB")
            number = X_NUMBERS[base]
            second = INSTRUCTIONS["addi" if name == "la" else "jalr"]
            words = (INSTRUCTIONS["auipc"].encode({"rd": number, "u": upper}),
                     second.encode({"rd": X_NUMBERS[link], "rs1": number, "s": low}))  # fmt: skip
            return b"".join(w.to_bytes(4, "little") for w in words)

        return self._put(8, make, f"{name} {', '.join(operands)}")

    # ---- text

    def text(self, source: str) -> Asm:
        """Place a listing: ``label:``, instructions, ``.equ name, value``, data; ``;`` separates, ``#`` comments.

        Data: ``.byte``, ``.half``, ``.word``, ``.dword`` with values or labels, ``.zero n``, ``.align n`` (bytes).
        """
        for whole in source.splitlines():
            rest = whole.partition("#")[0].strip()
            while label := re.match(r"([\w.$]+):\s*", rest):
                self.label(label[1])
                rest = rest[label.end() :]
            for statement in filter(None, (s.strip() for s in rest.split(";"))):
                name, _, tail = statement.partition(" ")
                operands = [o.strip() for o in tail.split(",")] if tail.strip() else []
                try:
                    self._statement(name, operands)
                except (AsmError, IndexError) as error:
                    raise AsmError(f"{error} in: {whole.strip()}") from error
        return self

    def _statement(self, name: str, operands: list[str]) -> None:
        if name == ".equ":
            self.equ(operands[0], self._number(operands[1]))
        elif name in (".zero", ".align"):
            getattr(self, name[1:])(self._number(operands[0]))
        elif name in (".byte", ".half", ".word", ".dword"):
            getattr(self, name[1:])(*operands)
        else:
            self(name, *operands)

    @staticmethod
    def _checked(make: Callable[[int], bytes], address: int, line: str) -> bytes:
        try:
            return make(address)
        except AsmError as error:
            raise AsmError(f"{error}: {line}") from error

    def assemble(self, origin: int = 0) -> bytes:
        """Return the program's bytes for ``origin``. Raises AsmError for unknown labels and branches out of reach."""
        self._origin = origin
        return b"".join(self._checked(item.make, origin + item.offset, item.line) for item in self.items)

    def address(self, label: str) -> int:
        """Where a label stood in the last ``assemble``."""
        return self._origin + self.labels[label]


def assemble(source: str, origin: int = 0) -> bytes:
    """Assemble a listing (see ``Asm.text``)."""
    return Asm().text(source).assemble(origin)
