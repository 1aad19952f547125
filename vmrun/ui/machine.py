"""A machine drawn for a terminal: its vCPUs, its memory with what lies in it, its devices."""

from __future__ import annotations

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from vmrun.plan.model import Blob, DevicePlan, MachinePlan, RiscvCpus
from vmrun.printable import clean
from vmrun.ui.flow import Flow, piece
from vmrun.units import format_size

_BLOB_STYLES = ("bright_magenta", "bright_yellow", "bright_green", "bright_blue")
_FREE = "grey35"
_GAP = 3


def draw_machine(plan: MachinePlan) -> RenderableType:
    """Return the machine as a panel, the engine and its reason in the border."""
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column(ratio=1)
    body.add_row("harts" if plan.cpu.arch == "riscv64" else "vCPUs", _cpus(plan))
    for index, region in enumerate(plan.ram):
        body.add_row("memory" if index == 0 else "", _Memory(plan, region.base, region.size))
    body.add_row("devices", _Devices(plan))
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
        names = tuple(dict.fromkeys(_whole(blob) for blob in self._blobs))
        style_of = {name: _BLOB_STYLES[index % len(_BLOB_STYLES)] for index, name in enumerate(names)}
        for blob in self._blobs:
            style = style_of[_whole(blob)]
            first = (blob.gpa - self._base) * width // self._size
            last = (blob.gpa - self._base + max(blob.reserve, 1) - 1) * width // self._size
            for cell in range(first, min(last, width - 1) + 1):
                styles[cell] = style
        bar = Text(no_wrap=True)
        for style in styles:
            bar.append("━" if style == _FREE else "█", style)
        yield bar
        legend = [piece((f"{self._base:#x} ", "dim"), (format_size(self._size), "bold"))]
        for name in names:
            size = sum(blob.size for blob in self._blobs if _whole(blob) == name)
            legend.append(piece(("■ ", style_of[name]), (clean(f"{name} "), "dim"), _about(size)))
        yield Flow(legend)


def _whole(blob: Blob) -> str:
    """Return what a blob is a part of: a kernel's segments are `kernel`, `kernel.1` and so on."""
    name, _, number = blob.name.rpartition(".")
    return name if name and number.isdecimal() else blob.name


class _Devices:
    """The devices in order of their addresses: a table where there is room for one, else each on lines of its own."""

    def __init__(self, plan: MachinePlan) -> None:
        self._rows = [self._row(device) for device in sorted(plan.devices, key=lambda d: d.base)]

    def _row(self, device: DevicePlan) -> tuple[Text, ...]:
        irq = "" if device.interrupt is None else f"irq {device.interrupt.number}"
        return (
            piece((clean(device.id), "bold")),
            piece((clean(device.kind), "cyan")),
            piece((f"{device.base:#x}", "dim")),
            piece((irq, "dim")),
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = [
            max((cell_len(text.plain) for text in column), default=0) for column in zip(*self._rows, strict=True)
        ]
        if sum(columns) + _GAP * (len(columns) - 1) > options.max_width:
            yield from (Flow((text for text in row if text.plain), gap=1, indent=2) for row in self._rows)
            return
        table = Table.grid(padding=(0, _GAP))
        for row in self._rows:
            table.add_row(*row)
        yield table


def _about(size: int) -> str:
    """Return bytes in three significant places."""
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} B"
