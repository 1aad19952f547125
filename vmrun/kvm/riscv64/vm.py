"""A riscv64 machine on KVM: harts with the plan's ISA, the interrupt controllers that the kernel serves, firmware."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vmrun._core import lib
from vmrun.core.machine import CoreMachine
from vmrun.errors import HostError
from vmrun.kvm.host import Kvm
from vmrun.kvm.riscv64 import aia, isa, registers
from vmrun.kvm.riscv64.paging import read_virtual
from vmrun.kvm.vm import Vm, fault, vcpu_registers, vcpu_state
from vmrun.plan.model import EntryPlan, MachinePlan, RiscvCpus

if TYPE_CHECKING:
    from vmrun.core.state import State
    from vmrun.kvm.report import Scene

IN_KERNEL = frozenset({"aplic", "imsic"})
"""Kinds of a plan's devices that KVM itself is; a PLIC is vmrun's own, as under the software core."""

RUNNABLE, STOPPED = 0, 5
"""KVM_MP_STATE_*: a stopped hart waits for SBI HSM to start it."""

_LONGEST_INSTRUCTION = 4


class RiscvVm(Vm):
    """A VM of riscv64. A hart's number is its vCPU's id."""

    def __init__(self, core: CoreMachine, kvm: Kvm) -> None:
        """Make it, before its vCPUs. Raise HostError E325 where KVM refuses."""
        super().__init__(core, kvm)
        self.vcpus: list[Any] = []

    def add_vcpus(self, count: int, cpu: RiscvCpus | None = None) -> list[Any]:
        """Return ``count`` new vCPUs, with all that the host gives or, where ``cpu`` is given, as the plan says.

        Raise HostError E325 where KVM refuses, E327 and E331 where the plan is not for this host.
        """
        have = None
        for _ in range(count):
            vcpu = self.new_vcpu(len(self.vcpus))
            if cpu is not None:
                if have is None:
                    have = isa.read(self, vcpu)
                    isa.require(cpu, have)
                isa.shape(vcpu, cpu, have)
            isa.add_firmware(self, vcpu)
            self.vcpus.append(vcpu)
        return self.vcpus

    def firmware_console(self, in_fd: int, out_fd: int) -> None:
        """Connect SBI's console. See `Vm`."""
        self.check(lib.vmr_kvm_riscv64_console(self.handle, in_fd, out_fd), "SBI console")

    def enter(self, entry: EntryPlan) -> None:
        """Put the boot hart, whose number is in a0, at the plan's entry; the others stop. See `GuestVm`."""
        given = dict(entry.registers)
        boot = given.get("a0", 0)
        if boot >= len(self.vcpus):
            raise HostError(f"the plan starts hart {boot}, and has {len(self.vcpus)}", code="E310")
        for name, value in (("pc", entry.pc), *given.items()):
            if name not in registers.CORE:
                raise HostError(f"riscv64 has no register `{name}`", code="E310", remedy="plan the manifest again")
            isa.put(self, self.vcpus[boot], registers.core(name), value)
        for hart, vcpu in enumerate(self.vcpus):
            self.set_mp_state(vcpu, RUNNABLE if hart == boot else STOPPED)

    def where(self, index: int) -> Mapping[str, int]:
        """Return where hart ``index`` stands. See `GuestVm`."""
        vcpu = self.vcpus[index]
        found = {name: isa.get(self, vcpu, registers.core(name)) for name in registers.CORE}
        found |= {name: isa.get(self, vcpu, registers.csr(name)) for name in registers.CSRS}
        return {name: value for name, value in found.items() if value is not None}

    def save(self, index: int) -> State:
        """Return the registers of hart ``index`` in KVM's core and CSR tables. See `GuestVm`."""
        return vcpu_state("riscv64", self.where(index))

    def load(self, index: int, state: State) -> None:
        """Give hart ``index`` those registers. See `GuestVm`."""
        found = vcpu_registers("riscv64", state, self.where(index))
        for name, value in found.items():
            number = registers.core(name) if name in registers.CORE else registers.csr(name)
            isa.put(self, self.vcpus[index], number, value)

    def scene(self, index: int) -> Scene:
        """Return what a report says of hart ``index``. See `GuestVm`."""
        from vmrun.kvm import report  # hardly any run falls

        where = self.where(index)
        code = read_virtual(self.core.read_ram, where["satp"], where["pc"], _LONGEST_INSTRUCTION)
        return report.Scene(index, fault(self.vcpus[index]), where, where["pc"], code, "riscv64")


def build(core: CoreMachine, kvm: Kvm, plan: MachinePlan) -> RiscvVm:
    """Return the VM of ``plan`` with its harts and, where the plan has them, APLIC and IMSICs.

    Raise HostError as `RiscvVm.add_vcpus`.
    """
    cpu = plan.cpu
    assert isinstance(cpu, RiscvCpus)
    vm = RiscvVm(core, kvm)
    vm.add_vcpus(cpu.count, cpu)
    kinds = {device.kind: device for device in plan.devices}
    if "aplic" in kinds and "imsic" in kinds:
        aia.build(vm, cpu.count, kinds["aplic"], kinds["imsic"])
    return vm
