"""The board ``riscv_virt``: the memory map and interrupt numbers of QEMU's riscv `virt`, without M-mode's own parts.

The guest starts in S-mode with SBI from the engine, as under KVM: there is no CLINT, and the PLIC has one context a
hart, for S-mode. So a stock kernel and a U-Boot built for QEMU's machine find every device where they know it.

Source of every number here: QEMU 10, hw/riscv/virt.c (virt_memmap) and include/hw/riscv/virt.h (the IRQ enum).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.boards import isa
from vmrun.boards.limits import LIMITS
from vmrun.boards.linux import DRIVERS
from vmrun.boards.riscv_fdt import Chosen, intc_label, machine_tree
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
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import (
    EMPTY,
    PLAN_FORMAT,
    Blob,
    CpuPlan,
    DevicePlan,
    EntryPlan,
    Interrupt,
    Json,
    MachinePlan,
    RamRegion,
    RunPlan,
)
from vmrun.plan.offer import Offer
from vmrun.tables.fdt import FdtNode, encode
from vmrun.units import format_size

if TYPE_CHECKING:
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Device, Disk, Manifest


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

TRANSPORT = "virtio-mmio"
UART_ID = "uart0"
AGENT = "agent"
"""The virtio-console through which the init that vmrun builds talks to the run."""
ASSUMED_KERNEL = 32 << 20
ASSUMED_INITRD = 16 << 20
"""Sizes in bytes of what stands in for artefacts that are not looked for."""


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
        ram = _ram(manifest)
        placed = tuple(_devices(manifest, files, ports))
        consoles = tuple(_consoles(manifest))
        cmdline = " ".join(_cmdline(manifest, consoles))
        kernel, blobs = _kernel(files)
        size = _initrd_size(manifest, files)
        # The tree's size does not depend on where the initrd lies: its addresses have one width.
        draft = encode(_tree(cpu, ram, placed, cmdline, (0, size) if size else None))
        where = place(kernel, size, len(draft), ram.base, ram.size, LOW_END)
        initrd = (where.initrd, where.initrd + size) if size else None
        fdt = encode(_tree(cpu, ram, placed, cmdline, initrd))
        if size:
            blobs += (_initrd_blob(files, where.initrd, size),)
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
            cmdline=cmdline,
            run=_run(manifest, files, consoles, offer, command),
            assumed=tuple(_assumed(manifest, files)),
        )
        checks.require(plan, self.limits)
        return plan

    def drivers(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the Linux modules that the machine's virtio devices need, as ``modprobe`` knows them."""
        kinds = {TRANSPORT, *(wanted.kind for wanted in _virtio(manifest, BootFiles(), ("control",)))}
        return tuple(driver.module for kind, driver in DRIVERS.items() if kind in kinds and driver.module)


BOARD = RiscvVirt()


def _cpu(manifest: Manifest, offer: Offer) -> CpuPlan:
    count, most = manifest.cpu.count, min(BOARD.limits.vcpus, offer.max_vcpus)
    if count > most:
        raise PlanError(
            f"{count} harts, and {offer.engine} runs at most {most} on riscv_virt",
            code="E106",
            key=("cpu", "count"),
            remedy=f"set cpu.count to at most {most}",
        )
    extensions = isa.choose(offer.extensions, manifest.cpu.model, manifest.cpu.features, offer.engine)
    return CpuPlan(offer.arch, count, extensions, isa.isa_string(extensions), offer.mmu, offer.timebase_hz)


def _ram(manifest: Manifest) -> RamRegion:
    size = manifest.memory.size
    if size > MAX_RAM:
        raise PlanError(
            f"{format_size(size)} of RAM, and riscv_virt has room for {format_size(MAX_RAM)}",
            code="E109",
            key=("memory", "size"),
            remedy="set a smaller memory.size",
        )
    return RamRegion(RAM_BASE, size)


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
    for index, wanted in enumerate(_virtio(manifest, files, ports)):
        slot = allocator.slot(VIRTIO, index, wanted.id, wanted.key)
        line = Interrupt(slot.irq)
        yield DevicePlan(wanted.id, wanted.kind, slot.base, slot.size, line, TRANSPORT, wanted.properties)


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
        found[device.kind] = (f"device.{name}", _given(device), key)
    return found


def _given(device: Device) -> Mapping[str, Json]:
    """Return what the manifest sets of a device; a kind's declaration lets no float in."""
    return MappingProxyType({name: value for name, value in device.properties.items() if not isinstance(value, float)})


@frozen
class _Wanted:
    """A device that is to get a virtio slot."""

    id: str
    kind: str
    properties: Mapping[str, Json]
    key: Key


