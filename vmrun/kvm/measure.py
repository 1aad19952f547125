"""Measures what KVM does with kernel-mode code: a loop's speed, and pieces of code that a kernel could not do without.

The code is the architecture's (``microguest.py`` in its folder); how long it may take is decided here. Nothing that
another process does to this host is to show: time is the thread's own processor time, the least of several looks, and
what a VM entry costs is taken out as the difference between a loop and one ten times as long. What still shows (a host
that is a guest itself does not see what was taken from it) shows in a loop of Python as well, which is the measure.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from vmrun.core.machine import CoreMachine
from vmrun.frozen import evolve
from vmrun.kvm.outcome import HUNG, UNTRIED, MicroGuest, Try

_FIRST_ROUNDS = 1_000
_MOST_ROUNDS = 1 << 22
_TIMES = 10
"""How much longer the longer loop is."""
_LOOKS = 5
_PYTHON_ROUNDS = 20_000
_PATIENCE_NS = 5_000_000_000
"""Processor time after which a guest does not come back: all of them together take some hundred milliseconds."""
_LIMIT_S = 60.0
"""Time after which a host has no processor to spare."""
_TICK_S = 0.05


class Payload(Protocol):
    """An architecture's guest of one vCPU, which runs a piece of code at a time."""

    @property
    def per_round(self) -> int:
        """How many instructions a round of the loop has."""

    def loop(self, rounds: int) -> bool:
        """Run the loop; return whether it came to its end."""

    def attempts(self) -> Sequence[Try]:
        """Run each of the other pieces to its end, or to where KVM gives up. What was stopped failed as `HUNG`."""


def run(make: Callable[[CoreMachine], Payload]) -> MicroGuest:
    """Return what the payload that ``make`` puts into an empty machine found out, within `_LIMIT_S` seconds.

    Raise HostError E325 where KVM refuses the VM itself.
    """
    with CoreMachine() as core:
        payload = make(core)
        with _Watchdog(core.stop) as watchdog:
            speed = _speed(payload)
            tries = tuple(payload.attempts())
    return _judge(speed, tries, _pace(), out_of_time=watchdog.out_of_time)


def _judge(speed: int | None, tries: tuple[Try, ...], pace: int, *, out_of_time: bool) -> MicroGuest:
    """Return what was found. What a busy host did not let run to its end has not failed."""
    if out_of_time:
        tries = tuple(evolve(one, works=None, why=UNTRIED) if one.why == HUNG else one for one in tries)
    elif speed is None:
        tries = (Try("a loop", False, "everything", "it does not come to its end"), *tries)
    return MicroGuest(speed or 0, tries, pace)


def _speed(payload: Payload) -> int | None:
    """Return how many instructions a second kernel-mode code executes, None where the loop does not come to its end."""
    if not payload.loop(1):  # what the first entry costs is no speed
        return None
    rounds = _FIRST_ROUNDS
    while True:
        short, long = _least_ns(payload.loop, rounds), _least_ns(payload.loop, _TIMES * rounds)
        if short is None or long is None:
            return None
        # Told apart from what an entry costs, and from how much that varies.
        if long - short >= short or rounds >= _MOST_ROUNDS:
            return payload.per_round * (_TIMES - 1) * rounds * 1_000_000_000 // max(long - short, 1)
        rounds *= 4


def _pace() -> int:
    """Return how many rounds of an empty loop Python does in a second."""
    return _PYTHON_ROUNDS * 1_000_000_000 // max(_least_ns(_python, _PYTHON_ROUNDS) or 0, 1)


def _python(rounds: int) -> bool:
    for _ in range(rounds):
        pass
    return True


def _least_ns(loop: Callable[[int], bool], rounds: int) -> int | None:
    """Return the least processor time that a loop took, None where it did not come to its end."""
    took = []
    for _ in range(_LOOKS):
        since = time.thread_time_ns()
        if not loop(rounds):
            return None
        took.append(time.thread_time_ns() - since)
    return min(took)


class _Watchdog:
    """Calls ``stop`` where the thread that made it has used up its processor time, or the host has none to give."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self.out_of_time = False
        self._stop = stop
        self._over = threading.Event()
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> _Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        last_ns = time.clock_gettime_ns(self._clock) + _PATIENCE_NS
        end = time.monotonic() + _LIMIT_S
        while not self._over.wait(_TICK_S):
            if time.clock_gettime_ns(self._clock) < last_ns:
                if time.monotonic() < end:
                    continue
                self.out_of_time = True
            self._stop()
            return
