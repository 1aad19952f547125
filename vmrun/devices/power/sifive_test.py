"""SiFive test finisher: one register that powers off, reboots, or ends the run with a value. Served by Python.

Spec: SiFive FU540-C000 manual has none; the values are those of QEMU's sifive_test device and of Linux's
Documentation/devicetree/bindings/power/reset/syscon-{poweroff,reboot}.yaml, which drive it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Wires, label_of, reg
from vmrun.devices.registers import WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Table
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

PASS = 0x5555
"""Power off."""
FAIL = 0x3333
"""End with the value in the upper half as the guest's exit code."""
RESET = 0x7777
"""Reboot."""

REGISTERS = RegisterMap(
    "sifive_test",
    (Register("FINISHER", 0, 4, WRITE_ONLY, 0, (Bits("COMMAND", 0, 15), Bits("CODE", 16, 31))),),
)
_FINISHER = REGISTERS.named("FINISHER")


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``test`` node, and at the root what Linux drives it by."""
    label = label_of(device)
    node = FdtNode(f"test@{device.base:x}", (("compatible", Strings(*DEVICE.compatible)), reg(device)), label=label)

    def action(name: str, compatible: str, value: int) -> FdtNode:
        target = (("regmap", Cells(Ref(label))), ("offset", Cells(_FINISHER.offset)), ("value", Cells(value)))
        return FdtNode(name, (("compatible", Strings(compatible)), *target))

    root = (action("poweroff", "syscon-poweroff", PASS), action("reboot", "syscon-reboot", RESET))
    return Nodes((node,), root)


class Finisher(Declared):
    """The live register. ``power`` is told what the guest asked for."""

    STATE = Table("sifive-test")

    def __init__(self, device: DevicePlan, machine: CoreMachine, wires: Wires) -> None:
        self._id = device.id
        self._machine = machine
        self._power = wires.power

    def read(self, offset: int, size: int) -> int:
        """Return 0: nothing is there to read, and a driver may read back what it wrote."""
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a command; a narrow write is a command without a code, as syscon may be told to write."""
        command = _FINISHER.field("COMMAND").of(value)
        if offset != _FINISHER.offset:
            self._machine.guest_did_wrong("sifive-test", "write beside the register")
        elif command == PASS:
            self._power("poweroff", 0)
        elif command == FAIL:
            self._power("exit", _FINISHER.field("CODE").of(value))
        elif command == RESET:
            self._power("reboot", 0)
        else:
            self._machine.guest_did_wrong("sifive-test", "unknown command")


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Finisher:
    """Attach the register."""
    finisher = Finisher(device, machine, wires)
    machine.claim(device.base, device.size, finisher, min_width=2, max_width=8)
    return finisher


DEVICE = DeviceType(
    kind="sifive-test",
    doc="power switch that can end a run with a value",
    owner="board",
    compatible=("sifive,test1", "sifive,test0", "syscon"),
    needs=Needs(size=0x1000, trigger=None),
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
)
