"""A device of one file, served by Python: a greeting to read, and a bell that raises its line. Dropped in by a test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Props, Wires, interrupts, reg, set_line
from vmrun.devices.registers import READ_ONLY, WRITE_ONLY, Register, RegisterMap
from vmrun.devices.state import Declared, Kept, Table
from vmrun.plan.model import DevicePlan
from vmrun.schema.known import Property
from vmrun.tables.fdt import FdtNode, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine
    from vmrun.tables.aml import Node

REGISTERS = RegisterMap("sample", (Register("GREETING", 0, 4, READ_ONLY), Register("BELL", 4, 4, WRITE_ONLY)))


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return its node."""
    props: Props = (("compatible", Strings(*DEVICE.compatible)), reg(device), *interrupts(device, context))
    return Nodes((FdtNode(f"latch@{device.base:x}", props),))


def aml(device: DevicePlan, number: int) -> tuple[Node, ...]:
    """Return its object."""
    from vmrun.devices.model import aml_interrupt
    from vmrun.tables import acpi_nodes
    from vmrun.tables.resources import Memory32Fixed

    crs = (Memory32Fixed(device.base, device.size), *aml_interrupt(device))
    return (acpi_nodes.device(f"LAT{number}", "VMRN0001", uid=number, crs=crs),)


class Latch(Declared):
    """The live device."""

    STATE = Table("sample-latch", kept=(Kept("rung", 1),))

    def __init__(self, greeting: int, wires: Wires) -> None:
        self._greeting = greeting
        self._line = wires.line
        self._rung = False

    def read(self, offset: int, size: int) -> int:
        """Return the greeting."""
        return self._greeting if offset == 0 else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Ring."""
        if offset == REGISTERS.named("BELL").offset:
            self._rung = True
            self._line.raise_()

    def _loaded(self) -> None:
        set_line(self._line, self._rung)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Latch:
    """Attach it."""
    latch = Latch(device.number("greeting", 0), wires)
    machine.claim(device.base, device.size, latch)
    return latch


DEVICE = DeviceType(
    kind="sample-latch",
    doc="a greeting and a bell",
    compatible=("vmrun,sample-latch",),
    needs=Needs(size=0x1000),
    properties={"greeting": Property("integer", "What it says.", default=42, minimum=0, maximum=1000)},
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
