"""MC146818 real-time clock with CMOS memory, as a PC has it: the time of day in UTC, and one alarm. Served by Python.

Spec: Motorola MC146818A data sheet; Linux include/linux/mc146818rtc.h and drivers/rtc/rtc-cmos.c, which drives it by
the alarm interrupt and, for update interrupts, by an alarm in each second. The periodic interrupt and the square wave
are not there. ACPI: PNP0B00.
"""

from __future__ import annotations

import threading
import time
from itertools import product
from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Needs, Wires, set_line
from vmrun.devices.registers import READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Kept, Table
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine
    from vmrun.tables.aml import Node

REGISTERS = RegisterMap(
    "MC146818A",
    (
        Register("INDEX", 0, 1, WRITE_ONLY, 0, (Bits("ADDRESS", 0, 6), Bits("NMI_OFF", 7))),
        Register("DATA", 1, 1, READ_WRITE),
    ),
)
SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY = 0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32
SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM = 0x01, 0x03, 0x05
A, B, C, D = 0x0A, 0x0B, 0x0C, 0x0D
_CLOCK = (SECONDS, MINUTES, HOURS, WEEKDAY, DAY, MONTH, YEAR, CENTURY)
_ALARM = (SECONDS_ALARM, MINUTES_ALARM, HOURS_ALARM)

UPDATE_IN_PROGRESS = 0x80
A_RESET = 0x26
"""32.768 kHz time base, 1024 Hz rate: what PC firmware leaves."""
SET, ALARM_ENABLE, BINARY, HOURS_24 = 0x80, 0x20, 0x04, 0x02
INTERRUPT, ALARM_FLAG, UPDATE_FLAG = 0x80, 0x20, 0x10
VALID = 0x80
ANY = 0xC0
"""Alarm values from here on match every time."""

_DAY_S = 86_400
_NS = 1_000_000_000
_YEARS = range(1970, 9000)
"""What the clock can be set to: 1970 is where its seconds start, and Python's calendar ends in 9999."""
_LAST_S = 8030 * 365 * _DAY_S - _DAY_S
"""Some time in 9994, from which Python's calendar still has a way to go."""


def seconds_of(year: int, month: int, day: int, hour: int, minute: int, second: int) -> int | None:
    """Return the seconds since 1970 of a time in UTC, None where the calendar has no such time."""
    if year not in _YEARS or not 1 <= month <= 12:
        return None
    # Days from 1 March of year 0, whose months have lengths by a formula; 719,468 of them before 1970.
    shifted = year - (month < 3)
    days = 365 * shifted + shifted // 4 - shifted // 100 + shifted // 400
    days += (153 * ((month - 3) % 12) + 2) // 5 + day - 1
    total = (days - 719_468) * _DAY_S + hour * 3600 + minute * 60 + second
    back = time.gmtime(total) if total >= 0 else None
    return total if back is not None and back[:6] == (year, month, day, hour, minute, second) else None


def aml(device: DevicePlan, number: int) -> tuple[Node, ...]:
    """Return the clock's node."""
    from vmrun.tables import acpi_nodes
    from vmrun.tables.resources import IoPorts, Irq

    line = (Irq(device.interrupt.number),) if device.interrupt else ()
    return (acpi_nodes.device("RTC", "PNP0B00", crs=(IoPorts(device.base, device.size), *line)),)


