"""The vCPU threads of one machine, and the first event that ends it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from vmrun.engine.seam import Machine
from vmrun.errors import VmrunError
from vmrun.run.outcome import ENGINE_ERROR, STOPPED, Event


class VcpuThreads:
    """One thread per vCPU. The first event wins, whoever brings it; the others are stopped before it is looked at.

    ``wake`` is called from any thread when the event is there. The threads are daemons: a forced exit waits for none.
    """

    def __init__(self, machine: Machine, wake: Callable[[], None]) -> None:
        self._machine = machine
        self._wake = wake
        self._lock = threading.Lock()
        self._event: Event | None = None
        self._threads = [
            threading.Thread(target=self._run, args=(index,), name=f"vcpu{index}", daemon=True)
            for index in range(machine.vcpu_count)
        ]

    @property
    def event(self) -> Event | None:
        """Return the event that ended the run, or None while it goes on."""
        return self._event

    def start(self) -> None:
        """Run the guest's first instruction."""
        for thread in self._threads:
            thread.start()

    def end(self, event: Event) -> bool:
        """Stop every vCPU because of ``event``. Return False where another event came first."""
        with self._lock:
            first = self._event is None
            if first:
                self._event = event
        self._machine.stop()
        self._wake()
        return first

    def join(self) -> None:
        """Wait until every vCPU stands still."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _run(self, index: int) -> None:
        try:
            left = self._machine.run_vcpu(index)
            event = Event(left.reason, left.value, left.detail)
        except VmrunError as error:
            event = Event(ENGINE_ERROR, detail=str(error))
        except Exception as error:  # a thread must not die unheard
            event = Event(ENGINE_ERROR, detail=f"vCPU {index}: {type(error).__name__}: {error}")
        if event.reason == STOPPED and self._event is not None:
            return
        self.end(event)
