"""What KVM offers a guest of the host's architecture, as data: read where a plan is made."""

from __future__ import annotations

from vmrun.kvm.host import Kvm
from vmrun.plan.offer import Offer

MAX_VCPUS = 64
"""As many as a machine of the C core holds."""


def offer(why: str) -> Offer:
    """Return the offer; ``why`` is the reason for this engine in one line. ``extensions`` are the CPU's features.

    Raise HostError E320 to E325 where this host has no KVM that the engine can use.
    """
    import platform

    with Kvm() as kvm:
        kvm.require()
        arch = platform.machine()
        most = min(MAX_VCPUS, kvm.capabilities["KVM_CAP_MAX_VCPUS"])
        return Offer("kvm", why, arch, _features(kvm, arch), most, 0, "")


def _features(kvm: Kvm, arch: str) -> tuple[str, ...]:
    if arch != "x86_64":
        return ()
    from vmrun.kvm.x86_64 import cpuid

    deadline = kvm.capabilities["KVM_CAP_TSC_DEADLINE_TIMER"] > 0
    return cpuid.names(cpuid.offered(cpuid.supported(kvm), tsc_deadline=deadline))
