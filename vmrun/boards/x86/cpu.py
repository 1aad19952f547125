"""The CPUs of an x86 board: how many in what topology, and what a manifest changes of the host's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards.takes import topology
from vmrun.errors import PlanError
from vmrun.images.words import did_you_mean
from vmrun.plan import x86_features
from vmrun.plan.model import X86Cpus
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

_NEEDED = ("apic", "cx8", "fpu", "fxsr", "lm", "msr", "nx", "pae", "sse", "sse2", "syscall", "tsc")
"""Without one of them no x86_64 Linux starts (arch/x86/boot/cpuflags.c, verify_cpu.S; REQUIRED_MASK)."""


def cpus(manifest: Manifest, offer: Offer) -> X86Cpus:
    """Return the CPUs of a manifest.

    Raise PlanError E135 for a feature that there is not, that the host lacks, or that a guest cannot be without.
    """
    count = manifest.cpu.count
    features = tuple(feature.lower() for feature in manifest.cpu.features)
    for index, feature in enumerate(features):
        _check(feature, offer, index)
    return X86Cpus(offer.arch, count, "host", features, topology(manifest, count))


def apic_ids(cpu: X86Cpus) -> tuple[int, ...]:
    """Return the APIC ids of the vCPUs in order."""
    return tuple(cpu.topology.apic_id(index) for index in range(cpu.count))


def _check(feature: str, offer: Offer, index: int) -> None:
    """Look a feature up in what the host has; where nobody has looked at a host, the engine does when it is built."""
    sign, name = feature[0], feature[1:]
    if name not in x86_features.bits():
        message, remedy = (
            f"no CPU feature is called `{name}`",
            did_you_mean(name, x86_features.bits(), "the names are those of /proc/cpuinfo"),
        )
    elif sign == "-" and name in _NEEDED:
        message, remedy = f"a guest cannot be without `{name}`", "leave it out"
    elif sign == "+" and offer.extensions and name not in offer.extensions:
        message, remedy = f"the host's KVM gives a guest no `{name}`", "leave it out; /proc/cpuinfo lists the names"
    else:
        return
    raise PlanError(message, code="E135", key=("cpu", "features", str(index)), remedy=remedy)
