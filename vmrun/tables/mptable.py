"""The Intel MP table: processors, buses and interrupt wiring for x86 kernels that have no ACPI.

Source: Intel MultiProcessor Specification 1.4, chapter 4; Linux arch/x86/include/asm/mpspec_def.h for the field order,
arch/x86/kernel/mpparse.c for where it is searched: the first KiB of RAM, the last of 640 KiB, 0xF0000 to 0xFFFFF.
Values in, bytes out; ValueError, in words, for what the format cannot say.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum

from vmrun.frozen import frozen

_POINTER = struct.Struct("<4sIBBBBB3x")
_HEADER = struct.Struct("<4sHBB8s12sIHHIHBx")
_REVISION = 4
_APIC_VERSION = 0x14
"""An integrated local APIC of the kind that Linux and KVM have (Intel SDM 3A, section 11.4.8)."""
_IO_APIC_VERSION = 0x11
"""The 82093AA's and KVM's (Linux arch/x86/kvm/ioapic.h, IOAPIC_VERSION_ID)."""
_ALL_APICS = 0xFF
_ENABLED, _BOOT = 1, 2


class Kind(IntEnum):
    """What an interrupt line brings (section 4.3.4)."""

    INT = 0
    NMI = 1
    SMI = 2
    EXTINT = 3


@frozen
class Line:
    """An interrupt of the ISA bus at a pin of the I/O APIC; edge-triggered and active high unless said otherwise."""

    irq: int
    pin: int
    level: bool = False
    active_low: bool = False


@frozen
class MpMachine:
    """``apic_ids`` are those of the processors, 0..254, the boot processor first; the I/O APIC's is none of them.

    ``signature`` is CPUID leaf 1's EAX, ``features`` its EDX. Lines are counted on one ISA bus.
    """

    apic_ids: tuple[int, ...]
    io_apic_id: int
    lines: tuple[Line, ...]
    io_apic_address: int = 0xFEC00000
    local_address: int = 0xFEE00000
    signature: int = 0
    features: int = 0
    oem: str = "VMRUN"
    product: str = "VMRUN"


@frozen
class MpTable:
    """The bytes: ``pointer``, 16 of them, and the ``table`` that it points to, with its address."""

    pointer: bytes
    table_at: int
    table: bytes


def encode(machine: MpMachine, *, table_at: int) -> MpTable:
    """Return the MP configuration table for the address ``table_at`` below 4 GiB, and the floating pointer to it.

    The pointer belongs on a multiple of 16 in one of the places searched. LINT0 is ExtINT, LINT1 NMI, on every CPU.
    """
    _check(machine, table_at)
    entries = tuple(_entries(machine))
    body = b"".join(entries)
    length = _HEADER.size + len(body)
    if length > 0xFFFF:
        raise ValueError(f"MP table: {length} bytes, over the 65535 that its length says")
    header = _HEADER.pack(
        b"PCMP",
        length,
        _REVISION,
        0,
        _padded(machine.oem, 8),
        _padded(machine.product, 12),
        0,
        0,
        len(entries),
        machine.local_address,
        0,
        0,
    )
    table = bytearray(header + body)
    table[7] = _checksum(table)
    pointer = bytearray(_POINTER.pack(b"_MP_", table_at, 1, _REVISION, 0, 0, 0))
    pointer[10] = _checksum(pointer)
    return MpTable(bytes(pointer), table_at, bytes(table))


def _entries(machine: MpMachine) -> Iterable[bytes]:
    """Yield the base entries in the order of their types, as section 4.3 asks."""
    for place, apic_id in enumerate(machine.apic_ids):
        flags = _ENABLED | (_BOOT if place == 0 else 0)
        yield struct.pack("<BBBBII8x", 0, apic_id, _APIC_VERSION, flags, machine.signature & 0xFFF, machine.features)
    yield struct.pack("<BB6s", 1, 0, b"ISA   ")
    yield struct.pack("<BBBBI", 2, machine.io_apic_id, _IO_APIC_VERSION, 1, machine.io_apic_address)
    for line in machine.lines:
        flags = (3 if line.active_low else 1) | (3 if line.level else 1) << 2
        yield struct.pack("<BBHBBBB", 3, Kind.INT, flags, 0, line.irq, machine.io_apic_id, line.pin)
    for lint, kind in ((0, Kind.EXTINT), (1, Kind.NMI)):
        yield struct.pack("<BBHBBBB", 4, kind, 0, 0, 0, _ALL_APICS, lint)


def _check(machine: MpMachine, table_at: int) -> None:
    ids = (*machine.apic_ids, machine.io_apic_id)
    if not machine.apic_ids:
        raise ValueError("MP table: no processor")
    if any(not 0 <= apic_id <= 254 for apic_id in ids) or len(set(ids)) != len(ids):
        raise ValueError(f"MP table: APIC ids {ids} are not different numbers in 0..254")
    for what, address in (
        ("table", table_at),
        ("I/O APIC", machine.io_apic_address),
        ("local APIC", machine.local_address),
    ):
        if not 0 < address < 1 << 32:
            raise ValueError(f"MP table: {what} at {address:#x}, not above 0 and below 4 GiB")
    if table_at % 4:
        raise ValueError(f"MP table at {table_at:#x}: not a multiple of 4")
    if any(not 0 <= value < 1 << 32 for value in (machine.signature, machine.features)):
        raise ValueError("MP table: signature and features are 32-bit numbers")
    if any(not (0 <= line.irq <= 255 and 0 <= line.pin <= 255) for line in machine.lines):
        raise ValueError("MP table: interrupt and pin are in 0..255")
    for what, values in (("ISA interrupt", [x.irq for x in machine.lines]), ("pin", [x.pin for x in machine.lines])):
        if len(set(values)) != len(values):
            raise ValueError(f"MP table: {what} given twice in {values}")


def _padded(text: str, size: int) -> bytes:
    if len(text) > size or not text.isascii() or not text.isprintable():
        raise ValueError(f"MP table id `{text}`: not printable ASCII of at most {size} characters")
    return text.encode("ascii").ljust(size)


def _checksum(data: bytearray) -> int:
    return -sum(data) & 0xFF
