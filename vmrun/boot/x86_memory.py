"""How a PC's RAM is laid out for a kernel: the rooms of low memory, and where the initrd goes.

The first MiB is one table. The memory map that the guest gets (E820) follows from it.
"""

from __future__ import annotations

from vmrun.boot.x86_kernel import X86Kernel
from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.units import format_size

PAGE = 4096
MIB = 1 << 20
KERNEL_KEY: Key = ("boot", "kernel")
INITRD_KEY: Key = ("boot", "initrd")
USABLE, RESERVED = 1, 2
"""Types of E820 ranges (ACPI Specification 6.5, section 15)."""


@frozen
class Room:
    """``size`` bytes of low memory from ``base`` on."""

    base: int
    size: int


GDT = Room(0x1000, PAGE)
PML4 = Room(0x2000, PAGE)
PDPT = Room(0x3000, PAGE)
START_INFO = Room(0x4000, PAGE)
"""PVH's start info, module list and memory map."""
ZERO_PAGE = Room(0x7000, PAGE)
"""struct boot_params, one page."""
PD = Room(0x8000, 4 * PAGE)
"""Page directories, one a GiB up to 4 GiB. All of this is free once the kernel runs."""
CMDLINE = Room(0x2_0000, 2 * PAGE)
BASE_END = 0x9_FC00
"""End of base memory, as PC firmware leaves it: an extended BIOS data area follows (Linux kernel/ebda.c)."""
RSDP = Room(0xE_0000, 64)
"""Where a kernel searches that is not told: 0xE0000 to 0xFFFFF (ACPI Specification 6.5, section 5.2.5.1)."""
ACPI = Room(0xE_0040, 0xFFC0)
MP_POINTER = Room(0xF_0000, 16)
"""Where a kernel searches for it: 0xF0000 to 0xFFFFF (MultiProcessor Specification 1.4, section 4)."""
MP_TABLE = Room(0xF_0010, 0xFFE0)
RESET_VECTOR = Room(0xF_FFF0, 16)
"""Where firmware is entered at F000:FFF0 by a kernel that restarts through it (Linux arch/x86/realmode/rm/reboot.S)."""
FIRMWARE = Room(0xE_0000, 0x2_0000)
"""What PC firmware has there; the guest leaves it alone."""


def e820(ram: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int, int], ...]:
    """Return the memory map for RAM in the (base, size) ranges ``ram``, the first from 0: (base, size, type)."""
    first, *others = ram
    low_end = first[0] + first[1]
    return (
        (0, BASE_END, USABLE),
        (FIRMWARE.base, FIRMWARE.size, RESERVED),
        (MIB, low_end - MIB, USABLE),
        *((base, size, USABLE) for base, size in others),
    )


def place_initrd(kernel: X86Kernel, size: int, low_end: int) -> int:
    """Return where an initrd of ``size`` bytes goes, 0 for none, in the RAM below ``low_end``.

    It lies as high as the kernel takes it, so that it is in the way of nothing. Raise PlanError: E114 the kernel is not
    inside the RAM above 1 MiB, E115 the initrd has no room.
    """
    ram = Owner("RAM", MIB, max(low_end - MIB, 0), ("memory", "size"))
    for segment in kernel.segments:
        if segment.gpa < MIB or segment.gpa + segment.reserve > low_end:
            raise PlanError(
                f"the kernel needs [{segment.gpa:#x}, {segment.gpa + segment.reserve:#x})"
                f" ({format_size(segment.reserve)}), and RAM for it is [{MIB:#x}, {low_end:#x})",
                code="E114",
                key=KERNEL_KEY,
                owners=(Owner("kernel", segment.gpa, segment.reserve, KERNEL_KEY), ram),
                remedy=_at_least(_up(kernel.end()) + _up(size))
                if segment.gpa >= MIB
                else "link the kernel to run above 1 MiB",
            )
    if not size:
        return 0
    top = min(low_end, kernel.initrd_max + 1)
    at = (top - size) // PAGE * PAGE
    if at >= kernel.end():
        return at
    if top < low_end:
        raise PlanError(
            f"the initrd ({format_size(size)}) does not fit between the kernel's end {kernel.end():#x} and {top:#x},"
            " the last place that the kernel takes one at (initrd_addr_max)",
            code="E115",
            key=INITRD_KEY,
            remedy="make it smaller, or use a newer kernel",
        )
    raise PlanError(
        f"no room for the initrd ({format_size(size)}) between the kernel's end {kernel.end():#x}"
        f" and the end of RAM at {top:#x}",
        code="E115",
        key=INITRD_KEY,
        remedy=_at_least(_up(kernel.end()) + _up(size)),
    )


def _up(size: int) -> int:
    return -(-size // PAGE) * PAGE


def _at_least(size: int) -> str:
    return f"set memory.size to at least {format_size(-(-size // MIB) * MIB)}"
