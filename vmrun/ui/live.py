"""The view on a terminal: the machine drawn while it is made, then the console, then how it went.

Nothing moves the cursor once the guest's console owns the terminal: the drawing that lives ends before the first
instruction, and what follows are lines.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.rule import Rule
from rich.spinner import Spinner
from rich.text import Text

from vmrun.plan.model import MachinePlan
from vmrun.printable import clean
from vmrun.run.outcome import Outcome
from vmrun.ui import words
from vmrun.ui.flow import Flow, piece
from vmrun.ui.machine import draw_machine
from vmrun.units import format_time_ns

_STEADY_NS = 150_000_000  # what is over sooner is not worth drawing
_PHASE_STYLES = {
    "start": "bright_black",
    "check": "bright_black",
    "plan": "bright_black",
    "fetch": "blue",
    "build": "blue",
    "kernel": "cyan",
    "init": "bright_cyan",
    "ready": "green",
    "command": "green",
    "off": "magenta",
}


class LiveView:
    """A View that draws with rich on ``stream``, a terminal."""

    def __init__(self, stream: TextIO, *, verbose: bool) -> None:
        self._console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._verbose = verbose
        self._phases: list[tuple[str, int]] = []
        self._plan: MachinePlan | None = None
        self._transfer: TaskID | None = None
        self._progress = Progress(
            TextColumn("  {task.description}"), BarColumn(None), DownloadColumn(), TransferSpeedColumn(),
            console=self._console, expand=True,
        )  # fmt: skip
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(console=self._console, get_renderable=self._scene, refresh_per_second=12, transient=True)
        self._born_ns = time.monotonic_ns()
        self._drawing = False
        self._handed_over = False

    # ---- before the guest ------------------------------------------------------------------------------------------

    def phase(self, name: str, at_ns: int) -> None:
        """Remember a phase; with the first instruction, hand the terminal to the guest's console."""
        self._phases.append((name, at_ns))
        if name == words.FIRST_INSTRUCTION:
            self._hand_over()
        elif not self._handed_over and time.monotonic_ns() - self._born_ns > _STEADY_NS:
            self._draw()

    def machine(self, plan: MachinePlan) -> None:
        """Draw the machine."""
        self._plan = plan

    def start(self, label: str, total: int | None) -> None:
        """Draw a transfer's bar."""
        self.finish()
        self._transfer = self._progress.add_task(clean(label), total=total)
        self._draw()

    def advance(self, done: int) -> None:
        """Move the bar."""
        if self._transfer is not None:
            self._progress.update(self._transfer, completed=done)

    def finish(self) -> None:
        """Take the bar away."""
        if self._transfer is not None:
            self._progress.remove_task(self._transfer)
            self._transfer = None

    def _draw(self) -> None:
        if not self._drawing and not self._handed_over:
            self._drawing = True
            self._live.start()

    def _scene(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._plan is not None:
            parts.append(draw_machine(self._plan))
        if self._phases:
            now = self._phases[-1][0]
            over = (piece((f"✓ {name}", "dim")) for name in self._lengths() if name != now)
            self._spinner.update(text=Text(now, style="bold"))
            parts += [Padding(part, (0, 2)) for part in (Flow(over, gap=1), self._spinner)]
        if self._transfer is not None:
            parts.append(self._progress)
        return Group(*parts)

    def _stop_drawing(self) -> None:
        if self._drawing:
            self._drawing = False
            self._live.stop()

    def _hand_over(self) -> None:
        """Leave the machine on the screen as plain lines above the console; nothing is drawn over from here on."""
        self._stop_drawing()
        if self._handed_over:
            return
        self._handed_over = True
        if self._plan is not None:
            self._console.print(draw_machine(self._plan))
        shown = (piece((name, "dim"), " ", (format_time_ns(ns), "bold")) for name, ns in self._lengths().items())
        self._console.print(Padding(Flow(shown, gap=2), (0, 2)))
        self._console.print(Rule(Text("console", style="dim"), style="bright_black"))

    def _lengths(self) -> dict[str, int]:
        """Return how long the phases took that ended before the newest, those of the same name together."""
        sums: dict[str, int] = {}
        for (name, at), (_, end) in pairwise(self._phases):
            sums[name] = sums.get(name, 0) + end - at
        return sums

    # ---- lines at any time -----------------------------------------------------------------------------------------

    def warn(self, text: str) -> None:
        """Print a warning."""
        self._console.print(Text.assemble(("warning: ", "bold yellow"), clean(text)), soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a line for a person."""
        self._console.print(Text.assemble(("vmrun: ", "bold cyan"), clean(text)), soft_wrap=True)

    # ---- after the guest -------------------------------------------------------------------------------------------

    def outcome(self, outcome: Outcome) -> None:
        """Print how it went: the verdict, the phases to scale, what the guest did wrong."""
        self._stop_drawing()
        good = outcome.code == 0
        mark = Text("✓ ", style="bold green") if good else Text("✗ ", style="bold red")
        self._console.print(Rule(style="bright_black" if good else "red"))
        verdict = Text.assemble(
            " ", mark, (clean(outcome.detail), "bold"), ("  exit code ", "dim"),
            (str(outcome.code), "bold green" if good else "bold red"),
            ("  after ", "dim"), (words.seconds(words.total_ns(outcome)).strip(), "bold"),
        )  # fmt: skip
        self._console.print(verdict, soft_wrap=True)
        for line in words.report_lines(outcome):
            self._console.print(Text(f" {line}"), soft_wrap=True)
        self._console.print(Padding(_timeline(outcome, max(20, self._console.width - 4)), (0, 2)))
        for line in words.guest_error_lines(outcome):
            self._console.print(Text.assemble(("   ! ", "yellow"), (clean(line), "dim")), soft_wrap=True)
        if self._verbose:
            counters = ", ".join(f"{name} {value:,}" for name, value in outcome.counters.items())
            self._console.print(Text(f"   {counters}", style="dim"), soft_wrap=True)
        if outcome.folder is not None and (words.died(outcome) or self._verbose):
            self._console.print(Text.assemble(("   results ", "dim"), clean(outcome.folder)), soft_wrap=True)

    def close(self) -> None:
        """Leave the terminal without anything that lives."""
        self._stop_drawing()


def _timeline(outcome: Outcome, width: int) -> RenderableType:
    """Draw the phases as one bar to scale, and their times below it."""
    total = max(1, words.total_ns(outcome))
    bar = Text()
    for phase in outcome.phases:
        style = _PHASE_STYLES.get(phase.name, "white")
        end = round(phase.end_ns * width / total)
        bar.append("━" * max(0, end - len(bar)), style)
    legend = (
        piece(("● ", _PHASE_STYLES.get(name, "white")), (f"{name} ", "dim"), (format_time_ns(ns), "bold"))
        for name, ns in words.phase_lengths(outcome).items()
    )
    return Group(bar, Flow(legend))
