"""Random instruction sequences whose operands lean to the corners: inputs for ``rv64case``."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from rv64asm import FIELDS, INSTRUCTIONS, X_NAMES, Asm, Instruction
from rv64case import MASK, SCRATCH_SIZE, Case

_NOT_HERE = {
    "ecall", "ebreak", "c.ebreak", "sret", "mret", "wfi", "sfence.vma", "sinval.vma", "sfence.w.inval",
    "sfence.inval.ir",
}  # fmt: skip
"""What traps in U-mode or needs a system around it."""

USER = tuple(i for i in INSTRUCTIONS.values() if i.name not in _NOT_HERE)
_BRANCHES = {"beq", "bne", "blt", "bge", "bltu", "bgeu", "c.beqz", "c.bnez"}
_LINKS = {"jal", "c.j"}
_INDIRECT = {"jalr", "c.jr", "c.jalr"}


def _is_memory(instruction: Instruction) -> bool:
    """A load or store with an offset, as against ``jalr`` and the AMOs."""
    offset, base = instruction.operands[-2:-1], instruction.operands[-1:]
    return offset in (("s",), ("u",)) and base in (("rs1",), ("rs1'",), ("sp",)) and instruction.name not in _INDIRECT


_COMPRESSED = {
    "c.addi", "c.addiw", "c.li", "c.lui", "c.srli", "c.srai", "c.andi", "c.sub", "c.xor", "c.or", "c.and",
    "c.subw", "c.addw",
    "c.slli", "c.mv", "c.add", "c.nop", "c.addi4spn",
}  # fmt: skip
_PLAIN = tuple(
    i for i in USER
    if i.extension in ("I", "M", "Zba", "Zbb", "Zbs") and not _is_memory(i)
    and not {"p", "pred"} & set(i.fields) and i.name not in _INDIRECT
)  # fmt: skip
"""What can stand in any branch's way."""
_REPEATABLE = tuple(
    i for i in USER if i in _PLAIN or _is_memory(i) or i.extension in ("F", "D") or i.name in _COMPRESSED
)


def _integers() -> tuple[int, ...]:
    found = {
        0,
        1,
        2,
        3,
        0x5555555555555555,
        0xAAAAAAAAAAAAAAAA,
        0x123456789ABCDEF0,
        0xFF00FF00FF00FF00,
        0x8000000000000001,
    }
    for bit in (5, 6, 7, 8, 11, 12, 15, 16, 20, 30, 31, 32, 33, 47, 48, 62, 63):
        found |= {1 << bit, (1 << bit) - 1, (1 << bit) + 1}
    found |= {31, 32, 33, 63, 64}
    return tuple(sorted(found | {-v & MASK for v in found}))


def _doubles() -> tuple[int, ...]:
    positive = [
        0, 1, 2, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x0010000000000001, 0x001FFFFFFFFFFFFF, 0x7FEFFFFFFFFFFFFF,
        0x7FE0000000000000, 0x7FF0000000000000, 0x7FF0000000000001, 0x7FF7FFFFFFFFFFFF, 0x7FF8000000000000,
        0x7FF8000000000123,
        0x7FFFFFFFFFFFFFFF, 0x3FF0000000000000, 0x3FF0000000000001, 0x3FEFFFFFFFFFFFFF, 0x3FE0000000000000,
        0x3FDFFFFFFFFFFFFF,
        0x3FE0000000000001, 0x3FF8000000000000, 0x4000000000000000, 0x4004000000000000, 0x400C000000000000,
        0x4008000000000000,
        0x3FD5555555555555, 0x36A0000000000000, 0x3690000000000000, 0x3690000000000001, 0x380FFFFFC0000000,
        0x380FFFFFE0000000,
        0x380FFFFFF0000000, 0x3810000000000000, 0x47EFFFFFE0000000, 0x47EFFFFFEFFFFFFF, 0x47EFFFFFF0000000,
        0x47F0000000000000,
        0x41DFFFFFFFC00000, 0x41DFFFFFFFE00000, 0x41E0000000000000, 0x41E0000000100000, 0x41E0000000200000,
        0x41EFFFFFFFE00000,
        0x41EFFFFFFFF00000, 0x41F0000000000000, 0x43DFFFFFFFFFFFFF, 0x43E0000000000000, 0x43E0000000000001,
        0x43EFFFFFFFFFFFFF,
        0x43F0000000000000, 0x4330000000000000, 0x4330000000000001, 0x432FFFFFFFFFFFFF, 0x4340000000000000,
        0x3CA0000000000000,
    ]  # fmt: skip
    return tuple(positive + [v | 1 << 63 for v in positive])


