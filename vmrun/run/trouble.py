"""What the host refuses a device while the guest runs: the guest is told of an I/O error, and a person in one line."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable

from vmrun.engine.seam import Machine
from vmrun.run.loop import READ, Loop
from vmrun.run.outcome import HostFault

CODE = "E401"
_REASONS = {
    errno.ENODATA: "the file has become shorter than it was when the run began",
    errno.ETIMEDOUT: "not all of it is on stable storage yet; the host writes the rest in its own time",
}


def reason(fault: HostFault) -> str:
    """Return why the host refused, in words."""
    return _REASONS.get(fault.errno) or os.strerror(fault.errno)


class Trouble:
    """Warns of each failure of the host once for each device, file and errno. Main thread."""

    def __init__(self, loop: Loop, warn: Callable[[str], None]) -> None:
        self._loop = loop
        self._warn = warn
        self._machine: Machine | None = None
        self._fd = -1
        self._told: set[tuple[str, str, int]] = set()

    def watch(self, machine: Machine) -> None:
        """Look at ``machine`` whenever it has something new, until :meth:`leave`."""
        self._machine = machine
        if machine.trouble_fd >= 0:
            self._fd = os.dup(machine.trouble_fd)
            self._loop.watch(self._fd, READ, self._look)

    def leave(self) -> None:
        """Look no more: the machine is about to go, on another thread. Idempotent."""
        self._machine = None
        if self._fd >= 0:
            self._loop.unwatch(self._fd, READ)
            os.close(self._fd)
            self._fd = -1

    def tell(self, faults: Iterable[HostFault]) -> None:
        """Warn of those among ``faults`` that are new."""
        for fault in faults:
            kind = (fault.device, fault.file, fault.errno)
            if kind not in self._told:
                self._told.add(kind)
                name = errno.errorcode.get(fault.errno, "?")
                text = (
                    f"{fault.device}: {fault.what} {fault.file}: {reason(fault)} (errno {fault.errno}, {name}) [{CODE}]"
                )
                self._warn(text)

    def _look(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)
        if self._machine is not None:
            self.tell(HostFault(*error) for error in self._machine.host_errors())
