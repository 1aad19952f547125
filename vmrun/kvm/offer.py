"""What KVM offers a guest of the host's architecture, as data: read where a plan is made."""

from __future__ import annotations

from vmrun.kvm.arch import part
from vmrun.kvm.host import Kvm
from vmrun.plan.offer import Offer


def offer(why: str) -> Offer:
    """Return this host's offer; ``why`` is the reason for this engine in one line.

    Raise HostError E320 to E325 where this host has no KVM that the engine can use.
    """
    with Kvm() as kvm:
        kvm.require()
        found: Offer = part("offer").offer(kvm, why)
        return found


def nominal(arch: str, why: str) -> Offer:
    """Return what a plan for hosts of ``arch`` may count on where none was asked."""
    found: Offer = part("offer", arch).nominal(why)
    return found


def vcpus(kvm: Kvm) -> int:
    """Return how many vCPUs a machine may have on this host."""
    return min(MAX_VCPUS, kvm.capabilities["KVM_CAP_MAX_VCPUS"])


MAX_VCPUS = 64
"""As many as a machine of the C core holds."""
