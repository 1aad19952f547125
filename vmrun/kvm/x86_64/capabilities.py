"""What KVM must have on x86 beyond what every architecture needs."""

from __future__ import annotations

from vmrun.kvm.capabilities import Capability, mp_state

TABLE = (
    mp_state(required=False),
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
