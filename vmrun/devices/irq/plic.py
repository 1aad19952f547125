"""Platform-level interrupt controller, served by C: one S-mode context a hart.

Spec: RISC-V Platform-Level Interrupt Controller Specification 1.0.0, chapter 3 (memory map).
Devicetree: interrupt-controller/sifive,plic-1.0.0.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Property, Wires, label_of, reg
from vmrun.devices.registers import READ_ONLY, READ_WRITE, Bits, Register, RegisterMap
from vmrun.devices.state import Served
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

SOURCES = 95
"""Interrupt sources beside the unused 0: QEMU's virt board has as many."""
S_EXTERNAL = 9
"""The hart's interrupt that a context drives: supervisor external (RISC-V privileged architecture, scause)."""
MAX_SOURCES = 1023
MAX_CONTEXTS = 64

REGISTERS = RegisterMap(
    "RISC-V PLIC 1.0.0",
    (
        Register("PRIORITY", 0, 4, READ_WRITE, 0, (Bits("LEVEL", 0, 2),), "4", count=MAX_SOURCES + 1, stride=4),
        Register("PENDING", 0x1000, 4, READ_ONLY, section="5", count=32, stride=4),
        Register("ENABLE", 0x2000, 4, READ_WRITE, section="6", count=MAX_CONTEXTS * 32, stride=4),
        Register("CONTEXT_THRESHOLD", 0x200000, 4, READ_WRITE, 0, (Bits("LEVEL", 0, 2),), "7", MAX_CONTEXTS, 0x1000),
        Register("CONTEXT_CLAIM", 0x200004, 4, READ_WRITE, section="8, 9", count=MAX_CONTEXTS, stride=0x1000),
    ),
    prefix="VMR_PLIC_",
)


def _sources(device: DevicePlan) -> int:
    return device.number("sources", SOURCES)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``interrupt-controller`` node, labelled with the device's id."""
    contexts = tuple(cell for intc in context.hart_intcs for cell in (Ref(intc), S_EXTERNAL))
    props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(1)),
        ("#address-cells", Cells(0)),
        ("riscv,ndev", Cells(_sources(device))),
        ("interrupts-extended", Cells(*contexts)),
    )
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, label=label_of(device)),))


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Served:
    """Attach the PLIC; the machine's vCPUs must have been added, each gets a context."""
    from vmrun._core import ffi, lib
    from vmrun.core.line import array

    plic = ffi.new("vmr_plic **")
    outputs = wires.vcpu_lines(S_EXTERNAL)
    place = (machine.handle, device.base, device.size)
    code = lib.vmr_plic_new(*place, _sources(device), len(outputs), array(outputs), plic)
    machine.check(code, device.id)
    return Served(machine, plic[0], device.id)


DEVICE = DeviceType(
    kind="plic",
    doc="RISC-V platform-level interrupt controller",
    owner="board",
    compatible=("sifive,plic-1.0.0", "riscv,plic0"),
    needs=Needs(size=0x600000, trigger=None),
    properties={"sources": Property("integer", "Interrupt sources.", default=SOURCES, minimum=1, maximum=MAX_SOURCES)},
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
    gives="lines",
)
