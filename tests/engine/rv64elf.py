"""A static RV64 ELF executable with one segment, as small as a loader takes."""

from __future__ import annotations

import struct

_PAGE = 4096
_EM_RISCV = 243
_EF_RVC_DOUBLE = 0x5


def executable(image: bytes, origin: int, entry: int, memory: int | None = None) -> bytes:
    """Return an ELF file that loads ``image`` at ``origin`` (page-aligned), readable, writable and executable.

    ``memory`` is the segment's size in memory in bytes, at least that of the image; the rest is zero. (System V ABI,
    chapters 4 and 5; RISC-V ELF psABI for e_machine and e_flags.)
    """
    if origin % _PAGE or not origin <= entry < origin + len(image):
        raise ValueError(f"entry {entry:#x} outside the image at {origin:#x}, or the image is not page-aligned")
    identity = b"\x7fELF" + bytes([2, 1, 1, 0]) + bytes(8)
    header = identity + struct.pack("<HHIQQQIHHHHHH", 2, _EM_RISCV, 1, entry, 64, 0, _EF_RVC_DOUBLE, 64, 56, 1, 0, 0, 0)
    size = max(memory or 0, len(image))
    segment = struct.pack("<IIQQQQQQ", 1, 7, _PAGE, origin, origin, len(image), size, _PAGE)
    return (header + segment).ljust(_PAGE, b"\0") + image
