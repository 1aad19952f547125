"""The I/O APIC, which KVM serves in the kernel: here only its place.

Spec: Intel 82093AA data sheet; arch/x86/kvm/ioapic.h. The MADT names it, so it needs no node.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, Needs, in_kernel

DEVICE = DeviceType(
    kind="ioapic",
    doc="I/O APIC, which KVM serves in the kernel",
    owner="board",
    needs=Needs(size=0x1000, trigger=None),
    realize=in_kernel,
)
