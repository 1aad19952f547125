"""Plain lines on standard error: no cursor control, one fact a line. For pipes, logs, CI and dumb terminals."""

from __future__ import annotations

import contextlib
from typing import TextIO

from vmrun.plan.model import MachinePlan
from vmrun.printable import clean
from vmrun.run.outcome import Outcome
from vmrun.ui import words
from vmrun.units import format_size

_STYLES = {"": "", "bold": "\x1b[1m", "dim": "\x1b[2m", "good": "\x1b[32m", "bad": "\x1b[1;31m", "warn": "\x1b[33m"}
_TAIL_LINES = 20


class PlainView:
    """A View that writes lines. ``brief`` leaves out the phases, ``quiet`` all but what went wrong."""

    def __init__(self, stream: TextIO | None, *, quiet: bool, verbose: bool, brief: bool, colour: bool) -> None:
        self._stream = stream
        self._quiet = quiet
        self._verbose = verbose
        self._brief = brief
        self._colour = colour
        self._label = ""
        self._total: int | None = None
        self._done = 0

    def _line(self, text: str, style: str = "") -> None:
        if self._stream is None:
            return
        if self._colour and style:
            text = f"{_STYLES[style]}{text}\x1b[0m"
        with contextlib.suppress(OSError, ValueError):  # nobody listens: the run goes on
            self._stream.write(f"vmrun: {text}\n")
            self._stream.flush()

    def phase(self, name: str, at_ns: int) -> None:
        """Write when a phase began."""
        if not (self._quiet or self._brief):
            shown = "first instruction" if name == words.FIRST_INSTRUCTION else name
            self._line(f"{words.seconds(at_ns)}  {shown}", "dim")

    def warn(self, text: str) -> None:
        """Write a warning."""
        self._line(f"warning: {clean(text)}", "warn")

    def note(self, text: str) -> None:
        """Write a line for a person."""
        if not self._quiet:
            self._line(clean(text))

    def start(self, label: str, total: int | None) -> None:
        """Write what is fetched."""
        self._label, self._total, self._done = clean(label), total, 0
        if not self._quiet:
            self._line(f"fetching {self._label}" + (f" ({format_mib(total)})" if total else ""))

    def advance(self, done: int) -> None:
        """Remember how far it is: a log wants no bar."""
        self._done = done

    def finish(self) -> None:
        """Write what came of it where that is not what was told before."""
        if not self._quiet and self._done != (self._total or 0):
            self._line(f"fetched {self._label}: {format_mib(self._done)}")

    def machine(self, plan: MachinePlan) -> None:
        """Write the engine and the reason, and the machine."""
        if self._quiet:
            return
        self._line(words.engine_line(plan), "bold")
        if not self._brief:
            self._line(words.machine_line(plan))
        if self._verbose:
            for region in plan.ram:
                self._line(f"  {region.base:#012x}  RAM, {format_size(region.size)}")
            for device in plan.devices:
                irq = "" if device.interrupt is None else f", interrupt {device.interrupt.number}"
                self._line(clean(f"  {device.base:#012x}  {device.id}: {device.kind}{irq}"))
            for blob in plan.blobs:
                origin = f", {blob.origin}" if blob.origin else ""
                self._line(clean(f"  {blob.gpa:#012x}  {blob.name}: {blob.size} bytes{origin}"))

    def outcome(self, outcome: Outcome) -> None:
        """Write how it ended; the end of the console where the guest died and nobody saw it."""
        dead = words.died(outcome)
        expected = outcome.code == 0 or outcome.code == outcome.status  # in a pipeline the status says it all
        if self._brief and dead:
            for line in words.tail_lines(outcome, _TAIL_LINES):
                self._line(f"| {line}", "dim")
        if not expected or not (self._brief or self._quiet):
            after = f" after {words.seconds(words.total_ns(outcome)).strip()}"
            self._line(clean(f"{outcome.detail}{after}"), "bad" if outcome.code else "good")
        for line in words.report_lines(outcome):
            self._line(line)
        if self._quiet:
            return
        if not self._brief:
            self._line(words.phases_line(outcome), "dim")
        if self._verbose or dead:
            for line in words.guest_error_lines(outcome):
                self._line(clean(line), "warn")
        if self._verbose:
            self._line(", ".join(f"{name} {value}" for name, value in outcome.counters.items()), "dim")
        if outcome.folder is not None and (self._verbose or dead):
            self._line(f"results: {clean(outcome.folder)}")

    def close(self) -> None:
        """Nothing is left to do."""


def format_mib(size: int) -> str:
    """Return bytes for a reader of a log."""
    return f"{size / (1 << 20):.1f} MiB"