def _singles() -> tuple[int, ...]:
    positive = [
        0, 1, 2, 0x007FFFFF, 0x00800000, 0x00800001, 0x00FFFFFF, 0x7F7FFFFF, 0x7F000000, 0x7F800000, 0x7F800001,
        0x7FBFFFFF,
        0x7FC00000, 0x7FC00123, 0x7FFFFFFF, 0x3F800000, 0x3F800001, 0x3F7FFFFF, 0x3F000000, 0x3EFFFFFF, 0x3F000001,
        0x3FC00000,
        0x40000000, 0x40200000, 0x40600000, 0x40400000, 0x3EAAAAAA, 0x4EFFFFFF, 0x4F000000, 0x4F000001, 0x4F7FFFFF,
        0x4F800000,
        0x5EFFFFFF, 0x5F000000, 0x5F000001, 0x5F7FFFFF, 0x5F800000, 0x4B000000, 0x4B000001, 0x4AFFFFFF, 0x33800000,
        0x1F800000,
    ]  # fmt: skip
    return tuple(positive + [v | 1 << 31 for v in positive])


INTEGERS = _integers()
DOUBLES = _doubles()
SINGLES = _singles()
BOX = 0xFFFFFFFF00000000


def random_integer(rng: random.Random) -> int:
    kind = rng.random()
    if kind < 0.65:
        return rng.choice(INTEGERS)
    return rng.getrandbits(64) if kind < 0.85 else rng.getrandbits(rng.randint(1, 63))


def random_float(rng: random.Random) -> int:
    """Raw content of an f register: a double, a boxed single, or a single in a bad box."""
    kind = rng.random()
    if kind < 0.4:
        return rng.choice(DOUBLES)
    if kind < 0.7:
        return BOX | rng.choice(SINGLES)
    if kind < 0.78:
        return rng.choice(SINGLES) | rng.choice([0, 0xFFFFFFFE00000000, 0x7FFFFFFF00000000, 0xFFFFFFFF << 33 & MASK])
    if kind < 0.86:
        return BOX | rng.getrandbits(1) << 31 | rng.randint(120, 135) << 23 | rng.getrandbits(23)
    if kind < 0.94:
        return rng.getrandbits(1) << 63 | rng.randint(1015, 1090) << 52 | rng.getrandbits(52)
    return rng.getrandbits(64)


