"""The riscv Image: the kernel's own header, and its place in RAM.

Source: Linux Documentation/arch/riscv/boot-image-header.rst and boot.rst; an EFI-stub Image is a PE file as well.
"""

from __future__ import annotations

import struct

from vmrun.boot import pe
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
    pe.check(source, head, pe.MACHINE_RISCV64, _malformed)
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
