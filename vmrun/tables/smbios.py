"""SMBIOS: what the machine calls itself, its processors and its memory, for dmidecode and /sys/class/dmi.

Source: DMTF DSP0134, SMBIOS Reference Specification 3.0, sections 5.2.2 (64-bit entry point), 6.1 (structures, text)
and 7.1, 7.2, 7.4, 7.5, 7.17, 7.18, 7.20, 7.33, 7.45 (types 0, 1, 3, 4, 16, 17, 19, 32, 127). Values in, bytes out;
ValueError, in words, for what the format cannot say. A kernel without EFI searches 0xF0000 to 0xFFFFF, multiples of 16,
for the entry point (Linux drivers/firmware/dmi_scan.c).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence

from vmrun.frozen import frozen
from vmrun.tables.aml_bytes import uuid_bytes

ENTRY_SIZE = 24
_ENTRY = struct.Struct("<5sBBBBBBBIQ")
_VERSION = (3, 0)
_NONE = 0xFFFE
"""A handle that says there is no such structure (7.17.1: no error information)."""
_UNKNOWN_HANDLE = 0xFFFF
_KIB, _MIB, _GIB = 1 << 10, 1 << 20, 1 << 30
_MODULE = 16 * _GIB
"""Memory is shown as devices of at most this size, as people know it from QEMU's machines."""
_DATE = re.compile(r"\d{2}/\d{2}/\d{4}")


@frozen
class Smbios:
    """What the tables say. ``ram`` are the (base, size) ranges of memory in bytes, whole KiB.

    ``uuid`` is the machine's, None for none; ``date`` is the firmware's, ``MM/DD/YYYY``. ``cpuid`` is CPUID leaf 1's
    EAX in the low, EDX in the high half. Counts are per socket.
    """

    ram: Sequence[tuple[int, int]]
    version: str = ""
    date: str = "01/01/2026"
    vendor: str = "vmrun"
    product: str = "vmrun"
    serial: str = ""
    family: str = ""
    uuid: str | None = None
    sockets: int = 1
    cores: int = 1
    threads: int = 1
    processor: str = ""
    processor_vendor: str = ""
    cpuid: int = 0


@frozen
class SmbiosTables:
    """The bytes: the entry point, 24 of them, and the structures that it points to, with their address."""

    entry: bytes
    table_at: int
    table: bytes


def encode(machine: Smbios, *, table_at: int) -> SmbiosTables:
    """Return the structures for the address ``table_at``, and the 64-bit entry point to them."""
    if not 0 < table_at < 1 << 64:
        raise ValueError(f"SMBIOS structures at {table_at:#x}: not a 64-bit address above 0")
    table = _structures(machine)
    major, minor = _VERSION
    entry = bytearray(_ENTRY.pack(b"_SM3_", 0, ENTRY_SIZE, major, minor, 0, 1, 0, len(table), table_at))
    entry[5] = -sum(entry) & 0xFF
    return SmbiosTables(bytes(entry), table_at, table)


def _structures(machine: Smbios) -> bytes:
    _check(machine)
    total = sum(size for _, size in machine.ram)
    out = _firmware(machine) + _system(machine) + _enclosure(machine)
    out += b"".join(_processor(machine, socket) for socket in range(machine.sockets))
    modules = [min(_MODULE, total - at) for at in range(0, total, _MODULE)]
    out += _memory_array(total, len(modules))
    out += b"".join(_memory_device(place, size) for place, size in enumerate(modules))
    out += b"".join(_mapped(place, base, size) for place, (base, size) in enumerate(machine.ram))
    out += _structure(32, 0x2000, struct.pack("<6xB", 0), ())
    return out + _structure(127, 0x7F00, b"", ())


def _check(machine: Smbios) -> None:
    if not machine.ram:
        raise ValueError("SMBIOS: no memory")
    for base, size in machine.ram:
        if base < 0 or size <= 0 or base % _KIB or size % _KIB or base + size > 1 << 64:
            raise ValueError(f"SMBIOS memory [{base:#x}, {base + size:#x}): not a range of whole KiB within 64 bits")
    if not 1 <= machine.sockets <= 255:
        raise ValueError(f"SMBIOS: {machine.sockets} sockets, not 1 to 255")
    for what, count in (("cores", machine.cores), ("threads", machine.threads)):
        if not 1 <= count <= 0xFFFE:
            raise ValueError(f"SMBIOS: {count} {what} a socket, not 1 to 65534")
    if not 0 <= machine.cpuid < 1 << 64:
        raise ValueError(f"SMBIOS processor id {machine.cpuid:#x}: not 64 bits")
    if _DATE.fullmatch(machine.date) is None:
        raise ValueError(f"SMBIOS firmware date `{machine.date}`: not MM/DD/YYYY")


def _firmware(machine: Smbios) -> bytes:
    """Type 0. Characteristics: bit 3, "not supported"; second extension byte, bit 4: a virtual machine."""
    body = struct.pack("<BBHBBQBBBBBB", 1, 2, 0, 3, 0, 1 << 3, 0, 1 << 4, 0, 0, 0xFF, 0xFF)
    return _structure(0, 0x0000, body, (machine.vendor, machine.version or "0", machine.date))