@dataclass(slots=True)
class _Builder:
    """Makes the units of one case and knows which registers still point to scratch memory."""

    rng: random.Random
    base: int
    pointers: dict[int, int] = field(default_factory=dict)
    units: list[bytes] = field(default_factory=list)
    pool: Sequence[int] = range(32)
    float_pool: Sequence[int] = range(32)
    held: set[int] = field(default_factory=set)

    # ---- registers

    def _pick(self, pool: Sequence[int], low: int, count: int, banned: Collection[int] = ()) -> int:
        """One of the pool where it has any in ``[low, low + count)``, else any other."""
        fits = [n for n in pool if low <= n < low + count and n not in banned]
        return self.rng.choice(fits or [n for n in range(low, low + count) if n not in banned])

    def destination(self, low: int = 0, count: int = 32, *others: int) -> int:
        """A register that may be written: not the base, a pointer, a loop's counter or one of ``others``."""
        return self._pick(self.pool, low, count, {self.base, *self.pointers, *self.held, *others})

    def temporary(self, *others: int) -> int:
        """A register to write that is neither x0 nor one of ``others``."""
        return self.destination(1, 31, *others)

    def _register(self, name: str) -> int:
        low, count = (8, 8) if name.endswith("'") else (1, 31) if name[-1] in "+*" else (0, 32)
        if name[0] == "f":
            return self._pick(self.float_pool, low, count)
        if name.startswith("rd"):
            return self.destination(low, count, *((2,) if name[-1] == "*" else ()))
        return self._pick(self.pool, low, count) if self.rng.random() < 0.8 else self._pick(range(32), low, count)

    def immediate(self, instruction: Instruction) -> int:
        kind, low, high = instruction.immediate() or ("u", 0, 0)
        bottom, top = (-(1 << high), (1 << high) - 1) if kind in "spn" else (0, (2 << high) - 1)
        chosen = self.rng.choice(
            [bottom, top, 0, 1, -1, 31, 32, self.rng.randint(bottom, top), self.rng.randint(bottom, top)]
        )
        chosen = max(bottom, min(top, chosen)) >> low << low
        return chosen or (1 << low if kind in "nz" else 0)

    def values(self, instruction: Instruction) -> dict[str, int]:
        """Random operands without regard to memory and control flow."""
        found: dict[str, int] = {}
        for name in instruction.fields:
            if name in "supnz":
                found[name] = self.immediate(instruction)
            elif name == "rm":
                found[name] = self.rng.choice([0, 1, 2, 3, 4, 7, 7, 7])
            elif name in ("aq", "rl", "pred", "succ"):
                found[name] = self.rng.getrandbits(FIELDS[name])
            elif name != "csr":
                found[name] = self._register(name)
        return found

    def code(self, instruction: Instruction, **fixed: int) -> bytes:
        """Encode with random operands, ``fixed`` ones aside (``rd_`` stands for ``rd'`` and its like)."""
        names = {n.rstrip("'+*"): n for n in instruction.fields}
        chosen = self.values(instruction) | {names[k]: v for k, v in fixed.items()}
        return instruction.encode(chosen).to_bytes(instruction.size, "little")

    # ---- units

    def plain(self) -> bytes:
        return self.code(self.rng.choice(_PLAIN))

    def bodies(self) -> bytes:
        return b"".join(self.plain() for _ in range(self.rng.randint(0, 3)))

    def step(self) -> bytes:
        """Something that can be done again and again: arithmetic, F and D, memory."""
        made = None
        while made is None:
            instruction = self.rng.choice(_REPEATABLE)
            made = self.memory(instruction) if _is_memory(instruction) else self.code(instruction)
        return made

    def loop(self) -> bytes:
        """A few steps two to four times, entered at any of them: decoded code runs again, from its middle too."""
        counter = self.temporary()
        self.held.add(counter)
        steps = [self.step() for _ in range(self.rng.randint(1, 6))]
        entry = self.rng.randrange(len(steps))
        self.held.remove(counter)
        start = self.code(INSTRUCTIONS["addi"], rd=counter, rs1=0, s=self.rng.randint(2, 4))
        enter = self.code(INSTRUCTIONS["jal"], rd=0, p=4 + len(b"".join(steps[:entry])))
        body = b"".join(steps) + self.code(INSTRUCTIONS["addi"], rd=counter, rs1=counter, s=-1)
        return start + enter + body + self.code(INSTRUCTIONS["bne"], rs1=counter, rs2=0, p=-len(body))

    def unit(self, instruction: Instruction) -> bytes | None:
        """A unit around ``instruction``, or None where this case has no register for it."""
        name = instruction.name
        if name in _BRANCHES:
            return self.branch(instruction)
        if name in _LINKS:
            body = self.bodies()
            return self.code(instruction, p=instruction.size + len(body)) + body
        if name in _INDIRECT:
            return self.indirect(instruction)
        if instruction.extension == "A":
            return self.atomic(instruction)
        if instruction.extension == "Zicsr":
            return self.csr(instruction)
        if name == "c.addi16sp":
            return None if 2 in self.pointers or self.base == 2 else self.code(instruction)
        if _is_memory(instruction):
            return self.memory(instruction)
        out = self.code(instruction)
        if instruction.extension in "FD" and self.rng.random() < 0.5:
            flags = INSTRUCTIONS["csrrw" if self.rng.random() < 0.5 else "csrrs"]
            out += self.code(flags, csr=1, rs1=0)
        return out

    def branch(self, instruction: Instruction) -> bytes:
        body = self.bodies()
        size = instruction.size
        if self.rng.random() < 0.6:
            return self.code(instruction, p=size + len(body)) + body
        jump = INSTRUCTIONS["jal"]
        over = self.code(jump, rd=0, p=4 + len(body) + 4)
        leave = self.code(jump, rd=0, p=4 + size)
        return over + body + leave + self.code(instruction, p=-(len(body) + 4))

    def indirect(self, instruction: Instruction) -> bytes:
        target = self.temporary()
        auipc = self.code(INSTRUCTIONS["auipc"], rd=target, u=0)
        body = self.bodies()
        odd = self.rng.getrandbits(1)
        if instruction.name == "jalr":
            rd = target if self.rng.random() < 0.2 else self.destination()
            return auipc + self.code(instruction, rd=rd, rs1=target, s=8 + len(body) + odd) + body
        step = self.code(INSTRUCTIONS["addi"], rd=target, rs1=target, s=8 + instruction.size + len(body) + odd)
        if instruction.name == "c.jalr" and (self.base == 1 or 1 in self.pointers):
            return b""
        return auipc + step + self.code(instruction, rs1=target) + body

    def memory(self, instruction: Instruction) -> bytes | None:
        name = instruction.operands[-1]
        fits = [
            r for r in self.pointers if (name == "rs1" or (name == "sp" and r == 2) or (name == "rs1'" and 8 <= r < 16))
        ]
        if not fits:
            return None
        register = self.rng.choice(fits)
        kind, low, high = instruction.immediate() or ("u", 0, 0)
        bottom, top = (-(1 << high), (1 << high) - 1) if kind == "s" else (0, (2 << high) - 1)
        offset = self.pointers[register]
        bottom, top = max(bottom, -offset), min(top, SCRATCH_SIZE - 8 - offset)
        chosen = self.rng.randint(bottom, top) >> low << low
        if self.rng.random() < 0.5:
            chosen = (
                (chosen + offset & ~7) - offset if kind == "s" and chosen + offset & ~7 >= offset + bottom else chosen
            )
        fixed = {"s" if kind == "s" else "u": chosen} | ({} if name == "sp" else {"rs1": register})
        loads_own_base = (
            not self.held
            and "rd" in instruction.fields
            and name == "rs1"
            and len(self.pointers) > 3
            and self.rng.random() < 0.1
        )
        if loads_own_base:
            fixed["rd"] = register
        out = self.code(instruction, **fixed)
        if loads_own_base:
            del self.pointers[register]
        return out

    def atomic(self, instruction: Instruction) -> bytes:
        """Make an aligned address, then the AMO; LR and SC come in pairs, and SC also alone, where it fails."""
        width = 4 if instruction.name.endswith("w") else 8
        pointer = self.rng.choice(list(self.pointers))
        offset = self.pointers[pointer]
        place = self.rng.randrange(0, SCRATCH_SIZE, width)
        address = self.temporary()
        out = self.code(INSTRUCTIONS["addi"], rd=address, rs1=pointer, s=place - offset)
        if not instruction.name.startswith(("lr", "sc")):
            return out + self.code(instruction, rs1=address)
        kind = instruction.name[-2:]
        store = INSTRUCTIONS["sc" + kind]
        if instruction.name.startswith("sc") and self.rng.random() < 0.3:
            return out + self.code(store, rs1=address)
        out += self.code(INSTRUCTIONS["lr" + kind], rs1=address, rd=self.temporary(address))
        return out + self.code(store, rs1=address, rd=self.temporary(address)) + self.code(store, rs1=address)

    def csr(self, instruction: Instruction) -> bytes:
        """fflags takes anything; frm and fcsr only what leaves a valid rounding mode behind."""
        register = self.rng.choice([1, 1, 2, 3])
        if register == 1:
            return self.code(instruction, csr=1)
        if instruction.name == "csrrwi":
            return self.code(
                instruction, csr=register, u=self.rng.randint(0, 4) if register == 2 else self.rng.randint(0, 31)
            )
        if instruction.name == "csrrci":
            return self.code(instruction, csr=register)
        if instruction.name == "csrrsi":
            return self.code(instruction, csr=register, u=0)
        if instruction.name != "csrrw":
            return self.code(instruction, csr=register, rs1=0)
        source = self.temporary()
        mode, rest = self.rng.randint(0, 4), self.rng.getrandbits(24) << 8
        value = mode | rest if register == 2 else mode << 5 | self.rng.getrandbits(5) | rest
        asm = Asm()("li", X_NAMES[source], value)
        return asm.assemble() + self.code(instruction, csr=register, rs1=source)


