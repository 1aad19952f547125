"""The board ``microvm``: the memory map and interrupt numbers of QEMU's machine of that name, with one I/O APIC.

The guest learns of it from hardware-reduced ACPI; a kernel without ACPI finds its processors in an MP table, which is
there in any case, and with ``tables = "mptable"`` its virtio devices on the command line.

Source of every number here: QEMU 10, include/hw/i386/microvm.h and hw/i386/microvm.c (microvm_devices_init,
microvm_memory_init), unless another is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmrun.boards import bounds, loading
from vmrun.boards.assembly import Parts, assemble
from vmrun.boards.consoles import UART_ID, Console, cmdline, consoles, says
from vmrun.boards.limits import LIMITS
from vmrun.boards.places import Fixed, Places
from vmrun.boards.slots import Wanted, given, modules, wanted
from vmrun.boards.x86 import boot as x86_boot
from vmrun.boards.x86 import cpu as x86_cpu
from vmrun.boards.x86 import tables as microvm_tables
from vmrun.boot.x86_memory import place_initrd
from vmrun.devices import registry as devices
from vmrun.frozen import evolve
from vmrun.plan.allocate import Range, SlotRow
from vmrun.plan.files import BootFiles
from vmrun.plan.model import DevicePlan, MachinePlan, RamRegion
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Manifest

GIB = 1 << 30
LOW_END = 3 * GIB
"""RAM below 4 GiB ends here; what is more of it starts at 4 GiB."""
HIGH_BASE = 4 * GIB
MAX_RAM = 512 * GIB - (HIGH_BASE - LOW_END)
"""RAM ends below 512 GiB: guest-physical addresses have 39 bits on the smallest hosts with KVM."""


FIXED = (
    Fixed("lapic", "lapic", Range(0xFEE0_0000, 0x1000)),
    Fixed("ioapic", "ioapic", Range(0xFEC0_0000, 0x1000)),
    # The registers of QEMU's generic event device, which lies at 0xfea00000.
    Fixed("power", "acpi-power", Range(0xFEA0_0200, 3)),
)
# Where a PC AT has them: QEMU hw/timer/i8254.c, hw/input/pckbd.c, hw/rtc/mc146818rtc.c, hw/char/serial-isa.c. ISA's
# lines are edges.
PIT = Fixed("pit", "i8254", Range(0x40, 4), space="pio")
ISA = (
    Fixed("i8042", "i8042", Range(0x64, 1), space="pio"),
    Fixed("rtc", "cmos-rtc", Range(0x70, 2), 8, "edge", "pio"),
    Fixed(UART_ID, "uart16550", Range(0x3F8, 8), 4, "edge", "pio"),
)
VIRTIO = {
    "acpi": SlotRow(base=0xFEB0_0000, step=0x200, size=0x200, count=8, irq=16),
    # QEMU gives the fourth slot interrupt 8, which Linux's driver of the RTC claims for itself.
    "mptable": SlotRow(base=0xFEB0_0000, step=0x200, size=0x200, count=8, irq=5, skip=(8,)),
}
"""Slots by the kind of tables."""
EARLY_CONSOLE = "uart8250,io,0x3f8"


class Microvm:
    """The board. It has no state: everything is in the plan that it returns."""

    name = "microvm"
    arch = "x86_64"
    doc = "local APICs, I/O APIC, 16550 UART, CMOS RTC, 8 virtio-mmio slots, where QEMU's `microvm` has them"
    limits = LIMITS["microvm"]

    def plan(
        self,
        loaded: LoadedManifest,
        files: BootFiles,
        offer: Offer,
        *,
        command: tuple[str, ...] | None = None,
        ports: tuple[str, ...] = (),
    ) -> MachinePlan:
        """Return the machine of a manifest. Raise PlanError where the manifest asks for what the board cannot be."""
        manifest = loaded.manifest
        cpu = x86_cpu.cpus(manifest, offer)
        ram = tuple(_ram(bounds.ram_size(manifest, MAX_RAM)))
        tables = tables_of(manifest)
        bounds.no_irqchip(manifest)
        places = Places(self.limits.irqs, ram)
        placed = (
            # An MP table stands for a kernel that may have no other clock than the PIT.
            *places.fixed((*FIXED, *((PIT,) if tables == "mptable" else ()), *ISA), manifest),
            *_on_ports(manifest, places),
            # Edges, unlike QEMU's: a doorbell of KVM raises one without a call, and no end of interrupt comes out.
            *places.slots(VIRTIO[tables], _wanted(manifest, files, ports), "edge"),
        )
        ttys = tuple(consoles(manifest, self.name))
        words = " ".join(_cmdline(manifest, ttys, placed, tables))
        kernel = x86_boot.kernel(files, manifest.boot.protocol)
        size = loading.initrd_size(manifest, files)
        initrd = place_initrd(kernel, size, ram[0].size)
        described = microvm_tables.blobs(cpu, placed, tables)
        boot = x86_boot.Boot(kernel, words, (initrd, size) if size else None, ram, tables == "acpi")
        blobs = (
            *loading.kernel_blobs(files.kernel, kernel.segments),
            *loading.initrd_blobs(files, initrd, size),
            *x86_boot.blobs(boot),
            *described,
        )
        parts = Parts(cpu, ram, placed, blobs, x86_boot.entry(kernel), words, ttys)
        limits = evolve(self.limits, cmdline=kernel.cmdline_max)
        return assemble(parts, manifest, files, offer, limits, command)

    def drivers(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the Linux modules that the machine's virtio devices need, as ``modprobe`` knows them."""
        return modules({want.kind for want in _wanted(manifest, BootFiles(), ("control",))})


BOARD = Microvm()


def tables_of(manifest: Manifest) -> str:
    """Return ``acpi`` or ``mptable``: what the guest learns its hardware from. One told ``acpi=off`` reads no ACPI."""
    if manifest.machine.tables == "auto" and "acpi=off" in " ".join(manifest.boot.cmdline).split():
        return "mptable"
    return bounds.tables(manifest, ("acpi", "mptable"))


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


def _wanted(manifest: Manifest, files: BootFiles, ports: tuple[str, ...]) -> Iterator[Wanted]:
    elsewhere = {device.kind for device in manifest.device.values() if _is_on_ports(device.kind)}
    return wanted(manifest, files, ports, BOARD.name, elsewhere)


def _cmdline(
    manifest: Manifest, ttys: tuple[Console, ...], placed: tuple[DevicePlan, ...], tables: str
) -> Iterator[str]:
    # There is no PCI, which a kernel would search for by ports, and complain.
    if not says(manifest, "pci"):
        yield "pci=off"
    # The UART needs no early console: it is the kernel's from its first lines on.
    yield from cmdline(manifest, ttys, None if ttys[0].device == UART_ID else EARLY_CONSOLE)
    if tables == "mptable" and not says(manifest, "virtio_mmio.device"):
        for device in placed:
            if device.transport is not None and device.interrupt is not None:
                yield f"virtio_mmio.device={device.size}@{device.base:#x}:{device.interrupt.number}"
