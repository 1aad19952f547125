"""The clock of a run. It starts with the process, not with the code that reads it: a published time hides nothing."""

from __future__ import annotations

import os
import time

from vmrun.run.outcome import Phase

_PLAUSIBLE_NS = 3_600_000_000_000


def process_start_ns() -> int:
    """Return when this process started, in nanoseconds of the monotonic clock.

    From field 22 of /proc/self/stat (proc(5)): clock ticks of 10 ms since the host booted, rounded down. Where /proc
    does not tell, the CPU time used so far stands for the age.
    """
    now = time.monotonic_ns()
    age = time.process_time_ns()
    try:
        with open("/proc/self/stat", "rb") as stat:
            ticks = int(stat.read().rpartition(b")")[2].split()[19])
        told = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
        if age <= told < _PLAUSIBLE_NS:
            age = told
    except (OSError, ValueError, IndexError):
        pass
    return now - age


class PhaseClock:
    """Cuts the time since the process started into named phases; each begins where the one before ends."""

    def __init__(self, start_ns: int | None = None) -> None:
        self.start_ns = process_start_ns() if start_ns is None else start_ns
        self._phases: list[Phase] = []
        self._open: tuple[str, int] | None = ("start", 0)

    def now_ns(self) -> int:
        """Return the nanoseconds since the process started."""
        return time.monotonic_ns() - self.start_ns

    @property
    def name(self) -> str | None:
        """Return the phase that is open."""
        return self._open[0] if self._open else None

    def begin(self, name: str) -> None:
        """End the open phase and begin ``name``; nothing happens where ``name`` is open already."""
        if self.name != name:
            now = self.now_ns()
            self._end(now)
            self._open = (name, now)

    def end(self) -> None:
        """End the open phase, and begin none."""
        self._end(self.now_ns())

    def _end(self, now: int) -> None:
        if self._open is not None:
            name, start = self._open
            self._phases.append(Phase(name, start, now))
        self._open = None

    def phases(self) -> tuple[Phase, ...]:
        """Return the phases that have ended, in order."""
        return tuple(self._phases)
