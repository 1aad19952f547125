"""A plan as plain text: what a person reads first, and the whole machine as a tree. Colour and boxes are the ui's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmrun.errors import PlanError
from vmrun.frozen import frozen
from vmrun.plan.model import ArmCpus, Blob, DevicePlan, MachinePlan, X86Cpus
from vmrun.printable import clean
from vmrun.tables.fdt import decode, to_dts
from vmrun.tables.fdt_refs import with_references
from vmrun.units import format_size, format_time_ns

if TYPE_CHECKING:
    from vmrun.tables.acpi import AcpiTables


@frozen
class MapRow:
    """One row of the memory map: ``[base, base + size)``, who lies there, and ``depth`` 1 for what lies inside RAM."""

    base: int
    size: int
    name: str
    what: str
    depth: int


def memory_map(plan: MachinePlan) -> tuple[MapRow, ...]:
    """Return everything that has an address, by address; blobs follow the RAM that they lie in."""
    rows = [MapRow(r.base, r.size, "RAM", "", 0) for r in plan.ram]
    rows += [MapRow(d.base, d.size, d.id, describe(d), 0) for d in plan.devices if d.space == "mmio"]
    rows += [MapRow(b.gpa, b.reserve, b.name, _blob_words(b), 1) for b in plan.blobs]
    return tuple(sorted(rows, key=lambda row: (row.base, row.depth)))


def port_map(plan: MachinePlan) -> tuple[MapRow, ...]:
    """Return every device on I/O ports, by port."""
    rows = [MapRow(d.base, d.size, d.id, describe(d), 0) for d in plan.devices if d.space == "pio"]
    return tuple(sorted(rows, key=lambda row: row.base))


def describe(device: DevicePlan) -> str:
    """Return the device's kind, its bus and its interrupt, in words."""
    words = device.kind + (f" on {device.transport}" if device.transport else "")
    if device.interrupt:
        words += f", interrupt {device.interrupt.number} {device.interrupt.trigger}"
    return words


def _place(device: DevicePlan) -> str:
    return f"port {device.base:#x}" if device.space == "pio" else f"{device.base:#x}"


def _blob_words(blob: Blob) -> str:
    words = format_size(blob.size)
    return f"{words}, {blob.origin}" if blob.origin else words


def cpu_words(plan: MachinePlan) -> str:
    """Return the CPUs in one line."""
    cpu = plan.cpu
    if isinstance(cpu, X86Cpus | ArmCpus):
        shape = cpu.topology
        parts = ((shape.sockets, "socket"), (shape.cores, "core"), (shape.threads, "thread"))
        words = " x ".join(f"{count} {noun}{'s' if count != 1 else ''}" for count, noun in parts)
        return f"{cpu.count} x {cpu.arch} {' '.join((cpu.model, *cpu.features))}, {words}"
    return f"{cpu.count} x {cpu.isa}, {cpu.mmu}, timebase {cpu.timebase_hz / 1e6:g} MHz"


def text(plan: MachinePlan) -> str:
    """Return the machine in the form that `vmrun plan` prints."""
    return "".join(f"{clean(line)}\n" for line in _text_lines(plan))


def _text_lines(plan: MachinePlan) -> Iterator[str]:
    yield f"{plan.name}: {plan.board} on {plan.engine} ({plan.why})"
    yield f"cpu      {cpu_words(plan)}"
    yield f"memory   {', '.join(f'{format_size(r.size)} at {r.base:#x}' for r in plan.ram)}"
    yield f"entry    {plan.entry.pc:#x}" + "".join(f", {name} = {value:#x}" for name, value in plan.entry.registers)
    yield f"cmdline  {plan.cmdline}"
    yield from _run_lines(plan)
    yield ""
    yield "memory map"
    width = max(len(row.name) + 2 * row.depth for row in memory_map(plan))
    for row in memory_map(plan):
        name = "  " * row.depth + row.name
        yield f"  {row.base:#012x} {row.base + row.size - 1:#012x} {name:<{width}}  {row.what}".rstrip()
    if port_map(plan):
        yield ""
        yield "I/O ports"
    for row in port_map(plan):
        yield f"  {row.base:#06x} {row.base + row.size - 1:#06x} {row.name:<{width}}  {row.what}".rstrip()
    details = [line for device in plan.devices for line in _property_lines(device)]
    if details:
        yield ""
        yield "devices"
        yield from details
    if plan.assumed:
        yield ""
        yield f"assumed  {', '.join(plan.assumed)}: not looked for, so this plan cannot run"


