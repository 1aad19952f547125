"""Taking a machine down beside the loop, which goes on draining its streams and listening to signals meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from vmrun.engine.seam import Machine
from vmrun.frozen import frozen
from vmrun.run.outcome import FAULTS, REBOOT, GuestFault
from vmrun.run.vcpus import VcpuThreads


@frozen
class Remains:
    """What a machine tells once its vCPUs stand still; ``released``: no driver used a device when it was reset."""

    vcpus: tuple[Mapping[str, int], ...] = ()
    counters: Mapping[str, int] = MappingProxyType({})
    guest_errors: tuple[GuestFault, ...] = ()
    report: str = ""
    released: bool = False


class TakeDown:
    """Waits for the vCPUs, asks the machine what it has to tell, and leaves it: ``rw`` disks are flushed then.

    ``wake`` is called when ``done``. A failure waits in :meth:`check`.
    """

    def __init__(self, machine: Machine, vcpus: VcpuThreads, wake: Callable[[], None]) -> None:
        self.remains = Remains()
        self.done = False
        self._machine = machine
        self._vcpus = vcpus
        self._wake = wake
        self._failure: Exception | None = None

    def start(self) -> None:
        """Begin; the vCPUs have been told to stop."""
        threading.Thread(target=self._run, name="take-down", daemon=True).start()

    def check(self) -> None:
        """Raise what went wrong, if something did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with self._machine:
                self._vcpus.join()
                event = self._vcpus.event
                self.remains = Remains(
                    tuple(self._machine.vcpu_states()),
                    self._machine.counters(),
                    tuple(GuestFault(*error) for error in self._machine.guest_errors()),
                    self._machine.report() if event is not None and event.reason in FAULTS else "",
                    event is not None and event.reason == REBOOT and self._machine.devices_released(),
                )
        except Exception as error:  # handed to the main thread
            self._failure = error
        finally:
            self.done = True
            self._wake()
