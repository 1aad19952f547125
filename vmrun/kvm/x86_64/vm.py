"""An x86 machine on KVM: what the VM has in the kernel, and each vCPU made as firmware would leave it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.kvm.host import Kvm
from vmrun.kvm.vm import Vm, fault, vcpu_registers, vcpu_state
from vmrun.kvm.x86_64 import cpuid, msrs
from vmrun.kvm.x86_64 import state as x86
from vmrun.plan.model import EntryPlan, MachinePlan, X86Cpus
from vmrun.plan.topology import Topology

if TYPE_CHECKING:
    from vmrun.core.state import State
    from vmrun.kvm.report import Scene

IDENTITY_MAP = 0xFEFFC000
"""One page, then three for the TSS: below the LAPIC and the BIOS, where no board has anything."""
TSS = IDENTITY_MAP + 0x1000

MESSAGES = 0xFEE00000
"""Where a message to the LAPIC with id 0 goes, and the next one's a page on (Intel SDM vol. 3, 10.11.1)."""

LINT_EXTINT = 7 << 8
LINT_NMI = 4 << 8
"""Delivery modes of a LAPIC's local vector table (Intel SDM vol. 3, 11.5.1)."""

IN_KERNEL = frozenset({"lapic", "ioapic", "i8259", "i8254"})
"""Kinds of a plan's devices that KVM itself is."""


class X86Vm(Vm):
    """A VM of x86. ``irqchip`` is ``kernel``, ``split`` or None; ``pit`` asks for an i8254."""

    def __init__(self, core: CoreMachine, kvm: Kvm, *, irqchip: str | None = "kernel", pit: bool = False) -> None:
        """Make it, before its vCPUs. Raise HostError E325 where KVM refuses."""
        super().__init__(core, kvm)
        self.check(lib.vmr_kvm_x86_real_mode_pages(self.handle, TSS, IDENTITY_MAP), "VM")
        if irqchip is not None:
            self.check(lib.vmr_kvm_x86_irqchip(self.handle, irqchip == "split"), "interrupt controller")
            self.take_messages(MESSAGES)
        if irqchip == "kernel":
            self.wire()
        if pit:
            self.check(lib.vmr_kvm_x86_pit(self.handle), "i8254")
        self._lint = irqchip is not None
        self.vcpus: list[Any] = []
        deadline = irqchip is not None and kvm.capabilities["KVM_CAP_TSC_DEADLINE_TIMER"] > 0
        self.cpuid = cpuid.offered(cpuid.supported(kvm), tsc_deadline=deadline)

    def add_vcpus(self, count: int, changes: tuple[str, ...] = (), topology: Topology | None = None) -> list[Any]:
        """Return ``count`` new vCPUs with the CPU that the changes and the topology make.

        Raise HostError E325 where KVM refuses, E327 and E328 for features as `cpuid.build`.
        """
        shape = topology or Topology(cores=count)
        table = cpuid.choose(self.cpuid, changes)
        for index in range(count):
            vcpu = self.new_vcpu(shape.apic_id(index))
            what = f"vCPU {index}"
            rows = cpuid.rows(cpuid.place(table, shape, index))
            self.check(lib.vmr_kvm_x86_set_cpuid(vcpu, rows, len(rows)), what)
            entries = ffi.new("vmr_kvm_x86_msr[]", [(msr.number, msr.value) for msr in msrs.AT_ENTRY])
            self.check(lib.vmr_kvm_x86_set_msrs(vcpu, entries, len(entries)), what)
            if self._lint:
                self.check(lib.vmr_kvm_x86_set_lint(vcpu, LINT_EXTINT, LINT_NMI), what)
            self.vcpus.append(vcpu)
        return self.vcpus

    def enter(self, entry: EntryPlan) -> None:
        """Put the boot vCPU at the plan's entry. See `GuestVm`."""
        self.check(x86.put(self.vcpus[0], x86.entry_state(entry)), "boot vCPU")

    def where(self, index: int) -> Mapping[str, int]:
        """Return where vCPU ``index`` stands. See `GuestVm`."""
        return where(self.vcpus[index])

    def save(self, index: int) -> State:
        """Return the general, control and segment registers of vCPU ``index``. See `GuestVm`."""
        return vcpu_state("x86_64", x86.flat(x86.get(self.vcpus[index])))

    def load(self, index: int, state: State) -> None:
        """Give vCPU ``index`` those registers. See `GuestVm`."""
        found = vcpu_registers("x86_64", state, x86.flat(x86.get(self.vcpus[index])))
        self.check(x86.put(self.vcpus[index], x86.from_flat(found)), f"vCPU {index}")

    def scene(self, index: int) -> Scene:
        """Return what a report says of vCPU ``index``. See `GuestVm`."""
        from vmrun.kvm import report  # hardly any run falls

        vcpu = self.vcpus[index]
        pc = linear_pc(vcpu)
        code = read_linear(self.core, vcpu, pc, report.LONGEST_INSTRUCTION)
        return report.Scene(index, fault(vcpu), where(vcpu), pc, code, f"x86-{code_bits(vcpu)}")


PIT = "i8254"
"""The kind of a plan's device that asks for the timer, for guests that have no other clock."""


def build(core: CoreMachine, kvm: Kvm, plan: MachinePlan) -> X86Vm:
    """Return the VM of ``plan`` with its vCPUs. Raise HostError as `X86Vm` and `X86Vm.add_vcpus`."""
    cpu = plan.cpu
    assert isinstance(cpu, X86Cpus)
    vm = X86Vm(core, kvm, pit=any(device.kind == PIT for device in plan.devices))
    vm.add_vcpus(cpu.count, cpu.features, cpu.topology)
    return vm


def where(vcpu: Any) -> Mapping[str, int]:
    """Return where ``vcpu`` stands, for a person: ``pc`` first."""
    found = x86.get(vcpu)
    pc = found.registers["rip"]
    if not found.registers["cr0"] & x86.PE:
        pc += found.segments["cs"].base
    rest = {name: found.registers[name] for name in (*x86.GENERAL, *x86.CONTROL)}
    return {"pc": pc, **rest, **{name: found.segments[name].selector for name in ("cs", "ss")}}


def linear_pc(vcpu: Any) -> int:
    """Return the linear address of the next instruction."""
    found = x86.get(vcpu)
    long = found.registers["efer"] & x86.EFER_LMA and found.segments["cs"].access >> 13 & 1
    return found.registers["rip"] + (0 if long else found.segments["cs"].base)


def read_linear(core: CoreMachine, vcpu: Any, address: int, size: int) -> bytes:
    """Return up to ``size`` bytes at a linear address, as far as they are mapped in RAM."""
    from vmrun.errors import HostError

    found = b""
    gpa = ffi.new("uint64_t *")
    while len(found) < size:
        here = address + len(found)
        if lib.vmr_kvm_x86_translate(vcpu, here & (1 << 64) - 1, gpa) < 0:
            break
        step = min(size - len(found), 4096 - here % 4096)
        try:
            found += core.read_ram(int(gpa[0]), step)
        except HostError:
            break
    return found


def code_bits(vcpu: Any) -> int:
    """Return the width of the code that ``vcpu`` runs: 16, 32 or 64."""
    found = x86.get(vcpu)
    access = found.segments["cs"].access
    if found.registers["efer"] & x86.EFER_LMA and access >> 13 & 1:
        return 64
    return 32 if access >> 14 & 1 else 16
