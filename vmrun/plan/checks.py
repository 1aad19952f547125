"""Named checks of a whole plan, in one table. A check runs once the ones it builds on have found nothing.

A board's own allocation cannot produce most of these; a saved plan that was edited can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.plan.collisions import no_such_line, overlap, shared_line
from vmrun.plan.model import ArmCpus, Blob, DevicePlan, MachinePlan, X86Cpus
from vmrun.plan.topology import Topology
from vmrun.units import format_size

PAGE = 4096
ADDRESS_BITS = 56
"""Physical addresses of RV64 (Privileged ISA 4.4.1, Sv39); no board goes beyond."""
PORT_BITS = 16
"""I/O ports of x86 (Intel SDM 1, section 19.3)."""
FDT_ALIGN = 8


@frozen
class Limits:
    """What a board and its engine bound: vCPUs, the last interrupt number, the command line in bytes."""

    vcpus: int
    irqs: int
    cmdline: int


Finder = Callable[[MachinePlan, Limits], Iterator[PlanError]]


Check = tuple[str, Finder, tuple[str, ...]]
"""A check's name, what finds, and the checks it builds on: it is skipped where one of those found something, so that
one cause is one error."""


def findings(plan: MachinePlan, limits: Limits) -> tuple[PlanError, ...]:
    """Return everything the checks find, in the table's order."""
    found: list[PlanError] = []
    bad: set[str] = set()
    for name, find, needs in CHECKS:
        errors = list(find(plan, limits)) if bad.isdisjoint(needs) else []
        if errors or not bad.isdisjoint(needs):
            bad.add(name)
        found += errors
    return tuple(found)


def require(plan: MachinePlan, limits: Limits) -> None:
    """Raise the first finding, if there is one."""
    for error in findings(plan, limits):
        raise error


def _key(id: str) -> Key:
    return tuple(id.split(".")) if "." in id else ()


def _device_owner(device: DevicePlan) -> Owner:
    name = device.id if device.space == "mmio" else f"{device.id} ports"
    return Owner(name, device.base, device.size, _key(device.id) or None)


def _ram_owners(plan: MachinePlan) -> list[Owner]:
    return [Owner("RAM", r.base, r.size, ("memory", "size")) for r in plan.ram]


def _blob_owner(blob: Blob) -> Owner:
    return Owner(blob.name, blob.gpa, blob.reserve, ("boot", blob.name) if blob.name in ("kernel", "initrd") else None)


def _collisions(owners: list[Owner]) -> Iterator[PlanError]:
    ordered = sorted(owners, key=lambda o: (o.base, o.size))
    reach = None
    for owner in ordered:
        if reach is not None and owner.base < reach.base + reach.size:
            yield overlap(reach, owner)
        if reach is None or owner.base + owner.size > reach.base + reach.size:
            reach = owner


