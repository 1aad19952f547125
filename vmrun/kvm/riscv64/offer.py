"""What KVM offers a riscv64 guest: the ISA of its harts, their clock, and the interrupt controllers."""

from __future__ import annotations

from vmrun.kvm.host import Kvm
from vmrun.kvm.offer import MAX_VCPUS, vcpus
from vmrun.plan.offer import Offer

_RV64GC = ("i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei")
_TIMEBASE_HZ = 10_000_000
"""The clock of QEMU's riscv `virt` (RISCV_ACLINT_DEFAULT_TIMEBASE_FREQ)."""
_MSI_IDS = 255
"""Interrupt identities of an IMSIC as QEMU's `virt` has them (VIRT_IRQCHIP_NUM_MSIS)."""
_FEWEST_MSI_IDS = 127
"""An identity for each source of the APLIC, in KVM's steps of 64."""


def nominal(why: str) -> Offer:
    """Return what every host with KVM has, but for the clock; the engine refuses a plan that its host cannot fulfil."""
    return Offer(
        *("kvm", why, "riscv64", _RV64GC, MAX_VCPUS, _TIMEBASE_HZ, "sv39", ("plic", "aia")),
        msi_ids=_MSI_IDS,
        nominal=True,
    )


def offer(kvm: Kvm, why: str) -> Offer:
    """Return this host's offer, out of a VM that is never run. Raise HostError E325 where KVM does not say."""
    from vmrun.core.machine import CoreMachine
    from vmrun.kvm.riscv64 import aia, isa
    from vmrun.kvm.riscv64.vm import RiscvVm

    with CoreMachine() as core:
        core.add_ram(0, 4096)
        vm = RiscvVm(core, kvm)
        (vcpu,) = vm.add_vcpus(1)
        have = isa.read(vm, vcpu)
        fixed = isa.fixed(vcpu, have)
        ids = min(aia.most_ids(vm), _MSI_IDS) if "ssaia" in have.extensions else 0
    return Offer(
        *("kvm", why, "riscv64", have.extensions, vcpus(kvm), have.timebase_hz, have.mmu),
        irqchips=("aia", "plic") if ids >= _FEWEST_MSI_IDS else ("plic",),
        fixed=fixed,
        blocks=have.blocks,
        msi_ids=ids,
    )