def _run_lines(plan: MachinePlan) -> Iterator[str]:
    run = plan.run
    if run.command:
        import shlex

        first, *rest = shlex.join(run.command).strip().split("\n")
        yield f"command  {first}" + (f" … ({len(rest)} more lines)" if rest else "")
    if run.console:
        yield f"console  {run.console}"
    if run.ready is not None:
        yield f"ready    {run.ready!r}"
    bounds = [(name, value) for name, value in (("boot", run.boot_ns), ("idle", run.idle_ns), ("total", run.total_ns))]
    given = [f"{name} {format_time_ns(value)}" for name, value in bounds if value is not None]
    if given:
        yield f"timeouts {', '.join(given)}"


def _property_lines(device: DevicePlan) -> Iterator[str]:
    if device.properties:
        yield f"  {device.id}: " + ", ".join(f"{k} = {_word(v)}" for k, v in device.properties.items())


def _word(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_word, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def dtb(plan: MachinePlan) -> bytes:
    """Return the plan's devicetree blob. Raise PlanError E176 where it has none."""
    blob = plan.blob("fdt")
    if blob is None or blob.data is None:
        raise PlanError(
            f"{plan.name} has no devicetree", code="E176", remedy="plan a machine whose board describes itself by one"
        )
    return blob.data


def dts(plan: MachinePlan) -> str:
    """Return the plan's devicetree as source, with labels. Raise PlanError E176 where it has none or a damaged one."""
    try:
        return to_dts(with_references(decode(dtb(plan))))
    except ValueError as error:
        raise PlanError(f"{plan.name}: {error}", code="E176", remedy="save the plan again, from its manifest") from None


def acpi(plan: MachinePlan) -> AcpiTables:
    """Return the plan's ACPI tables, as a kernel finds them. Raise PlanError E177 where there are none or damaged."""
    from vmrun.tables.acpi import memory_of, walk

    rsdp = plan.blob("rsdp")
    if rsdp is None:
        raise PlanError(
            f"{plan.name} has no ACPI tables",
            code="E177",
            remedy="plan a machine whose board describes itself by them",
        )
    try:
        return walk(memory_of((b.gpa, b.data) for b in plan.blobs if b.data is not None), rsdp.gpa)
    except ValueError as error:
        raise PlanError(f"{plan.name}: {error}", code="E177", remedy="save the plan again, from its manifest") from None


def acpi_files(plan: MachinePlan) -> tuple[tuple[str, bytes], ...]:
    """Return (file name, bytes) of each ACPI table and of an ``acpidump.txt`` of all. Raise PlanError as `acpi`."""
    from vmrun.tables.acpi import dump, file_names

    tables = acpi(plan)
    return (*file_names(tables), ("acpidump.txt", dump(tables).encode()))


def tree(plan: MachinePlan) -> str:
    """Return the machine as a tree: CPUs, RAM with what lies in it, the bus with its devices."""
    ram = [(f"{b.name} {b.gpa:#x} {_blob_words(b)}", ()) for b in sorted(plan.blobs, key=lambda b: b.gpa)]
    devices = [
        (f"{d.id} {_place(d)} {describe(d)}", tuple((f"{k} = {_word(v)}", ()) for k, v in d.properties.items()))
        for d in sorted(plan.devices, key=lambda d: d.base)
    ]
    cpu = "hart" if plan.cpu.arch == "riscv64" else "vCPU"
    branches: list[_Branch] = [
        (f"cpu {cpu_words(plan)}", tuple((f"{cpu} {n}", ()) for n in range(plan.cpu.count))),
        *((f"ram {format_size(r.size)} at {r.base:#x}", tuple(ram)) for r in plan.ram[:1]),
        *((f"ram {format_size(r.size)} at {r.base:#x}", ()) for r in plan.ram[1:]),
        ("bus", tuple(devices)),
        (f"cmdline {plan.cmdline}", ()),
    ]
    lines = (f"{plan.name} ({plan.board}, {plan.engine})", *_branch_lines(tuple(branches), ""))
    return "".join(f"{clean(line)}\n" for line in lines)


_Branch = tuple[str, tuple["_Branch", ...]]


def _branch_lines(branches: tuple[_Branch, ...], pad: str) -> Iterator[str]:
    for index, (words, below) in enumerate(branches):
        last = index == len(branches) - 1
        yield f"{pad}{'└─ ' if last else '├─ '}{words}"
        yield from _branch_lines(below, pad + ("   " if last else "│  "))
