"""The PE header of an Image with an EFI stub: it says for which machine, and where the file's last byte must be.

Source: Microsoft PE/COFF specification, sections 2 (file headers) and 3 (section table).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from vmrun.boot.source import Source, truncated
from vmrun.errors import PlanError

MACHINE_RISCV64 = 0x5064
MACHINE_ARM64 = 0xAA64
_OFFSET_AT = 60
_MAX_SECTIONS = 96  # the specification's own bound for an image


def check(source: Source, head: bytes, machine: int, malformed: Callable[[Source, str], PlanError]) -> None:
    """Refuse an Image for another ``machine``, or one that ends before its last section; ``head`` is its first bytes.

    One without an EFI stub has no such header, and cannot be told. Raise PlanError: E111 truncated, and ``malformed``.
    """
    if head[:2] != b"MZ":
        return
    at = int.from_bytes(head[_OFFSET_AT : _OFFSET_AT + 4], "little")
    coff = source.read(at, 24)
    if len(coff) < 24:
        raise truncated(source, at + 24)
    if coff[:4] != b"PE\0\0":
        return
    found, sections, *_, optional, _ = struct.unpack_from("<HHIIIHH", coff, 4)
    if found != machine:
        raise malformed(source, f"has the PE machine {found:#x}, not {machine:#x}")
    table = source.read(at + 24 + optional, 40 * min(sections, _MAX_SECTIONS))
    if len(table) < 40 * min(sections, _MAX_SECTIONS):
        raise truncated(source, at + 24 + optional + 40 * sections)
    for size, offset in (struct.unpack_from("<II", table, n + 16) for n in range(0, len(table), 40)):
        if offset + size > source.size:
            raise truncated(source, offset + size)
