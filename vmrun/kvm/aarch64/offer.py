"""What KVM offers an arm64 guest: interrupt controllers, sizes of pages, and the optional features of its CPUs."""

from __future__ import annotations

from vmrun.kvm.host import Kvm
from vmrun.kvm.offer import MAX_VCPUS, vcpus
from vmrun.plan.offer import Offer

_PAGE = 4096


def nominal(why: str) -> Offer:
    """Return what nearly every server has; the engine refuses a plan that its host cannot fulfil."""
    return Offer("kvm", why, "aarch64", ("pmu",), MAX_VCPUS, 0, "", ("gicv3", "gicv2"), (4096,), nominal=True)


def offer(kvm: Kvm, why: str) -> Offer:
    """Return this host's offer, as a VM with one vCPU tells it. Raise HostError E325 where KVM refuses that."""
    from vmrun.core.machine import CoreMachine
    from vmrun.kvm.aarch64 import features, gic, registers
    from vmrun.kvm.aarch64.vm import ArmVm

    names = features.offered(kvm.capabilities)
    with CoreMachine() as core:
        core.add_ram(0, _PAGE)
        vm = ArmVm(core, kvm, _PAGE - 1)
        vm.add_vcpus(1, names)
        pages = registers.granules(vm.get_reg(vm.vcpus[0], registers.ID_AA64MMFR0_EL1))
        return Offer("kvm", why, "aarch64", names, vcpus(kvm), 0, "", gic.offered(vm), pages)