def _new_builder(rng: random.Random) -> _Builder:
    builder = _Builder(rng, 0)
    primed = rng.randint(8, 15)
    far = rng.choice([n for n in range(1, 32) if n not in (2, primed)])
    near = rng.choice([n for n in range(1, 32) if n not in (2, primed, far)])
    builder.pointers = {primed: rng.choice([0, 0, 2, 5, 8]), far: rng.randint(200, 300), near: 8 * rng.randint(0, 60)}
    if rng.random() < 0.6:
        builder.pointers[2] = rng.choice([0, 0, 1, 4, 6])
    builder.base = rng.choice([n for n in range(1, 32) if n not in builder.pointers])
    if rng.random() < 0.6:  # few registers: each instruction works on what the one before it made
        free = [n for n in range(1, 32) if n not in builder.pointers and n != builder.base]
        builder.pool = rng.sample([n for n in free if 8 <= n < 16], 2) + rng.sample(free, rng.randint(1, 2))
        builder.float_pool = [*rng.sample(range(8, 16), 2), rng.randrange(32)]
    return builder


def _finish(builder: _Builder, pointers: dict[int, int], rng: random.Random) -> Case:
    scratch = b"".join(random_integer(rng).to_bytes(8, "little") for _ in range(SCRATCH_SIZE // 8))
    return Case(
        base=builder.base,
        x=(0, *(random_integer(rng) for _ in range(31))),
        f=tuple(random_float(rng) for _ in range(32)),
        fcsr=rng.randint(0, 4) << 5 | rng.choice([0, 0, rng.getrandbits(5)]),
        scratch=scratch,
        pointers=tuple(pointers.items()),
        units=tuple(builder.units),
    )


def cases(seed: int, rounds: int, length: int = 8, loops: int = 0) -> Iterator[Case]:
    """Yield cases of ``length`` units, and ``loops`` more, until every user instruction has had ``rounds`` turns."""
    rng = random.Random(seed)
    for _ in range(rounds):
        left = list(USER)
        rng.shuffle(left)
        while left:
            builder = _new_builder(rng)
            pointers = dict(builder.pointers)
            postponed = []
            while left and len(builder.units) < length:
                instruction = left.pop()
                made = builder.unit(instruction)
                if made:
                    builder.units.append(made)
                else:
                    postponed.append(instruction)
            left = postponed + left
            builder.units += [builder.loop() for _ in range(loops)]
            yield _finish(builder, pointers, rng)
