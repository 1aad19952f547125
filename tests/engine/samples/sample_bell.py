"""A device of one file, served by C: a greeting to read, and a bell that raises its line. Dropped in by a test,
with sample_bell.c and its header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Props, Wires, interrupts, reg
from vmrun.devices.registers import READ_ONLY, WRITE_ONLY, Register, RegisterMap
from vmrun.devices.state import Served
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
    return Nodes((FdtNode(f"bell@{device.base:x}", props),))


def aml(device: DevicePlan, number: int) -> tuple[Node, ...]:
    """Return its object."""
    from vmrun.devices.model import aml_interrupt
    from vmrun.tables import acpi_nodes
    from vmrun.tables.resources import Memory32Fixed

    crs = (Memory32Fixed(device.base, device.size), *aml_interrupt(device))
    return (acpi_nodes.device(f"BEL{number}", "VMRN0002", uid=number, crs=crs),)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Served:
    """Attach it."""
    from vmrun._core import ffi, lib

    greeting = device.number("greeting", 0)
    out = ffi.new("vmr_sample_bell **")
    code = lib.vmr_sample_bell_new(machine.handle, device.base, device.size, wires.c_line(), greeting, out)
    machine.check(code, device.id)
    return Served(machine, out[0], device.id)


DEVICE = DeviceType(
    kind="sample-bell",
    doc="a greeting and a bell",
    compatible=("vmrun,sample-bell",),
    needs=Needs(size=0x1000),
    properties={"greeting": Property("integer", "What it says.", default=42, minimum=0, maximum=1000)},
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
