"""The CPUs of an x86 board: how many in what topology, and what a manifest changes of the host's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards import bounds
from vmrun.errors import PlanError
from vmrun.plan.model import X86Cpus
from vmrun.plan.offer import Offer
from vmrun.plan.topology import Topology

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

_NEEDED = ("apic", "cx8", "fpu", "fxsr", "lm", "msr", "nx", "pae", "sse", "sse2", "syscall", "tsc")
"""Without one of them no x86_64 Linux starts (arch/x86/boot/cpuflags.c, verify_cpu.S; REQUIRED_MASK)."""


def cpus(manifest: Manifest, offer: Offer) -> X86Cpus:
    """Return the CPUs of a manifest.

    Factors of the topology that it leaves out are 1, but for the cores, which make up the count. Raise PlanError: E106
    too many, E135 a model, or a feature, that the host does not have or a guest cannot be without.
    """
    asked = manifest.cpu
    count = bounds.cpu_count(manifest, offer, "vCPUs")
    sockets, threads = asked.sockets or 1, asked.threads or 1
    cores = asked.cores or count // (sockets * threads)
    if asked.model not in (None, "host", "max"):
        raise PlanError(
            f"{manifest.machine.board} has no CPU model `{asked.model}`",
            code="E135",
            key=("cpu", "model"),
            remedy='write "host", and change it by features',
        )
    for index, feature in enumerate(asked.features):
        _check(feature, offer, index)
    return X86Cpus(offer.arch, count, "host", asked.features, Topology(sockets, cores, threads))


def apic_ids(cpu: X86Cpus) -> tuple[int, ...]:
    """Return the APIC ids of the vCPUs in order."""
    return tuple(cpu.topology.apic_id(index) for index in range(cpu.count))


def _check(feature: str, offer: Offer, index: int) -> None:
    """Look a feature up in what the host has; where nobody has looked at a host, the engine does when it is built."""
    sign, name = feature[0], feature[1:].lower()
    if sign == "-" and name in _NEEDED:
        message, remedy = f"a guest cannot be without `{name}`", "leave it out"
    elif sign == "+" and offer.extensions and name not in offer.extensions:
        message, remedy = f"the host's KVM gives a guest no `{name}`", "leave it out; /proc/cpuinfo lists the names"
    else:
        return
    raise PlanError(message, code="E135", key=("cpu", "features", str(index)), remedy=remedy)
