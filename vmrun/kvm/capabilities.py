"""What the KVM engine asks of the kernel, as data: number, how much it matters, what it is for, what to do without it.

Here stands what every architecture needs; the rest is in ``capabilities.py`` of its folder.

Numbers: Linux ``include/uapi/linux/kvm.h``; meaning: ``Documentation/virt/kvm/api.rst``.
"""

from __future__ import annotations

from collections.abc import Callable

from vmrun.frozen import frozen

API_VERSION = 12
"""The one version of the KVM interface since Linux 2.6.22 (api.rst, KVM_GET_API_VERSION)."""

NEWER = "run a newer kernel"
_CONFIG = "run a kernel whose KVM was built with it: the distribution's own has it"


@frozen
class Capability:
    """A capability: ``required`` of each host or optional, ``purpose`` in a few words, ``calls`` that depend on it.

    Required is what every machine of the architecture uses. What some machine may use is optional: the call that needs
    it fails where it is not there, and the error names it.
    """

    name: str
    number: int
    required: bool
    purpose: str
    remedy: str = NEWER
    calls: tuple[str, ...] = ()


COMMON = (
    Capability("KVM_CAP_USER_MEMORY", 3, True, "guest RAM", calls=("KVM_SET_USER_MEMORY_REGION",)),
    Capability("KVM_CAP_DESTROY_MEMORY_REGION_WORKS", 21, False, "guest RAM can be taken away again"),
    Capability("KVM_CAP_JOIN_MEMORY_REGIONS_WORKS", 30, False, "RAM regions side by side"),
    Capability("KVM_CAP_IMMEDIATE_EXIT", 136, True, "a vCPU can be stopped at any time (Linux 4.13)"),
    Capability("KVM_CAP_IOEVENTFD", 36, False, "doorbells without an exit", _CONFIG, ("KVM_IOEVENTFD",)),
    Capability("KVM_CAP_IRQFD", 32, False, "interrupts from other threads", _CONFIG, ("KVM_IRQFD",)),
    Capability("KVM_CAP_IRQ_ROUTING", 25, False, "where an interrupt leads", _CONFIG, ("KVM_SET_GSI_ROUTING",)),
    Capability("KVM_CAP_SIGNAL_MSI", 77, False, "message-signalled interrupts at once", calls=("KVM_SIGNAL_MSI",)),
    Capability("KVM_CAP_IRQFD_RESAMPLE", 82, False, "level-triggered interrupts without an exit"),
    Capability("KVM_CAP_IOEVENTFD_ANY_LENGTH", 122, False, "one doorbell for writes of every width"),
    Capability("KVM_CAP_IOEVENTFD_NO_LENGTH", 100, False, "the fastest doorbells (hardware MMIO acceleration)"),
    Capability("KVM_CAP_MAX_VCPUS", 66, True, "how many vCPUs there may be", calls=("KVM_CREATE_VCPU",)),
)


def mp_state(*, required: bool) -> Capability:
    """Return what is behind the state of a vCPU, which is ``required`` where it is not KVM's or the guest's alone."""
    calls = ("KVM_GET_MP_STATE", "KVM_SET_MP_STATE")
    return Capability("KVM_CAP_MP_STATE", 14, required, "which vCPUs run", calls=calls)


def ask(answer: Callable[[int], int], table: tuple[Capability, ...]) -> dict[str, int]:
    """Return what ``answer(number)`` says to each capability of ``table``, by name; below 1: it is not there."""
    return {capability.name: answer(capability.number) for capability in table}


def missing(answers: dict[str, int], table: tuple[Capability, ...]) -> tuple[Capability, ...]:
    """Return the required capabilities that are not there."""
    return tuple(c for c in table if c.required and answers[c.name] < 1)


def behind(call: str, table: tuple[Capability, ...]) -> Capability | None:
    """Return the capability of ``table`` that the ioctl ``call`` depends on, or None."""
    name = call.partition("(")[0]
    return next((c for c in table if name in c.calls), None)
