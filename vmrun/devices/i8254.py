"""The interval timer of a PC, which KVM serves in the kernel where a plan has it: here only its place.

Spec: Intel 82C54 data sheet; arch/x86/kvm/i8254.c (KVM_CREATE_PIT2). A kernel with ACPI and a local APIC needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Live, Needs, Quiet, Wires
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Do nothing: the engine has made it, and the guest's accesses never leave the kernel."""
    return Quiet()


DEVICE = DeviceType(
    kind="i8254",
    doc="interval timer, which KVM serves in the kernel",
    needs=Needs(size=4, align=1, trigger=None, space="pio"),
    realize=realize,
)
