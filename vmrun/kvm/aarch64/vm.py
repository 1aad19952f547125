"""An arm64 machine on KVM: vCPUs that PSCI starts, a GIC in the kernel, each vCPU's PMU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.errors import HostError
from vmrun.kvm.aarch64 import features, gic, registers
from vmrun.kvm.aarch64.paging import translate
from vmrun.kvm.host import Kvm
from vmrun.kvm.vm import Vm, fault, vcpu_registers, vcpu_state
from vmrun.plan import ppi
from vmrun.plan.model import ArmCpus, EntryPlan, MachinePlan

if TYPE_CHECKING:
    from vmrun.core.state import State
    from vmrun.kvm.report import Scene

IN_KERNEL = gic.KINDS
"""Kinds of a plan's devices that KVM itself is."""

LINES = 256
"""Shared interrupts of the GIC, as QEMU's `virt` has them (include/hw/arm/virt.h, NUM_IRQS)."""

_PMU, _PMU_IRQ, _PMU_INIT = 0, 0, 1  # KVM_ARM_VCPU_PMU_V3_CTRL, _IRQ, _INIT
_FIRST_PPI = 16  # of the GIC's interrupt numbers (Arm IHI 0069, section 2.2)

_DEFAULT_ADDRESS_BITS = 40
"""What a VM has that was made without a word on it (Documentation/virt/kvm/api.rst, 4.2)."""
_FEWEST_ADDRESS_BITS = 32
_INSTRUCTION = 4


class ArmVm(Vm):
    """A VM of arm64 with its vCPUs; see `vmrun.kvm.arch.GuestVm`."""

    def __init__(self, core: CoreMachine, kvm: Kvm, top: int) -> None:
        """Make it with guest-physical addresses up to ``top``. Raise HostError E351 where the host has fewer bits."""
        super().__init__(core, kvm, _address_bits(kvm, top))
        self.vcpus: list[Any] = []
        self._capabilities = kvm.capabilities
        self._features = 0

    def add_vcpus(self, count: int, names: tuple[str, ...]) -> None:
        """Make vCPUs with the features ``names``; all but the first wait for PSCI. Raise as `features.bits`."""
        self._features = features.bits(names, self._capabilities)
        for index in range(count):
            self.vcpus.append(self.new_vcpu(index))
            self.reset(index)

    def reset(self, index: int) -> None:
        """Give vCPU ``index`` the registers of a reset; SVE allows it once."""
        self.check(lib.vmr_kvm_arm_vcpu_init(self.vcpus[index], self._features, index == 0), f"vCPU {index}")

    def add_pmus(self) -> None:
        """Give each vCPU's PMU its interrupt; the GIC is there, as KVM wants it."""
        number = ffi.new("int *", _FIRST_PPI + ppi.PMU)
        for index, vcpu in enumerate(self.vcpus):
            self.check(lib.vmr_kvm_vcpu_attr_set(vcpu, _PMU, _PMU_IRQ, number), f"PMU of vCPU {index}")
            self.check(lib.vmr_kvm_vcpu_attr_set(vcpu, _PMU, _PMU_INIT, ffi.NULL), f"PMU of vCPU {index}")

    def enter(self, entry: EntryPlan) -> None:
        """Put the boot vCPU at the plan's entry, in EL1 with interrupts masked, as KVM has made it. See `GuestVm`."""
        for name, value in (("pc", entry.pc), *entry.registers):
            if name not in registers.GENERAL:
                raise HostError(f"arm64 has no register `{name}`", code="E310", remedy="plan the manifest again")
            self.set_reg(self.vcpus[0], registers.GENERAL[name], value)

    def where(self, index: int) -> Mapping[str, int]:
        """Return where vCPU ``index`` stands. See `GuestVm`."""
        vcpu = self.vcpus[index]
        numbers = registers.GENERAL | registers.SYSTEM
        found = {name: self.get_reg(vcpu, number) for name, number in numbers.items()}
        return {"pc": found.pop("pc"), **found}

    def save(self, index: int) -> State:
        """Return the registers of vCPU ``index`` that `registers` names and that can be written. See `GuestVm`."""
        vcpu = self.vcpus[index]
        found = {name: self.get_reg(vcpu, number) for name, number in registers.WRITABLE.items()}
        return vcpu_state("aarch64", found)

    def load(self, index: int, state: State) -> None:
        """Give vCPU ``index`` those registers. See `GuestVm`."""
        for name, value in vcpu_registers("aarch64", state, registers.WRITABLE).items():
            self.set_reg(self.vcpus[index], registers.WRITABLE[name], value)

    def scene(self, index: int) -> Scene:
        """Return what a report says of vCPU ``index``. See `GuestVm`."""
        from vmrun.kvm import report  # hardly any run falls

        found = dict(self.where(index))
        pc = found["pc"]
        at = translate(found, pc, self._descriptor)
        code = self._read(at, _INSTRUCTION) if at is not None else b""
        return report.Scene(index, fault(self.vcpus[index]), found, pc, code, "aarch64")

    def _descriptor(self, gpa: int) -> int | None:
        data = self._read(gpa, 8)
        return int.from_bytes(data, "little") if data else None

    def _read(self, gpa: int, size: int) -> bytes:
        try:
            return self.core.read_ram(gpa, size)
        except HostError:
            return b""


def _address_bits(kvm: Kvm, top: int) -> int:
    """Return KVM_CREATE_VM's argument for guest-physical addresses up to ``top``; 0 is KVM's default."""
    needed, most = top.bit_length(), kvm.capabilities["KVM_CAP_ARM_VM_IPA_SIZE"]
    most = most if most > 0 else _DEFAULT_ADDRESS_BITS
    if needed > most:
        raise HostError(
            f"the guest's memory ends at {top:#x}, and guest-physical addresses have {most} bits on this host",
            code="E351",
            capability="KVM_CAP_ARM_VM_IPA_SIZE",
            remedy="set a smaller memory.size",
        )
    if needed <= _DEFAULT_ADDRESS_BITS <= most:
        return 0
    return max(needed, min(most, _FEWEST_ADDRESS_BITS))


def build(core: CoreMachine, kvm: Kvm, plan: MachinePlan) -> ArmVm:
    """Return the VM of ``plan`` with its vCPUs and its GIC.

    Raise HostError E310 for a plan that is none of arm64, E325 where KVM refuses, E327 and E328 for features, E351
    where memory lies beyond the host's addresses.
    """
    cpu = plan.cpu
    assert isinstance(cpu, ArmCpus)
    vm = ArmVm(core, kvm, max(region.base + region.size - 1 for region in plan.ram))
    vm.add_vcpus(cpu.count, cpu.features)
    gic.add(vm, plan, LINES)
    if "pmu" in cpu.features:
        vm.add_pmus()
    return vm
