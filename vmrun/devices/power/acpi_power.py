"""The power switch of a hardware-reduced ACPI machine: sleep control, sleep status and reset. Served by Python.

Spec: ACPI Specification 6.5, sections 4.8.3.7 (sleep control and status registers) and 4.8.3.6 (reset register). The
registers stand as QEMU's generic event device has them (include/hw/acpi/generic_event_device.h), with its values.
The FADT names them, so the device needs no node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Needs, Wires
from vmrun.devices.registers import READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Table
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

S5 = 5
"""The sleep type that powers off, which ``\\_S5`` tells the guest."""
RESET = 0x42
"""The value that resets the machine, which the FADT tells the guest."""

REGISTERS = RegisterMap(
    "ACPI 6.5, 4.8.3",
    (
        Register("SLEEP_CONTROL", 0, 1, READ_WRITE, 0, (Bits("SLP_TYP", 2, 4), Bits("SLP_EN", 5)), "4.8.3.7"),
        Register("SLEEP_STATUS", 1, 1, READ_WRITE, 0, (Bits("WAK_STS", 7),), "4.8.3.7"),
        Register("RESET", 2, 1, WRITE_ONLY, 0, (), "4.8.3.6"),
    ),
)
SLEEP_CONTROL, SLEEP_STATUS, RESET_REGISTER = REGISTERS.registers


class PowerSwitch(Declared):
    """The live registers. ``power`` is told what the guest asked for."""

    STATE = Table("acpi-power")

    def __init__(self, machine: CoreMachine, wires: Wires) -> None:
        self._machine = machine
        self._power = wires.power

    def read(self, offset: int, size: int) -> int:
        """Return 0: the machine has not slept, and what control takes does not stay."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a command."""
        if offset == RESET_REGISTER.offset:
            if value == RESET:
                self._power("reboot", 0)
            else:
                self._machine.guest_did_wrong("acpi-power", "unknown reset value")
        elif offset == SLEEP_CONTROL.offset and SLEEP_CONTROL.field("SLP_EN").of(value):
            if SLEEP_CONTROL.field("SLP_TYP").of(value) == S5:
                self._power("poweroff", 0)
            else:
                self._machine.guest_did_wrong("acpi-power", "a sleep state that the machine does not have")


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> PowerSwitch:
    """Attach the registers."""
    switch = PowerSwitch(machine, wires)
    machine.claim(device.bus_base, device.size, switch, max_width=1)
    return switch


DEVICE = DeviceType(
    kind="acpi-power",
    doc="power switch by ACPI's sleep and reset registers",
    owner="board",
    needs=Needs(size=3, align=1, trigger=None),
    registers=REGISTERS,
    realize=realize,
)
