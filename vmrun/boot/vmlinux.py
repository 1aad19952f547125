"""A vmlinux of x86_64: entered in 64-bit mode as Linux's own decompressor does, or in 32-bit mode by the PVH note.

Source: Linux arch/x86/kernel/head_64.S (startup_64: identity paging on, boot parameters in rsi) and
Documentation/arch/x86/boot.rst; Xen docs/misc/pvh.pandoc and include/public/elfnote.h (XEN_ELFNOTE_PHYS32_ENTRY).
"""

from __future__ import annotations

from vmrun.boot import elf
from vmrun.boot.source import Source
from vmrun.boot.x86_kernel import X86Kernel
from vmrun.errors import PlanError
from vmrun.units import format_size

_PHYS32_ENTRY = 18
INITRD_MAX = 0x7FFF_FFFF
"""What the setup header of every x86_64 kernel says (arch/x86/boot/header.S, ramdisk_max)."""
CMDLINE_MAX = 2047
"""COMMAND_LINE_SIZE of x86, less its NUL (arch/x86/include/asm/setup.h)."""


def place(source: Source, protocol: str) -> X86Kernel:
    """Return the kernel at its physical addresses, entered by ``protocol``: ``elf`` or ``pvh``.

    Raise PlanError as `elf.read`, E117 for an entry beside the segments, E119 where a PVH entry is asked for and is not
    there.
    """
    found = elf.read(source, elf.EM_X86_64, "x86_64")
    entry = found.physical_entry() if protocol == "elf" else _pvh_entry(source, found)
    segments = found.segments()
    if entry is None or not any(s.gpa <= entry < s.gpa + s.size for s in segments):
        at = found.entry if entry is None else entry
        raise elf.malformed(source, f"starts at {at:#x}, outside everything it loads")
    total = format_size(sum(s.reserve for s in segments))
    about = f"x86_64 ELF, {'PVH, ' if protocol == 'pvh' else ''}{len(segments)} segments, {total}"
    return X86Kernel(protocol, about, segments, entry, b"", INITRD_MAX, CMDLINE_MAX)


def _pvh_entry(source: Source, found: elf.Elf) -> int:
    for owner, kind, value in found.notes:
        if (owner, kind) == ("Xen", _PHYS32_ENTRY) and len(value) in (4, 8):
            return int.from_bytes(value, "little")
    raise PlanError(
        f"{source.name}: the kernel has no PVH entry (the ELF note of Xen, type {_PHYS32_ENTRY})",
        code="E119",
        key=source.key,
        remedy='build it with CONFIG_PVH, or write protocol = "elf" in [boot]',
    )
