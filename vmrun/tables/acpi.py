"""ACPI tables as a whole: the common header, checksums, the way from the RSDP to every table, and where each one lies.

Source: ACPI Specification 6.5, sections 5.2.5 (RSDP), 5.2.6 (header), 5.2.8 (XSDT), 5.2.11 (DSDT). Addresses are guest
physical. ``place`` lays a set of tables out; ``walk`` is the way back, strict, from memory to tables. Both raise
ValueError in words.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence

from vmrun.frozen import frozen
from vmrun.tables import aml
from vmrun.tables.acpi_tables import FACS_SIZE, FADT_REVISION, Fadt, Madt, Mcfg, facs

HEADER = struct.Struct("<4sIBB6s8sI4sI")
RSDP_SIZE = 36
ALIGN = 16
"""Tables start on multiples of this; the FACS on its own size (section 5.2.10), the RSDP on 16 (5.2.5.1)."""

_RSDP = struct.Struct("<8sB6sBIIQB3x")
_RSDP_SIGNATURE = b"RSD PTR "
_CHECKSUM_AT = 9
_SIGNATURE = re.compile(r"[A-Z0-9]{4}")
_MAX_TABLE = 1 << 20
_MAX_TABLES = 64


@frozen
class Ident:
    """Who made the tables: printable ASCII, padded with blanks to 6, 8 and 4 characters."""

    oem: str = "VMRUN"
    table: str = "VMRUN"
    revision: int = 1
    creator: str = "VMRN"
    creator_revision: int = 1


@frozen
class Header:
    """The header of a table, as read: ``length`` in bytes counts the header."""

    signature: str
    length: int
    revision: int
    oem: str
    oem_table: str
    oem_revision: int
    creator: str
    creator_revision: int


@frozen
class PlacedTable:
    """A table's bytes at an address. ``name`` is its signature; the RSDP's is ``RSDP``."""

    name: str
    gpa: int
    data: bytes


@frozen
class AcpiTables:
    """A set of tables in memory: the RSDP, which a boot protocol names or a kernel searches for, and the others."""

    rsdp: PlacedTable
    tables: tuple[PlacedTable, ...]

    def all(self) -> tuple[PlacedTable, ...]:
        """Return every table, the RSDP first."""
        return (self.rsdp, *self.tables)

    def image(self) -> PlacedTable:
        """Return the tables without the RSDP as one run of bytes, gaps zero."""
        base = min(table.gpa for table in self.tables)
        data = bytearray(max(table.gpa + len(table.data) for table in self.tables) - base)
        for table in self.tables:
            data[table.gpa - base : table.gpa - base + len(table.data)] = table.data
        return PlacedTable("acpi", base, bytes(data))


def checksum(data: bytes | bytearray) -> int:
    """Return the byte that makes the sum of ``data`` and itself 0 modulo 256."""
    return -sum(data) & 0xFF


def table(signature: str, revision: int, body: bytes, ident: Ident) -> bytes:
    """Return a whole table: header and ``body``, checksum set."""
    if _SIGNATURE.fullmatch(signature) is None:
        raise ValueError(f"ACPI table `{signature}`: a signature is four of A-Z 0-9")
    if not 0 <= revision <= 0xFF or not 0 <= ident.revision < 1 << 32 or not 0 <= ident.creator_revision < 1 << 32:
        raise ValueError(f"ACPI table {signature}: a revision is beyond its field")
    length = HEADER.size + len(body)
    data = bytearray(
        HEADER.pack(
            signature.encode("ascii"),
            length,
            revision,
            0,
            _padded(ident.oem, 6),
            _padded(ident.table, 8),
            ident.revision,
            _padded(ident.creator, 4),
            ident.creator_revision,
        )
    )
    data += body
    data[_CHECKSUM_AT] = checksum(data)
    return bytes(data)


def dsdt(body: Sequence[aml.Node], ident: Ident) -> bytes:
    """Return the DSDT of a machine; its revision 2 makes AML's integers 64 bits wide. Raise as ``aml.encode``."""
    return table("DSDT", 2, aml.encode(body), ident)


def rsdp(xsdt: int, ident: Ident) -> bytes:
    """Return the root pointer, revision 2: it names no RSDT, since all that reads these tables knows the XSDT."""
    fields = (_RSDP_SIGNATURE, 0, _padded(ident.oem, 6), 2, 0, RSDP_SIZE, xsdt, 0)
    data = bytearray(_RSDP.pack(*fields))
    data[8] = checksum(data[:20])
    data[32] = checksum(data)
    return bytes(data)


@frozen
class Machine:
    """The tables of a machine, before they have addresses."""

    dsdt: tuple[aml.Node, ...]
    fadt: Fadt
    madt: Madt
    mcfg: Mcfg | None = None
    ident: Ident = Ident()


