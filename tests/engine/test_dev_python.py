"""Devices that Python serves: the power switch and the clock; and the vCPU loop that reaches them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dev_kit import RAM, Bench, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun.devices.model import Wires
from vmrun.devices.power import sifive_test
from vmrun.devices.rtc import goldfish_rtc
from vmrun.devices.testing import RecordedLine, wait_for
from vmrun.devices.virtio import virtio_mmio
from vmrun.plan.model import DevicePlan, Interrupt

TEST = 0x10_0000
RTC = 0x10_1000
SECOND = 1_000_000_000
LOW = 0xFFFFFFFF


@pytest.fixture
def switch() -> Iterator[tuple[Bench, list[tuple[str, int]]]]:
    asked: list[tuple[str, int]] = []
    with bench() as b:
        wires = Wires(power=lambda kind, value: asked.append((kind, value)))
        sifive_test.DEVICE.realize(DevicePlan("test", "sifive-test", TEST, 0x1000), b.machine, wires)
        b.machine.start()
        yield b, asked


def test_the_power_switch(switch: tuple[Bench, list[tuple[str, int]]]) -> None:
    b, asked = switch
    for size, value in ((4, 0x5555), (2, 0x5555), (4, 0x7777), (4, 42 << 16 | 0x3333), (4, 0x3333), (8, 0x5555)):
        b.machine.poke(TEST, size, value)
    assert asked == [("poweroff", 0), ("poweroff", 0), ("reboot", 0), ("exit", 42), ("exit", 0), ("poweroff", 0)]
    assert b.machine.peek(TEST, 4) == 0
    assert b.wrongs("sifive-test") == {}


def test_nonsense_at_the_power_switch_is_counted(switch: tuple[Bench, list[tuple[str, int]]]) -> None:
    b, asked = switch
    for offset, size, value in ((0, 4, 0x1234), (4, 4, 0x5555), (0, 1, 0x55), (0xFF8, 8, 0x5555)):
        b.machine.poke(TEST + offset, size, value)
    assert asked == []
    assert b.wrongs("sifive-test") == {"unknown command": 1, "write beside the register": 2}
    assert b.wrongs("bus") == {"write narrower than the device register": 1}


DAY = 1_700_000_000 * SECOND + 5


class Rtc:
    def __init__(self, b: Bench, *, virtual: bool = True) -> None:
        self.clock = b.machine.clock
        if virtual:
            self.clock.make_virtual(DAY)
        self.line = RecordedLine()
        self.bench = b
        plan = DevicePlan("rtc", "goldfish-rtc", RTC, 0x1000, Interrupt(11))
        self.device = goldfish_rtc.realize(plan, b.machine, Wires(line=self.line))
        b.machine.start()

    def get(self, name: str) -> int:
        value = self.bench.machine.peek(RTC + goldfish_rtc.REGISTERS.named(name).offset, 4)
        assert value is not None
        return value

    def put(self, name: str, value: int) -> None:
        self.bench.machine.poke(RTC + goldfish_rtc.REGISTERS.named(name).offset, 4, value)

    def time(self) -> int:
        return self.get("TIME_LOW") | self.get("TIME_HIGH") << 32

    def alarm(self, at: int) -> None:
        self.put("ALARM_HIGH", at >> 32)
        self.put("ALARM_LOW", at & LOW)


@pytest.fixture
def rtc() -> Iterator[Rtc]:
    with bench() as b:
        yield Rtc(b)


def test_the_clock_shows_the_hosts_time(rtc: Rtc) -> None:
    assert rtc.time() == rtc.clock.day_ns() == DAY
    low = rtc.get("TIME_LOW")
    rtc.clock.advance(1 << 40)
    assert low | rtc.get("TIME_HIGH") << 32 == DAY  # the high half belongs to the low one


def test_the_guest_sets_its_own_time(rtc: Rtc) -> None:
    rtc.put("TIME_HIGH", 7)
    rtc.put("TIME_LOW", 9)
    assert rtc.time() == 7 << 32 | 9
    rtc.clock.advance(100)
    assert rtc.time() == (7 << 32 | 9) + 100


def test_an_alarm_rings_until_it_is_cleared(rtc: Rtc) -> None:
    rtc.put("IRQ_ENABLED", 1)
    rtc.alarm(DAY + 3600 * SECOND)
    assert rtc.get("ALARM_STATUS") == 1 and rtc.line.level == 0
    assert rtc.get("ALARM_LOW") | rtc.get("ALARM_HIGH") << 32 == DAY + 3600 * SECOND
    rtc.clock.advance(3600 * SECOND - 1)
    assert rtc.line.level == 0
    rtc.clock.advance(1)
    assert rtc.line.level == 1 and rtc.get("ALARM_STATUS") == 0
    rtc.put("CLEAR_INTERRUPT", 1)
    assert rtc.line.level == 0


def test_an_alarm_in_the_past_rings_at_once_and_waits_for_permission(rtc: Rtc) -> None:
    rtc.alarm(DAY - 1)
    assert rtc.line.level == 0
    rtc.put("IRQ_ENABLED", 1)
    assert rtc.line.level == 1 and rtc.get("IRQ_ENABLED") == 1


def test_a_cancelled_alarm_is_silent(rtc: Rtc) -> None:
    rtc.put("IRQ_ENABLED", 1)
    rtc.alarm(DAY + SECOND)
    rtc.put("CLEAR_ALARM", 1)
    rtc.clock.advance(2 * SECOND)
    assert rtc.line.level == 0


def test_on_a_real_clock_the_alarm_rings_by_itself() -> None:
    with bench() as b:
        rtc = Rtc(b, virtual=False)
        rtc.put("IRQ_ENABLED", 1)
        rtc.alarm(rtc.time() + 20_000_000)
        wait_for(lambda: rtc.line.level == 1, "the alarm")


def test_a_waiting_alarm_has_no_thread_and_ends_with_the_machine() -> None:
    with bench() as b:
        rtc = Rtc(b, virtual=False)
        before = len(list(Path("/proc/self/task").iterdir()))
        rtc.alarm(rtc.time() + SECOND // 100)
        assert len(list(Path("/proc/self/task").iterdir())) == before


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 0x30), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1)))
)
@settings(max_examples=50, deadline=None)
def test_garbage_in_the_clock(accesses: list[tuple[bool, int, int, int]]) -> None:
    with bench() as b:
        rtc = Rtc(b)
        for write, offset, size, value in accesses:
            if write:
                b.machine.poke(RTC + offset, size, value & ((1 << 8 * size) - 1))
            else:
                assert 0 <= (b.machine.peek(RTC + offset, size) or 0) < 1 << 8 * size
        rtc.put("TIME_HIGH", 0)
        rtc.put("TIME_LOW", 1)
        assert rtc.time() == 1


def test_an_empty_slot_is_no_device() -> None:
    with bench() as b:
        virtio_mmio.DEVICE.realize(DevicePlan("s", "virtio-mmio", RTC, 0x1000), b.machine, Wires())
        assert [b.machine.peek(RTC + at, 4) for at in (0, 4, 8, 0x70)] == [0x74726976, 2, 0, 0]
        b.machine.poke(RTC + 0x70, 4, 1)
        assert b.wrongs("virtio-mmio") == {"write to an empty slot": 1}


class ScriptedCore:
    """Stands in for the C core's vCPU: plays exits."""

    def __init__(self, machine: Any, exits: list[tuple[int, int, int, int, int]]) -> None:
        self.exits = exits
        self.answers: list[int] = []

    def run(self, exit: Any) -> None:
        self.answers.append(exit.data)
        exit.kind, exit.window, exit.offset, exit.size, exit.data = self.exits.pop(0)


