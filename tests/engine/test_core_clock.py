"""The machine's clock: real, held and released; virtual, with timers that fire in order; harts that live by it."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patience import patience
from vmrun._core import ffi, lib
from vmrun.core.clock import NEVER
from vmrun.core.machine import CoreMachine
from vmrun.devices.testing import wait_for
from vmrun.errors import HostError

DAY = 1_700_000_000_000_000_000


@pytest.mark.parametrize("started", [False, True])
def test_a_virtual_clock_moves_only_when_told(started: bool) -> None:
    with CoreMachine() as machine:
        clock = machine.clock
        clock.make_virtual(DAY)
        if started:
            machine.start()
        assert (clock.now_ns(), clock.day_ns()) == (0, DAY)
        clock.advance(7)
        clock.advance(0)
        clock.release()
        assert (clock.now_ns(), clock.day_ns()) == (7, DAY + 7)
        clock.hold()
        clock.advance(1)
        assert clock.now_ns() == 8, "held or not, it moves when it is told"


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50)), max_size=20),
    st.lists(st.integers(0, 20), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_timers_fire_in_order_of_deadline_then_of_arming(
    started: bool, armed: list[tuple[int, int]], steps: list[int]
) -> None:
    fired: list[tuple[int, int]] = []
    with CoreMachine() as machine:
        clock = machine.clock
        clock.make_virtual(DAY)
        timers = [clock.timer(lambda index=i: fired.append((index, clock.now_ns()))) for i in range(4)]  # type: ignore[misc]
        if started:
            machine.start()
        waits: dict[int, int] = {}
        for index, deadline in armed:
            timers[index].arm(deadline)
            waits.pop(index, None)
            waits[index] = deadline  # dicts keep the order of arming
        now = 0
        for step in steps:
            due = sorted((item for item in waits.items() if item[1] <= now + step), key=lambda item: item[1])
            wanted = [(index, max(deadline, now)) for index, deadline in due]
            fired.clear()
            clock.advance(step)
            now += step
            assert fired == wanted and clock.now_ns() == now
            for index, _ in due:
                del waits[index]


def test_a_timer_that_arms_itself_ticks_and_a_cancelled_one_does_not() -> None:
    with CoreMachine() as machine:
        clock = machine.clock
        clock.make_virtual(0)
        ticks: list[int] = []

        def tick() -> None:
            ticks.append(clock.now_ns())
            every.arm(clock.now_ns() + 10)

        every, never = clock.timer(tick), clock.timer(lambda: ticks.append(-1))
        machine.start()
        every.arm(10)
        never.arm(25)
        clock.advance(20)
        never.cancel()
        never.arm(NEVER)
        never.arm(NEVER + 5)
        clock.advance(15)
        assert ticks == [10, 20, 30] and clock.now_ns() == 35


def test_timers_run_on_the_io_thread_and_cannot_advance_their_clock() -> None:
    with CoreMachine() as machine:
        clock = machine.clock
        clock.make_virtual(0)
        seen: list[object] = []

        def expired() -> None:
            seen.append(threading.get_ident())
            with pytest.raises(HostError, match="cannot advance"):
                clock.advance(1)

        timer = clock.timer(expired)
        machine.start()
        timer.arm(5)
        clock.advance(5)
        assert len(seen) == 1 and seen[0] != threading.get_ident()


def test_a_real_clock_begins_with_the_machine_and_wakes_its_timers() -> None:
    with CoreMachine() as machine:
        clock = machine.clock
        rang = threading.Event()
        timer = clock.timer(rang.set)
        timer.arm(1_000_000)
        assert clock.now_ns() == 0 and not rang.wait(0.01)
        machine.start()
        assert rang.wait(20)
        assert clock.now_ns() >= 1_000_000 and clock.day_ns() > DAY
        with pytest.raises(HostError, match="is real"):
            clock.advance(1)
        with pytest.raises(HostError, match="cannot become virtual"):
            clock.make_virtual(0)


def test_a_held_clock_stands_and_loses_no_timer() -> None:
    with CoreMachine() as machine:
        clock = machine.clock
        rang = threading.Event()
        timer = clock.timer(rang.set)
        machine.start()
        clock.hold()
        stood = clock.now_ns()
        timer.arm(stood + 1_000_000)
        assert not rang.wait(0.03)
        assert clock.now_ns() == stood
        clock.hold()
        clock.release()
        assert rang.wait(20)
        assert clock.now_ns() >= stood + 1_000_000


def test_a_clock_that_is_held_before_it_begins_begins_when_it_is_released() -> None:
    with CoreMachine() as machine:
        machine.clock.hold()
        machine.start()
        assert machine.clock.now_ns() == 0
        machine.clock.release()
        wait_for(lambda: machine.clock.now_ns() > 0, "the clock")


TIME, STIMECMP, PC = 4096 + 0xC01, 4096 + 0x14D, 32
HZ = 10_000_000


class Hart:
    """A hart with ``code`` (32-bit instructions) at the start of RAM."""

    def __init__(self, machine: CoreMachine, *code: int) -> None:
        self.machine = machine
        machine.add_ram(0x8000_0000, 1 << 20)
        machine.write_ram(0x8000_0000, b"".join(word.to_bytes(4, "little") for word in code))
        out = ffi.new("vmr_vcpu **")
        machine.check(lib.vmr_rv64_new(machine.handle, lib.VMR_RV64_SSTC, HZ, 0, out), "hart")
        self.c = out[0]
        machine.check(lib.vmr_rv64_boot(self.c, 0x8000_0000, 0), "hart")
        self.exit = ffi.new("vmr_exit *")

    def get(self, register: int) -> int:
        value = ffi.new("uint64_t *")
        assert lib.vmr_rv64_get(self.c, register, value) == 0
        return int(value[0])


def test_a_harts_time_is_the_machines() -> None:
    with CoreMachine() as machine:
        machine.clock.make_virtual(0)
        hart = Hart(machine)
        assert hart.get(TIME) == 0
        machine.clock.advance(1_000_000_099)
        assert hart.get(TIME) == HZ


def test_a_sleeping_hart_wakes_when_its_time_has_come() -> None:
    wfi, ecall = 0x10500073, 0x00000073
    system_reset = (0x53525000 + 0x8B7, 0x35488893, ecall)  # li a7, SRST; ecall: a0, a1, a6 are 0
    with CoreMachine() as machine:
        clock = machine.clock
        clock.make_virtual(0)
        hart = Hart(machine, wfi, *system_reset)
        for register, value in ((4096 + 0x104, 1 << 5), (STIMECMP, 50)):
            assert lib.vmr_rv64_set(hart.c, register, value) == 0
        machine.start()
        thread = threading.Thread(target=machine.run_vcpu, args=(hart.c, hart.exit), daemon=True)
        thread.start()
        clock.advance(4_999)
        thread.join(0.05)
        assert thread.is_alive(), "50 ticks of 100 ns have not passed"
        clock.advance(1)
        thread.join(patience(20))
        assert not thread.is_alive() and hart.exit.kind == lib.VMR_EXIT_SYSTEM
        assert hart.get(TIME) == 50


def test_a_saved_time_goes_on_elsewhere() -> None:
    with CoreMachine() as first, CoreMachine() as second, CoreMachine() as third:
        first.clock.make_virtual(DAY)
        first.clock.advance(1234)
        state = first.clock.save()
        assert (state["now"], state["base"]) == (1234, DAY)
        second.clock.make_virtual(0)
        second.clock.load(state)
        assert (second.clock.now_ns(), second.clock.day_ns()) == (1234, DAY + 1234)
        third.clock.load(state)
        third.start()
        wait_for(lambda: third.clock.now_ns() > 1234, "a real clock goes on from there")
        assert third.clock.day_ns() - third.clock.now_ns() <= DAY + 10**12
