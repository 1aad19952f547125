"""Windows of the bus that Python serves: they come, move and go while vCPUs run."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from vmrun._core import ffi, lib

_READ = lib.VMR_EXIT_MMIO_READ
_MASKS = {size: (1 << 8 * size) - 1 for size in (1, 2, 4, 8)}


class MmioHandler(Protocol):
    """Serves a window from Python: cold registers only. Called from any vCPU's thread."""

    def read(self, offset: int, size: int) -> int:
        """Return the value at ``offset`` bytes into the window, ``size`` bytes wide."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Take ``value``, ``size`` bytes wide, at ``offset``."""


class _Nobody:
    """What an exit meets whose window has gone meanwhile."""

    def read(self, offset: int, size: int) -> int:
        return -1

    def write(self, offset: int, size: int, value: int) -> None:
        return


class Window:
    """A place on the bus where a handler answers. ``CoreMachine.claim`` makes it."""

    def __init__(self, windows: Windows, handler: MmioHandler) -> None:
        self._windows = windows
        self.handler = handler
        self.gone = False
        self.handle: Any = None
        """The ``vmr_window *``."""

    def move(self, base: int | None) -> None:
        """Put the window at ``base``, None: nowhere. Never waits. Raise HostError E357 where another window is."""
        self._windows.move(self, base)

    def remove(self) -> None:
        """Take the window away for good: on return no other thread is in the handler, nor will be.

        Call it without a lock that the handler takes.
        """
        self._windows.remove(self)


class Server:
    """One thread that serves windows. What it is inside of is looked at by those who remove one."""

    __slots__ = ("_windows", "thread", "window")

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self.thread = threading.get_ident()
        self.window: Window | None = None

    def serve(self, exit: Any) -> None:
        """Answer an MMIO exit (``vmr_exit *``); where its window has gone, as an empty place: ones are read."""
        window = self._windows.find(exit.window)
        self.window = window  # before the look at `gone`: whoever set that waits for us, or we see it
        handler = window.handler if window is not None and not window.gone else _NOBODY
        try:
            if exit.kind == _READ:
                exit.data = handler.read(exit.offset, exit.size) & _MASKS[exit.size]
            else:
                handler.write(exit.offset, exit.size, exit.data)
        finally:
            self.window = None
            if window is not None and window.gone:
                self._windows.left()


_NOBODY = _Nobody()


class Windows:
    """All windows of a machine that Python serves. ``check`` raises HostError for a negative code."""

    def __init__(self, machine: Any, check: Callable[[int], None]) -> None:
        self._machine = machine
        self._check = check
        self._ids = itertools.count()
        self._all: dict[int, Window] = {}
        self.find = self._all.get
        """Return the window of an id, or None."""
        self._servers: list[Server] = []
        self._left = threading.Condition()

    def claim(self, base: int | None, size: int, handler: MmioHandler, min_width: int, max_width: int) -> Window:
        """Put a window on the bus. Raise HostError where another one is."""
        id, window, out = next(self._ids), Window(self, handler), ffi.new("vmr_window **")
        self._all[id] = window
        code = lib.vmr_bus_claim(self._machine, _gpa(base), size, id, min_width, max_width, out)
        if code:
            del self._all[id]
        self._check(code)
        window.handle = out[0]
        return window

    def move(self, window: Window, base: int | None) -> None:
        """Put a window elsewhere. Raise HostError where another one is."""
        self._check(lib.vmr_bus_move(self._machine, window.handle, _gpa(base)))

    def remove(self, window: Window) -> None:
        """Take a window away and wait until no other thread is inside its handler."""
        self._check(lib.vmr_bus_remove(self._machine, window.handle))
        window.gone = True
        with self._left:
            self._left.wait_for(lambda: not self._is_served(window))
        for id in [id for id, known in self._all.items() if known is window]:
            del self._all[id]

    def _is_served(self, window: Window) -> bool:
        me = threading.get_ident()
        return any(server.window is window and server.thread != me for server in self._servers)

    def left(self) -> None:
        """Wake those who wait for a server to leave."""
        with self._left:
            self._left.notify_all()

    @contextmanager
    def server(self) -> Iterator[Server]:
        """Make the calling thread one that serves."""
        server = Server(self)
        self._servers.append(server)
        try:
            yield server
        finally:
            self._servers.remove(server)


def _gpa(base: int | None) -> int:
    return int(lib.VMR_NOWHERE) if base is None else base
