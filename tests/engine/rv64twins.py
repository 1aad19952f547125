"""The same guest twice, interpreted and translated, run by the same bounds and compared whole wherever they stop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rv64translator
from rv64_priv_kit import ALL, CSR, PC, PRIVILEGE, RAM, RAM_SIZE, F, Guest

from vmrun._core import lib

_CSRS = (0x001, 0x002, 0x100, 0x105, 0x140, 0x141, 0x142, 0x143, 0x180, 0xC02)
_REGISTERS = (*range(32), PC, PRIVILEGE, *range(F, F + 32), *(CSR + n for n in _CSRS))
LEAST = int(lib.VMR_RV64_JIT_LEAST)


def state(made: Guest) -> dict[str, Any]:
    """What a guest could see of where it stands, but for memory, and how it left."""
    found: dict[str, Any] = {f"register {number}": hex(made.get(number)) for number in _REGISTERS}
    stats = made.stats()
    left = made.exit
    found |= {"instructions": stats.instructions, "traps": stats.traps, "mmio": stats.mmio}
    found |= {"exit": (left.kind, left.size, left.gpa, left.data, left.window)}
    return found


class Twins:
    """``plain`` interprets, ``quick`` translates what ran ``threshold`` times."""

    def __init__(self, code: bytes, threshold: int, code_bytes: int, isa: int, cache: int) -> None:
        rv64translator.choose(0)
        self.plain = Guest(code, isa=isa, cache=cache)
        self.quick = Guest(code, isa=isa, cache=cache)
        self.quick.check(rv64translator.equip(self.quick.harts[0], threshold, code_bytes))
        self.both = (self.plain, self.quick)

    def set(self, register: int, value: int) -> None:
        for made in self.both:
            made.set(register, value)

    def step(self, count: int, answer: int = 0) -> int:
        """Run both by ``count`` instructions, device loads answered with ``answer``; compare; return how they left."""
        for made in self.both:
            made.exit.data = answer
            made.step(count)
        one, other = (state(made) for made in self.both)
        assert one == other
        return int(self.plain.exit.kind)

    def same_memory(self) -> bool:
        """Whether RAM holds the same, byte by byte."""
        return self.plain.read(RAM, RAM_SIZE) == self.quick.read(RAM, RAM_SIZE)

    def finish(self, bound: int = 100_000_000) -> None:
        """Run both until the guest powers off."""
        assert self.step(bound) == lib.VMR_EXIT_SYSTEM

    @property
    def stats(self) -> Any:
        """What the translator counted."""
        return self.quick.stats()


@contextmanager
def twins(
    code: bytes,
    *,
    threshold: int = 1,
    code_bytes: int = rv64translator.CODE_BYTES,
    isa: int = ALL,
    cache: int = 4 << 20,
) -> Iterator[Twins]:
    """Make both, and free them at the end."""
    made = Twins(code, threshold, code_bytes, isa, cache)
    try:
        yield made
        assert made.same_memory()
        assert made.stats.jit_blocks > 0, "nothing was translated"
    finally:
        for guest in made.both:
            guest.close()
