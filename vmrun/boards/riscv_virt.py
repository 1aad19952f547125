"""The board ``riscv_virt``: the memory map and interrupt numbers of QEMU's riscv `virt`, without M-mode's own parts.

The guest starts in S-mode with SBI from the engine, as under KVM: there is no CLINT, and the PLIC has one context a
hart, for S-mode. So a stock kernel and a U-Boot built for QEMU's machine find every device where they know it.

Source of every number here: QEMU 10, hw/riscv/virt.c (virt_memmap) and include/hw/riscv/virt.h (the IRQ enum).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.boards import bounds, isa, loading
from vmrun.boards.consoles import cmdline, consoles, run_plan
from vmrun.boards.limits import LIMITS
from vmrun.boards.riscv_fdt import Chosen, intc_label, machine_tree
from vmrun.boards.slots import TRANSPORT, Wanted, given, modules, wanted
from vmrun.boot.detect import FLAT_OFFSET, detect
from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.place import place
from vmrun.boot.source import Source
from vmrun.devices import registry as devices
from vmrun.devices.model import FdtContext
from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.plan import checks
from vmrun.plan.allocate import Allocator, Range, SlotRow
from vmrun.plan.files import BootFiles
from vmrun.plan.model import (
    EMPTY,
    PLAN_FORMAT,
    Blob,
    DevicePlan,
    EntryPlan,
    Interrupt,
    Json,
    MachinePlan,
    RamRegion,
    RiscvCpus,
)
from vmrun.plan.offer import Offer
from vmrun.tables.fdt import FdtNode, encode

if TYPE_CHECKING:
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Manifest


@frozen
class Fixed:
    """A device with a place of its own; ``irq`` 0 is none."""

    id: str
    kind: str
    where: Range
    irq: int


FIXED = (
    Fixed("test", "sifive-test", Range(0x0010_0000, 0x1000), 0),
    Fixed("rtc", "goldfish-rtc", Range(0x0010_1000, 0x1000), 11),
    Fixed("plic", "plic", Range(0x0C00_0000, 0x60_0000), 0),
    Fixed("uart0", "uart16550", Range(0x1000_0000, 0x100), 10),
)
VIRTIO = SlotRow(base=0x1000_1000, step=0x1000, size=0x1000, count=8, irq=1)
"""Filled from the lowest address on, so that disks are called in the manifest's order."""
RAM_BASE = 0x8000_0000

LOW_END = 0xC000_0000
"""Boot loaders put initrd and devicetree below 3 GiB, as hw/riscv/boot.c does (riscv_compute_fdt_addr)."""
MAX_RAM = (1 << 40) - RAM_BASE
"""RAM ends below 1 TiB, where Sv39's linear map of Linux (124 GiB) is the next bound anyway."""