class CmosRtc(Declared):
    """The live clock. A level interrupt, high from the alarm until the guest reads register C, while enabled.

    The guest may set its own time: that is an offset to the machine's time of day, which stays as it is.
    """

    STATE = Table(
        "cmos-rtc",
        kept=(
            Kept("offset_ns", 96, signed=True),
            Kept("index", 7),
            Kept("memory", 8, count=128),
            Kept("flags", 8),
            Kept("last_s", 64),
            Kept("alarm_s", 64, optional=True),
        ),
    )

    def __init__(self, machine: CoreMachine, wires: Wires) -> None:
        self._machine = machine
        self._line = wires.line
        self._clock = wires.clock or machine.clock
        self._lock = threading.RLock()
        self._timer = self._clock.timer(self.expire)
        self._offset_ns = 0
        self._index = 0
        self._memory = bytearray(128)
        self._memory[A], self._memory[B] = A_RESET, HOURS_24
        self._flags = 0
        self._level = False
        self._last_s = self._now_s()
        self._alarm_s: int | None = None

    # ---- time ------------------------------------------------------------------------------------------------------

    def _now_ns(self) -> int:
        return self._clock.day_ns() + self._offset_ns

    def _now_s(self) -> int:
        return self._now_ns() // _NS

    def _encode(self, value: int) -> int:
        return value if self._memory[B] & BINARY else value // 10 << 4 | value % 10

    def _decode(self, value: int) -> int:
        return value if self._memory[B] & BINARY else (value >> 4) * 10 + (value & 0xF)

    def _encode_hour(self, hour: int) -> int:
        if self._memory[B] & HOURS_24:
            return self._encode(hour)
        return self._encode(hour % 12 or 12) | (0x80 if hour >= 12 else 0)

    def _decode_hour(self, value: int) -> int:
        if self._memory[B] & HOURS_24:
            return self._decode(value)
        return self._decode(value & 0x7F) % 12 + (12 if value & 0x80 else 0)

    def _read_clock(self, index: int) -> int:
        now = time.gmtime(self._now_s())
        if index == HOURS:
            return self._encode_hour(now.tm_hour)
        values = {
            SECONDS: now.tm_sec,
            MINUTES: now.tm_min,
            WEEKDAY: (now.tm_wday + 1) % 7 + 1,
            DAY: now.tm_mday,
            MONTH: now.tm_mon,
            YEAR: now.tm_year % 100,
            CENTURY: now.tm_year // 100,
        }
        return self._encode(values[index])

    def _freeze(self) -> None:
        """Copy the time into memory, where it stands while the guest sets it."""
        for index in _CLOCK:
            self._memory[index] = self._read_clock(index)

    def _thaw(self) -> None:
        """Let the time run on from what memory says; what is no time is counted, and the clock stays as it was."""
        values = {index: self._decode(self._memory[index]) for index in _CLOCK}
        said_s = seconds_of(
            values[CENTURY] * 100 + values[YEAR],
            values[MONTH],
            values[DAY],
            self._decode_hour(self._memory[HOURS]),
            values[MINUTES],
            values[SECONDS],
        )
        if said_s is None:
            self._machine.guest_did_wrong("cmos-rtc", "set to a time that does not exist")
        else:
            self._offset_ns = said_s * _NS - self._clock.day_ns()

    # ---- the alarm -------------------------------------------------------------------------------------------------

    def _next_alarm(self) -> int | None:
        """Return the next second that the alarm matches, within a day; None where it never does."""
        start = self._last_s + 1
        seconds, minutes, hours = (
            [value for value in range(count) if self._memory[index] >= ANY or self._memory[index] == encode(value)]
            for index, count, encode in (
                (SECONDS_ALARM, 60, self._encode),
                (MINUTES_ALARM, 60, self._encode),
                (HOURS_ALARM, 24, self._encode_hour),
            )
        )
        if len(seconds) == len(minutes) == 60 and len(hours) == 24:
            return start
        waits = ((h * 3600 + m * 60 + s - start) % _DAY_S for h, m, s in product(hours, minutes, seconds))
        wait_s = min(waits, default=None)
        return None if wait_s is None else start + wait_s

    def expire(self) -> None:
        """Let the alarm ring if its time has come; else wait on. The timer calls it."""
        with self._lock:
            self._advance()
            self._wait()

    def _advance(self) -> None:
        """Set the flags for the seconds that have passed since somebody looked."""
        now_s = self._now_s()
        if now_s == self._last_s:
            return
        self._flags |= UPDATE_FLAG
        if self._alarm_s is not None and now_s >= self._alarm_s:
            self._flags |= ALARM_FLAG
            self._last_s = now_s
            self._alarm_s = self._next_alarm()
        self._last_s = now_s
        self._update()

    def _arm(self) -> None:
        """Look for the alarm's next time, after a change of it or of the clock."""
        self._last_s = self._now_s()
        self._alarm_s = self._next_alarm() if self._memory[B] & ALARM_ENABLE else None
        self._wait()

    def _wait(self) -> None:
        if self._alarm_s is not None:
            self._timer.arm(self._alarm_s * _NS - self._now_ns() + self._clock.now_ns())
        else:
            self._timer.cancel()

    def _update(self) -> None:
        level = bool(self._flags & self._memory[B] & ALARM_FLAG)
        if level != self._level:
            self._level = level
            set_line(self._line, level)

    def _wrong(self) -> str:
        if not 0 <= self._now_s() < _LAST_S:
            return "a time that the clock cannot show"
        if self._memory[A] & UPDATE_IN_PROGRESS or self._flags & ~(ALARM_FLAG | UPDATE_FLAG):
            return "bits that the clock does not have"
        if self._alarm_s is not None and self._alarm_s <= self._last_s:
            return "an alarm that has passed"
        return ""

    def _loaded(self) -> None:
        self._level = bool(self._flags & self._memory[B] & ALARM_FLAG)
        set_line(self._line, self._level)
        self._wait()

    # ---- registers -------------------------------------------------------------------------------------------------

    def read(self, offset: int, size: int) -> int:
        """Return the byte that the index names; the index itself cannot be read."""
        if offset == 0:
            return 0xFF
        with self._lock:
            index = self._index
            if index in _CLOCK and not self._memory[B] & SET:
                return self._read_clock(index)
            if index == C:
                self._advance()
                flags, self._flags = self._flags, 0
                self._update()
                return flags | (INTERRUPT if flags & self._memory[B] & ALARM_FLAG else 0)
            return VALID if index == D else self._memory[index]

    def write(self, offset: int, size: int, value: int) -> None:
        """Take the index, or a byte of what it names."""
        with self._lock:
            if offset == 0:
                self._index = value & 0x7F
            else:
                self._put(self._index, value)

    def _put(self, index: int, value: int) -> None:
        if index in (C, D):
            return
        if index == B:
            self._put_control(value)
            return
        if index in _CLOCK and not self._memory[B] & SET:
            self._freeze()
            self._memory[index] = value
            self._thaw()
            self._arm()
            return
        self._memory[index] = value & ~UPDATE_IN_PROGRESS if index == A else value
        if index in _ALARM:
            self._arm()

    def _put_control(self, value: int) -> None:
        was = self._memory[B]
        if value & SET and not was & SET:
            self._freeze()
        self._memory[B] = value
        if was & SET and not value & SET:
            self._thaw()
        self._arm()
        self._update()


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> CmosRtc:
    """Attach the clock."""
    rtc = CmosRtc(machine, wires)
    machine.claim(device.bus_base, device.size, rtc, max_width=1)
    return rtc


DEVICE = DeviceType(
    kind="cmos-rtc",
    doc="real-time clock of a PC",
    boards=("microvm",),
    needs=Needs(size=2, align=1, trigger="edge", space="pio"),
    registers=REGISTERS,
    aml=aml,
    realize=realize,
)
