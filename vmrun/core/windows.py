"""Windows of the bus that Python serves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from vmrun._core import ffi, lib

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_REMEDY = "end what lies there, or choose another place"


class MmioHandler(Protocol):
    """Serves a window from Python: cold registers only. Called from any vCPU's thread."""

    def read(self, offset: int, size: int) -> int:
        """Return the value at ``offset`` bytes into the window, ``size`` bytes wide."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Take ``value``, ``size`` bytes wide, at ``offset``."""


class Window:
    """A place on the bus where ``handler`` answers. ``CoreMachine.claim`` makes it."""

    def __init__(self, handler: MmioHandler) -> None:
        self._handler = handler
        self._inside: set[int] = set()
        self._gone = False
        self._left = threading.Condition()

    def open(
        self,
        machine: CoreMachine,
        base: int | None,
        size: int,
        id: int,
        widths: tuple[int, int],
        forget: Callable[[], object],
    ) -> None:
        """Put the window on the bus; ``forget`` is called once it is gone. Raise HostError E357."""
        self._machine, self._forget = machine, forget
        out = ffi.new("vmr_window **")
        at = lib.VMR_NOWHERE if base is None else base
        self._check(lib.vmr_bus_claim(machine.handle, at, size, id, *widths, out))
        self._handle = out[0]

    def _check(self, code: int) -> None:
        self._machine.check(code, "bus", error="E357", remedy=_REMEDY)

    def move(self, base: int | None) -> None:
        """Put the window at ``base``, None: nowhere. Never waits. Raise HostError E357 where another window is."""
        at = lib.VMR_NOWHERE if base is None else base
        self._check(lib.vmr_bus_move(self._machine.handle, self._handle, at))

    def remove(self) -> None:
        """Take the window away for good: on return no other thread is in the handler, nor will be.

        Call it without a lock that the handler takes.
        """
        self._check(lib.vmr_bus_remove(self._machine.handle, self._handle))
        self._gone = True
        with self._left:
            self._left.wait_for(lambda: not self._inside - {threading.get_ident()})
        self._forget()

    def serve(self, exit: Any) -> None:
        """Answer an MMIO exit (``vmr_exit *``). After ``remove`` it is as where nobody is: ones are read."""
        thread = threading.get_ident()
        nested = thread in self._inside
        self._inside.add(thread)  # before the look at _gone: whoever set it waits for us, or we see it
        try:
            if exit.kind == lib.VMR_EXIT_MMIO_READ:
                value = -1 if self._gone else self._handler.read(exit.offset, exit.size)
                exit.data = value & ((1 << 8 * exit.size) - 1)
            elif not self._gone:
                self._handler.write(exit.offset, exit.size, exit.data)
        finally:
            if not nested:
                self._inside.discard(thread)
                if self._gone:
                    with self._left:
                        self._left.notify_all()