class RiscvVirt:
    """The board. It has no state: everything is in the plan that it returns."""

    name = "riscv_virt"
    arch = "riscv64"
    doc = "PLIC, 16550 UART, goldfish-rtc, 8 virtio-mmio slots, where QEMU's riscv `virt` has them"
    limits = LIMITS["riscv_virt"]

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
        cpu = _cpu(manifest, offer)
        ram = RamRegion(RAM_BASE, bounds.ram_size(manifest, MAX_RAM))
        bounds.tables(manifest, ("fdt",))
        bounds.no_protocol(manifest)
        bounds.irqchip(manifest, ("plic",), offer)
        placed = tuple(_devices(manifest, files, ports))
        ttys = tuple(consoles(manifest, self.name))
        words = " ".join(cmdline(manifest, ttys, "sbi"))
        kernel, blobs = _kernel(files)
        size = loading.initrd_size(manifest, files)
        # The tree's size does not depend on where the initrd lies: its addresses have one width.
        draft = encode(_tree(cpu, ram, placed, words, (0, size) if size else None))
        where = place(kernel, size, len(draft), ram.base, ram.size, LOW_END)
        initrd = (where.initrd, where.initrd + size) if size else None
        fdt = encode(_tree(cpu, ram, placed, words, initrd))
        blobs += loading.initrd_blobs(files, where.initrd, size)
        plan = MachinePlan(
            format=PLAN_FORMAT,
            name=manifest.name,
            board=self.name,
            engine=offer.engine,
            why=offer.why,
            cpu=cpu,
            ram=(ram,),
            devices=placed,
            blobs=(*blobs, Blob("fdt", where.fdt, len(fdt), where.fdt_reserve, data=fdt)),
            entry=EntryPlan(kernel.entry, (("a0", 0), ("a1", where.fdt))),
            cmdline=words,
            run=run_plan(manifest, files, ttys, offer, command),
            assumed=tuple(loading.assumed(manifest, files)),
        )
        checks.require(plan, self.limits)
        return plan

    def drivers(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the Linux modules that the machine's virtio devices need, as ``modprobe`` knows them."""
        return modules({want.kind for want in _wanted(manifest, BootFiles(), ("control",))})


BOARD = RiscvVirt()


def _cpu(manifest: Manifest, offer: Offer) -> RiscvCpus:
    count = bounds.cpu_count(manifest, offer, "harts")
    bounds.no_topology(manifest)
    extensions = isa.choose(offer.extensions, manifest.cpu.model, manifest.cpu.features, offer.engine)
    return RiscvCpus(offer.arch, count, extensions, isa.isa_string(extensions), offer.mmu, offer.timebase_hz)


# Devices.


def _devices(manifest: Manifest, files: BootFiles, ports: tuple[str, ...]) -> Iterator[DevicePlan]:
    """Yield the board's own devices, then those in virtio slots: disks, consoles, the agent, others, each in order."""
    allocator = Allocator(BOARD.limits.irqs)
    allocator.claim(Owner("RAM", RAM_BASE, manifest.memory.size, ("memory", "size")))
    given = _fixed_by_manifest(manifest)
    for fixed in FIXED:
        id, properties, key = given.get(fixed.kind, (fixed.id, EMPTY, None))
        owner = Owner(id, fixed.where.base, fixed.where.size, key)
        allocator.claim(owner)
        trigger = devices.load(fixed.kind).needs.trigger
        line = Interrupt(allocator.interrupt(fixed.irq, owner), trigger or "level") if fixed.irq else None
        if fixed.kind == "plic":
            properties = MappingProxyType({"sources": BOARD.limits.irqs})
        yield DevicePlan(id, fixed.kind, fixed.where.base, fixed.where.size, line, properties=properties)
    for index, want in enumerate(_wanted(manifest, files, ports)):
        slot = allocator.slot(VIRTIO, index, want.id, want.key)
        line = Interrupt(slot.irq)
        yield DevicePlan(want.id, want.kind, slot.base, slot.size, line, TRANSPORT, want.properties)


def _wanted(manifest: Manifest, files: BootFiles, ports: tuple[str, ...]) -> Iterator[Wanted]:
    return wanted(manifest, files, ports, BOARD.name, {fixed.kind for fixed in FIXED})


def _fixed_by_manifest(manifest: Manifest) -> dict[str, tuple[str, Mapping[str, Json], Key]]:
    """Return the manifest's devices that have a place of their own on this board, by kind. One of a kind fits."""
    found: dict[str, tuple[str, Mapping[str, Json], Key]] = {}
    for name, device in manifest.device.items():
        if device.kind not in (fixed.kind for fixed in FIXED):
            continue
        key = ("device", name)
        if device.kind in found:
            raise PlanError(
                f"`{found[device.kind][0]}` and `device.{name}` are both `{device.kind}`, and the board has one",
                code="E108",
                key=key,
                remedy="remove one of them",
            )
        found[device.kind] = (f"device.{name}", given(device), key)
    return found


# The devicetree.


def _tree(
    cpu: RiscvCpus, ram: RamRegion, placed: tuple[DevicePlan, ...], cmdline: str, initrd: tuple[int, int] | None
) -> FdtNode:
    context = FdtContext(tuple(intc_label(hart) for hart in range(cpu.count)))
    nodes = [devices.load(device.kind).fdt(device, context) for device in placed]
    uart = next(n.soc[0] for device, n in zip(placed, nodes, strict=True) if device.kind == "uart16550")
    stdout = f"/soc/{uart.name}"
    soc = sorted((node for n in nodes for node in n.soc), key=unit_address)
    return machine_tree(
        compatible="riscv-virtio",
        model="vmrun,riscv-virt",
        cpu=cpu,
        ram=(ram,),
        interrupt_parent="plic",
        soc=soc,
        extra=tuple(node for n in nodes for node in n.root),
        aliases=(("serial0", stdout),),
        chosen=Chosen(cmdline, stdout, initrd),
    )


def unit_address(node: FdtNode) -> tuple[int, str]:
    """Return what orders nodes on a bus: the address in the name, then the name."""
    name, _, address = node.name.partition("@")
    return int(address or "0", 16), name


# What is loaded.


def _kernel(files: BootFiles) -> tuple[Kernel, tuple[Blob, ...]]:
    file = files.kernel
    if file is None:
        base = RAM_BASE + FLAT_OFFSET
        size = loading.ASSUMED_KERNEL
        kernel = Kernel("image", "", (Segment(base, 0, size, size),), base)
    else:
        with Source(file.path, key=("boot", "kernel")) as source:
            kernel = detect(source, "riscv64", RAM_BASE)
    return kernel, loading.kernel_blobs(file, kernel.segments)
