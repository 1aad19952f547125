"""What every engine of the C core shares: a plan becomes RAM, vCPUs, devices and blobs, runs, and tells how it went."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.core.state import State
from vmrun.devices import registry
from vmrun.devices.model import GIVERS, Live, Wires
from vmrun.devices.virtio import virtio_mmio
from vmrun.engine.blobs import Loading
from vmrun.errors import HostError
from vmrun.frozen import evolve, frozen
from vmrun.plan.model import DevicePlan, MachinePlan

FIRMWARE = ("sbi", "")
"""The stream of a console that the engine's firmware calls have (SBI DBCN), which is no device of the plan."""
_CLOSE_MS = 10_000
"""For requests of disks, and again for their flush, where a machine is closed without more ado."""
_SYSTEM_FAILURE = 1
"""SBI System Reset: the reset reason that says that the guest failed (SBI 2.0, section 10.1)."""


@frozen
class VcpuExit:
    """Why a vCPU came back for good."""

    reason: str
    value: int = 0
    detail: str = ""


class LiveMachine(ABC):
    """A live machine. See ``vmrun.engine.seam.Machine`` for what it promises; an engine adds its vCPUs."""

    def __init__(self, plan: MachinePlan) -> None:
        self._plan = plan
        self._core = CoreMachine()
        self._vcpus: list[Any] = []
        self._devices: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._power: VcpuExit | None = None
        self._firmware = (-1, -1)
        self._halted = False

    # ---- what an engine adds -----------------------------------------------------------------------------------------

    @abstractmethod
    def _add_vcpus(self) -> None:
        """Make the vCPUs, and what must stand before the devices; RAM is there. Fill ``_vcpus``."""

    @abstractmethod
    def _enter(self) -> None:
        """Put the boot vCPU at the plan's entry; devices and blobs are there."""

    @abstractmethod
    def _describe_fault(self, index: int) -> str:
        """Return one line on why vCPU ``index`` cannot carry on."""

    @abstractmethod
    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return where each vCPU stands; only while none runs."""

    @abstractmethod
    def save_vcpu(self, index: int) -> State:
        """Return the state of vCPU ``index``; only while none runs. Raise HostError E370 if it cannot be saved."""

    @abstractmethod
    def load_vcpu(self, index: int, state: State) -> None:
        """Let vCPU ``index`` be what ``state`` says; only while none runs. Raise HostError E370 where it is none."""

    @abstractmethod
    def report(self) -> str:
        """Return what a person needs after a fault, lines of text; only while no vCPU runs."""

    @abstractmethod
    def _vcpu_counters(self) -> Mapping[str, int]:
        """Return the vCPUs' counters, summed."""

    def _fault_reason(self, code: int) -> str:
        """Return the reason of a vCPU that left with a fault of the engine's own number ``code``."""
        return "fault"

    def _is_own(self, device: DevicePlan) -> bool:
        """Return whether the engine itself is the device, as an interrupt controller in the kernel."""
        return False

    # ---- its making --------------------------------------------------------------------------------------------------

    def load(self, wires: Mapping[tuple[str, str], tuple[int, int]]) -> Self:
        """Make RAM, vCPUs and devices, and copy the blobs. Close it and raise HostError where the host refuses."""
        try:
            self._load(wires)
        except BaseException:
            self.close()
            raise
        return self

    def _load(self, wires: Mapping[tuple[str, str], tuple[int, int]]) -> None:
        self._firmware = wires.get(FIRMWARE, self._firmware)
        for region in self._plan.ram:
            self._core.add_ram(region.base, region.size)
        with Loading(self._core, self._plan.blobs):
            self._add_vcpus()
            self._add_devices(Wires(vcpu_lines=self._core.vcpu_lines, streams=wires, power=self._on_power))
        self._enter()

    def _add_devices(self, wires: Wires) -> None:
        """Make the plan's devices, those that hand out lines and messages before those that are given them."""
        found = [(device, registry.load(device.kind)) for device in self._plan.devices if not self._is_own(device)]
        for device, kind in sorted(found, key=lambda pair: GIVERS.index(pair[1].gives)):
            line = self._core.line(device.interrupt.number) if device.interrupt else wires.line
            own = evolve(wires, line=line, messages=self._core.messages)
            self._devices[device.id] = kind.realize(device, self._core, own)

    # ---- its life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hand the guest's last output to the host, at its reader's pace, then free everything. Idempotent.

        Requests of disks that :meth:`settle` and :meth:`halt` were not called for have a bound of their own.
        """
        if self._core.handle is not None:
            if not self._halted:
                self.settle(_CLOSE_MS)
                self.halt(_CLOSE_MS)
            self._core.drain()
        self._core.close()

    def settle(self, patience_ms: int) -> bool:
        """Wait until the devices have done all that the guest asked of them; return whether they have, in so long."""
        return self._core.drain(patience_ms)

    def halt(self, patience_ms: int) -> None:
        """Cut what the disks still do, and flush the ``rw`` ones, for so long at most; only while no vCPU runs."""
        self._halted = True
        self._core.halt(patience_ms)

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs there are."""
        return len(self._vcpus)

    def start(self) -> None:
        """Start the I/O thread."""
        self._core.start()

    def stop(self) -> None:
        """Make every vCPU return."""
        self._core.stop()

    def run_vcpu(self, index: int) -> VcpuExit:
        """Run vCPU ``index`` to its end. Raise HostError where the engine fails."""
        left = ffi.new("vmr_exit *")
        kind = self._core.run_vcpu(self._vcpus[index], left)
        if kind == lib.VMR_EXIT_SYSTEM:
            return _system_exit(int(left.code), int(left.data))
        if kind == lib.VMR_EXIT_STOPPED:
            with self._lock:
                return self._power or VcpuExit("stopped")
        return VcpuExit(self._fault_reason(int(left.code)), detail=self._describe_fault(index))

    def _on_power(self, kind: str, value: int) -> None:
        """Take what a device says of the power switch; the first word counts. Called on a vCPU's thread."""
        with self._lock:
            if self._power is None:
                self._power = VcpuExit(kind, value)
        self._core.stop()

    # ---- what it tells -----------------------------------------------------------------------------------------------

    def resize_console(self, columns: int, rows: int) -> None:
        """Tell every console that can tell its guest."""
        for device in self._devices.values():
            resize = getattr(device, "resize", None)
            if resize is not None:
                resize(columns, rows)

    def press_power(self) -> bool:
        """Press the machine's power key; return whether it has one."""
        keys = [device.press_power for device in self._devices.values() if hasattr(device, "press_power")]
        for press in keys:
            press()
        return bool(keys)

    def devices_released(self) -> bool:
        """Return whether no virtio device has a driver that uses it; only while no vCPU runs.

        A kernel that shuts down in order resets them first (Linux drivers/virtio/virtio.c, virtio_dev_shutdown).
        """
        status = virtio_mmio.REGISTERS.named("STATUS")
        in_use = status.field("DRIVER_OK").mask
        windows = [d.bus_base for d in self._plan.devices if d.transport == virtio_mmio.DEVICE.kind]
        return not any((self._core.peek(base + status.offset, status.width) or 0) & in_use for base in windows)

    def counters(self) -> Mapping[str, int]:
        """Return the vCPUs' counters, summed, and those of the devices, as ``device.counter``."""
        sums = dict(self._vcpu_counters())
        for id, device in self._devices.items():
            sums.update({f"{id}.{name}": value for name, value in device.counters().items()})
        return sums

    def guest_errors(self) -> Sequence[tuple[str, str, int]]:
        """Return what the guest did wrong."""
        return self._core.guest_errors()

    @property
    def trouble_fd(self) -> int:
        """A descriptor of the machine's that is readable once :meth:`host_errors` has something new."""
        return self._core.trouble_fd

    def host_errors(self) -> Sequence[tuple[str, str, str, int, int]]:
        """Return what the host refused: device, what it was doing, to which file, the errno, how often."""
        return [
            (id, failure.what, failure.file, failure.errno, failure.count)
            for id, device in self._devices.items()
            if hasattr(device, "host_failures")
            for failure in device.host_failures()
        ]


def check_runnable(plan: MachinePlan) -> None:
    """Raise HostError E310 for a plan that was made without something it needs."""
    if plan.assumed:
        raise HostError(
            f"this plan was made without {', '.join(plan.assumed)} and cannot run",
            code="E310",
            remedy="plan it again without --no-artifacts",
        )


def _system_exit(code: int, reason: int) -> VcpuExit:
    if code != lib.VMR_SYSTEM_POWEROFF:
        return VcpuExit("reboot", reason)
    return VcpuExit("exit", reason) if reason == _SYSTEM_FAILURE else VcpuExit("poweroff", reason)
