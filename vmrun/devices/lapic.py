"""The local APICs of the vCPUs, which KVM serves in the kernel: here only its place.

Spec: Intel SDM 3A, chapter 11; arch/x86/kvm/lapic.c. The MADT names it, so it needs no node.
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
    kind="lapic",
    doc="local APICs of the vCPUs, which KVM serves in the kernel",
    needs=Needs(size=0x1000, trigger=None),
    realize=realize,
)
