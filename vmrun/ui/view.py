"""Which view shows a run: rich on a terminal, plain lines everywhere else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol, TextIO

from vmrun.plan.model import MachinePlan
from vmrun.run.outcome import Outcome


class View(Protocol):
    """Shows a run from the manifest to the outcome. It is the run's Observer and the artefacts' Progress as well."""

    def phase(self, name: str, at_ns: int) -> None:
        """Phase ``name`` began, so many nanoseconds after the process started."""

    def warn(self, text: str) -> None:
        """Something is not as it should be: one line."""

    def note(self, text: str) -> None:
        """Tell a person something: one line."""

    def start(self, label: str, total: int | None) -> None:
        """A transfer of ``total`` bytes begins."""

    def advance(self, done: int) -> None:
        """``done`` bytes of it are here."""

    def finish(self) -> None:
        """The transfer ended."""

    def machine(self, plan: MachinePlan) -> None:
        """The machine is decided: its engine, the reason, and what it has."""

    def outcome(self, outcome: Outcome) -> None:
        """The run ended."""

    def close(self) -> None:
        """Leave the terminal as a following command expects it."""


def wants_live(stream: TextIO | None, env: Mapping[str, str] = os.environ) -> bool:
    """Return whether ``stream`` is a terminal that may be drawn on: not dumb, and nobody's CI log."""
    if stream is None or env.get("TERM", "") in ("", "dumb") or env.get("CI"):
        return False
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def wants_colour(stream: TextIO | None, env: Mapping[str, str] = os.environ) -> bool:
    """Return whether plain lines carry colour: NO_COLOR forbids, FORCE_COLOR demands, else a terminal decides."""
    if env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return wants_live(stream, env)


def choose(stream: TextIO | None, *, quiet: bool, verbose: bool, brief: bool) -> View:
    """Return the view for ``stream``. ``brief`` shows only the engine, and what went wrong (for ``vmrun run``)."""
    if wants_live(stream) and not (quiet or brief):
        from vmrun.ui.live import LiveView

        assert stream is not None
        return LiveView(stream, verbose=verbose)
    from vmrun.ui.plain import PlainView

    return PlainView(stream, quiet=quiet, verbose=verbose, brief=brief, colour=wants_colour(stream))
