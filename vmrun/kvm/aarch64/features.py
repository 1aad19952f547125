"""Optional features of arm64 vCPUs: their names in manifests, their bits in KVM_ARM_VCPU_INIT, what KVM must have.

Source: Linux ``arch/arm64/include/uapi/asm/kvm.h`` (KVM_ARM_VCPU_*), ``Documentation/virt/kvm/api.rst``, 4.82.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vmrun.errors import HostError
from vmrun.frozen import frozen


@frozen
class Feature:
    """``bits`` are numbers of KVM_ARM_VCPU_*, ``needs`` the capabilities that must all be there."""

    name: str
    bits: tuple[int, ...]
    needs: tuple[str, ...]


FEATURES = (
    Feature("pmu", (3,), ("KVM_CAP_ARM_PMU_V3", "KVM_CAP_VCPU_ATTRIBUTES")),
    Feature("sve", (4,), ("KVM_CAP_ARM_SVE",)),
    # KVM takes both algorithms or none (arch/arm64/kvm/arm.c, system_supported_vcpu_features).
    Feature("pauth", (5, 6), ("KVM_CAP_ARM_PTRAUTH_ADDRESS", "KVM_CAP_ARM_PTRAUTH_GENERIC")),
)
"""In the order in which plans name them."""


def offered(capabilities: Mapping[str, int]) -> tuple[str, ...]:
    """Return the names of the features that a host with these answers to KVM_CHECK_EXTENSION has."""
    return tuple(feature.name for feature in FEATURES if all(capabilities[need] > 0 for need in feature.needs))


def bits(names: Iterable[str], capabilities: Mapping[str, int]) -> int:
    """Return the mask for KVM_ARM_VCPU_INIT. Raise HostError E328 for an unknown name, E327 for one the host lacks."""
    known = {feature.name: feature for feature in FEATURES}
    have, mask = offered(capabilities), 0
    for name in names:
        if name not in known:
            listed = ", ".join(known)
            raise HostError(f"no CPU feature is called `{name}`", code="E328", remedy=f"the names are {listed}")
        if name not in have:
            text = f"this host's CPU and KVM cannot give a guest the feature `{name}`"
            raise HostError(text, code="E327", remedy=f'write "-{name}" into `features` in [cpu]')
        for bit in known[name].bits:
            mask |= 1 << bit
    return mask
