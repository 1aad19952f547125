"""GICv2, which KVM serves in the kernel on hosts that have no GICv3, or can act as if: here its distributor's place.

Spec: ARM Generic Interrupt Controller Architecture Specification, version 2.0, IHI 0048B, chapter 4; Linux
Documentation/virt/kvm/devices/arm-vgic.rst. Devicetree: interrupt-controller/arm,gic.yaml.
"""

from __future__ import annotations

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Props, in_kernel, label_of
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Cells64, Empty, FdtNode, Strings

MAX_CPUS = 8
"""An interrupt's targets are a byte (4.3.12)."""


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``interrupt-controller`` node, labelled with the device's id."""
    interfaces = tuple(placed for placed in context.placed if placed.kind == "gicv2-cpu")
    windows = tuple(cell for part in (device, *interfaces) for cell in (part.base, part.size))
    props: Props = (
        ("compatible", Strings(*DEVICE.compatible)),
        ("reg", Cells64(*windows)),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(3)),
        ("#address-cells", Cells(0)),
    )
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, label=label_of(device)),))


DEVICE = DeviceType(
    kind="gicv2",
    doc="GICv2's distributor, which KVM serves in the kernel",
    owner="board",
    compatible=("arm,cortex-a15-gic",),
    needs=Needs(size=0x10000, align=0x1000, trigger=None),
    fdt=fdt,
    realize=in_kernel,
)
