"""Goldfish real-time clock: nanoseconds since 1970, and one alarm. Served by Python.

Spec: GOLDFISH-VIRTUAL-HARDWARE.TXT of the Android emulator, "Goldfish timer"; Linux drivers/rtc/rtc-goldfish.c.
Devicetree: rtc/google,goldfish-rtc.yaml.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Props, Wires, interrupts, reg, set_line
from vmrun.devices.registers import READ_ONLY, READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Kept, Table
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import FdtNode, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

REGISTERS = RegisterMap(
    "goldfish-rtc",
    (
        Register("TIME_LOW", 0x00, 4, READ_WRITE),  # a read latches the high half
        Register("TIME_HIGH", 0x04, 4, READ_WRITE),
        Register("ALARM_LOW", 0x08, 4, READ_WRITE),  # a write sets the alarm, high half first
        Register("ALARM_HIGH", 0x0C, 4, READ_WRITE),
        Register("IRQ_ENABLED", 0x10, 4, READ_WRITE, 0, (Bits("ALARM", 0),)),
        Register("CLEAR_ALARM", 0x14, 4, WRITE_ONLY),
        Register("ALARM_STATUS", 0x18, 4, READ_ONLY, 0, (Bits("ARMED", 0),)),
        Register("CLEAR_INTERRUPT", 0x1C, 4, WRITE_ONLY),
    ),
)
_LOW = 0xFFFF_FFFF
_WRAP = (1 << 64) - 1


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``rtc`` node."""
    props: Props = (("compatible", Strings(*DEVICE.compatible)), reg(device), *interrupts(device, context))
    return Nodes((FdtNode(f"rtc@{device.base:x}", props),))


class GoldfishRtc(Declared):
    """The live clock. A level interrupt, high from the alarm until the guest clears it, while enabled.

    The guest may set its own time: that is an offset to the machine's time of day, which stays as it is.
    """

    STATE = Table(
        "goldfish-rtc",
        kept=(
            *(Kept(name, 64) for name in ("offset", "alarm")),
            *(Kept(name, 32) for name in ("high_read", "high_write", "alarm_high")),
            *(Kept(name, 1) for name in ("armed", "pending", "enabled")),
        ),
    )

    def __init__(self, machine: CoreMachine, wires: Wires) -> None:
        self._machine = machine
        self._line = wires.line
        self._clock = wires.clock or machine.clock
        self._lock = threading.RLock()
        self._timer = self._clock.timer(self.expire)
        self._offset = 0
        self._high_read = 0
        self._high_write = 0
        self._alarm_high = 0
        self._alarm = 0
        self._armed = False
        self._pending = False
        self._enabled = False
        self._level = False

    def _now(self) -> int:
        return (self._clock.day_ns() + self._offset) & _WRAP

    def _update(self) -> None:
        level = self._pending and self._enabled
        if level != self._level:
            self._level = level
            set_line(self._line, level)

    def _loaded(self) -> None:
        self._level = self._pending and self._enabled
        set_line(self._line, self._level)
        self._wait()

    def expire(self) -> None:
        """Let the alarm ring if its time has come; else wait on. The timer calls it."""
        with self._lock:
            if self._armed and self._now() >= self._alarm:
                self._armed = False
                self._pending = True
                self._update()
            else:
                self._wait()

    def _wait(self) -> None:
        if self._armed:
            self._timer.arm(self._alarm - self._now() + self._clock.now_ns())
        else:
            self._timer.cancel()

    def read(self, offset: int, size: int) -> int:
        """Return a register."""
        found = REGISTERS.at(offset)
        if found is None:
            self._machine.guest_did_wrong("goldfish-rtc", "read beside the registers")
            return 0
        with self._lock:
            match found[0].name:
                case "TIME_LOW":
                    now = self._now()
                    self._high_read = now >> 32
                    return now & _LOW
                case "TIME_HIGH":
                    return self._high_read
                case "ALARM_LOW":
                    return self._alarm & _LOW
                case "ALARM_HIGH":
                    return self._alarm >> 32
                case "IRQ_ENABLED":
                    return int(self._enabled)
                case _:
                    return int(self._armed)

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a register."""
        found = REGISTERS.at(offset, write=True)
        if found is None:
            self._machine.guest_did_wrong("goldfish-rtc", "write beside the registers")
            return
        with self._lock:
            match found[0].name:
                case "TIME_LOW":
                    self._offset = (self._high_write << 32 | value) - self._clock.day_ns() & _WRAP
                    self._wait()
                case "TIME_HIGH":
                    self._high_write = value
                case "ALARM_LOW":
                    self._alarm = self._alarm_high << 32 | value
                    self._armed = True
                    self.expire()
                case "ALARM_HIGH":
                    self._alarm_high = value
                case "IRQ_ENABLED":
                    self._enabled = bool(value & 1)
                    self._update()
                case "CLEAR_ALARM":
                    self._armed = False
                    self._wait()
                case _:
                    self._pending = False
                    self._update()


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> GoldfishRtc:
    """Attach the clock."""
    rtc = GoldfishRtc(machine, wires)
    machine.claim(device.base, device.size, rtc, min_width=4, max_width=4)
    return rtc


DEVICE = DeviceType(
    kind="goldfish-rtc",
    doc="real-time clock with an alarm",
    boards=("riscv_virt",),
    compatible=("google,goldfish-rtc",),
    needs=Needs(size=0x1000),
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
)