def _system(machine: Smbios) -> bytes:
    """Type 1. Wake-up type 6: the power switch. A UUID of zeros is one that is not there."""
    uuid = uuid_bytes(machine.uuid) if machine.uuid is not None else bytes(16)
    texts = _Texts()
    numbers = [
        texts.add(t) for t in (machine.vendor, machine.product, machine.version, machine.serial, "", machine.family)
    ]
    body = bytes(numbers[:4]) + uuid + bytes([6, *numbers[4:]])
    return _structure(1, 0x0100, body, texts.all())


def _enclosure(machine: Smbios) -> bytes:
    """Type 3: "other", with all states safe (3), security unknown (2), no cord, no contained elements."""
    body = struct.pack("<BBBBBBBBBIBBBBB", 1, 1, 0, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 0, 0)
    return _structure(3, 0x0300, body, (machine.vendor,))


def _processor(machine: Smbios, socket: int) -> bytes:
    """Type 4. Counts above 255 stand in the second set; characteristics: 64-bit, and multi-core or threaded."""
    texts = _Texts()
    designation = texts.add(f"CPU {socket}")
    maker, version = texts.add(machine.processor_vendor), texts.add(machine.processor)
    threads = machine.cores * machine.threads
    if threads > 0xFFFE:
        raise ValueError(f"SMBIOS: {threads} threads a socket, over 65534")
    short = [min(count, 0xFF) for count in (machine.cores, machine.cores, threads)]
    traits = 1 << 2 | (machine.cores > 1) << 3 | (machine.threads > 1) << 4
    body = struct.pack("<BBBBQB", designation, 3, 1, maker, machine.cpuid, version)
    # Voltage, clock and speeds unknown; status: populated and enabled (0x41); upgrade "other"; no caches told.
    body += struct.pack("<BHHHBBHHH", 0, 0, 0, 0, 0x41, 1, *[_UNKNOWN_HANDLE] * 3)
    body += struct.pack("<BBBBBBHHHHH", 0, 0, 0, *short, traits, 1, machine.cores, machine.cores, threads)
    return _structure(4, 0x0400 + socket, body, texts.all())


def _memory_array(total: int, modules: int) -> bytes:
    """Type 16: system memory (3) in "other" location, multi-bit ECC (6). From 2 TiB on the wide field counts."""
    if modules > 0xFF:
        raise ValueError(f"SMBIOS: {total // _GIB} GiB of memory, over {0xFF * _MODULE // _GIB}")
    narrow = total // _KIB if total < 1 << 41 else 0x80000000
    wide = 0 if total < 1 << 41 else total
    body = struct.pack("<BBBIHHQ", 1, 3, 6, narrow, _NONE, modules, wide)
    return _structure(16, 0x1000, body, ())


def _memory_device(place: int, size: int) -> bytes:
    """Type 17: a DIMM (9) of RAM (7). The size is in MiB, rounded down, or with the top bit set in KiB."""
    shown = size // _KIB | 0x8000 if size < 0x8000 * _KIB else size // _MIB
    body = struct.pack("<HHHHHBBBBBHH", 0x1000, _NONE, 0xFFFF, 0xFFFF, shown, 9, 0, 1, 0, 7, 2, 0)
    # Four texts, attributes, the wide size, clock and three voltages: all unknown, or not needed below 32 GiB.
    return _structure(17, 0x1100 + place, body + bytes(5 + 4 + 8), (f"DIMM {place}",))


def _mapped(place: int, base: int, size: int) -> bytes:
    """Type 19: a range of the array. Ends are inclusive, in KiB; past 4 TiB they stand in bytes in the wide fields."""
    last = base + size - 1
    if last // _KIB < 0xFFFFFFFF:
        body = struct.pack("<IIHBQQ", base // _KIB, last // _KIB, 0x1000, 1, 0, 0)
    else:
        body = struct.pack("<IIHBQQ", 0xFFFFFFFF, 0xFFFFFFFF, 0x1000, 1, base, last)
    return _structure(19, 0x1300 + place, body, ())


class _Texts:
    """The text after a structure: fields hold its numbers, from 1 on; 0 is no text."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, text: str) -> int:
        if not text:
            return 0
        self._texts.append(text)
        return len(self._texts)

    def all(self) -> tuple[str, ...]:
        return tuple(self._texts)


def _structure(type_: int, handle: int, body: bytes, texts: Sequence[str]) -> bytes:
    """Return a structure: header, body, texts each ended by NUL, and one more NUL; two where there are no texts."""
    for text in texts:
        if not text or not text.isascii() or not text.isprintable():
            raise ValueError(f"SMBIOS text {text!r}: not printable ASCII of at least one character")
    tail = b"".join(text.encode("ascii") + b"\0" for text in texts) or b"\0"
    return struct.pack("<BBH", type_, 4 + len(body), handle) + body + tail + b"\0"
