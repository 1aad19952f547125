"""ARM PrimeCell real-time clock: seconds since 1970, and one alarm. Served by Python.

Spec: ARM PrimeCell Real Time Clock (PL031) Technical Reference Manual, DDI 0224C, chapter 3; Linux
drivers/rtc/rtc-pl031.c. Devicetree: rtc/arm,pl031.yaml.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vmrun.devices import primecell
from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Props, Wires, interrupts, reg, set_line
from vmrun.devices.registers import READ_ONLY, READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Kept, Table
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import FdtNode, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_ALARM = (Bits("ALARM", 0),)

REGISTERS = RegisterMap(
    "DDI 0224C",
    (
        Register("DR", 0x00, 4, READ_ONLY, section="3.3.1"),
        Register("MR", 0x04, 4, READ_WRITE, section="3.3.2"),
        Register("LR", 0x08, 4, READ_WRITE, section="3.3.3"),
        # The clock runs from the start, as QEMU's: a guest finds the time of day, and cannot stop it.
        Register("CR", 0x0C, 4, READ_WRITE, 1, (Bits("START", 0),), "3.3.4"),
        Register("IMSC", 0x10, 4, READ_WRITE, 0, _ALARM, "3.3.5"),
        Register("RIS", 0x14, 4, READ_ONLY, 0, _ALARM, "3.3.6"),
        Register("MIS", 0x18, 4, READ_ONLY, 0, _ALARM, "3.3.7"),
        Register("ICR", 0x1C, 4, WRITE_ONLY, 0, _ALARM, "3.3.8"),
        *primecell.identity(0x031, 1, "3.3.9"),
    ),
)
_WRAP = (1 << 32) - 1
_NS = 1_000_000_000


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``rtc`` node."""
    props: Props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        *interrupts(device, context),
        *primecell.clocks(context, "apb_pclk"),
    )
    return Nodes((FdtNode(f"rtc@{device.base:x}", props),))


class Pl031(Declared):
    """The live clock. A level interrupt, high from the alarm until the guest clears it, while it is unmasked.

    The counter has 32 bits and wraps, and so does the way to an alarm: one in the past rings in 136 years. The guest
    may set its own time: that is an offset to the machine's time of day, which stays as it is.
    """

    STATE = Table(
        "pl031",
        kept=(
            *(Kept(name, 32) for name in ("offset_s", "match", "load")),
            Kept("rings_s", 64, optional=True),
            *(Kept(name, 1) for name in ("pending", "unmasked")),
        ),
    )

    def __init__(self, machine: CoreMachine, wires: Wires) -> None:
        self._machine = machine
        self._line = wires.line
        self._clock = wires.clock or machine.clock
        self._lock = threading.RLock()
        self._timer = self._clock.timer(self.expire)
        self._offset_s = 0
        self._match = 0
        self._load = 0
        self._rings_s: int | None = None
        """When the alarm rings, in seconds of the machine's time of day."""
        self._pending = False
        self._unmasked = False
        self._level = False

    def _day_s(self) -> int:
        return self._clock.day_ns() // _NS

    def _count(self) -> int:
        return self._day_s() + self._offset_s & _WRAP

    def _update(self) -> None:
        level = self._pending and self._unmasked
        if level != self._level:
            self._level = level
            set_line(self._line, level)

    def _loaded(self) -> None:
        self._level = self._pending and self._unmasked
        set_line(self._line, self._level)
        self._wait()

    def _arm(self) -> None:
        """Look for the alarm's time, after a change of it or of the clock."""
        self._rings_s = self._day_s() + (self._match - self._count() & _WRAP)
        self.expire()

    def expire(self) -> None:
        """Let the alarm ring if its time has come; else wait on. The timer calls it."""
        with self._lock:
            if self._rings_s is not None and self._day_s() >= self._rings_s:
                self._rings_s = None
                self._pending = True
                self._update()
            self._wait()

    def _wait(self) -> None:
        if self._rings_s is None:
            self._timer.cancel()
        else:
            self._timer.arm(self._rings_s * _NS - self._clock.day_ns() + self._clock.now_ns())

    def read(self, offset: int, size: int) -> int:
        """Return a register."""
        found = REGISTERS.at(offset)
        if found is None:
            self._machine.guest_did_wrong("pl031", "read beside the registers")
            return 0
        with self._lock:
            match found[0].name:
                case "DR":
                    return self._count()
                case "MR":
                    return self._match
                case "LR":
                    return self._load
                case "IMSC":
                    return int(self._unmasked)
                case "RIS":
                    return int(self._pending)
                case "MIS":
                    return int(self._pending and self._unmasked)
                case _:
                    return found[0].reset

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a register."""
        found = REGISTERS.at(offset, write=True)
        if found is None:
            self._machine.guest_did_wrong("pl031", "write beside the registers")
            return
        with self._lock:
            match found[0].name:
                case "MR":
                    self._match = value
                    self._arm()
                case "LR":
                    self._load = value
                    self._offset_s = value - self._day_s() & _WRAP
                    if self._rings_s is not None:
                        self._arm()
                case "IMSC":
                    self._unmasked = bool(value & 1)
                    self._update()
                case "ICR":
                    self._pending = self._pending and not value & 1
                    self._update()


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Pl031:
    """Attach the clock."""
    rtc = Pl031(machine, wires)
    machine.claim(device.base, device.size, rtc, min_width=4, max_width=4)
    return rtc


DEVICE = DeviceType(
    kind="pl031",
    doc="ARM's real-time clock, with an alarm",
    owner="board",
    compatible=primecell.compatible("arm,pl031"),
    needs=Needs(size=0x1000),
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
)
