"""Registers as data: declared once beside their device, read by traces, tests and docs.

A ``Register`` decodes and prints a value; bits that no field names keep honest names (``bits[7:5]``).
"""

from __future__ import annotations

from vmrun.frozen import frozen

READ_ONLY = "ro"
WRITE_ONLY = "wo"
READ_WRITE = "rw"


@frozen
class Bits:
    """Bits ``low`` to ``high``, both inclusive, of a register; one bit where ``high`` is left out."""

    name: str
    low: int
    high: int = -1

    @property
    def width(self) -> int:
        """How many bits there are."""
        return max(self.high, self.low) - self.low + 1

    @property
    def mask(self) -> int:
        """The bits, in the register's place."""
        return ((1 << self.width) - 1) << self.low

    def of(self, value: int) -> int:
        """Return the field's value in the register's ``value``."""
        return (value & self.mask) >> self.low


@frozen
class Register:
    """One register: ``offset`` and ``width`` in bytes, ``access`` (ro, wo, rw), ``reset``, ``section`` of the spec.

    ``count`` registers stand ``stride`` bytes apart where it is an array.
    """

    name: str
    offset: int
    width: int
    access: str
    reset: int = 0
    fields: tuple[Bits, ...] = ()
    section: str = ""
    count: int = 1
    stride: int = 0

    def readable(self) -> bool:
        """Tell whether a read means something."""
        return self.access != WRITE_ONLY

    def writable(self) -> bool:
        """Tell whether a write means something."""
        return self.access != READ_ONLY

    def field(self, name: str) -> Bits:
        """Return the field called ``name``. Raise KeyError where there is none."""
        for bits in self.fields:
            if bits.name == name:
                return bits
        raise KeyError(name)

    def decode(self, value: int) -> tuple[tuple[str, int], ...]:
        """Return each field's value by name, then what is set outside every field."""
        found = [(bits.name, bits.of(value)) for bits in self.fields]
        rest = value
        for bits in self.fields:
            rest &= ~bits.mask
        if self.fields:
            found += [(_range_name(low, high), rest >> low & ((1 << high - low + 1) - 1)) for low, high in _runs(rest)]
        return tuple(found)

    def format(self, value: int) -> str:
        """Return ``value`` for a reader: ``LCR=0x83 (WLS=3 DLAB=1)``; fields of 0 are left out."""
        said = " ".join(
            f"{name}={number:#x}" if number > 9 else f"{name}={number}" for name, number in self.decode(value) if number
        )
        return f"{self.name}={value:#x}" + (f" ({said})" if said else "")


def _runs(value: int) -> list[tuple[int, int]]:
    """Return the runs of ones in ``value`` as (lowest, highest) bit."""
    runs: list[tuple[int, int]] = []
    low = 0
    while value >> low:
        if not value >> low & 1:
            low += 1
            continue
        high = low
        while value >> high + 1 & 1:
            high += 1
        runs.append((low, high))
        low = high + 1
    return runs


def _range_name(low: int, high: int) -> str:
    return f"bit[{low}]" if low == high else f"bits[{high}:{low}]"


@frozen
class RegisterMap:
    """The registers of a device. ``spec`` names the document; ``prefix`` is that of the C constants, if C serves it."""

    spec: str
    registers: tuple[Register, ...]
    prefix: str | None = None

    def at(self, offset: int, *, write: bool = False) -> tuple[Register, int] | None:
        """Return the register that an access at ``offset`` means, and its index in an array, or None."""
        for register in self.registers:
            if not (register.writable() if write else register.readable()):
                continue
            index, rest = divmod(offset - register.offset, register.stride or register.width)
            if 0 <= index < register.count and rest < register.width:
                return register, index
        return None

    def named(self, name: str) -> Register:
        """Return the register called ``name``. Raise KeyError where there is none."""
        for register in self.registers:
            if register.name == name:
                return register
        raise KeyError(name)
