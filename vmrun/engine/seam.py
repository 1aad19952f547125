"""The seam between a run and an engine: what the run side asks for, whoever runs the guest.

``soft``, ``kvm`` and the fake of :mod:`vmrun.engine.fake` fit it by shape; engines stand below this package and import
nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Protocol

from vmrun.plan.model import MachinePlan

Wires = Mapping[tuple[str, str], tuple[int, int]]
"""The host's end of each character stream: ``(device id, port) -> (fd the guest's input is read from, fd its output is
written to)``; -1 where a direction is not connected. Port ``""`` is the device's own console. The run owns the fds."""

AGENT_PORTS = ("vmrun.control", "vmrun.stdin", "vmrun.stdout", "vmrun.stderr")
"""The ports of the virtio-console through which vmrun's own init talks to the run."""


class VcpuExit(Protocol):
    """Why a vCPU came back for good. ``reason`` is ``poweroff``, ``reboot``, ``exit`` (``value`` is the guest's),
    ``stopped``, ``fault`` or ``triple-fault`` (``detail`` is one line)."""

    @property
    def reason(self) -> str:
        """What the guest or the engine asked for."""

    @property
    def value(self) -> int:
        """The guest's own value: an exit code, or the reason register of a reset."""

    @property
    def detail(self) -> str:
        """One line for a person, or the empty string."""


class Machine(Protocol):
    """A live machine: owns memory, file descriptors and threads until its ``with`` block ends.

    Leaving the block stops the vCPUs, ends the I/O threads and drops overlays; :meth:`halt` flushes ``rw`` disks.
    """

    def __enter__(self) -> Machine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs there are; each is run by a thread of its own."""

    def start(self) -> None:
        """Start the I/O threads; no device or vCPU can join from here on."""

    def run_vcpu(self, index: int) -> VcpuExit:
        """Run one vCPU until it ends for good, without the GIL. Raise VmrunError where the engine fails."""

    def stop(self) -> None:
        """Make every vCPU return ``stopped`` soon. Any thread, any time, idempotent."""

    def resize_console(self, columns: int, rows: int) -> None:
        """Tell the guest the size of its console's terminal, in characters."""

    def press_power(self) -> bool:
        """Press the machine's power key, which asks the guest to shut down; return whether there is one. Any thread."""

    def settle(self, patience_ms: int) -> bool:
        """Wait until the devices have done all that the guest asked of them; return whether they have, in so long.

        Only once all vCPUs have returned.
        """

    def halt(self, patience_ms: int) -> None:
        """Cut what the disks still do at their next piece, and flush the ``rw`` ones, for so long at most.

        Output goes on. Only once all vCPUs have returned.
        """

    @property
    def trouble_fd(self) -> int:
        """A descriptor of the machine's that is readable once :meth:`host_errors` has something new; -1: none."""

    def host_errors(self) -> Sequence[tuple[str, str, str, int, int]]:
        """Return what the host refused: device, what it was doing, to which file, the errno, how often."""

    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return where each vCPU stands, registers by name (``pc`` among them); only once all have returned."""

    def report(self) -> str:
        """Return what a person needs after a fault, lines of text, or ""; only once all vCPUs have returned."""

    def devices_released(self) -> bool:
        """Return whether no driver uses a device any more, as after a shutdown in order; as :meth:`report`."""

    def counters(self) -> Mapping[str, int]:
        """Return the engine's counters, by name, summed over the vCPUs."""

    def guest_errors(self) -> Sequence[tuple[str, str, int]]:
        """Return what the guest did wrong: device, what, how often."""


class Engine(Protocol):
    """Builds machines from plans."""

    @property
    def name(self) -> str:
        """Return the engine's name, as a plan gives it in ``engine``."""

    def build(self, plan: MachinePlan, wires: Wires) -> Machine:
        """Return the machine of ``plan``, loaded and at its first instruction. Raise VmrunError otherwise."""
