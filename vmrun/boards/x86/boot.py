"""How an x86 board hands a kernel its machine: boot parameters, descriptors, page tables, the first registers.

Source: Linux Documentation/arch/x86/boot.rst (64-bit boot protocol); Xen docs/misc/pvh.pandoc.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmrun.boards import loading
from vmrun.boot import boot_params, long_mode, vmlinux
from vmrun.boot.detect import detect_x86
from vmrun.boot.kernel import Segment
from vmrun.boot.source import Source
from vmrun.boot.x86_kernel import X86Kernel
from vmrun.boot.x86_memory import CMDLINE, GDT, PD, PDPT, PML4, RESET_VECTOR, RSDP, START_INFO, ZERO_PAGE, Room, e820
from vmrun.frozen import frozen
from vmrun.plan.files import BootFiles
from vmrun.plan.model import Blob, EntryPlan, RamRegion

_ASSUMED_AT = 16 << 20
"""Where every Debian kernel wants to be (CONFIG_PHYSICAL_START)."""
_GIB = 1 << 30
_RESET_CODE = bytes.fromhex("b0fe e664 f4 ebfd")
"""mov al, 0xfe; out 0x64, al; hlt; jmp to the hlt: all the firmware there is. A kernel that finds hardware-reduced ACPI
believes in EFI, and without it falls back on the firmware's entry (Linux arch/x86/kernel/reboot.c, reboot_init)."""


@frozen
class Boot:
    """What is handed over. ``initrd`` is (base, size) or None; ``acpi`` says that there are ACPI tables."""

    kernel: X86Kernel
    cmdline: str
    initrd: tuple[int, int] | None
    ram: tuple[RamRegion, ...]
    acpi: bool


def kernel(files: BootFiles, protocol: str) -> X86Kernel:
    """Return the kernel in its place, entered by ``protocol``; a stand-in where nobody looked for one."""
    if files.kernel is None:
        size = loading.ASSUMED_KERNEL
        segment = Segment(_ASSUMED_AT, 0, size, size)
        entered = "elf" if protocol == "auto" else protocol
        return X86Kernel(entered, "", (segment,), _ASSUMED_AT, b"", vmlinux.INITRD_MAX, vmlinux.CMDLINE_MAX)
    file = files.kernel
    with Source(file.path, key=("boot", "kernel"), name=file.origin or None) as source:
        return detect_x86(source, protocol)


def entry(kernel: X86Kernel) -> EntryPlan:
    """Return where the boot vCPU starts, and with what."""
    if kernel.protocol == "pvh":
        return EntryPlan(kernel.entry, (("rbx", START_INFO.base), ("cr0", long_mode.CR0_PROTECTED)))
    registers = (
        ("rsi", ZERO_PAGE.base),
        ("cr0", long_mode.CR0_PAGING),
        ("cr3", PML4.base),
        ("cr4", long_mode.CR4_PAE),
        ("efer", long_mode.EFER),
        ("gdt.base", GDT.base),
        ("gdt.limit", len(long_mode.GDT) - 1),
    )
    return EntryPlan(kernel.entry, registers)


def blobs(boot: Boot) -> Iterator[Blob]:
    """Yield what the kernel reads first, as far as its protocol has it."""
    line = boot.cmdline.encode() + b"\0"
    yield _blob("cmdline", CMDLINE, line)
    yield _blob("reset", RESET_VECTOR, _RESET_CODE)
    handover = boot_params.Handover(
        CMDLINE.base,
        len(line) - 1,
        boot.initrd,
        RSDP.base if boot.acpi else 0,
        e820(tuple((region.base, region.size) for region in boot.ram)),
    )
    if boot.kernel.protocol == "pvh":
        yield _blob("start-info", START_INFO, boot_params.start_info(handover, START_INFO.base))
        return
    gib = -(-boot.kernel.end() // _GIB)
    yield _blob("gdt", GDT, long_mode.GDT)
    yield _blob("pml4", PML4, long_mode.table(PDPT.base))
    yield _blob("pdpt", PDPT, long_mode.table(PD.base, gib))
    yield _blob("pd", PD, long_mode.directories(gib))
    yield _blob("boot-params", ZERO_PAGE, boot_params.zero_page(handover, boot.kernel.header))


def _blob(name: str, room: Room, data: bytes) -> Blob:
    return Blob(name, room.base, len(data), room.size, data=data)
