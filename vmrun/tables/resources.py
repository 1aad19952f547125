"""Resource descriptors: what a device's ``_CRS`` says of its addresses, ports and interrupts.

Source: ACPI Specification 6.5, section 6.4 (descriptors, byte by byte) and 19.6 (what the ASL macros mean). Addresses
and lengths are bytes. ``template`` joins descriptors and the end tag into the buffer that ``_CRS`` returns; it raises
ValueError for a number beyond its field or a range of wrong form.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from vmrun.frozen import field_names, frozen
from vmrun.tables.aml import Buffer

_END_TAG = b"\x79\x00"
"""Checksum zero: "treat as correct" (section 6.4.2.9)."""


class Cache(IntEnum):
    """How a memory window may be cached (section 6.4.3.5.5, _MEM)."""

    NONE = 0
    CACHEABLE = 1
    WRITE_COMBINING = 2
    PREFETCHABLE = 3


@frozen
class Memory32Fixed:
    """Memory at a fixed place below 4 GiB (section 6.4.3.4)."""

    base: int
    size: int
    writable: bool = True

    def encode(self) -> bytes:
        """Return the descriptor."""
        _span("Memory32Fixed", self.base, self.size, 32)
        return struct.pack("<BHBII", 0x86, 9, self.writable, self.base, self.size)


@frozen
class IoPorts:
    """Ports from ``low`` to ``high``, the lowest and the highest first port, ``size`` 1..255 of them (section 6.4.2.5).

    Without ``high`` the place is fixed. ``align`` is the step between possible places.
    """

    low: int
    size: int
    high: int | None = None
    align: int = 1

    def encode(self) -> bytes:
        """Return the descriptor, of 16-bit decoding."""
        high = self.low if self.high is None else self.high
        _span("IoPorts", self.low, self.size, 16)
        _span("IoPorts", high, self.size, 16)
        if high < self.low or not 1 <= self.size <= 255 or not 0 <= self.align <= 255:
            raise ValueError(f"IoPorts {self.low:#x}..{high:#x}, size {self.size}, align {self.align}: out of range")
        return struct.pack("<BBHHBB", 0x47, 1, self.low, high, self.align, self.size)


@frozen
class Irq:
    """One ISA interrupt 0..15, edge-triggered and active high, not shared (section 6.4.2.1, the form without flags)."""

    number: int

    def encode(self) -> bytes:
        """Return the descriptor."""
        if not 0 <= self.number <= 15:
            raise ValueError(f"Irq {self.number}: not in 0..15; Interrupt names any global system interrupt")
        return struct.pack("<BH", 0x22, 1 << self.number)


@frozen
class Interrupt:
    """Global system interrupts that a device consumes, 1 to 255 of them (section 6.4.3.6)."""

    numbers: tuple[int, ...]
    edge: bool
    active_low: bool
    shared: bool
    wake: bool

    def __init__(
        self, *numbers: int, edge: bool = False, active_low: bool = False, shared: bool = False, wake: bool = False
    ) -> None:
        for field, value in zip(field_names(self), (numbers, edge, active_low, shared, wake), strict=True):
            object.__setattr__(self, field, value)

    def encode(self) -> bytes:
        """Return the descriptor."""
        count = len(self.numbers)
        if not 1 <= count <= 255 or not all(0 <= number < 1 << 32 for number in self.numbers):
            raise ValueError(f"Interrupt {self.numbers}: not 1 to 255 numbers of 32 bits")
        flags = 1 | self.edge << 1 | self.active_low << 2 | self.shared << 3 | self.wake << 4
        return struct.pack(f"<BHBB{count}I", 0x89, 2 + 4 * count, flags, count, *self.numbers)


@frozen
class MemoryWindow:
    """Memory that a bridge passes on (section 6.4.3.5): ``size`` bytes at ``base``, ``base + offset`` above the bridge.

    ``bits`` 32 or 64 chooses the descriptor (DWordMemory, QWordMemory). ``consumer`` is for a device that uses the
    range itself.
    """

    base: int
    size: int
    bits: int = 32
    cache: Cache = Cache.NONE
    writable: bool = True
    offset: int = 0
    consumer: bool = False

    def encode(self) -> bytes:
        """Return the descriptor."""
        specific = self.writable | self.cache << 1
        return _window("MemoryWindow", self, 0, specific, (32, 64))


@frozen
class PortWindow:
    """I/O ports that a bridge passes on (section 6.4.3.5); ``bits`` 16 or 32 chooses WordIO or DWordIO."""

    base: int
    size: int
    bits: int = 16
    offset: int = 0
    consumer: bool = False

    def encode(self) -> bytes:
        """Return the descriptor: the entire range, ISA and other ports."""
        return _window("PortWindow", self, 1, 3, (16, 32))


@frozen
class BusNumbers:
    """PCI buses below a host bridge: ``size`` of them from ``base`` (section 6.4.3.5.3, WordBusNumber)."""

    base: int
    size: int
    bits: int = 16
    offset: int = 0
    consumer: bool = False

    def encode(self) -> bytes:
        """Return the descriptor."""
        return _window("BusNumbers", self, 2, 0, (16,))


Descriptor = Memory32Fixed | IoPorts | Irq | Interrupt | MemoryWindow | PortWindow | BusNumbers
"""What a resource template holds."""

_WINDOWS = {16: (0x88, "H"), 32: (0x87, "I"), 64: (0x8A, "Q")}


def template(*descriptors: Descriptor) -> Buffer:
    """Return the value of ``_CRS``: the descriptors in order, and the end tag."""
    return Buffer(b"".join(descriptor.encode() for descriptor in descriptors) + _END_TAG)


def _window(
    kind: str, window: MemoryWindow | PortWindow | BusNumbers, type_: int, specific: int, widths: tuple[int, ...]
) -> bytes:
    """Return an address space descriptor of a range that is fixed at both ends, positively decoded."""
    if window.bits not in widths:
        raise ValueError(f"{kind} of {window.bits} bits: one of {', '.join(map(str, widths))}")
    _span(kind, window.base, window.size, window.bits)
    if not 0 <= window.offset < 1 << window.bits:
        raise ValueError(f"{kind} offset {window.offset:#x}: not {window.bits} bits wide")
    tag, letter = _WINDOWS[window.bits]
    flags = window.consumer | 1 << 2 | 1 << 3
    body = struct.pack(
        f"<BBB5{letter}",
        type_,
        flags,
        specific,
        0,
        window.base,
        window.base + window.size - 1,
        window.offset,
        window.size,
    )
    return struct.pack("<BH", tag, len(body)) + body


def _span(kind: str, base: int, size: int, bits: int) -> None:
    # The length has a field of the same width, so that a range of all 2**bits cannot be said.
    if base < 0 or not 1 <= size < 1 << bits or base + size > 1 << bits:
        raise ValueError(f"{kind} [{base:#x}, {base + size:#x}): not a range of 1 byte or more within {bits} bits")
