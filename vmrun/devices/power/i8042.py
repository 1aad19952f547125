"""The command and status port of a PC's keyboard controller, for the one thing that people still ask of it: a reset.

Spec: IBM PS/2 Hardware Interface Technical Reference, "Keyboard/Auxiliary Device Controller"; Linux
arch/x86/kernel/reboot.c (``reboot=kbd``) and drivers/input/serio/i8042.c, which probes it where ACPI does not say that
there is none. Served by Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Needs, Wires
from vmrun.devices.registers import READ_ONLY, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Table
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

OUTPUT_FULL = 0x01
PULSE_RESET = 0xFE
"""The command that pulses the processor's reset line."""

REGISTERS = RegisterMap(
    "PS/2 keyboard controller",
    (
        Register("STATUS", 0, 1, READ_ONLY, OUTPUT_FULL, (Bits("OBF", 0), Bits("IBF", 1))),
        Register("COMMAND", 0, 1, WRITE_ONLY),
    ),
)


class Controller(Declared):
    """The live port, 0x64 on a PC. Port 0x60 is left empty: there is no keyboard.

    The status says that a byte waits, always: a driver reads bytes until none does, gives up after a few and finds no
    controller, at once instead of after timeouts. Commands are taken without a wait.
    """

    STATE = Table("i8042")

    def __init__(self, wires: Wires) -> None:
        self._power = wires.power

    def read(self, offset: int, size: int) -> int:
        """Return the status."""
        return OUTPUT_FULL

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a command; without a controller behind it only the reset line does something."""
        if value == PULSE_RESET:
            self._power("reboot", 0)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Controller:
    """Attach the port."""
    controller = Controller(wires)
    machine.claim(device.bus_base, device.size, controller, max_width=1)
    return controller


DEVICE = DeviceType(
    kind="i8042",
    doc="reset by the keyboard controller's command port",
    owner="board",
    needs=Needs(size=1, align=1, trigger=None, space="pio"),
    registers=REGISTERS,
    realize=realize,
)
