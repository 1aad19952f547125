"""The riscv Image: the kernel's own header, and its place in RAM.

Source: Linux Documentation/arch/riscv/boot-image-header.rst and boot.rst; an EFI-stub Image is a PE file as well:
Microsoft PE/COFF specification, sections 2 (file headers) and 3 (section table).
"""

from __future__ import annotations

import struct

from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source
from vmrun.errors import PlanError
from vmrun.units import format_size

HEADER_SIZE = 64
_HEADER = struct.Struct("<IIQQQIIQQII")  # code0 code1 text_offset image_size flags version res1 res2 magic magic2 res3
MAGIC = int.from_bytes(b"RISCV\0\0\0", "little")
"""The deprecated magic of header 0.1, still there."""
MAGIC2 = int.from_bytes(b"RSC\x05", "little")
_FLAG_BIG_ENDIAN = 1
PMD_SIZE = 2 << 20
"""Linux maps itself by 2 MiB pages: boot.rst, "Kernel location"."""
PE_MACHINE_RISCV64 = 0x5064
_MAX_SECTIONS = 96  # the specification's own bound for an image


def is_image(head: bytes) -> bool:
    """Say whether ``head``, the file's first bytes, is a riscv Image header."""
    if len(head) < HEADER_SIZE:
        return False
    fields = _HEADER.unpack_from(head)
    return bool(fields[8] == MAGIC or fields[9] == MAGIC2)


def place(source: Source, ram_base: int) -> Kernel:
    """Return the Image placed at ``ram_base`` + its text_offset.

    Raise PlanError: E113 big-endian, E111 truncated, E117 a header that cannot be.
    """
    head = source.read(0, HEADER_SIZE)
    _, _, text_offset, image_size, flags, version, *_ = _HEADER.unpack_from(head)
    if flags & _FLAG_BIG_ENDIAN:
        raise PlanError(
            f"{source.name}: a big-endian riscv64 Image, and the machine is little-endian",
            code="E113",
            key=source.key,
            remedy="build the kernel little-endian",
        )
    if version >> 16:
        raise _malformed(source, f"has Image header version {version >> 16}.{version & 0xFFFF}, and vmrun knows 0.x")
    if image_size == 0 or image_size >= 1 << 48:
        raise _malformed(source, f"says it needs {image_size} bytes of RAM (image_size)")
    if text_offset % PMD_SIZE or text_offset >= 1 << 48:
        raise _malformed(source, f"wants offset {text_offset:#x} into RAM (text_offset), not a multiple of 2MiB")
    _check_complete(source, head)
    base = ram_base + text_offset
    reserve = max(image_size, source.size)
    about = f"riscv64 Image, {format_size(source.size)}, {format_size(reserve)} with its bss"
    return Kernel("image", about, (Segment(base, 0, source.size, reserve),), entry=base)


def _malformed(source: Source, what: str) -> PlanError:
    return PlanError(
        f"{source.name}: the riscv64 Image {what}",
        code="E117",
        key=source.key,
        remedy="the file is damaged or no kernel; fetch or build it again",
    )


def _check_complete(source: Source, head: bytes) -> None:
    """Refuse an Image that ends before the last section of its PE header; one without an EFI stub cannot be told."""
    if head[:2] != b"MZ":
        return
    at = int.from_bytes(head[60:64], "little")
    coff = source.read(at, 24)
    if len(coff) < 24:
        raise truncated(source, at + 24)
    if coff[:4] != b"PE\0\0":
        return
    machine, sections, *_, optional, _ = struct.unpack_from("<HHIIIHH", coff, 4)
    if machine != PE_MACHINE_RISCV64:
        raise _malformed(source, f"has the PE machine {machine:#x}, not {PE_MACHINE_RISCV64:#x}")
    table = source.read(at + 24 + optional, 40 * min(sections, _MAX_SECTIONS))
    if len(table) < 40 * min(sections, _MAX_SECTIONS):
        raise truncated(source, at + 24 + optional + 40 * sections)
    for size, offset in (struct.unpack_from("<II", table, n + 16) for n in range(0, len(table), 40)):
        if offset + size > source.size:
            raise truncated(source, offset + size)


def truncated(source: Source, needed: int) -> PlanError:
    """Return the error for a kernel that ends before its byte ``needed``."""
    return PlanError(
        f"{source.name}: the kernel is truncated: {source.size} of at least {needed} bytes",
        code="E111",
        key=source.key,
        remedy="fetch or build it again",
    )
