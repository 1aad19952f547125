"""PrimeCells that Python serves: the clock (PL031) and the GPIO with the power key (PL061)."""

from collections.abc import Iterator

import pytest
from dev_kit import Bench, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun.devices import primecell
from vmrun.devices.model import Wires
from vmrun.devices.power import pl061
from vmrun.devices.rtc import pl031
from vmrun.devices.testing import RecordedLine, wait_for
from vmrun.plan.model import DevicePlan, Interrupt

BASE = 0x0901_0000
SECOND = 1_000_000_000
KEY = 8
ACCESSES = st.lists(
    st.tuples(st.booleans(), st.integers(0, 0xFFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1))
)


DAY_S = 1_700_000_000


class Cell:
    """A PrimeCell under test, by its registers' names."""

    def __init__(self, b: Bench, module: object, kind: str, *, virtual: bool = True) -> None:
        self.clock = b.machine.clock
        if virtual:
            self.clock.make_virtual(DAY_S * SECOND + 5)
        self.line = RecordedLine()
        self.bench = b
        self.registers = module.REGISTERS  # type: ignore[attr-defined]
        plan = DevicePlan("it", kind, BASE, 0x1000, Interrupt(2))
        self.device = module.DEVICE.realize(plan, b.machine, Wires(line=self.line))  # type: ignore[attr-defined]
        b.machine.start()

    def get(self, name: str, size: int = 4, index: int = 0) -> int:
        value = self.bench.machine.peek(BASE + self.registers.named(name).offset + 4 * index, size)
        assert value is not None
        return value

    def put(self, name: str, value: int, size: int = 4, index: int = 0) -> None:
        self.bench.machine.poke(BASE + self.registers.named(name).offset + 4 * index, size, value)

    @property
    def day_s(self) -> int:
        return self.clock.day_ns() // SECOND

    @property
    def level(self) -> int:
        return self.line.level

    def number(self, at: int) -> int:
        return sum((self.bench.machine.peek(BASE + at + 4 * n, 4) or 0) << 8 * n for n in range(4))


@pytest.fixture
def rtc() -> Iterator[Cell]:
    with bench() as b:
        yield Cell(b, pl031, "pl031")


@pytest.fixture
def gpio() -> Iterator[Cell]:
    with bench() as b:
        yield Cell(b, pl061, "pl061")


@pytest.mark.parametrize(("module", "kind", "part"), [(pl031, "pl031", 0x41031), (pl061, "pl061", 0x41061)])
def test_drivers_know_the_cell_by_its_numbers(module: object, kind: str, part: int) -> None:
    with bench() as b:
        cell = Cell(b, module, kind)
        assert cell.number(primecell.PERIPHERAL_ID) & 0xFFFFF == part
        assert cell.number(primecell.CELL_ID) == 0xB105F00D


# The clock.


def test_the_clock_shows_the_hosts_time(rtc: Cell) -> None:
    assert rtc.get("DR") == rtc.day_s
    rtc.clock.advance(7 * SECOND)
    assert rtc.get("DR") == rtc.day_s
    assert rtc.get("CR") == 1


def test_the_guest_sets_its_own_time(rtc: Cell) -> None:
    rtc.put("LR", 100)
    assert (rtc.get("DR"), rtc.get("LR")) == (100, 100)
    rtc.clock.advance(5 * SECOND)
    assert (rtc.get("DR"), rtc.get("LR")) == (105, 100)
    rtc.put("LR", 0xFFFF_FFFF)
    rtc.clock.advance(2 * SECOND)
    assert rtc.get("DR") == 1


def test_an_alarm_rings_until_it_is_cleared(rtc: Cell) -> None:
    rtc.put("IMSC", 1)
    rtc.put("MR", rtc.day_s + 3600)
    assert rtc.level == 0 and rtc.get("RIS") == 0
    rtc.clock.advance(3600 * SECOND)
    assert rtc.level == 1 and (rtc.get("RIS"), rtc.get("MIS")) == (1, 1)
    rtc.put("IMSC", 0)
    assert rtc.level == 0 and (rtc.get("RIS"), rtc.get("MIS")) == (1, 0)
    rtc.put("IMSC", 1)
    rtc.put("ICR", 0)
    assert rtc.level == 1
    rtc.put("ICR", 1)
    assert rtc.level == 0 and rtc.get("RIS") == 0
    assert rtc.get("RIS") == 0, "once"


def test_an_alarm_for_now_rings_and_one_in_the_past_does_not(rtc: Cell) -> None:
    rtc.put("IMSC", 1)
    rtc.put("MR", rtc.day_s - 1)
    assert rtc.level == 0
    rtc.put("MR", rtc.day_s)
    assert rtc.level == 1


def test_a_clock_that_is_set_moves_the_alarm(rtc: Cell) -> None:
    rtc.put("IMSC", 1)
    rtc.put("MR", rtc.day_s + 1000)
    rtc.put("LR", rtc.day_s + 990)
    rtc.clock.advance(9 * SECOND)
    assert rtc.level == 0
    rtc.clock.advance(SECOND)
    assert rtc.level == 1


