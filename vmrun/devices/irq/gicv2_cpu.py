"""GICv2's CPU interface, which the hardware itself serves under KVM: here only its place.

Spec: IHI 0048B, section 4.4; Linux Documentation/virt/kvm/devices/arm-vgic.rst. The GICv2's node names it.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, Needs, in_kernel

DEVICE = DeviceType(
    kind="gicv2-cpu",
    doc="GICv2's interface of each CPU, which KVM serves in the kernel",
    owner="board",
    needs=Needs(size=0x10000, align=0x1000, trigger=None),
    realize=in_kernel,
)
