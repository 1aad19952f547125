"""Where kernel, initrd and devicetree lie in RAM: after each other from both ends, as boot loaders do.

The kernel stands near the base, at its own offset; the devicetree at the top of low RAM, the initrd right below it, so
that neither is in the way of the kernel's bss or of what the kernel allocates first.
"""

from __future__ import annotations

from vmrun.boot.kernel import Kernel
from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.units import format_size

PAGE = 4096
FDT_ROOM = 64 << 10
"""The least room for the devicetree, which boot loaders enlarge in place, and its alignment; the Devicetree
Specification v0.4, 5.6, asks for 8 bytes."""
KERNEL_KEY: Key = ("boot", "kernel")
INITRD_KEY: Key = ("boot", "initrd")


@frozen
class Placement:
    """Where things lie, in guest physical bytes. ``initrd`` is 0 where there is none."""

    fdt: int
    fdt_reserve: int
    initrd: int


def place(kernel: Kernel, initrd_size: int, fdt_size: int, ram_base: int, ram_size: int, low_end: int) -> Placement:
    """Place an initrd of ``initrd_size`` bytes (0: none) and a devicetree of ``fdt_size`` beside ``kernel``.

    ``low_end`` bounds what a boot loader of this board uses. Raise PlanError: E114 the kernel does not fit, E115 the
    initrd, E116 the devicetree.
    """
    ram_end = ram_base + ram_size
    ram = Owner("RAM", ram_base, ram_size, ("memory", "size"))
    for segment in kernel.segments:
        if segment.gpa < ram_base or segment.gpa + segment.reserve > ram_end:
            raise PlanError(
                f"the kernel needs [{segment.gpa:#x}, {segment.gpa + segment.reserve:#x})"
                f" ({format_size(segment.reserve)}), and RAM is {format_size(ram_size)} at {ram_base:#x}",
                code="E114",
                key=KERNEL_KEY,
                owners=(Owner("kernel", segment.gpa, segment.reserve, KERNEL_KEY), ram),
                remedy=_at_least(segment.gpa + segment.reserve + 2 * FDT_ROOM + initrd_size - ram_base),
            )
    top = min(ram_end, max(low_end, _kernel_end(kernel)))
    floor = _kernel_end(kernel)
    fdt_reserve = max(FDT_ROOM, _up(fdt_size, PAGE))
    fdt = _down(top - fdt_reserve, FDT_ROOM)
    if fdt < floor:
        raise PlanError(
            f"no room for the devicetree ({format_size(fdt_reserve)}) above the kernel, which ends at {floor:#x}",
            code="E116",
            key=("memory", "size"),
            remedy=_at_least(floor + 2 * fdt_reserve + initrd_size - ram_base),
        )
    if not initrd_size:
        return Placement(fdt, fdt_reserve, 0)
    initrd = _down(fdt - initrd_size, PAGE)
    if initrd < floor:
        raise PlanError(
            f"no room for the initrd ({format_size(initrd_size)}) between the kernel's end {floor:#x}"
            f" and the devicetree at {fdt:#x} ({format_size(fdt - floor)})",
            code="E115",
            key=INITRD_KEY,
            remedy=_at_least(floor + initrd_size + 2 * fdt_reserve - ram_base),
        )
    return Placement(fdt, fdt_reserve, initrd)


def _kernel_end(kernel: Kernel) -> int:
    return max(segment.gpa + segment.reserve for segment in kernel.segments)


def _at_least(size: int) -> str:
    return f"set memory.size to at least {format_size(_up(size, 1 << 20))}"


def _down(value: int, align: int) -> int:
    return value - value % align


def _up(value: int, align: int) -> int:
    return _down(value + align - 1, align)