def _cpu_count(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    if not 1 <= plan.cpu.count <= limits.vcpus:
        yield PlanError(
            f"{plan.cpu.count} CPUs, and {plan.engine} runs 1 to {limits.vcpus} on {plan.board}",
            code="E106",
            key=("cpu", "count"),
            remedy=f"set cpu.count to at most {limits.vcpus}",
        )


def _counts(shape: Topology) -> tuple[int, int, int]:
    return shape.sockets, shape.cores, shape.threads


def _topology(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    cpu = plan.cpu
    if isinstance(cpu, X86Cpus | ArmCpus) and (min(_counts(cpu.topology)) < 1 or cpu.topology.count != cpu.count):
        sockets, cores, threads = _counts(cpu.topology)
        yield PlanError(
            f"{sockets} sockets x {cores} cores x {threads} threads are not {cpu.count} CPUs",
            code="E106",
            key=("cpu", "count"),
        )


def _ram_ranges(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    if not plan.ram:
        yield PlanError("the machine has no RAM", code="E109", key=("memory", "size"))
    for owner in _ram_owners(plan):
        if owner.base % PAGE or owner.size % PAGE:
            yield PlanError(f"{owner} is not aligned to {PAGE} bytes", code="E102", key=owner.key, owners=(owner,))
        elif owner.size <= 0 or owner.base < 0 or owner.base + owner.size > 1 << ADDRESS_BITS:
            yield PlanError(
                f"{owner} ({format_size(owner.size)}) is not inside {ADDRESS_BITS} bits of address",
                code="E109",
                key=owner.key,
                owners=(owner,),
                remedy="set a smaller memory.size",
            )


def _device_ids(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    seen: dict[str, DevicePlan] = {}
    for device in plan.devices:
        if device.id in seen:
            yield PlanError(
                f"two devices are called `{device.id}`",
                code="E104",
                key=_key(device.id) or None,
                owners=(_device_owner(seen[device.id]), _device_owner(device)),
            )
        seen[device.id] = device


def _device_ranges(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    for device in plan.devices:
        owner, is_port = _device_owner(device), device.space == "pio"
        end = 1 << (PORT_BITS if is_port else ADDRESS_BITS)
        if owner.size <= 0 or owner.base < 0 or owner.base + owner.size > end:
            yield PlanError(f"{owner} is no window of an address space", code="E104", key=owner.key, owners=(owner,))
        elif not is_port and owner.base % min(PAGE, owner.size & -owner.size):
            yield PlanError(f"{owner} is not aligned to its size", code="E102", key=owner.key, owners=(owner,))


def _windows_disjoint(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    yield from _collisions([*_ram_owners(plan), *(_device_owner(d) for d in plan.devices if d.space == "mmio")])
    yield from _collisions([_device_owner(d) for d in plan.devices if d.space == "pio"])


def _irqs(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    lines: dict[int, Owner] = {}
    for device in plan.devices:
        if device.interrupt is None:
            continue
        number, owner = device.interrupt.number, _device_owner(device)
        if not 1 <= number <= limits.irqs:
            yield no_such_line(number, owner, limits.irqs)
        elif number in lines:
            yield shared_line(number, lines[number], owner)
        lines.setdefault(number, owner)


def _blob_content(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    seen: set[str] = set()
    for blob in plan.blobs:
        if blob.name in seen:
            yield PlanError(f"two blobs are called `{blob.name}`", code="E105")
        seen.add(blob.name)
        if (blob.data is None) == (blob.path is None) and blob.name not in plan.assumed:
            yield PlanError(f"blob `{blob.name}` needs either data or a path", code="E105")
        elif blob.data is not None and len(blob.data) != blob.size:
            yield PlanError(f"blob `{blob.name}` has {len(blob.data)} bytes, not {blob.size}", code="E105")
        elif not 0 <= blob.size <= blob.reserve or blob.offset < 0:
            yield PlanError(f"blob `{blob.name}` has {blob.size} bytes in a room of {blob.reserve}", code="E105")


def _blob_in_ram(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    for owner in map(_blob_owner, plan.blobs):
        end = owner.base + owner.size
        if not any(r.base <= owner.base and end <= r.base + r.size for r in plan.ram):
            yield PlanError(
                f"{owner} is not inside RAM",
                code="E105",
                key=owner.key,
                owners=(owner, *_ram_owners(plan)),
                remedy="set a larger memory.size",
            )


def _blobs_disjoint(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    return _collisions([_blob_owner(b) for b in plan.blobs if b.reserve])


def _fdt(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    blob = plan.blob("fdt")
    if blob is not None and blob.gpa % FDT_ALIGN:
        yield PlanError(f"the devicetree at {blob.gpa:#x} is not aligned to {FDT_ALIGN} bytes", code="E102")


def _entry(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    pc = plan.entry.pc
    if (pc % 2 and plan.cpu.arch == "riscv64") or not any(b.gpa <= pc < b.gpa + b.size for b in plan.blobs):
        yield PlanError(f"the entry {pc:#x} lies in no blob that is loaded", code="E105")


def _console(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    if plan.run.console and plan.device(plan.run.console) is None:
        yield PlanError(f"the console `{plan.run.console}` is no device of the machine", code="E104")


def _cmdline(plan: MachinePlan, limits: Limits) -> Iterator[PlanError]:
    size = len(plan.cmdline.encode("utf-8", "surrogatepass"))
    if size > limits.cmdline or "\0" in plan.cmdline:
        yield PlanError(
            f"the command line has {size} bytes, and the kernel takes {limits.cmdline}",
            code="E107",
            key=("boot", "cmdline"),
            remedy="shorten boot.cmdline",
        )


CHECKS: tuple[Check, ...] = (
    ("cpu-count", _cpu_count, ()),
    ("cpu-topology", _topology, ()),
    ("ram-ranges", _ram_ranges, ()),
    ("device-ids", _device_ids, ()),
    ("device-ranges", _device_ranges, ()),
    ("windows-disjoint", _windows_disjoint, ("ram-ranges", "device-ids", "device-ranges")),
    ("irqs", _irqs, ("device-ids",)),
    ("blob-content", _blob_content, ()),
    ("blob-in-ram", _blob_in_ram, ("ram-ranges", "blob-content")),
    ("blobs-disjoint", _blobs_disjoint, ("blob-in-ram",)),
    ("fdt-aligned", _fdt, ()),
    ("entry", _entry, ("blob-in-ram",)),
    ("console", _console, ("device-ids",)),
    ("cmdline-length", _cmdline, ()),
)
