"""The board ``riscv_virt``: the memory map and interrupt numbers of QEMU's riscv `virt`, without M-mode's own parts.

The guest starts in S-mode with SBI from the engine, as under KVM: there is no CLINT, and the PLIC has one context a
hart, for S-mode. Where the engine has an AIA, APLIC and IMSICs of S-mode stand for it. So a stock kernel and a U-Boot
built for QEMU's machine find every device where they know it.

Source of every number here: QEMU 10, hw/riscv/virt.c (virt_memmap) and include/hw/riscv/virt.h (the IRQ enum).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.boards import fdt_boot, loading
from vmrun.boards.assembly import assemble
from vmrun.boards.board import Layout
from vmrun.boards.consoles import cmdline, consoles
from vmrun.boards.fdt_boot import Chosen, Extent, unit_address
from vmrun.boards.limits import LIMITS
from vmrun.boards.places import Fixed, Places, PlatformBus
from vmrun.boards.riscv import isa
from vmrun.boards.riscv.fdt import intc_label, machine_tree
from vmrun.boards.slots import on_bus, wanted, with_images
from vmrun.boards.takes import Takes, irqchip, tables
from vmrun.boot.detect import FLAT_OFFSET, detect
from vmrun.devices import registry as devices
from vmrun.devices.irq import aplic, imsic
from vmrun.devices.model import FdtContext, one_cell
from vmrun.frozen import evolve
from vmrun.plan.allocate import Range, SlotRow
from vmrun.plan.files import BootFiles
from vmrun.plan.model import EntryPlan, MachinePlan, RamRegion, RiscvCpus
from vmrun.plan.offer import Offer
from vmrun.tables.fdt import FdtNode

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

FIXED = (
    Fixed("test", "sifive-test", 0x0010_0000),
    Fixed("rtc", "goldfish-rtc", 0x0010_1000, 11),
    Fixed("uart0", "uart16550", 0x1000_0000, 10),
)
PLIC = Fixed("plic", "plic", 0x0C00_0000, properties=MappingProxyType({"sources": LIMITS["riscv_virt"].irqs}))
APLIC = Fixed("aplic", "aplic", 0x0D00_0000, properties=MappingProxyType({"sources": aplic.SOURCES}))
IMSIC = Fixed("imsic", "imsic", 0x2800_0000)
"""What the device needs is a page of one hart."""
IRQCHIPS = {"aia": ("ssaia",), "plic": ()}
"""Interrupt controllers, and the ISA extensions that they ask of a hart."""
VIRTIO = SlotRow(base=0x1000_1000, step=0x1000, size=0x1000, count=8, irq=1)
BUS = PlatformBus(Range(0x0400_0000, 0x0200_0000), range(64, 96))
RAM_BASE = 0x8000_0000

LOW_END = 0xC000_0000
"""Boot loaders put initrd and devicetree below 3 GiB, as hw/riscv/boot.c does (riscv_compute_fdt_addr)."""
MAX_RAM = (1 << 40) - RAM_BASE
"""RAM ends below 1 TiB, where Sv39's linear map of Linux (124 GiB) is the next bound anyway."""


class RiscvVirt:
    """The board. It has no state: everything is in the plan that it returns."""

    name = "riscv_virt"
    arch = "riscv64"
    doc = "PLIC or AIA, 16550 UART, goldfish-rtc, 8 virtio-mmio slots, where QEMU's riscv `virt` has them"
    limits = LIMITS["riscv_virt"]
    takes = Takes(
        tables=("fdt",),
        irqchips=tuple(IRQCHIPS),
        protocols=("flat",),
        topology=(),
        models=None,
        ram=MAX_RAM,
        cpus="harts",
    )

    def layout(self, manifest: Manifest, offer: Offer, ports: tuple[str, ...] = ()) -> Layout:
        """Return where everything is. See `Board.layout`."""
        controller = irqchip(manifest, self.takes, offer)
        cpu = _cpu(manifest, offer, controller)
        ram = RamRegion(RAM_BASE, manifest.memory.size)
        places = Places(self.limits.irqs, (ram,))
        placed = (
            *places.fixed(_fixed(controller, cpu.count, offer), manifest),
            *places.slots(VIRTIO, wanted(manifest, ports), "level"),
            *places.bus(BUS, on_bus(manifest, self.name, {fixed.kind for fixed in FIXED})),
        )
        ttys = tuple(consoles(manifest, self.name))
        words = cmdline(manifest, ttys, "sbi", first=tuple(fdt_boot.memory_words(manifest, ram)))
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
        flat = manifest.boot.protocol == "flat"
        kernel = loading.kernel(
            files, RAM_BASE + FLAT_OFFSET, lambda source: detect(source, self.arch, RAM_BASE, flat=flat)
        )
        blobs = fdt_boot.blobs(manifest, files, kernel, ram, LOW_END, lambda initrd: _tree(layout, initrd))
        entry = EntryPlan(kernel.entry, (("a0", 0), ("a1", blobs[-1].gpa)))
        return assemble(layout, blobs, entry, manifest, files, offer, self.limits, command)


BOARD = RiscvVirt()


def _cpu(manifest: Manifest, offer: Offer, controller: str) -> RiscvCpus:
    count = manifest.cpu.count
    needed = IRQCHIPS[controller]
    spare = {name for names in IRQCHIPS.values() for name in names}.difference(needed, offer.fixed)
    extensions = isa.choose(offer, manifest.cpu.model, manifest.cpu.features, needed, spare)
    blocks = tuple((name, size) for name, size in offer.blocks if name in extensions)
    return RiscvCpus(offer.arch, count, extensions, isa.isa_string(extensions), offer.mmu, offer.timebase_hz, blocks)


# Devices.


def _fixed(controller: str, harts: int, offer: Offer) -> list[Fixed]:
    """Return the devices with a place of their own, in the order of their addresses."""
    controllers: tuple[Fixed, ...] = (PLIC,)
    if controller == "aia":
        ids = MappingProxyType({"ids": offer.msi_ids})
        controllers = (APLIC, evolve(IMSIC, size=imsic.PAGE * harts, properties=ids))
    return sorted((*FIXED, *controllers), key=lambda fixed: fixed.base)


# The devicetree.


def _tree(layout: Layout, initrd: Extent | None) -> FdtNode:
    placed, cpu = layout.devices, layout.cpu
    assert isinstance(cpu, RiscvCpus)
    kinds = {device.kind: device for device in placed}
    controller = kinds.get("aplic") or kinds["plic"]
    line = aplic.line if controller.kind == "aplic" else one_cell
    context = FdtContext(tuple(intc_label(hart) for hart in range(cpu.count)), line, placed=placed)
    nodes = [devices.load(device.kind).fdt(device, context) for device in placed]
    uart = next(n.soc[0] for device, n in zip(placed, nodes, strict=True) if device.kind == "uart16550")
    stdout = f"/soc/{uart.name}"
    soc = sorted((node for n in nodes for node in n.soc), key=unit_address)
    return machine_tree(
        compatible="riscv-virtio",
        model="vmrun,riscv-virt",
        cpu=cpu,
        ram=layout.ram,
        interrupt_parent=controller.id,
        soc=soc,
        extra=tuple(node for n in nodes for node in n.root),
        aliases=(("serial0", stdout),),
        chosen=Chosen(layout.cmdline, stdout, initrd),
    )