def place(machine: Machine, *, base: int, limit: int, rsdp_at: int | None = None) -> AcpiTables:
    """Lay the tables of ``machine`` out from ``base`` on, below ``limit``, in bytes.

    Without ``rsdp_at``, a multiple of 16, the RSDP is the first of them. A kernel that is not told where it is searches
    0xE0000 to 0xFFFFF (section 5.2.5.1). Raise ValueError where the tables do not fit or would overlap the RSDP.
    """
    ident, hardware = machine.ident, machine.fadt.hardware
    cursor = _Cursor(base, limit)
    root = cursor.take(RSDP_SIZE) if rsdp_at is None else rsdp_at
    placed: list[PlacedTable] = []

    def put(data: bytes, name: str | None = None, align: int = ALIGN) -> int:
        at = cursor.take(len(data), align)
        placed.append(PlacedTable(name or data[:4].decode("ascii"), at, data))
        return at

    # A FACS is for the hardware that hardware-reduced machines lack (section 5.2.10).
    facs_at = put(facs(), "FACS", FACS_SIZE) if hardware is not None else 0
    dsdt_at = put(dsdt(machine.dsdt, ident))
    listed = [put(table("FACP", FADT_REVISION, machine.fadt.encode(dsdt_at, facs_at), ident))]
    listed.append(put(table("APIC", Madt.REVISION, machine.madt.encode(), ident)))
    if machine.mcfg is not None:
        listed.append(put(table("MCFG", Mcfg.REVISION, machine.mcfg.encode(), ident)))
    xsdt_at = put(table("XSDT", 1, struct.pack(f"<{len(listed)}Q", *listed), ident))
    _check_rsdp(root, placed)
    return AcpiTables(PlacedTable("RSDP", root, rsdp(xsdt_at, ident)), tuple(placed))


