"""A region of GICv3 redistributors, one for each vCPU in order, which KVM serves in the kernel: here only its place.

Spec: IHI 0069, section 12.10; Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst. The GICv3's node names it.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, Needs, in_kernel

FRAMES = 0x20000
"""What one redistributor takes: two frames of 64 KiB."""


DEVICE = DeviceType(
    kind="gicv3-redist",
    doc="GICv3's redistributors, which KVM serves in the kernel",
    owner="board",
    needs=Needs(size=FRAMES, align=0x10000, trigger=None),
    realize=in_kernel,
)
