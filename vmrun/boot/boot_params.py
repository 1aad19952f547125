"""What an x86 kernel is handed: Linux's boot parameters (the "zero page"), or Xen's PVH start info.

Source: Linux Documentation/arch/x86/zero-page.rst and boot.rst, arch/x86/include/uapi/asm/bootparam.h; Xen
xen/include/public/arch-x86/hvm/start_info.h. Values in, bytes out.
"""

from __future__ import annotations

import struct

from vmrun.frozen import frozen

SIZE = 4096
_HEADER_AT = 0x1F1
_MAX_E820 = 128
_UNKNOWN_LOADER = 0xFF
_LOADED_HIGH = 1
_NORMAL_VIDEO = 0xFFFF
_START_MAGIC = 0x336E_C578
_START_INFO = struct.Struct("<IIIIQQQQII")
_MODULE = struct.Struct("<QQQQ")
_MEMORY_MAP_ENTRY = struct.Struct("<QQII")


@frozen
class Handover:
    """What stands where in RAM. ``initrd`` is (base, size) or None, ``rsdp`` 0 for none, ``memory`` E820's ranges."""

    cmdline: int
    cmdline_size: int
    initrd: tuple[int, int] | None
    rsdp: int
    memory: tuple[tuple[int, int, int], ...]


def zero_page(handover: Handover, header: bytes) -> bytes:
    """Return struct boot_params, its trailing zeros left out.

    ``header`` is the kernel's own setup header, which becomes part of it; a vmlinux has none, and gets what a boot
    loader would have filled in. Raise ValueError for more than 128 ranges of memory.
    """
    if len(handover.memory) > _MAX_E820:
        raise ValueError(f"{len(handover.memory)} ranges of memory, and boot parameters hold {_MAX_E820}")
    page = bytearray(SIZE)
    page[_HEADER_AT : _HEADER_AT + len(header)] = header
    if not header:
        struct.pack_into("<H", page, 0x1FE, 0xAA55)
        page[0x202:0x206] = b"HdrS"
        struct.pack_into("<H", page, 0x206, 0x20C)
        struct.pack_into("<I", page, 0x238, handover.cmdline_size)
    struct.pack_into("<Q", page, 0x070, handover.rsdp)
    struct.pack_into("<H", page, 0x1FA, _NORMAL_VIDEO)
    page[0x210] = _UNKNOWN_LOADER
    page[0x211] |= _LOADED_HIGH
    struct.pack_into("<II", page, 0x218, *(handover.initrd or (0, 0)))
    struct.pack_into("<I", page, 0x228, handover.cmdline)
    page[0x1E8] = len(handover.memory)
    for index, entry in enumerate(handover.memory):
        struct.pack_into("<QQI", page, 0x2D0 + 20 * index, *entry)
    return bytes(page).rstrip(b"\0")


def start_info(handover: Handover, base: int) -> bytes:
    """Return the start info for address ``base``, followed by the list of modules and the memory map."""
    modules = [_MODULE.pack(*handover.initrd, 0, 0)] if handover.initrd else []
    modules_at = base + _START_INFO.size
    memory_at = modules_at + _MODULE.size * len(modules)
    head = _START_INFO.pack(
        _START_MAGIC,
        1,
        0,
        len(modules),
        modules_at if modules else 0,
        handover.cmdline,
        handover.rsdp,
        memory_at,
        len(handover.memory),
        0,
    )
    return head + b"".join(modules) + b"".join(_MEMORY_MAP_ENTRY.pack(*entry, 0) for entry in handover.memory)