def _virtio(manifest: Manifest, files: BootFiles, ports: tuple[str, ...]) -> Iterator[_Wanted]:
    images = dict(files.disks)
    for name, disk in manifest.disk.items():
        yield _Wanted(f"disk.{name}", "virtio-blk", MappingProxyType(_disk(disk, images.get(name))), ("disk", name))
    for name, console in manifest.console.items():
        if console.device == "virtio":
            yield _Wanted(f"console.{name}", "virtio-console", EMPTY, ("console", name))
    if ports:
        named = tuple(f"vmrun.{port}" for port in ports)
        yield _Wanted(AGENT, "virtio-console", MappingProxyType({"ports": named}), ("boot", "initrd"))
    for name, device in manifest.device.items():
        if device.kind in (fixed.kind for fixed in FIXED):
            continue
        if devices.load(device.kind).needs.transport != TRANSPORT:
            raise PlanError(
                f"riscv_virt has no place for a `{device.kind}`",
                code="E131",
                key=("device", name, "kind"),
                remedy="remove it, or use a virtio device",
            )
        yield _Wanted(f"device.{name}", device.kind, _given(device), ("device", name))


def _disk(disk: Disk, image: BootFile | None) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    path = image.path if image is not None else disk.path
    if path is not None:
        properties["path"] = str(Path(path).absolute())
        properties["mode"] = disk.mode
    elif disk.size is not None:
        properties["size"] = disk.size
    if disk.serial is not None:
        properties["serial"] = disk.serial
    return properties


# The command line.


@frozen
class _Console:
    """A console of the manifest: the device that serves it, and its name in the kernel."""

    device: str
    tty: str
    log: str | None


def _consoles(manifest: Manifest) -> Iterator[_Console]:
    """Yield the consoles, the main one, which is the manifest's first, first; the UART where it names none."""
    uarts = hvcs = 0
    for name, console in manifest.console.items():
        if console.device == "serial":
            if uarts:
                raise PlanError(
                    "two serial consoles, and riscv_virt has one UART",
                    code="E108",
                    key=("console", name),
                    remedy='write device = "virtio"',
                )
            uarts += 1
            yield _Console(UART_ID, "ttyS0", console.log)
        else:
            yield _Console(f"console.{name}", f"hvc{hvcs}", console.log)
            hvcs += 1
    if not manifest.console:
        yield _Console(UART_ID, "ttyS0", None)


def _cmdline(manifest: Manifest, consoles: tuple[_Console, ...]) -> Iterator[str]:
    given = manifest.boot.cmdline

    def says(name: str) -> bool:
        return any(word == name or word.startswith(f"{name}=") for text in given for word in text.split())

    # Until the console's driver is there, which may be a module, the firmware's console says what happens.
    if not says("earlycon"):
        yield "earlycon=sbi"
    # The kernel makes the last one /dev/console.
    if not says("console"):
        yield from (f"console={console.tty}" for console in reversed(consoles))
    yield from given


def _run(
    manifest: Manifest, files: BootFiles, consoles: tuple[_Console, ...], offer: Offer, command: tuple[str, ...] | None
) -> RunPlan:
    timeouts = manifest.run.timeouts
    scale = getattr(timeouts.scale, offer.engine, 1)

    def scaled(value: int | None) -> int | None:
        return None if value is None else round(value * scale)

    return RunPlan(
        command=command if command is not None else manifest.run.command or (),
        reports=files.reports,
        console=consoles[0].device,
        ready=manifest.run.ready,
        boot_ns=scaled(timeouts.boot),
        idle_ns=scaled(timeouts.idle),
        total_ns=scaled(timeouts.total),
        logs=tuple((c.device, str(Path(c.log).absolute())) for c in consoles if c.log is not None),
    )


# The devicetree.


def _tree(
    cpu: CpuPlan, ram: RamRegion, placed: tuple[DevicePlan, ...], cmdline: str, initrd: tuple[int, int] | None
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
        stand_in = Segment(base, 0, ASSUMED_KERNEL, ASSUMED_KERNEL)
        return Kernel("image", "", (stand_in,), base), (Blob("kernel", base, ASSUMED_KERNEL, ASSUMED_KERNEL),)
    with Source(file.path, key=("boot", "kernel")) as source:
        kernel = detect(source, RAM_BASE)
    blobs = tuple(
        Blob(
            f"kernel.{index}" if index else "kernel",
            segment.gpa,
            segment.size,
            segment.reserve,
            path=file.path,
            offset=segment.offset,
            sha256=file.sha256 or None,
            origin=file.origin or None,
        )
        for index, segment in enumerate(kernel.segments)
    )
    return kernel, blobs


def _initrd_size(manifest: Manifest, files: BootFiles) -> int:
    if files.initrd is not None:
        return files.initrd.size
    return ASSUMED_INITRD if manifest.boot.initrd is not None else 0


def _initrd_blob(files: BootFiles, gpa: int, size: int) -> Blob:
    file = files.initrd
    if file is None:
        return Blob("initrd", gpa, size, size)
    return Blob("initrd", gpa, size, size, path=file.path, sha256=file.sha256 or None, origin=file.origin or None)


def _assumed(manifest: Manifest, files: BootFiles) -> Iterator[str]:
    if files.kernel is None:
        yield "kernel"
    if files.initrd is None and manifest.boot.initrd is not None:
        yield "initrd"
    images = dict(files.disks)
    yield from (f"disk.{name}" for name, disk in manifest.disk.items() if disk.url is not None and name not in images)
