"""A machine drawn for a terminal: its vCPUs, its memory with what lies in it, its devices."""

from __future__ import annotations

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vmrun.plan.model import MachinePlan, RiscvCpus
from vmrun.printable import clean
from vmrun.units import format_size

_BLOB_STYLES = ("bright_magenta", "bright_yellow", "bright_green", "bright_blue")
_FREE = "grey35"


def draw_machine(plan: MachinePlan) -> RenderableType:
    """Return the machine as a panel, the engine and its reason in the border."""
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(ratio=1)
    body.add_row("harts" if plan.cpu.arch == "riscv64" else "vCPUs", _cpus(plan))
    for index, region in enumerate(plan.ram):
        body.add_row("memory" if index == 0 else "", _Memory(plan, region.base, region.size))
    body.add_row("devices", _devices(plan))
    body.expand = True
    return Panel(
        body,
        title=Text.assemble((f" {clean(plan.name)} ", "bold"), (f"{clean(plan.board)} ", "dim")),
        title_align="left",
        subtitle=Text.assemble((f" {clean(plan.engine)} ", "bold cyan"), (f"{clean(plan.why)} ", "dim")),
        subtitle_align="right",
        border_style="cyan",
        box=box.ROUNDED,
    )


def _cpus(plan: MachinePlan) -> RenderableType:
    text = Text(overflow="ellipsis", no_wrap=True)
    for index in range(min(plan.cpu.count, 16)):
        text.append(f"▣ {index}  ", "bold green")
    if plan.cpu.count > 16:
        text.append(f"… {plan.cpu.count}  ", "bold green")
    cpu = plan.cpu
    about = f"{cpu.isa}  {cpu.mmu}" if isinstance(cpu, RiscvCpus) else " ".join((cpu.model, *cpu.features))
    return text.append(clean(about), "dim")


class _Memory:
    """A RAM region as a bar to scale, as wide as there is room: what lies in it in colour, and a legend."""

    def __init__(self, plan: MachinePlan, base: int, size: int) -> None:
        self._base = base
        self._size = size
        self._blobs = sorted((b for b in plan.blobs if base <= b.gpa < base + size), key=lambda b: b.gpa)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = max(10, options.max_width)
        styles = [_FREE] * width
        legend = Text.assemble((f"{self._base:#x} ", "dim"), (format_size(self._size), "bold"))
        for index, blob in enumerate(self._blobs):
            style = _BLOB_STYLES[index % len(_BLOB_STYLES)]
            first = (blob.gpa - self._base) * width // self._size
            last = (blob.gpa - self._base + max(blob.reserve, 1) - 1) * width // self._size
            for cell in range(first, min(last, width - 1) + 1):
                styles[cell] = style
            legend.append("   ■ ", style).append(clean(f"{blob.name} "), "dim").append(_about(blob.size))
        bar = Text(no_wrap=True)
        for style in styles:
            bar.append("━" if style == _FREE else "█", style)
        yield bar
        yield legend


def _devices(plan: MachinePlan) -> RenderableType:
    table = Table.grid(padding=(0, 3))
    for device in sorted(plan.devices, key=lambda d: d.base):
        irq = "" if device.interrupt is None else f"irq {device.interrupt.number}"
        table.add_row(
            Text(clean(device.id), style="bold"),
            Text(clean(device.kind), style="cyan"),
            Text(f"{device.base:#x}", style="dim"),
            Text(irq, style="dim"),
        )
    return Group(table)


def _about(size: int) -> str:
    """Return bytes in three significant places."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"
