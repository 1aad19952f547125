"""The KVM engine: a MachinePlan becomes a VM of /dev/kvm, for guests of the host's own architecture."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from vmrun.engine.machine import LiveMachine, check_runnable
from vmrun.errors import HostError
from vmrun.kvm import report, symbols
from vmrun.kvm.host import Kvm
from vmrun.kvm.vm import counters, fault
from vmrun.plan.model import DevicePlan, MachinePlan, X86Cpus

PIT = "i8254"
"""The kind of a plan's device that asks for the timer, for guests that have no other clock."""


class KvmEngine:
    """Builds machines on this host's KVM."""

    name = "kvm"

    def build(self, plan: MachinePlan, wires: Mapping[tuple[str, str], tuple[int, int]]) -> KvmMachine:
        """Return the machine of ``plan`` at its first instruction.

        Raise HostError: E302 a guest of another architecture, E310 a plan that cannot run, E311 and E312 a blob's file
        that vanished or changed, E320 to E329 what this host's KVM refuses.
        """
        check_runnable(plan)
        host = platform.machine()
        if plan.cpu.arch != host:
            raise HostError(f"KVM runs {host} guests on this host, not {plan.cpu.arch}", code="E302")
        if not isinstance(plan.cpu, X86Cpus):
            raise HostError(f"vmrun has no board for {host} guests on KVM", code="E302", remedy='use accel = "soft"')
        with Kvm() as kvm:
            kvm.require(plan.cpu.count)
            return KvmMachine(plan, plan.cpu, kvm).load(wires)


ENGINE = KvmEngine()


class KvmMachine(LiveMachine):
    """A live machine on KVM."""

    def __init__(self, plan: MachinePlan, cpu: X86Cpus, kvm: Kvm) -> None:
        super().__init__(plan)
        self._cpu = cpu
        self._kvm = kvm

    def _is_own(self, device: DevicePlan) -> bool:
        from vmrun.kvm.x86_64.vm import IN_KERNEL

        return device.kind in IN_KERNEL

    def _add_vcpus(self) -> None:
        from vmrun.kvm.x86_64.vm import X86Vm

        pit = any(device.kind == PIT for device in self._plan.devices)
        self._vm = X86Vm(self._core, self._kvm, pit=pit)
        self._vcpus = self._vm.add_vcpus(self._cpu.count, self._cpu.features, self._cpu.topology)

    def _enter(self) -> None:
        self._vm.enter(self._vcpus[0], self._plan.entry)

    # ---- what it tells -----------------------------------------------------------------------------------------------

    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return where each vCPU stands; only while none runs."""
        from vmrun.kvm.x86_64.vm import where

        return [where(vcpu) for vcpu in self._vcpus]

    def _vcpu_counters(self) -> Mapping[str, int]:
        return counters(self._vcpus)

    def _scene(self, index: int) -> report.Scene:
        from vmrun.kvm.x86_64 import vm as x86

        vcpu = self._vcpus[index]
        pc = x86.linear_pc(vcpu)
        code = x86.read_linear(self._core, vcpu, pc, report.LONGEST_INSTRUCTION)
        return report.Scene(index, fault(vcpu), x86.where(vcpu), pc, code, x86.code_bits(vcpu))

    def _symbols(self) -> symbols.Symbols | None:
        kernel = self._plan.blob("kernel")
        return symbols.of_kernel(Path(kernel.path)) if kernel is not None and kernel.path is not None else None

    def _describe_fault(self, index: int) -> str:
        return report.summary(self._scene(index), self._symbols())

    def report(self) -> str:
        """Return all that is known of each vCPU that fell over; only while none runs."""
        fallen = [index for index, vcpu in enumerate(self._vcpus) if fault(vcpu).code]
        names = self._symbols() if fallen else None
        return "\n".join(line for index in fallen for line in report.lines(self._scene(index), names))
