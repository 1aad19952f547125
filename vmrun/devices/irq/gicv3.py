"""GICv3, which KVM serves in the kernel: here its distributor's place, and the node that describes all of it.

Spec: ARM Generic Interrupt Controller Architecture Specification, GICv3 and GICv4, IHI 0069, chapter 12; Linux
Documentation/virt/kvm/devices/arm-vgic-v3.rst. Devicetree: interrupt-controller/arm,gic-v3.yaml.
"""

from __future__ import annotations

from vmrun.devices.irq import gicv3_its
from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Props, in_kernel, label_of
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Cells64, Empty, FdtNode, Strings


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``interrupt-controller`` node, labelled with the device's id, its ITS inside."""
    regions = tuple(placed for placed in context.placed if placed.kind == "gicv3-redist")
    windows = tuple(cell for part in (device, *regions) for cell in (part.base, part.size))
    props: Props = (
        ("compatible", Strings(*DEVICE.compatible)),
        ("reg", Cells64(*windows)),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(3)),
        *((("#redistributor-regions", Cells(len(regions))),) if len(regions) > 1 else ()),
        ("#address-cells", Cells(2)),
        ("#size-cells", Cells(2)),
        ("ranges", Empty()),
    )
    inside = tuple(gicv3_its.node(placed) for placed in context.placed if placed.kind == gicv3_its.DEVICE.kind)
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, inside, label_of(device)),))


DEVICE = DeviceType(
    kind="gicv3",
    doc="GICv3's distributor, which KVM serves in the kernel",
    owner="board",
    compatible=("arm,gic-v3",),
    needs=Needs(size=0x10000, align=0x10000, trigger=None),
    fdt=fdt,
    realize=in_kernel,
)
