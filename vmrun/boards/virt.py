"""The board ``virt``: the memory map and interrupt numbers of QEMU's arm `virt`, without flash, fw_cfg and PCI.

Its interrupt controller is KVM's GICv3 with an ITS, or a GICv2 where the host has no more or the manifest says so.
PSCI, by which vCPUs start each other, power off and reset, is KVM's as well.

Source of every number here: QEMU 10, hw/arm/virt.c (base_memmap, a15irqmap), unless another is named.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards import fdt_boot, loading
from vmrun.boards.arm import cpu as arm_cpu
from vmrun.boards.arm.fdt import CLOCK, machine_tree
from vmrun.boards.assembly import assemble
from vmrun.boards.board import Layout
from vmrun.boards.consoles import UART_ID, cmdline, consoles
from vmrun.boards.fdt_boot import Chosen, Extent, unit_address
from vmrun.boards.limits import LIMITS
from vmrun.boards.places import Fixed, Places, PlatformBus
from vmrun.boards.slots import on_bus, wanted, with_images
from vmrun.boards.takes import HOST_MODELS, Takes, irqchip, tables
from vmrun.boot.detect import detect
from vmrun.devices import registry as devices
from vmrun.devices.irq import _gic as gic
from vmrun.devices.model import FdtContext
from vmrun.frozen import evolve
from vmrun.plan.allocate import Range, SlotRow
from vmrun.plan.files import BootFiles
from vmrun.plan.model import ArmCpus, EntryPlan, MachinePlan, RamRegion
from vmrun.plan.offer import Offer
from vmrun.tables.fdt import FdtNode

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

GIC_ID = "gic"
CONTROLLERS = {
    "gicv3": (
        Fixed(GIC_ID, "gicv3", 0x0800_0000),
        Fixed("its", "gicv3-its", 0x0808_0000),
        Fixed("gicr", "gicv3-redist", 0x080A_0000, size=0xF6_0000),
    ),
    "gicv2": (
        Fixed(GIC_ID, "gicv2", 0x0800_0000),
        Fixed("gicc", "gicv2-cpu", 0x0801_0000),
    ),
}
"""The windows of each interrupt controller, best first."""
FIXED = (
    Fixed(UART_ID, "pl011", 0x0900_0000, 1),
    Fixed("rtc", "pl031", 0x0901_0000, 2),
    Fixed("gpio", "pl061", 0x0903_0000, 7),
)
VIRTIO = SlotRow(base=0x0A00_0000, step=0x200, size=0x200, count=32, irq=16)
BUS = PlatformBus(Range(0x0C00_0000, 0x0200_0000), range(112, 176))
RAM_BASE = 0x4000_0000

LOW_END = 0x1_0000_0000
"""Initrd and devicetree lie below 4 GiB, well inside the 32 GiB from the kernel's first GiB on in which Linux wants the
initrd (Documentation/arch/arm64/booting.rst)."""
MAX_RAM = 255 << 30
"""RAM ends at 256 GiB, above which QEMU has other things (LEGACY_RAMLIMIT_BYTES)."""
EARLY_CONSOLE = "pl011,mmio32,0x9000000"
"""The PL011's driver comes with the bus's others: without it, a kernel that dies before would die in silence."""


class Virt:
    """The board. It has no state: everything is in the plan that it returns."""

    name = "virt"
    arch = "aarch64"
    doc = "GICv3 or GICv2, PL011 UART, PL031 RTC, power key, 32 virtio-mmio slots, where QEMU's arm `virt` has them"
    limits = LIMITS["virt"]
    takes = Takes(
        tables=("fdt",),
        irqchips=tuple(CONTROLLERS),
        protocols=(),
        topology=("sockets", "threads"),
        models=HOST_MODELS,
        ram=MAX_RAM,
        cpus="vCPUs",
    )

    def layout(self, manifest: Manifest, offer: Offer, ports: tuple[str, ...] = ()) -> Layout:
        """Return where everything is. See `Board.layout`."""
        controller = irqchip(manifest, self.takes, offer)
        cpu = arm_cpu.cpus(manifest, offer, controller)
        ram = RamRegion(RAM_BASE, manifest.memory.size)
        places = Places(self.limits.irqs, (ram,))
        placed = (
            *places.fixed((*CONTROLLERS[controller], *FIXED), manifest),
            *places.slots(VIRTIO, wanted(manifest, ports), "edge"),
            *places.bus(BUS, on_bus(manifest, self.name, {fixed.kind for fixed in FIXED})),
        )
        ttys = tuple(consoles(manifest, self.name, "ttyAMA0"))
        words = cmdline(manifest, ttys, EARLY_CONSOLE, first=tuple(fdt_boot.memory_words(manifest, ram)))
        return Layout(cpu, (ram,), placed, ttys, words, tables(manifest, self.takes))

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
        (ram,) = layout.ram
        granules = () if offer.nominal else offer.granules
        kernel = loading.kernel(files, RAM_BASE, lambda source: detect(source, self.arch, RAM_BASE, granules))
        blobs = fdt_boot.blobs(manifest, files, kernel, ram, LOW_END, lambda initrd: _tree(layout, initrd))
        entry = EntryPlan(kernel.entry, (("x0", blobs[-1].gpa), ("x1", 0), ("x2", 0), ("x3", 0)))
        return assemble(layout, blobs, entry, manifest, files, offer, self.limits, command)


BOARD = Virt()


def _tree(layout: Layout, initrd: Extent | None) -> FdtNode:
    placed, cpu = layout.devices, layout.cpu
    assert isinstance(cpu, ArmCpus)
    context = FdtContext(line=gic.line, clock=CLOCK, placed=placed)
    made = {device.id: devices.load(device.kind).fdt(device, context) for device in placed}
    on_bus = sorted((node for nodes in made.values() for node in nodes.soc), key=unit_address)
    stdout = f"/{made[UART_ID].soc[0].name}"
    return machine_tree(
        compatible="linux,dummy-virt",
        model="vmrun,virt",
        cpu=cpu,
        ram=layout.ram,
        controller=GIC_ID,
        ppi_cpus=cpu.count if any(device.kind == "gicv2" for device in placed) else 0,
        devices=(*on_bus, *(node for nodes in made.values() for node in nodes.root)),
        aliases=(("serial0", stdout),),
        chosen=Chosen(layout.cmdline, stdout, initrd),
    )