class _Cursor:
    """The next free address below a limit."""

    def __init__(self, base: int, limit: int) -> None:
        if not 0 < base < limit <= 1 << 32:
            raise ValueError(f"ACPI tables in [{base:#x}, {limit:#x}): not a range within 4 GiB, above 0")
        self._base, self._at, self._limit = base, base, limit

    def take(self, size: int, align: int = ALIGN) -> int:
        at = -(-self._at // align) * align
        self._at = at + size
        if self._at > self._limit:
            raise ValueError(
                f"ACPI tables from {self._base:#x}: {self._at - self._base} bytes or more, over {self._limit:#x}"
            )
        return at


def _check_rsdp(at: int, placed: Sequence[PlacedTable]) -> None:
    if at % 16 or not 0 < at < 1 << 32:
        raise ValueError(f"ACPI RSDP at {at:#x}: not a multiple of 16 below 4 GiB")
    for other in placed:
        if at < other.gpa + len(other.data) and other.gpa < at + RSDP_SIZE:
            raise ValueError(f"ACPI RSDP at {at:#x}: overlaps {other.name} at {other.gpa:#x}")


def _padded(text: str, size: int) -> bytes:
    if len(text) > size or not text.isascii() or not text.isprintable():
        raise ValueError(f"ACPI id `{text}`: not printable ASCII of at most {size} characters")
    return text.encode("ascii").ljust(size)


def read_header(data: bytes, where: str = "table") -> Header:
    """Return the header of a whole table. Raise ValueError where length, characters or checksum are wrong."""
    if len(data) < HEADER.size:
        raise ValueError(f"ACPI {where}: {len(data)} bytes, less than a header's {HEADER.size}")
    signature, length, revision, _, oem, oem_table, oem_revision, creator, creator_revision = HEADER.unpack_from(data)
    if _SIGNATURE.fullmatch(signature.decode("latin-1")) is None:
        raise ValueError(f"ACPI {where}: signature {signature!r} is not four of A-Z 0-9")
    name = signature.decode("ascii")
    if length != len(data):
        raise ValueError(f"ACPI {name}: the header says {length} bytes, there are {len(data)}")
    if checksum(data):
        raise ValueError(f"ACPI {name}: the checksum is wrong")
    texts = [_read_text(text, name) for text in (oem, oem_table, creator)]
    return Header(name, length, revision, texts[0], texts[1], oem_revision, texts[2], creator_revision)


def _read_text(raw: bytes, name: str) -> str:
    text = raw.rstrip(b"\0 ").decode("latin-1")
    if not text.isascii() or not (text.isprintable() or not text):
        raise ValueError(f"ACPI {name}: {raw!r} in the header is not printable")
    return text


Memory = Callable[[int, int], bytes]
"""Reads ``size`` bytes at a guest physical address; raises ValueError where there are none."""


def memory_of(runs: Iterable[tuple[int, bytes]]) -> Memory:
    """Return a reader of (address, bytes) runs, such as the blobs of a plan."""
    kept = tuple(runs)

    def read(gpa: int, size: int) -> bytes:
        for base, data in kept:
            if base <= gpa and gpa + size <= base + len(data):
                return data[gpa - base : gpa - base + size]
        raise ValueError(f"ACPI: nothing lies at [{gpa:#x}, {gpa + size:#x})")

    return read


def walk(memory: Memory, rsdp_at: int) -> AcpiTables:
    """Return every table that the RSDP at ``rsdp_at`` leads to, checksums and lengths checked.

    Raise ValueError for a pointer to nothing, a table over 1 MiB, more than 64 of them, or an unsound header.
    """
    root = memory(rsdp_at, RSDP_SIZE)
    signature, _, _, revision, _, length, xsdt_at, _ = _RSDP.unpack(root)
    if signature != _RSDP_SIGNATURE or revision < 2 or length != RSDP_SIZE:
        raise ValueError(f"ACPI RSDP at {rsdp_at:#x}: no root pointer of revision 2")
    if checksum(root[:20]) or checksum(root):
        raise ValueError(f"ACPI RSDP at {rsdp_at:#x}: the checksum is wrong")
    xsdt = _table_at(memory, xsdt_at, "XSDT")
    count, rest = divmod(len(xsdt.data) - HEADER.size, 8)
    if rest or not 1 <= count <= _MAX_TABLES:
        raise ValueError(f"ACPI XSDT: {len(xsdt.data)} bytes are no list of 1 to {_MAX_TABLES} pointers")
    found = [xsdt]
    for pointer in struct.unpack_from(f"<{count}Q", xsdt.data, HEADER.size):
        entry = _table_at(memory, pointer)
        found.append(entry)
        if entry.name == "FACP":
            found += _named_by_fadt(memory, entry.data)
    return AcpiTables(PlacedTable("RSDP", rsdp_at, root), tuple(found))


def _named_by_fadt(memory: Memory, fadt: bytes) -> list[PlacedTable]:
    if len(fadt) < 148:
        raise ValueError(f"ACPI FACP: {len(fadt)} bytes hold no X_DSDT")
    (facs_at,) = struct.unpack_from("<I", fadt, 36)
    (dsdt_at,) = struct.unpack_from("<Q", fadt, 140)
    found = [_table_at(memory, dsdt_at, "DSDT")]
    if facs_at:
        data = memory(facs_at, FACS_SIZE)
        if data[:4] != b"FACS" or struct.unpack_from("<I", data, 4)[0] != FACS_SIZE:
            raise ValueError(f"ACPI FACS at {facs_at:#x}: no such structure")
        found.append(PlacedTable("FACS", facs_at, data))
    return found


def _table_at(memory: Memory, gpa: int, name: str | None = None) -> PlacedTable:
    (length,) = struct.unpack_from("<I", memory(gpa, HEADER.size), 4)
    if not HEADER.size <= length <= _MAX_TABLE:
        raise ValueError(f"ACPI table at {gpa:#x}: a length of {length} bytes")
    data = memory(gpa, length)
    header = read_header(data, f"table at {gpa:#x}")
    if name is not None and header.signature != name:
        raise ValueError(f"ACPI table at {gpa:#x}: {header.signature}, where {name} should be")
    return PlacedTable(header.signature, gpa, data)


def file_names(tables: AcpiTables) -> tuple[tuple[str, bytes], ...]:
    """Return (file name, bytes) for each table, the RSDP too: ``dsdt.dat``; a second of a kind is ``ssdt2.dat``."""
    counts: dict[str, int] = {}
    files = []
    for entry in tables.all():
        counts[entry.name] = counts.get(entry.name, 0) + 1
        number = str(counts[entry.name]) if counts[entry.name] > 1 else ""
        files.append((f"{entry.name.lower()}{number}.dat", entry.data))
    return tuple(files)


def dump(tables: AcpiTables) -> str:
    """Return the text that ``acpidump`` prints, which acpixtract and fwts read: names, addresses and hex lines."""
    parts = []
    for entry in tables.all():
        # Four characters, the root pointer's name too: fwts passes over a longer one and judges a pointer of its own.
        lines = [f"{entry.name} @ 0x{entry.gpa:016X}"]
        for at in range(0, len(entry.data), 16):
            row = entry.data[at : at + 16]
            text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
            lines.append(f"{at:04X}".rjust(8) + f": {row.hex(' ').upper():<47}  {text}")
        parts.append("\n".join(lines) + "\n\n")
    return "".join(parts)
