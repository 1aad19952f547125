"""What KVM must have on riscv64 beyond what every architecture needs."""

from __future__ import annotations

from vmrun.kvm.capabilities import Capability, mp_state

TABLE = (
    mp_state(required=True),
    Capability(
        "KVM_CAP_ONE_REG",
        70,
        True,
        "the ISA, the clock and SBI of a vCPU",
        calls=("KVM_GET_ONE_REG", "KVM_SET_ONE_REG", "KVM_GET_REG_LIST"),
    ),
    Capability("KVM_CAP_DEVICE_CTRL", 89, False, "APLIC and IMSICs in the kernel", calls=("KVM_CREATE_DEVICE",)),
    Capability("KVM_CAP_VM_GPA_BITS", 207, False, "how many bits a guest-physical address has"),
)
