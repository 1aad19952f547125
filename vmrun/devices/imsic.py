"""The incoming MSI controllers of the harts (AIA), which KVM serves in the kernel: a page of S-mode a hart.

Spec: RISC-V Advanced Interrupt Architecture 1.0, chapter 3. Devicetree: interrupt-controller/riscv,imsics.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Live, Needs, Nodes, Property, Quiet, Wires, label_of, reg
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

PAGE = 0x1000
IDS = 255
"""Interrupt identities beside the unused 0: QEMU's virt board has as many (VIRT_IRQCHIP_NUM_MSIS)."""
S_EXTERNAL = 9
"""The hart's interrupt that its file drives: supervisor external (RISC-V privileged architecture, scause)."""


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the node of all harts' files, labelled with the device's id."""
    ids = device.properties.get("ids", IDS)
    assert isinstance(ids, int)
    files = tuple(cell for intc in context.hart_intcs for cell in (Ref(intc), S_EXTERNAL))
    props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(0)),
        ("#address-cells", Cells(0)),
        ("msi-controller", Empty()),
        ("#msi-cells", Cells(0)),
        ("riscv,num-ids", Cells(ids)),
        ("interrupts-extended", Cells(*files)),
    )
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, label=label_of(device)),))


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Do nothing: the engine has made it, and the guest's accesses never leave the kernel."""
    return Quiet()


DEVICE = DeviceType(
    kind="imsic",
    doc="RISC-V incoming MSI controllers of the harts, which KVM serves in the kernel",
    compatible=("qemu,imsics", "riscv,imsics"),
    needs=Needs(size=PAGE, trigger=None),
    properties={"ids": Property("integer", "Interrupt identities.", default=IDS, minimum=63, maximum=2047)},
    fdt=fdt,
    realize=realize,
)
