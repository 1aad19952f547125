"""Signals as something that a poll loop can wait for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from vmrun.run.loop import READ, Loop

KILLERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def quit_on_signals() -> None:
    """Let a killing signal end the process through SystemExit(128 + n), so that everything is cleaned up on the way.

    For the time before a machine runs. A signal that was ignored from the start (nohup) stays ignored.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in KILLERS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, leave)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Keep the default action away."""


class Signals:
    """While entered, ``handler`` is called with the signal's number from within the loop, never at any odd moment."""

    def __init__(self, loop: Loop, numbers: tuple[signal.Signals, ...], handler: Callable[[int], None]) -> None:
        self._loop = loop
        self._numbers = numbers
        self._handler = handler
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._loop.watch(self._read, READ, self._take)
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, _nothing)
        return self

    def _take(self) -> None:
        # The interpreter's own handler writes the signal's number; so nothing depends on when Python handlers run.
        for number in os.read(self._read, 4096):
            if number in self._before:
                self._handler(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup_before)
        self._loop.unwatch(self._read, READ)
        os.close(self._read)
        os.close(self._write)
