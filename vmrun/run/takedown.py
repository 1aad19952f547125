"""Taking a machine down beside the loop, which goes on draining its streams and listening to signals meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from vmrun.engine.seam import Machine
from vmrun.frozen import frozen
from vmrun.run.outcome import EXIT, FAULTS, POWEROFF, REBOOT, Event, GuestFault, HostFault
from vmrun.run.vcpus import VcpuThreads

PATIENCE_MS = 1_000
"""For what the guest has asked of its devices and its vCPUs are done with, and again for the disks' last flush."""
LONG_PATIENCE_MS = 30_000
"""The same where the guest ended the run itself: it may have asked for its last writes a moment ago."""
_GUESTS_OWN = (POWEROFF, REBOOT, EXIT)
_STEP_MS = 100


@frozen
class Remains:
    """What a machine tells once its vCPUs stand still; ``released``: no driver used a device when it was reset."""

    vcpus: tuple[Mapping[str, int], ...] = ()
    counters: Mapping[str, int] = MappingProxyType({})
    guest_errors: tuple[GuestFault, ...] = ()
    host_errors: tuple[HostFault, ...] = ()
    report: str = ""
    released: bool = False


class TakeDown:
    """Waits for the vCPUs and the disks, asks the machine what it has to tell, and leaves it.

    Disks have a bound, whatever the guest asked of them: what they have not done by then is cut. Output has none here:
    the guest can have queued only so much, and a reader may be slow. ``hurry`` is set from the main thread where a
    person wants the end now. ``wake`` is called when ``done``. A failure waits in :meth:`check`.
    """

    def __init__(self, machine: Machine, vcpus: VcpuThreads, wake: Callable[[], None]) -> None:
        self.remains = Remains()
        self.done = False
        self.hurry = False
        self._machine = machine
        self._vcpus = vcpus
        self._wake = wake
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="take-down", daemon=True)

    def start(self) -> None:
        """Begin; the vCPUs have been told to stop."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the last of it, once ``done``: ``wake`` is not called any more."""
        self._thread.join()

    def check(self) -> None:
        """Raise what went wrong, if something did."""
        if self._failure is not None:
            raise self._failure

    def _settle(self, event: Event | None) -> None:
        patience_ms = LONG_PATIENCE_MS if event is not None and event.reason in _GUESTS_OWN else PATIENCE_MS
        for step in range(0, patience_ms, _STEP_MS):
            if (self.hurry and step >= PATIENCE_MS) or self._machine.settle(_STEP_MS):
                break
        self._machine.halt(PATIENCE_MS if self.hurry else patience_ms)

    def _run(self) -> None:
        try:
            with self._machine:
                self._vcpus.join()
                event = self._vcpus.event
                self._settle(event)
                self.remains = Remains(
                    tuple(self._machine.vcpu_states()),
                    self._machine.counters(),
                    tuple(GuestFault(*error) for error in self._machine.guest_errors()),
                    tuple(HostFault(*error) for error in self._machine.host_errors()),
                    self._machine.report() if event is not None and event.reason in FAULTS else "",
                    event is not None and event.reason == REBOOT and self._machine.devices_released(),
                )
        except Exception as error:  # handed to the main thread
            self._failure = error
        finally:
            self.done = True
            self._wake()
