"""A port that ends the run with a value, as test kernels use it. Served by Python.

Spec: QEMU's isa-debug-exit (hw/misc/debugexit.c): the exit code is the value written, doubled, plus 1, so that no value
looks like a power-off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Needs, Property, Wires
from vmrun.devices.registers import READ_WRITE, Register, RegisterMap
from vmrun.devices.state import Declared, Table
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

IOBASE = 0x501
IOSIZE = 2
"""Where QEMU has it unless told otherwise."""

REGISTERS = RegisterMap("QEMU isa-debug-exit", (Register("EXIT", 0, 4, READ_WRITE),))


class DebugExit(Declared):
    """The live port. ``power`` is told the exit code."""

    STATE = Table("isa-debug-exit")

    def __init__(self, wires: Wires) -> None:
        self._power = wires.power

    def read(self, offset: int, size: int) -> int:
        """Return 0."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """End the run."""
        self._power("exit", value << 1 | 1)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> DebugExit:
    """Attach the port."""
    port = DebugExit(wires)
    machine.claim(device.bus_base, device.size, port)
    return port


DEVICE = DeviceType(
    kind="isa-debug-exit",
    doc="I/O port that ends a run with a value",
    boards=("microvm",),
    needs=Needs(size=IOSIZE, align=1, trigger=None, space="pio"),
    properties={
        "iobase": Property("integer", "First I/O port.", default=IOBASE, minimum=1, maximum=0xFFFF),
        "iosize": Property("integer", "I/O ports.", default=IOSIZE, minimum=1, maximum=8),
    },
    registers=REGISTERS,
    realize=realize,
)
