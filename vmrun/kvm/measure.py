"""Measures what KVM does with kernel-mode code: a loop's speed, and pieces of code that a kernel could not do without.

The code is the architecture's (``microguest.py`` in its folder); how long it may take is decided here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from vmrun.core.machine import CoreMachine
from vmrun.kvm.outcome import SLOW, MicroGuest, Try

_FIRST_ROUNDS = 1_000
_MOST_ROUNDS = 1 << 24
_LONG_ENOUGH_NS = 1_000_000
_MOST_LOOKS = 5
_PATIENCE_S = 1.0


class Payload(Protocol):
    """An architecture's guest of one vCPU, which runs a piece of code at a time."""

    @property
    def per_round(self) -> int:
        """How many instructions a round of the loop has."""

    def loop(self, rounds: int) -> bool:
        """Run the loop; return whether it came to its end."""

    def attempts(self) -> Sequence[Try]:
        """Run each of the other pieces to its end, or to where KVM gives up."""


def run(make: Callable[[CoreMachine], Payload]) -> MicroGuest:
    """Return what the payload that ``make`` puts into an empty machine found out, within a second.

    Raise HostError E325 where KVM refuses the VM itself.
    """
    with CoreMachine() as core:
        payload = make(core)
        watchdog = threading.Timer(_PATIENCE_S, core.stop)
        watchdog.daemon = True
        watchdog.start()
        try:
            speed = _speed(payload)
            tries = tuple(payload.attempts())
        finally:
            watchdog.cancel()
            watchdog.join()
    return MicroGuest(speed, tries)


def _speed(payload: Payload) -> int:
    """Return how many instructions a second kernel-mode code executes, 0 where it executes none.

    The best of several looks: what else the host does may take the processor away in one of them.
    """
    payload.loop(1)  # what the first entry costs is no speed
    rounds, best, long_looks = _FIRST_ROUNDS, 0, 0
    while True:
        since = time.perf_counter_ns()
        if not payload.loop(rounds):
            return best
        took = max(time.perf_counter_ns() - since, 1)
        best = max(best, payload.per_round * rounds * 1_000_000_000 // took)
        if took < _LONG_ENOUGH_NS and rounds < _MOST_ROUNDS:
            rounds *= 4
            continue
        long_looks += 1
        if best >= SLOW or long_looks == _MOST_LOOKS:
            return best
