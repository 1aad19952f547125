"""What a PC has on its ports, and its power switch: reset, sleep, debug exit and the CMOS clock, poked over the bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from dev_kit import Bench, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun.devices.model import Wires
from vmrun.devices.power import acpi_power, i8042, isa_debug_exit
from vmrun.devices.rtc import cmos_rtc
from vmrun.devices.testing import RecordedLine, wait_for
from vmrun.plan.model import DevicePlan, Interrupt

POWER = 0xFEA0_0200
SECOND = 1_000_000_000
NOW_S = 1_700_000_000  # Tuesday, 14 November 2023, 22:13:20 UTC


@pytest.fixture
def asked() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def pc(asked: list[tuple[str, int]]) -> Iterator[Bench]:
    with bench() as b:
        wires = Wires(power=lambda kind, value: asked.append((kind, value)))
        acpi_power.DEVICE.realize(DevicePlan("power", "acpi-power", POWER, 3), b.machine, wires)
        i8042.DEVICE.realize(DevicePlan("i8042", "i8042", 0x64, 1, space="pio"), b.machine, wires)
        port = DevicePlan("exit", "isa-debug-exit", 0xF4, 4, space="pio")
        isa_debug_exit.DEVICE.realize(port, b.machine, wires)
        b.machine.start()
        yield b


def port(number: int) -> int:
    return 1 << 63 | number


def test_sleep_and_reset_as_acpi_says(pc: Bench, asked: list[tuple[str, int]]) -> None:
    for offset, value in ((1, 0x80), (0, 5 << 2), (0, 1 << 5 | 5 << 2), (2, 0x42)):
        pc.machine.poke(POWER + offset, 1, value)
    assert asked == [("poweroff", 0), ("reboot", 0)]
    assert [pc.machine.peek(POWER + n, 1) for n in range(3)] == [0, 0, 0]
    assert pc.wrongs("acpi-power") == {}


def test_nonsense_at_the_power_switch_is_counted(pc: Bench, asked: list[tuple[str, int]]) -> None:
    pc.machine.poke(POWER, 1, 1 << 5 | 3 << 2)
    pc.machine.poke(POWER + 2, 1, 0x41)
    assert asked == [] and sum(pc.wrongs("acpi-power").values()) == 2


def test_a_wide_write_to_bytes_is_each_of_them(pc: Bench, asked: list[tuple[str, int]]) -> None:
    pc.machine.poke(POWER, 2, 1 << 5 | 5 << 2)
    assert asked == [("poweroff", 0)]


def test_the_keyboard_controller_resets_and_is_never_empty(pc: Bench, asked: list[tuple[str, int]]) -> None:
    status = pc.machine.peek(port(0x64), 1)
    assert status is not None and status & 1 and not status & 2, "output full, input empty"
    pc.machine.poke(port(0x64), 1, 0xAA)
    assert asked == []
    pc.machine.poke(port(0x64), 1, 0xFE)
    assert asked == [("reboot", 0)]
    assert pc.machine.peek(port(0x60), 1) is None and pc.machine.peek(0x64, 1) is None


@pytest.mark.parametrize(("size", "value"), [(1, 0), (1, 0x10), (4, 0x7FFF_FFFF)])
def test_the_debug_exit_has_qemus_codes(pc: Bench, asked: list[tuple[str, int]], size: int, value: int) -> None:
    pc.machine.poke(port(0xF4), size, value)
    assert asked == [("exit", value * 2 + 1)]


# ---- the clock -------------------------------------------------------------------------------------------------------


class Rtc:
    """The clock as a driver sees it."""

    def __init__(self, b: Bench, *, virtual: bool = True) -> None:
        self.bench = b
        self.line = RecordedLine()
        if virtual:
            b.machine.clock.make_virtual(NOW_S * SECOND + 5)
        plan = DevicePlan("rtc", "cmos-rtc", 0x70, 2, Interrupt(8, "edge"), space="pio")
        live = cmos_rtc.DEVICE.realize(plan, b.machine, Wires(line=self.line))
        assert isinstance(live, cmos_rtc.CmosRtc)
        self.live = live

    def get(self, index: int) -> int:
        self.bench.machine.poke(port(0x70), 1, index)
        value = self.bench.machine.peek(port(0x71), 1)
        assert value is not None
        return value

    def put(self, index: int, value: int) -> None:
        self.bench.machine.poke(port(0x70), 1, index)
        self.bench.machine.poke(port(0x71), 1, value)

    def pass_s(self, seconds: int) -> None:
        self.bench.machine.clock.advance(seconds * SECOND)

    def time(self) -> list[int]:
        return [self.get(n) for n in (0x32, 9, 8, 7, 4, 2, 0)]


@pytest.fixture
def rtc() -> Iterator[Rtc]:
    with bench() as b:
        made = Rtc(b)
        b.machine.start()
        yield made


def test_the_time_in_bcd_and_in_binary(rtc: Rtc) -> None:
    assert rtc.time() == [0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x20] and rtc.get(6) == 3
    rtc.put(0xB, 0x06)
    assert rtc.time() == [20, 23, 11, 14, 22, 13, 20]
    rtc.put(0xB, 0x04)
    assert rtc.get(4) == 0x80 | 10, "10 in the evening"
    rtc.pass_s(4 * 3600)
    assert rtc.get(4) == 2
    assert rtc.get(0xA) & 0x80 == 0 and rtc.get(0xD) == 0x80


def test_the_guest_sets_its_own_time(rtc: Rtc) -> None:
    rtc.put(0xB, 0x82)
    for index, value in ((0x32, 0x20), (9, 0x00), (8, 0x02), (7, 0x29), (4, 0x23), (2, 0x59), (0, 0x58)):
        rtc.put(index, value)
    rtc.pass_s(60)
    assert rtc.time() == [0x20, 0x00, 0x02, 0x29, 0x23, 0x59, 0x58], "it stands while it is set"
    rtc.put(0xB, 0x02)
    rtc.pass_s(3)
    assert rtc.time() == [0x20, 0x00, 0x03, 0x01, 0x00, 0x00, 0x01], "2000 was a leap year"
    assert rtc.bench.wrongs("cmos-rtc") == {}


def test_a_time_that_does_not_exist_changes_nothing(rtc: Rtc) -> None:
    rtc.put(7, 0x31)
    assert rtc.get(7) == 0x14 and rtc.bench.wrongs("cmos-rtc") == {"set to a time that does not exist": 1}


def test_the_alarm_rings_once_read_clears_it(rtc: Rtc) -> None:
    for index, value in ((5, 0x22), (3, 0x13), (1, 0x25)):
        rtc.put(index, value)
    rtc.put(0xB, 0x22)
    rtc.pass_s(4)
    assert rtc.line.level == 0
    rtc.pass_s(1)
    assert rtc.line.level == 1
    assert rtc.get(0xC) == 0x80 | 0x20 | 0x10 and rtc.line.level == 0
    assert rtc.get(0xC) == 0
    rtc.pass_s(86_400)
    assert rtc.line.level == 1, "and again on the next day"


def test_an_alarm_in_every_second(rtc: Rtc) -> None:
    for index in (5, 3, 1):
        rtc.put(index, 0xFF)
    rtc.put(0xB, 0x22)
    for _ in range(3):
        rtc.pass_s(1)
        assert rtc.get(0xC) & 0xA0 == 0xA0


def test_the_timer_rings_by_itself() -> None:
    with bench() as b:
        made = Rtc(b, virtual=False)
        b.machine.start()
        for index in (5, 3, 1):
            made.put(index, 0xC0)
        made.put(0xB, 0x22)
        wait_for(lambda: made.line.level == 1, "the alarm")


def test_memory_holds_what_the_guest_puts_there(rtc: Rtc) -> None:
    for index in (*range(0x0E, 0x32), *range(0x33, 0x80)):
        rtc.put(index, index ^ 0x5A)
    assert all(rtc.get(index) == index ^ 0x5A for index in (*range(0x0E, 0x32), *range(0x33, 0x80)))
    rtc.put(0x8F, 0x77)
    assert rtc.get(0x0F) == 0x77, "bit 7 of the index is the NMI's"
    assert rtc.bench.machine.peek(port(0x70), 1) == 0xFF
    rtc.bench.machine.poke(port(0x70), 2, 0x55 << 8 | 0x0E)
    assert rtc.get(0x0E) == 0x55, "a word to the index and the data at once"


@settings(max_examples=200, deadline=None)
@given(accesses=st.lists(st.tuples(st.booleans(), st.integers(0, 127), st.integers(0, 255)), max_size=60))
def test_no_guest_breaks_the_clock(accesses: list[tuple[bool, int, int]]) -> None:
    with bench() as b:
        made = Rtc(b)
        b.machine.start()
        for writes, index, value in accesses:
            if writes:
                made.put(index, value)
            else:
                assert 0 <= made.get(index) <= 0xFF
            made.pass_s(index)


@given(st.integers(0, 200_000_000_000))
def test_seconds_of_undoes_gmtime(seconds: int) -> None:
    when = time.gmtime(seconds)
    if when.tm_year < 9000:
        assert cmos_rtc.seconds_of(*when[:6]) == seconds


@pytest.mark.parametrize(
    "when", [(2023, 2, 29, 0, 0, 0), (1969, 12, 31, 0, 0, 0), (2023, 13, 1, 0, 0, 0), (2023, 1, 1, 0, 60, 0)]
)
def test_seconds_of_knows_the_calendar(when: tuple[int, int, int, int, int, int]) -> None:
    said: Callable[..., int | None] = cmos_rtc.seconds_of
    assert said(*when) is None
