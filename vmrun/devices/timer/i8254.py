"""The interval timer of a PC, which KVM serves in the kernel where a plan has it: here only its place.

Spec: Intel 82C54 data sheet; arch/x86/kvm/i8254.c (KVM_CREATE_PIT2). A kernel with ACPI and a local APIC needs none.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, Needs, in_kernel

DEVICE = DeviceType(
    kind="i8254",
    doc="interval timer, which KVM serves in the kernel",
    owner="board",
    needs=Needs(size=4, align=1, trigger=None, space="pio"),
    realize=in_kernel,
)
