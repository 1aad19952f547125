"""GICv3's interrupt translation service (ITS), which KVM serves in the kernel: here only its place.

Spec: IHI 0069, section 12.18; Linux Documentation/virt/kvm/devices/arm-vgic-its.rst. Devicetree:
interrupt-controller/arm,gic-v3.yaml, whose node holds it.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, Needs, in_kernel, label_of, reg
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Empty, FdtNode, Strings


def node(device: DevicePlan) -> FdtNode:
    """Return the ``msi-controller`` node, labelled with the device's id."""
    props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("msi-controller", Empty()),
        ("#msi-cells", Cells(1)),
    )
    return FdtNode(f"msi-controller@{device.base:x}", props, label=label_of(device))


DEVICE = DeviceType(
    kind="gicv3-its",
    doc="GICv3's interrupt translation service, which KVM serves in the kernel",
    owner="board",
    compatible=("arm,gic-v3-its",),
    needs=Needs(size=0x20000, align=0x10000, trigger=None),
    realize=in_kernel,
)
