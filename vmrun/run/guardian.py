"""A small process that outlives a SIGKILL of vmrun and gives the terminal back.

It holds the terminal and its settings from before raw mode, has every signal blocked, sits in a session of its own (so
that no signal of the terminal's is sent to it), and waits on a pipe. A byte says that vmrun has restored the terminal
itself; an end without one says that vmrun is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from typing import Any

_DONE = b"d"


class Guardian:
    """Watches over terminal ``fd`` until :meth:`dismiss`.

    Made by a fork, so before raw mode and before any thread: a fork copies the locks that other threads hold.
    """

    def __init__(self, fd: int) -> None:
        saved = termios.tcgetattr(fd)
        read, self._write = os.pipe2(os.O_CLOEXEC)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = os.fork()
            if self._pid == 0:
                try:
                    _guard(fd, read, saved)  # with all signals blocked for good
                finally:
                    os._exit(0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(read)

    def dismiss(self) -> None:
        """Tell it that the terminal is as it was, and wait for its end."""
        with contextlib.suppress(OSError):
            os.write(self._write, _DONE)
        os.close(self._write)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _guard(terminal: int, pipe: int, saved: list[Any]) -> None:
    os.setsid()
    # Every other descriptor belongs to vmrun alone: a pipe held open here would keep its reader waiting.
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
        if int(name) not in (terminal, pipe):
            try:
                os.close(int(name))
            except OSError:
                continue
    if os.read(pipe, 1) != _DONE:
        termios.tcsetattr(terminal, termios.TCSANOW, saved)
