"""The advanced platform-level interrupt controller (AIA), which KVM serves in the kernel: wired lines become messages.

Spec: RISC-V Advanced Interrupt Architecture 1.0, chapter 4. Devicetree: interrupt-controller/riscv,aplic.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Live, Needs, Nodes, Property, Quiet, Wires, label_of, reg
from vmrun.plan.model import DevicePlan, Interrupt
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

SOURCES = 96
"""Interrupt sources beside the unused 0: QEMU's virt board has as many (VIRT_IRQCHIP_NUM_SOURCES)."""
SIZE = 0x4000
"""The domain's registers; no delivery to harts without an IMSIC follows (KVM_DEV_RISCV_APLIC_SIZE)."""
_EDGE_RISING, _LEVEL_HIGH = 1, 4
"""The second cell of a line: IRQ_TYPE_* of dt-bindings/interrupt-controller/irq.h."""


def line(wired: Interrupt) -> tuple[int, ...]:
    """Return what the APLIC has to be told of a line: its number, and its trigger."""
    return (wired.number, _EDGE_RISING if wired.trigger == "edge" else _LEVEL_HIGH)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the node, labelled with the device's id; its messages go to the IMSICs."""
    sources = device.properties.get("sources", SOURCES)
    assert isinstance(sources, int)
    parents = tuple(Ref(label_of(other)) for other in context.placed if other.kind == "imsic")
    props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(2)),
        ("#address-cells", Cells(0)),
        ("riscv,num-sources", Cells(sources)),
        *((("msi-parent", Cells(*parents)),) if parents else ()),
    )
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, label=label_of(device)),))


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Do nothing: the engine has made it, and the guest's accesses never leave the kernel."""
    return Quiet()


DEVICE = DeviceType(
    kind="aplic",
    doc="RISC-V advanced platform-level interrupt controller, which KVM serves in the kernel",
    compatible=("qemu,aplic", "riscv,aplic"),
    needs=Needs(size=SIZE, trigger=None),
    properties={"sources": Property("integer", "Interrupt sources.", default=SOURCES, minimum=1, maximum=1023)},
    fdt=fdt,
    realize=realize,
)
