"""What KVM offers an arm64 guest: interrupt controllers, sizes of pages, and the optional features of its CPUs."""

from __future__ import annotations

from vmrun.kvm.offer import MAX_VCPUS
from vmrun.plan.offer import Offer


def nominal(why: str) -> Offer:
    """Return what nearly every server has; the engine refuses a plan that its host cannot fulfil."""
    return Offer("kvm", why, "aarch64", ("pmu",), MAX_VCPUS, 0, "", ("gicv3", "gicv2"), (4096,))
