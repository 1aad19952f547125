"""Signals as something that a poll loop can wait for."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from vmrun.run.loop import READ, Loop

GRACE_S = 0.3
"""Seconds from a signal to the end of a process that does not come to hear of it."""
TIDY_S = 0.2
"""Seconds that it then has for leaving the terminal tidy."""
KILLERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Interrupted(BaseException):
    """A killing signal came in a place that lets itself be interrupted; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class QuitOnSignals:
    """While entered, a killing signal ends the process by SystemExit(128 + n), so that all is cleaned up on the way.

    For the time before a machine runs. A signal that was ignored from the start (nohup) stays ignored. Python hears of
    a signal between two steps of its own alone, and one step may be long (a name that is looked up, an archive that is
    unpacked): a thread then calls ``tidy`` and ends the process, GRACE_S after the signal.
    """

    def __init__(self, tidy: Callable[[], None]) -> None:
        self._tidy = tidy
        self._before: dict[int, Any] = {}
        self._over = threading.Event()

    def __enter__(self) -> QuitOnSignals:
        read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in KILLERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._leave)
        threading.Thread(target=self._watch, args=(read,), name="signals", daemon=True).start()
        return self

    def _leave(self, number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def _watch(self, fd: int) -> None:
        while data := os.read(fd, 64):
            number = next((number for number in data if number in self._before), None)
            if number is not None and not self._over.wait(GRACE_S):
                tidying = threading.Thread(target=self._tidy, daemon=True)
                tidying.start()
                tidying.join(TIDY_S)  # the main thread may stand where it holds what tidying needs
                os._exit(128 + number)
        os.close(fd)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._write)


class Signals:
    """While entered, ``handler`` is called with the signal's number from within the loop, never at any odd moment.

    Where the loop does not turn, :meth:`interrupting` lets a killing signal raise Interrupted instead.
    """

    def __init__(self, loop: Loop, numbers: tuple[signal.Signals, ...], handler: Callable[[int], None]) -> None:
        self._loop = loop
        self._numbers = numbers
        self._handler = handler
        self._before: dict[int, Any] = {}
        self._raises = False

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._loop.watch(self._read, READ, self._take)
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._arrive)
        return self

    @contextlib.contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let the first killing signal raise Interrupted in the block; those from before it go to the handler first."""
        self._raises = True
        try:
            self._take()
            yield
        finally:
            self._raises = False

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if self._raises and number in KILLERS:
            self._raises = False
            raise Interrupted(number)

    def _take(self) -> None:
        # The interpreter's own handler writes the signal's number; so nothing depends on when Python handlers run.
        with contextlib.suppress(BlockingIOError):
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
