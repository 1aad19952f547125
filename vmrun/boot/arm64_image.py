"""The arm64 Image: the kernel's own header, and its place in RAM.

Source: Linux Documentation/arch/arm64/booting.rst, section 4; an EFI-stub Image is a PE file as well.
"""

from __future__ import annotations

import struct

from vmrun.boot import pe
from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source
from vmrun.errors import PlanError
from vmrun.units import format_size

HEADER_SIZE = 64
_HEADER = struct.Struct("<IIQQQQQQII")  # code0 code1 text_offset image_size flags res2 res3 res4 magic res5
MAGIC = int.from_bytes(b"ARM\x64", "little")
_FLAG_BIG_ENDIAN = 1
_PAGE_SHIFT, _PAGE_MASK = 1, 3
PAGES = {1: 4096, 2: 16384, 3: 65536}
"""Sizes of the kernel's pages in bytes, by the field of its flags; 0 leaves it open."""
BASE_ALIGN = 2 << 20
"""The Image lies text_offset bytes above a multiple of it."""


def is_image(head: bytes) -> bool:
    """Say whether ``head``, the file's first bytes, is an arm64 Image header."""
    return len(head) >= HEADER_SIZE and _HEADER.unpack_from(head)[8] == MAGIC


def place(source: Source, ram_base: int, granules: tuple[int, ...]) -> Kernel:
    """Return the Image placed at ``ram_base``, a multiple of 2 MiB, + its text_offset: as low as can be, as it may ask.

    ``granules`` are the sizes of pages that the host's processors have; empty: nobody has looked. Raise PlanError: E113
    big-endian, E111 truncated, E117 a header that cannot be, E120 pages of a size that the host lacks.
    """
    head = source.read(0, HEADER_SIZE)
    _, _, text_offset, image_size, flags, *_ = _HEADER.unpack_from(head)
    if flags & _FLAG_BIG_ENDIAN:
        raise PlanError(
            f"{source.name}: a big-endian arm64 Image, and the machine is little-endian",
            code="E113",
            key=source.key,
            remedy="build the kernel little-endian",
        )
    if image_size == 0:
        raise _malformed(source, "does not say how much RAM it needs (image_size), as before Linux 3.17")
    if image_size >= 1 << 48:
        raise _malformed(source, f"says it needs {image_size} bytes of RAM (image_size)")
    if text_offset >= BASE_ALIGN:
        raise _malformed(source, f"wants offset {text_offset:#x} (text_offset), not below 2MiB")
    pe.check(source, head, pe.MACHINE_ARM64, _malformed)
    pages = PAGES.get(flags >> _PAGE_SHIFT & _PAGE_MASK)
    if pages is not None and granules and pages not in granules:
        raise PlanError(
            f"{source.name}: a kernel with pages of {format_size(pages)}, which the host's processors do not have",
            code="E120",
            key=source.key,
            remedy=f"name a kernel with pages of {' or '.join(map(format_size, granules))}",
        )
    base = ram_base + text_offset
    reserve = max(image_size, source.size)
    about = f"arm64 Image, {format_size(source.size)}, {format_size(reserve)} with its bss"
    return Kernel("image", about, (Segment(base, 0, source.size, reserve),), entry=base)


def _malformed(source: Source, what: str) -> PlanError:
    return PlanError(
        f"{source.name}: the arm64 Image {what}",
        code="E117",
        key=source.key,
        remedy="the file is damaged or no kernel; fetch or build it again",
    )