def test_on_a_real_clock_the_alarm_rings_by_itself() -> None:
    with bench() as b:
        rtc = Cell(b, pl031, "pl031", virtual=False)
        rtc.put("IMSC", 1)
        rtc.put("MR", rtc.get("DR") + 1)
        wait_for(lambda: rtc.level == 1, "the alarm")


@given(ACCESSES)
@settings(max_examples=50, deadline=None)
def test_garbage_in_the_clock(accesses: list[tuple[bool, int, int, int]]) -> None:
    with bench() as b:
        rtc = Cell(b, pl031, "pl031")
        poke(b, accesses)
        rtc.put("LR", 1)
        assert rtc.get("DR") == 1


# The lines.


def test_outputs_read_back_by_the_lines_that_the_address_names(gpio: Cell) -> None:
    gpio.put("DIR", 0xF0)
    gpio.put("DATA", 0xFF, index=0x30)
    assert gpio.get("DATA", index=0xFF) == 0x30, "the others were not meant"
    gpio.put("DATA", 0x00, index=0x10)
    assert gpio.get("DATA", index=0xFF) == 0x20
    assert gpio.get("DATA", index=0x10) == 0 and gpio.get("DATA", index=0x20) == 0x20
    gpio.put("DATA", 0xFF, index=0x0F)
    assert gpio.get("DATA", index=0xFF) == 0x20, "inputs are not written"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_width_means_the_register_at_its_address(size: int, gpio: Cell) -> None:
    gpio.put("IBE", 0x55, size)
    assert gpio.get("IBE", size) == 0x55


def test_linux_hears_the_key_go_down_and_up(gpio: Cell) -> None:
    """As gpio-keys asks for it: both edges, each acknowledged."""
    gpio.put("IE", 0, 1)
    gpio.put("DIR", 0, 1)
    gpio.put("IS", 0, 1)
    gpio.put("IBE", KEY, 1)
    gpio.put("IC", 0xFF, 1)
    gpio.put("IE", KEY, 1)
    gpio.device.press_power()
    assert gpio.level == 1 and gpio.get("MIS", 1) == KEY
    assert gpio.get("DATA", 1, index=KEY) == KEY
    gpio.put("IC", KEY, 1)
    assert gpio.level == 0 and gpio.get("RIS", 1) == 0
    gpio.clock.advance(pl061.HOLD_NS - 1)
    assert gpio.level == 0
    gpio.clock.advance(1)
    assert gpio.level == 1, "the key's release"
    assert gpio.get("DATA", 1, index=KEY) == 0
    gpio.put("IC", KEY, 1)
    assert gpio.level == 0


@pytest.mark.parametrize(("event", "down", "up"), [(KEY, KEY, 0), (0, 0, KEY)])
def test_one_edge_is_chosen_by_iev(event: int, down: int, up: int, gpio: Cell) -> None:
    gpio.put("IEV", event)
    gpio.device.press_power()
    assert gpio.get("RIS") & KEY == down
    gpio.put("IC", 0xFF)
    gpio.device.release_power()
    assert gpio.get("RIS") & KEY == up
    assert gpio.level == 0, "masked"


def test_a_level_lasts_as_long_as_the_key(gpio: Cell) -> None:
    gpio.put("IS", KEY)
    gpio.put("IEV", KEY)
    gpio.put("IE", KEY)
    assert gpio.level == 0
    gpio.device.press_power()
    gpio.put("IC", 0xFF)
    assert gpio.level == 1
    gpio.device.release_power()
    assert gpio.level == 0
    gpio.put("IEV", 0)
    assert gpio.level == 1, "low is a level as well"


@given(ACCESSES)
@settings(max_examples=50, deadline=None)
def test_garbage_in_the_lines(accesses: list[tuple[bool, int, int, int]]) -> None:
    with bench() as b:
        gpio = Cell(b, pl061, "pl061")
        poke(b, accesses)
        assert gpio.get("MIS") == gpio.get("RIS") & gpio.get("IE")
        assert gpio.level == bool(gpio.get("MIS"))


def poke(b: Bench, accesses: list[tuple[bool, int, int, int]]) -> None:
    for write, offset, size, value in accesses:
        if offset + size > 0x1000:
            continue
        if write:
            b.machine.poke(BASE + offset, size, value & ((1 << 8 * size) - 1))
        else:
            assert 0 <= (b.machine.peek(BASE + offset, size) or 0) < 1 << 8 * size


def test_nonsense_is_counted(rtc: Cell) -> None:
    rtc.put("DR", 1)
    rtc.put("MR", 1, size=2)
    assert rtc.bench.machine.peek(BASE + 0x20, 4) == 0
    assert rtc.bench.wrongs("pl031") == {"write beside the registers": 1, "read beside the registers": 1}
    assert rtc.bench.wrongs("bus") == {"write narrower than the device register": 1}
