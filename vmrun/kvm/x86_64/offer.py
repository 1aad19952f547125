"""What KVM offers an x86 guest: the features of its CPU, as /proc/cpuinfo names them."""

from __future__ import annotations

from vmrun.kvm.host import Kvm
from vmrun.kvm.offer import MAX_VCPUS, vcpus
from vmrun.plan.offer import Offer


def nominal(why: str) -> Offer:
    """Return what every host has; features are left open, and looked up when the machine is built."""
    return Offer("kvm", why, "x86_64", (), MAX_VCPUS, 0, "", nominal=True)


def offer(kvm: Kvm, why: str) -> Offer:
    """Return this host's offer. Raise HostError E325 where KVM does not say."""
    from vmrun.kvm.x86_64 import cpuid

    deadline = kvm.capabilities["KVM_CAP_TSC_DEADLINE_TIMER"] > 0
    features = cpuid.names(cpuid.offered(cpuid.supported(kvm), tsc_deadline=deadline))
    return Offer("kvm", why, "x86_64", features, vcpus(kvm), 0, "")