def test_exits_reach_the_windows_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from vmrun._core import lib
    from vmrun.core import machine as module

    asked: list[tuple[str, int]] = []
    with bench() as b:
        sifive_test.DEVICE.realize(
            DevicePlan("test", "sifive-test", TEST, 0x1000), b.machine, Wires(power=lambda *what: asked.append(what))
        )
        Rtc(b)
        core = ScriptedCore(
            b.machine,
            [
                (lib.VMR_EXIT_MMIO_READ, 1, 4 * 6, 4, 99),
                (lib.VMR_EXIT_MMIO_WRITE, 0, 0, 4, 7 << 16 | 0x3333),
                (lib.VMR_EXIT_STOPPED, 0, 0, 0, 0),
            ],
        )

        def vcpu_run(vcpu: object, exit: Any) -> int:
            core.run(exit)
            return 0

        class Lib:
            def __getattr__(self, name: str) -> object:
                return vcpu_run if name == "vmr_vcpu_run" else getattr(lib, name)

        monkeypatch.setattr(module, "lib", Lib())
        exit = SimpleNamespace(kind=0, gpa=RAM, size=0, data=0)
        assert b.machine.run_vcpu(None, exit) == lib.VMR_EXIT_STOPPED
        assert core.answers[1] == 0  # ALARM_STATUS, in place of the 99 that stood there
        assert asked == [("exit", 7)]
