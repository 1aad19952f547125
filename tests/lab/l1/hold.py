"""Runs in the lab's host (L1) before the steps: holds KVM's static keys where they are, for as long as the host lives.

KVM on x86_64 turns code on and off as virtual machines come and go, and the kernel does that by writing int3 into its
text while other CPUs run it. QEMU's TCG may execute such an int3 after the kernel has taken it back, and the kernel
dies. The keys, Linux 6.12: `preempt_notifier_key` (virt/kvm/kvm_main.c) is on while there is a machine,
`apic_sw_disabled` and `apic_hw_disabled` while a vCPU's LAPIC is off, `kvm_has_noapic_vcpu` while a vCPU has none
(arch/x86/kvm/lapic.c). Two machines that never run keep all of them on.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys

_KVM_CREATE_VM, _KVM_CREATE_IRQCHIP, _KVM_CREATE_VCPU = 0xAE01, 0xAE60, 0xAE41
_KVM_GET_SREGS, _KVM_SET_SREGS = 0x8138AE83, 0x4138AE84
_SREGS_SIZE, _APIC_BASE_AT, _APIC_ENABLE = 312, 272, 1 << 11


def hold() -> None:
    """Make the machines; their file descriptors are left open on purpose."""
    kvm = os.open("/dev/kvm", os.O_RDWR)
    fcntl.ioctl(fcntl.ioctl(kvm, _KVM_CREATE_VM, 0), _KVM_CREATE_VCPU, 0)
    machine = fcntl.ioctl(kvm, _KVM_CREATE_VM, 0)
    fcntl.ioctl(machine, _KVM_CREATE_IRQCHIP, 0)
    fcntl.ioctl(machine, _KVM_CREATE_VCPU, 0)  # its LAPIC is enabled by a guest that runs
    off = fcntl.ioctl(machine, _KVM_CREATE_VCPU, 1)
    sregs = bytearray(_SREGS_SIZE)
    fcntl.ioctl(off, _KVM_GET_SREGS, sregs)
    base = int.from_bytes(sregs[_APIC_BASE_AT : _APIC_BASE_AT + 8], "little") & ~_APIC_ENABLE
    sregs[_APIC_BASE_AT : _APIC_BASE_AT + 8] = base.to_bytes(8, "little")
    fcntl.ioctl(off, _KVM_SET_SREGS, sregs)


if __name__ == "__main__":
    if os.uname().machine != "x86_64":
        sys.exit()
    hold()
    # The caller goes on once the machines stand.
    if os.fork():
        os._exit(0)
    while True:
        signal.pause()
