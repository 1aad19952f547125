"""What the KVM engine asks of the kernel, as data: number, how much it matters, what it is for, what to do without it.

Numbers: Linux ``include/uapi/linux/kvm.h``; meaning: ``Documentation/virt/kvm/api.rst``.
"""

from __future__ import annotations

from collections.abc import Callable

from vmrun.frozen import frozen

API_VERSION = 12
"""The one version of the KVM interface since Linux 2.6.22 (api.rst, KVM_GET_API_VERSION)."""

_NEWER = "run a newer kernel"
_CONFIG = "run a kernel whose KVM was built with it: the distribution's own has it"


@frozen
class Capability:
    """A capability: ``required`` or merely wanted, ``purpose`` in a few words, ``calls`` that depend on it."""

    name: str
    number: int
    required: bool
    purpose: str
    remedy: str = _NEWER
    calls: tuple[str, ...] = ()


COMMON = (
    Capability("KVM_CAP_USER_MEMORY", 3, True, "guest RAM", calls=("KVM_SET_USER_MEMORY_REGION",)),
    Capability("KVM_CAP_DESTROY_MEMORY_REGION_WORKS", 21, True, "guest RAM can be taken away again"),
    Capability("KVM_CAP_JOIN_MEMORY_REGIONS_WORKS", 30, True, "RAM regions side by side"),
    Capability("KVM_CAP_IMMEDIATE_EXIT", 136, True, "a vCPU can be stopped at any time (Linux 4.13)"),
    Capability("KVM_CAP_IOEVENTFD", 36, True, "doorbells without an exit", _CONFIG, ("KVM_IOEVENTFD",)),
    Capability("KVM_CAP_IRQFD", 32, True, "interrupts from other threads", _CONFIG, ("KVM_IRQFD",)),
    Capability("KVM_CAP_IRQ_ROUTING", 25, True, "where an interrupt leads", _CONFIG, ("KVM_SET_GSI_ROUTING",)),
    Capability("KVM_CAP_SIGNAL_MSI", 77, False, "message-signalled interrupts at once", calls=("KVM_SIGNAL_MSI",)),
    Capability("KVM_CAP_IRQFD_RESAMPLE", 82, False, "level-triggered interrupts without an exit"),
    Capability("KVM_CAP_IOEVENTFD_ANY_LENGTH", 122, False, "one doorbell for writes of every width"),
    Capability("KVM_CAP_IOEVENTFD_NO_LENGTH", 100, False, "the fastest doorbells (hardware MMIO acceleration)"),
    Capability("KVM_CAP_MP_STATE", 14, True, "which vCPUs run", calls=("KVM_GET_MP_STATE", "KVM_SET_MP_STATE")),
    Capability("KVM_CAP_MAX_VCPUS", 66, True, "how many vCPUs there may be", calls=("KVM_CREATE_VCPU",)),
)

X86 = (
    Capability("KVM_CAP_IRQCHIP", 0, True, "LAPIC and IOAPIC in the kernel", calls=("KVM_CREATE_IRQCHIP",)),
    Capability("KVM_CAP_HLT", 1, True, "a halted vCPU costs nothing"),
    Capability("KVM_CAP_SET_TSS_ADDR", 4, True, "real mode on Intel", calls=("KVM_SET_TSS_ADDR",)),
    Capability("KVM_CAP_SET_IDENTITY_MAP_ADDR", 37, True, "real mode on Intel", calls=("KVM_SET_IDENTITY_MAP_ADDR",)),
    Capability(
        "KVM_CAP_EXT_CPUID",
        7,
        True,
        "the CPU that the guest sees",
        calls=("KVM_GET_SUPPORTED_CPUID", "KVM_SET_CPUID2"),
    ),
    Capability("KVM_CAP_TSC_DEADLINE_TIMER", 72, False, "timer interrupts that cost one MSR write"),
    Capability("KVM_CAP_ADJUST_CLOCK", 39, False, "a paravirtual clock"),
    Capability("KVM_CAP_GET_TSC_KHZ", 61, False, "the frequency of the TSC", calls=("KVM_GET_TSC_KHZ",)),
    Capability("KVM_CAP_XSAVE", 55, False, "vector registers in reports", calls=("KVM_GET_XSAVE",)),
    Capability("KVM_CAP_SPLIT_IRQCHIP", 121, False, "an IOAPIC outside of the kernel", calls=("KVM_ENABLE_CAP",)),
    Capability("KVM_CAP_PIT2", 33, False, "the i8254, for guests that need one", calls=("KVM_CREATE_PIT2",)),
)

BY_ARCH = {"x86_64": COMMON + X86, "aarch64": COMMON, "riscv64": COMMON}
"""Host architecture, as ``platform.machine()`` names it -> its capabilities."""

MAX_VCPUS = 66
"""KVM_CAP_MAX_VCPUS: its answer is the number of vCPUs that a VM may have."""


def ask(answer: Callable[[int], int], table: tuple[Capability, ...]) -> dict[str, int]:
    """Return what ``answer(number)`` says to each capability of ``table``, by name; below 1: it is not there."""
    return {capability.name: answer(capability.number) for capability in table}


def missing(answers: dict[str, int], table: tuple[Capability, ...]) -> tuple[Capability, ...]:
    """Return the required capabilities that are not there."""
    return tuple(c for c in table if c.required and answers[c.name] < 1)


def behind(call: str) -> Capability | None:
    """Return the capability that the ioctl ``call`` depends on, or None."""
    name = call.partition("(")[0]
    return next((c for table in (COMMON, X86) for c in table if name in c.calls), None)
