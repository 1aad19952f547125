"""The board ``microvm``: the memory map and interrupt numbers of QEMU's machine of that name, with one I/O APIC.

The guest learns of it from hardware-reduced ACPI; a kernel without ACPI finds its processors in an MP table, which is
there in any case, and with ``tables = "mptable"`` its virtio devices on the command line.

Source of every number here: QEMU 10, include/hw/i386/microvm.h and hw/i386/microvm.c (microvm_devices_init,
microvm_memory_init), unless another is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmrun.boards import loading
from vmrun.boards.assembly import assemble
from vmrun.boards.board import Layout
from vmrun.boards.consoles import UART_ID, Console, cmdline, consoles, own, says
from vmrun.boards.limits import LIMITS
from vmrun.boards.places import Fixed, Places, PlatformBus
from vmrun.boards.slots import given, on_bus, wanted, with_images
from vmrun.boards.takes import HOST_MODELS, Takes, tables
from vmrun.boards.x86 import boot as x86_boot
from vmrun.boards.x86 import cpu as x86_cpu
from vmrun.boards.x86 import tables as microvm_tables
from vmrun.boot.cmdline import find
from vmrun.boot.x86_kernel import PROTOCOLS
from vmrun.boot.x86_memory import place_initrd
from vmrun.devices import registry as devices
from vmrun.frozen import evolve
from vmrun.plan.allocate import Range, SlotRow
from vmrun.plan.files import BootFiles
from vmrun.plan.model import DevicePlan, MachinePlan, RamRegion, X86Cpus
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

GIB = 1 << 30
LOW_END = 3 * GIB
"""RAM below 4 GiB ends here; what is more of it starts at 4 GiB."""
HIGH_BASE = 4 * GIB
MAX_RAM = 512 * GIB - (HIGH_BASE - LOW_END)
"""RAM ends below 512 GiB: guest-physical addresses have 39 bits on the smallest hosts with KVM."""


FIXED = (
    Fixed("lapic", "lapic", 0xFEE0_0000),
    Fixed("ioapic", "ioapic", 0xFEC0_0000),
    # The registers of QEMU's generic event device, which lies at 0xfea00000.
    Fixed("power", "acpi-power", 0xFEA0_0200),
)
# Where a PC AT has them: QEMU hw/timer/i8254.c, hw/input/pckbd.c, hw/rtc/mc146818rtc.c, hw/char/serial-isa.c. ISA's
# lines are edges.
PIT = Fixed("pit", "i8254", 0x40, space="pio")
ISA = (
    Fixed("i8042", "i8042", 0x64, space="pio"),
    Fixed(microvm_tables.RTC_ID, "cmos-rtc", 0x70, 8, "edge", "pio"),
    Fixed(UART_ID, "uart16550", 0x3F8, 4, "edge", "pio", 8),
)
VIRTIO = {
    "acpi": SlotRow(base=0xFEB0_0000, step=0x200, size=0x200, count=8, irq=16),
    # QEMU gives the fourth slot interrupt 8, which Linux's driver of the RTC claims for itself.
    "mptable": SlotRow(base=0xFEB0_0000, step=0x200, size=0x200, count=8, irq=5, skip=(8,)),
}
"""Slots by the kind of tables."""
BUS = PlatformBus(Range(0xF000_0000, 0x0100_0000), (5, 6, 7, 9, 10, 11, 12, 13, 14, 15))
"""With ACPI. QEMU has none: the range lies between what it keeps for PCIe and its devices, and ISA has the lines."""
EARLY_CONSOLE = "uart8250,io,0x3f8"


class Microvm:
    """The board. It has no state: everything is in the plan that it returns."""

    name = "microvm"
    arch = "x86_64"
    doc = "local APICs, I/O APIC, 16550 UART, CMOS RTC, 8 virtio-mmio slots, where QEMU's `microvm` has them"
    limits = LIMITS["microvm"]
    takes = Takes(
        tables=("acpi", "mptable"),
        irqchips=(),
        protocols=PROTOCOLS,
        topology=("sockets", "threads"),
        models=HOST_MODELS,
        ram=MAX_RAM,
        cpus="vCPUs",
    )

    def layout(self, manifest: Manifest, offer: Offer, ports: tuple[str, ...] = ()) -> Layout:
        """Return where everything is. See `Board.layout`."""
        cpu = x86_cpu.cpus(manifest, offer)
        ram = tuple(_ram(manifest.memory.size))
        found_by = tables_of(manifest)
        places = Places(self.limits.irqs, ram)
        placed = (
            # An MP table stands for a kernel that may have no other clock than the PIT.
            *places.fixed((*FIXED, *((PIT,) if found_by == "mptable" else ()), *ISA), manifest),
            *_on_ports(manifest, places),
            # Edges, unlike QEMU's: a doorbell of KVM raises one without a call, and no end of interrupt comes out.
            *places.slots(VIRTIO[found_by], wanted(manifest, ports), "edge"),
            *places.bus(BUS, on_bus(manifest, self.name, _elsewhere(manifest), has_bus=found_by == "acpi")),
        )
        ttys = tuple(consoles(manifest, self.name))
        words = _cmdline(manifest, ttys, placed, found_by)
        return Layout(cpu, ram, placed, ttys, words, found_by)

    def load(
        self,
        layout: Layout,
        manifest: Manifest,
        files: BootFiles,
        offer: Offer,
        command: tuple[str, ...] | None = None,
    ) -> MachinePlan:
        """Return the machine with its files. See `Board.load`."""
        layout = evolve(layout, devices=with_images(layout.devices, files))
        cpu, ram = layout.cpu, layout.ram
        assert isinstance(cpu, X86Cpus)
        kernel = x86_boot.kernel(files, manifest.boot.protocol)
        size = loading.initrd_size(manifest, files)
        initrd = place_initrd(kernel, size, ram[0].size)
        described = microvm_tables.blobs(cpu, layout.devices, layout.tables)
        boot = x86_boot.Boot(kernel, layout.cmdline, (initrd, size) if size else None, ram, layout.tables == "acpi")
        blobs = (
            *loading.kernel_blobs(files.kernel, kernel.segments),
            *loading.initrd_blobs(files, initrd, size),
            *x86_boot.blobs(boot),
            *described,
        )
        limits = evolve(self.limits, cmdline=kernel.cmdline_max)
        return assemble(layout, blobs, x86_boot.entry(kernel), manifest, files, offer, limits, command)


BOARD = Microvm()


def tables_of(manifest: Manifest) -> str:
    """Return ``acpi`` or ``mptable``: what the guest learns its hardware from. One told ``acpi=off`` reads no ACPI."""
    if manifest.machine.tables == "auto" and "off" in find(own(manifest), "acpi"):
        return "mptable"
    return tables(manifest, BOARD.takes)


def _ram(size: int) -> Iterator[RamRegion]:
    yield RamRegion(0, min(size, LOW_END))
    if size > LOW_END:
        yield RamRegion(HIGH_BASE, size - LOW_END)


# Devices.


def _on_ports(manifest: Manifest, places: Places) -> Iterator[DevicePlan]:
    for name, device in manifest.device.items():
        if not _is_on_ports(device.kind):
            continue
        properties = given(device)
        base, size = properties["iobase"], properties["iosize"]
        assert isinstance(base, int) and isinstance(size, int)
        places.ports(f"device.{name}", base, size, ("device", name))
        yield DevicePlan(f"device.{name}", device.kind, base, size, properties=properties, space="pio")


def _is_on_ports(kind: str) -> bool:
    found = devices.load(kind)
    return found.needs.space == "pio" and "iobase" in found.properties


def _elsewhere(manifest: Manifest) -> set[str]:
    """Return the kinds that have places of their own, or that the manifest gives one."""
    chosen = {device.kind for device in manifest.device.values() if _is_on_ports(device.kind)}
    return chosen | {fixed.kind for fixed in (*FIXED, *ISA)}


def _cmdline(manifest: Manifest, ttys: tuple[Console, ...], placed: tuple[DevicePlan, ...], tables: str) -> str:
    # There is no PCI, which a kernel would search for by ports, and complain.
    first = () if says(manifest, "pci") else ("pci=off",)
    slots: tuple[str, ...] = ()
    if tables == "mptable" and not says(manifest, "virtio_mmio.device"):
        slots = tuple(
            f"virtio_mmio.device={device.size}@{device.base:#x}:{device.interrupt.number}"
            for device in placed
            if device.transport is not None and device.interrupt is not None
        )
    # The UART needs no early console: it is the kernel's from its first lines on.
    early = None if ttys[0].device == UART_ID else EARLY_CONSOLE
    return cmdline(manifest, ttys, early, first=first, last=slots)
