"""The local APICs of the vCPUs, which KVM serves in the kernel: here only its place.

Spec: Intel SDM 3A, chapter 11; arch/x86/kvm/lapic.c. The MADT names it, so it needs no node.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, Needs, in_kernel

DEVICE = DeviceType(
    kind="lapic",
    doc="local APICs of the vCPUs, which KVM serves in the kernel",
    owner="board",
    needs=Needs(size=0x1000, trigger=None),
    realize=in_kernel,
)
