"""The CPUs of an arm64 board: how many in what topology, and which of the host's optional features they have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards.takes import topology
from vmrun.devices.irq import gicv2
from vmrun.errors import PlanError
from vmrun.plan.model import ArmCpus
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

NAMES = ("pmu", "sve", "pauth")
"""What KVM lets a vCPU have or not have (Linux arch/arm64/include/uapi/asm/kvm.h, KVM_ARM_VCPU_*)."""
_CARRIED = {"gicv2": gicv2.MAX_CPUS}
"""Interrupt controllers that serve fewer vCPUs than the board has."""


def cpus(manifest: Manifest, offer: Offer, controller: str) -> ArmCpus:
    """Return the CPUs of a manifest under the interrupt ``controller``.

    Raise PlanError: E106 more than the controller serves, E135 a feature that there is not or that the host lacks.
    """
    count = manifest.cpu.count
    most = _CARRIED.get(controller, count)
    if count > most:
        raise PlanError(
            f"{count} vCPUs, and the interrupt controller {controller} serves at most {most}",
            code="E106",
            key=("cpu", "count"),
            remedy=f"set cpu.count to at most {most}{_other(manifest, offer)}",
        )
    return ArmCpus(offer.arch, count, "host", _features(manifest, offer), topology(manifest, count))


def _other(manifest: Manifest, offer: Offer) -> str:
    better = [name for name in offer.irqchips if name not in _CARRIED]
    return f', or write irqchip = "{better[0]}" in [machine]' if better else ""


def _features(manifest: Manifest, offer: Offer) -> tuple[str, ...]:
    """Return the features that the vCPUs have: the host's own, changed as the manifest says."""
    chosen = set(offer.extensions)
    for index, feature in enumerate(manifest.cpu.features):
        sign, name = feature[0], feature[1:].lower()
        key = ("cpu", "features", str(index))
        if name not in NAMES:
            raise PlanError(
                f"{manifest.machine.board} has no CPU feature `{name}` to choose",
                code="E135",
                key=key,
                remedy=f"the names are {', '.join(NAMES)}",
            )
        if sign == "-":
            chosen.discard(name)
        elif name in offer.extensions or offer.nominal:
            chosen.add(name)
        else:
            raise PlanError(
                f"the host's KVM gives a guest no `{name}`",
                code="E135",
                key=key,
                remedy=f"leave it out; the host has {', '.join(offer.extensions) or 'none of the optional features'}",
            )
    return tuple(name for name in NAMES if name in chosen)
