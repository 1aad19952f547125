"""What KVM must have on arm64 beyond what every architecture needs."""

from __future__ import annotations

from vmrun.kvm.capabilities import Capability, mp_state

TABLE = (
    mp_state(required=False),
    Capability("KVM_CAP_IRQCHIP", 0, True, "a GIC in the kernel", calls=("KVM_IRQ_LINE",)),
    Capability("KVM_CAP_ONE_REG", 70, True, "registers by number", calls=("KVM_GET_ONE_REG", "KVM_SET_ONE_REG")),
    Capability("KVM_CAP_DEVICE_CTRL", 89, True, "the GIC's place and lines", calls=("KVM_CREATE_DEVICE",)),
    Capability("KVM_CAP_ARM_PSCI_0_2", 102, True, "CPUs that start each other, power off and reset"),
    Capability("KVM_CAP_VCPU_ATTRIBUTES", 127, False, "the feature `pmu`", calls=("KVM_HAS_DEVICE_ATTR",)),
    Capability("KVM_CAP_ARM_VM_IPA_SIZE", 165, False, "how many bits a guest-physical address has"),
    Capability("KVM_CAP_ARM_PMU_V3", 126, False, "the feature `pmu`"),
    Capability("KVM_CAP_ARM_SVE", 170, False, "the feature `sve`", calls=("KVM_ARM_VCPU_FINALIZE",)),
    Capability("KVM_CAP_ARM_PTRAUTH_ADDRESS", 171, False, "the feature `pauth`"),
    Capability("KVM_CAP_ARM_PTRAUTH_GENERIC", 172, False, "the feature `pauth`"),
)
