"""The KVM engine: a MachinePlan becomes a VM of /dev/kvm, for guests of the host's own architecture."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.core.state import State
from vmrun.engine.machine import LiveMachine, check_runnable
from vmrun.errors import HostError
from vmrun.kvm.arch import GuestVm, part
from vmrun.kvm.host import Kvm
from vmrun.kvm.vm import counters, fault
from vmrun.plan.model import DevicePlan, MachinePlan

if TYPE_CHECKING:
    from vmrun.kvm.symbols import Symbols


class KvmEngine:
    """Builds machines on this host's KVM."""

    name = "kvm"

    def build(self, plan: MachinePlan, wires: Mapping[tuple[str, str], tuple[int, int]]) -> KvmMachine:
        """Return the machine of ``plan`` at its first instruction.

        Raise HostError: E302 a guest of another architecture, E310 a plan that cannot run, E311 and E312 a blob's file
        that vanished or changed, E320 to E329 what this host's KVM refuses.
        """
        check_runnable(plan)
        host = os.uname().machine
        if plan.cpu.arch != host:
            raise HostError(f"KVM runs {host} guests on this host, not {plan.cpu.arch}", code="E302")
        with Kvm() as kvm:
            kvm.require(plan.cpu.count)
            return KvmMachine(plan, kvm).load(wires)


ENGINE = KvmEngine()


class KvmMachine(LiveMachine):
    """A live machine on KVM."""

    def __init__(self, plan: MachinePlan, kvm: Kvm) -> None:
        super().__init__(plan)
        self._kvm = kvm

    def _is_own(self, device: DevicePlan) -> bool:
        return device.kind in self._arch.IN_KERNEL

    def _add_vcpus(self) -> None:
        self._arch = part("vm")  # its import, too, goes on beside the copying of blobs
        self._vm: GuestVm = self._arch.build(self._core, self._kvm, self._plan)
        self._vcpus = list(self._vm.vcpus)

    def _enter(self) -> None:
        self._vm.firmware_console(*self._firmware)
        self._vm.enter(self._plan.entry)

    # ---- what it tells -----------------------------------------------------------------------------------------------

    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return where each vCPU stands; only while none runs."""
        return [self._vm.where(index) for index in range(len(self._vcpus))]

    def save_vcpu(self, index: int) -> State:
        """Return the registers of vCPU ``index`` that KVM tells of; only while none runs."""
        return self._vm.save(index)

    def load_vcpu(self, index: int, state: State) -> None:
        """Give vCPU ``index`` the registers of ``state``; only while none runs."""
        self._vm.load(index, state)

    def _vcpu_counters(self) -> Mapping[str, int]:
        return counters(self._vcpus)

    def _symbols(self) -> Symbols | None:
        from vmrun.kvm import symbols

        kernel = self._plan.blob("kernel")
        return symbols.of_kernel(Path(kernel.path)) if kernel is not None and kernel.path is not None else None

    def _fault_reason(self, code: int) -> str:
        from vmrun.kvm import report

        return "triple-fault" if code == report.TRIPLE_FAULT else "fault"

    def _describe_fault(self, index: int) -> str:
        from vmrun.kvm import report

        return report.summary(self._vm.scene(index), self._symbols())

    def report(self) -> str:
        """Return all that is known of each vCPU that fell over; only while none runs."""
        fallen = [index for index, vcpu in enumerate(self._vcpus) if fault(vcpu).code]
        if not fallen:
            return ""
        from vmrun.kvm import report

        names = self._symbols()
        return "\n".join(line for index in fallen for line in report.lines(self._vm.scene(index), names))
