"""The small parts of a run by themselves: what they read, decide and refuse."""

from __future__ import annotations

import contextlib
import os
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_plans import make_plan

from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.kvm import probe
from vmrun.kvm.outcome import MicroGuest, Standing, Try
from vmrun.planning import engines as choose
from vmrun.run.console import BACKLOG, PIECE, Feed, Tail
from vmrun.run.loop import READ, WRITE, Loop
from vmrun.run.outcome import Event, Heard, guest_code, judge
from vmrun.run.phases import PhaseClock, process_start_ns
from vmrun.run.terminal import EscapeKeys, key_name, parse_escape
from vmrun.run.watch import ControlPort, KernelWatch, ReadyWatch
from vmrun.run.wiring import Wiring, consoles


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


CUTS = st.lists(st.integers(0, 10_000), max_size=20)


# ---- what the guest says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[    1.234567] Kernel panic - not syncing: VFS: Unable to mount\n", True),
        (b"[12345.678901][    T1] Kernel panic - not syncing: Attempted to kill init!\n", True),
        (b"<0>[    1.234567] Kernel panic - not syncing: x\r\n", True),
        (b"Kernel panic - not syncing: no stamps here\r\n", True),
        (b"~ # [    1.234567] Kernel panic - not syncing: after a prompt\n", True),
        (b"[    1.000000] up\nKernel panic - not syncing: not the kernel's word\n", False),
        (b"cat: Kernel panic - not syncing\n", False),
        (b"[    1.000000] kernel: no panic\n", False),
        (b"[ 1.0] Kernel panic - not syncing: no such stamp\n", False),
    ],
)
@settings(max_examples=30, deadline=None)
@given(cuts=CUTS)
def test_a_panic_is_found_however_it_is_cut(text: bytes, found: bool, cuts: list[int]) -> None:
    watch = KernelWatch()
    for piece in pieces(b"noise\r\n" + text, cuts):
        watch.feed(piece)
    watch.finish()
    assert (watch.line is not None) == found
    assert not watch.line or (watch.line.startswith("Kernel panic - not syncing") and watch.line.isprintable())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"[    1.234567] reboot: Restarting system\r\n", True),
        (b"~ # [    1.234567] reboot: Restarting system with command 'x'", True),
        (b"reboot: Restarting system\n", True),
        (b"[    1.000000] up\nreboot: Restarting system\n", False),
        (b"[    1.234567] reboot: Power down\n", False),
        (b"say reboot: Restarting system\n", False),
    ],
)
@settings(max_examples=30, deadline=None)
@given(cuts=CUTS)
def test_a_restart_that_the_kernel_was_asked_for(text: bytes, found: bool, cuts: list[int]) -> None:
    watch = KernelWatch()
    for piece in pieces(b"noise\r\n" + text, cuts):
        watch.feed(piece)
    watch.finish()
    assert (watch.restarts, watch.line) == (found, None)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=10))
def test_no_output_breaks_a_watch(chunks: list[bytes]) -> None:
    reports: list[str] = []
    panic, ready, control = KernelWatch(), ReadyWatch("login:"), ControlPort(reports.append)
    for chunk in chunks:
        for watch in (panic, ready, control):
            watch.feed(chunk)
    panic.finish()
    assert ready.seen == (b"login:" in b"".join(chunks))
    assert control.status is None or 0 <= control.status <= 255
    assert reports == sorted(reports, key=["init", "command", "exit"].index)


@settings(max_examples=30, deadline=None)
@given(cuts=CUTS)
def test_reports_are_read_however_they_are_cut(cuts: list[int]) -> None:
    reports: list[str] = []
    control = ControlPort(reports.append)
    for piece in pieces(b"init 1.23\ncommand\nexit 42\nexit 0\n", cuts):
        control.feed(piece)
    assert (reports, control.status, control.garbage) == (["init", "command", "exit"], 42, 1)


def test_a_line_without_an_end_takes_no_memory() -> None:
    panic, control = KernelWatch(), ControlPort(lambda what: None)
    for _ in range(1000):
        panic.feed(b"x" * 10_000)
        control.feed(b"x" * 10_000)
    assert len(panic._partial) < 10_000 and len(control._partial) < 1_000


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=5000), max_size=20))
def test_a_tail_is_the_end(chunks: list[bytes]) -> None:
    tail = Tail(4096)
    for chunk in chunks:
        tail.feed(chunk)
    assert tail.bytes() == b"".join(chunks)[-4096:]


# ---- keys ------------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=200), cuts=CUTS)
def test_keys_do_not_depend_on_chunks(data: bytes, cuts: list[int]) -> None:
    def run(chunks: list[bytes]) -> tuple[bytes, list[str]]:
        done: list[str] = []
        keys = EscapeKeys(1, {"x": lambda: done.append("quit"), "p": lambda: done.append("power")})
        return b"".join(map(keys.feed, chunks)), done

    assert run([data]) == run(pieces(data, cuts))
    assert run([b"a\x01pb\x01X\x01q\x01\x01c"]) == (b"ab\x01c", ["power", "quit"])


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200))
def test_without_an_escape_every_key_is_the_guests(data: bytes) -> None:
    assert EscapeKeys(None, {"x": lambda: None}).feed(data) == data


@pytest.mark.parametrize(
    ("text", "byte", "name"),
    [
        ("ctrl-a", 1, "Ctrl-a"),
        ("Ctrl-B", 2, "Ctrl-b"),
        ("^]", 0x1D, "Ctrl-]"),
        ("~", 0x7E, "~"),
        ("ctrl-z", 26, "Ctrl-z"),
    ],
)
def test_escape_keys_have_names(text: str, byte: int, name: str) -> None:
    assert parse_escape(text) == byte
    assert key_name(byte) == name


def test_no_escape_key() -> None:
    assert parse_escape("none") is None


@pytest.mark.parametrize("text", ["", "ctrl-", "ctrl-aa", "ctrl-1", "abc", "ü", "^"[:0]])
def test_what_is_no_escape_key(text: str) -> None:
    with pytest.raises(HostError, match="escape key"):
        parse_escape(text)


# ---- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "heard", "due", "reason", "code"),
    [
        (Event("poweroff"), Heard(), False, "poweroff", 0),
        (Event("reboot"), Heard(), False, "reboot", 0),
        (Event("poweroff"), Heard(status=0), True, "poweroff", 0),
        (Event("poweroff"), Heard(status=3), True, "poweroff", 3),
        (Event("poweroff"), Heard(init=True), True, "early-poweroff", 255),
        (Event("reboot"), Heard(init=True, restarts=True), True, "early-reset", 255),
        (Event("reboot"), Heard(init=True), True, "silent-reset", 255),
        (Event("reboot"), Heard(), True, "silent-reset", 255),
        (Event("exit", 3), Heard(init=True), True, "early-exit", 255),
        (Event("triple-fault"), Heard(init=True), True, "triple-fault", 255),
        (Event("reboot"), Heard(restarts=True), True, "early-reset", 255),
        (Event("reboot"), Heard("Kernel panic"), True, "panic", 255),
        (Event("reboot"), Heard(status=0, init=True), True, "reboot", 255),
        (Event("poweroff"), Heard("Kernel panic", 0), True, "panic", 255),
        (Event("timeout"), Heard("Kernel panic"), False, "panic", 255),
        (Event("timeout"), Heard(status=0), True, "timeout", 124),
        (Event("signal", 15), Heard("Kernel panic", 0), True, "signal", 143),
        (Event("stopped"), Heard(), False, "stopped", 0),
        (Event("exit", 300), Heard(status=0), True, "exit", 44),
        (Event("fault"), Heard(), False, "fault", 255),
        (Event("engine-error"), Heard("Kernel panic", 0), True, "engine-error", 125),
    ],
)
def test_the_verdict(event: Event, heard: Heard, due: bool, reason: str, code: int) -> None:
    verdict = judge(event, heard, reports=due, status_due=due)
    assert (verdict.reason, verdict.code) == (reason, code)


@pytest.mark.parametrize(
    ("heard", "reason", "code"),
    [
        (Heard(), "silent-reset", 255),
        (Heard(restarts=True), "reboot", 0),
        (Heard(init=True), "reboot", 0),
    ],
)
def test_a_guest_that_dies_unseen_before_its_init_is_not_started_for_ever(heard: Heard, reason: str, code: int) -> None:
    verdict = judge(Event("reboot"), heard, reports=True, status_due=False)
    assert (verdict.reason, verdict.code) == (reason, code)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 64))
def test_a_failure_value_is_never_success(value: int) -> None:
    assert 1 <= guest_code(value) <= 255


# ---- engines ---------------------------------------------------------------------------------------------------------


def test_the_choice_of_an_engine_and_its_reason() -> None:
    for accel in ("auto", "soft"):
        choice = choose.choose(accel, "riscv64", "x86_64")
        assert choice.engine == "soft" and "a riscv64 guest on an x86_64 host" in choice.why and choice.lasting
    for accel, arch, code in (("kvm", "riscv64", "E302"), ("warp", "riscv64", "E301"), ("auto", "aarch64", "E302")):
        with pytest.raises(HostError) as raised:
            choose.choose(accel, arch, "x86_64")
        assert raised.value.code == code and raised.value.remedy


WORKS = (Try("x87", True, "p"),)
FAILS = (Try("x87", False, "p", "y"),)


@pytest.mark.parametrize(
    ("accel", "arch", "guest", "found"),
    [
        ("auto", "x86_64", MicroGuest(10**9, WORKS), ("kvm", True, 0)),
        # Slow is warned of, and runs: nothing proves that it is not a host with more to do.
        ("auto", "x86_64", MicroGuest(12_000_000, WORKS, 2_000_000), ("kvm", True, 1)),
        ("auto", "riscv64", MicroGuest(12_000_000, WORKS, 2_000_000), ("kvm", True, 1)),
        ("kvm", "x86_64", MicroGuest(12_000_000, WORKS, 2_000_000), ("kvm", True, 1)),
        # Emulated, with all that a kernel needs: for who insists.
        ("kvm", "x86_64", MicroGuest(700_000, WORKS, 50_000_000), ("kvm", True, 1)),
        ("auto", "x86_64", MicroGuest(700_000, WORKS, 50_000_000), "E330"),
        ("auto", "riscv64", MicroGuest(700_000, WORKS, 50_000_000), ("soft", False, 0)),
        ("auto", "riscv64", MicroGuest(700_000, FAILS), ("soft", True, 0)),
        ("kvm", "riscv64", MicroGuest(700_000, FAILS), "E330"),
        ("auto", "riscv64", None, ("soft", True, 0)),
        ("kvm", "riscv64", None, "E320"),
    ],
)
def test_what_kvm_is_good_for_decides(
    accel: str, arch: str, guest: MicroGuest | None, found: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = None if guest else HostError("no", code="E320", remedy="r")
    monkeypatch.setattr(probe, "look", lambda: Standing(arch, error, (), guest))
    warned: list[str] = []
    try:
        choice = choose.choose(accel, arch, arch, warned.append)
        assert (choice.engine, choice.lasting, len(warned)) == found
    except HostError as raised:
        assert raised.code == found


def test_a_plan_for_an_engine_that_is_not_here() -> None:
    for engine, words in (("vax", "no such engine"), ("qemu", "does not drive QEMU")):
        with pytest.raises(HostError, match=f"the {engine} engine: .*{words}") as raised:
            choose.load(evolve(make_plan(), engine=engine))
        assert raised.value.code == "E301"


def open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


# ---- the loop, the clock, the pipes ----------------------------------------------------------------------------------


def test_a_handler_may_stop_another_one_that_is_ready() -> None:
    loop = Loop()
    pipes = [os.pipe(), os.pipe()]
    called: list[int] = []

    def first() -> None:
        called.append(0)
        for read, _ in pipes:
            loop.unwatch(read, READ)

    for read, write in pipes:
        loop.watch(read, READ, first)
        os.write(write, b"x")
    loop.turn()
    assert called == [0]
    loop.unwatch(99, WRITE)
    loop.close()
    for ends in pipes:
        for fd in ends:
            os.close(fd)


def test_timers_fire_once_in_their_time_and_can_be_cancelled() -> None:
    now = [0]
    loop = Loop(lambda: now[0])
    fired: list[str] = []
    loop.set_timer("a", 10, lambda: fired.append("a"))
    loop.set_timer("b", 10, lambda: fired.append("b"))
    loop.cancel_timer("b")
    loop.turn(0)
    now[0] = 10
    loop.turn(0)
    loop.turn(0)
    loop.close()
    assert fired == ["a"]


@pytest.mark.parametrize("days", [1, 25, 366, 366_000])
def test_a_timer_may_be_further_away_than_poll_can_wait(days: int) -> None:
    loop = Loop(lambda: 0)
    loop.set_timer("late", days * 86_400 * 10**9, lambda: None)
    loop.wake()
    loop.turn()
    loop.close()


def test_the_clock_starts_with_the_process() -> None:
    age = time.monotonic_ns() - process_start_ns()
    assert time.process_time_ns() <= age + 10_000_000
    clock = PhaseClock(time.monotonic_ns())
    for name in ("build", "kernel", "kernel", "off"):
        clock.begin(name)
    clock.end()
    phases = clock.phases()
    assert [p.name for p in phases] == ["start", "build", "kernel", "off"]
    assert phases[0].start_ns == 0
    assert all(a.end_ns == b.start_ns for a, b in pairwise(phases))


def test_pipes_are_closed_on_the_way_out() -> None:
    before = open_files()
    plan = make_plan(reports=True)
    with Wiring(plan) as wiring:
        assert consoles(plan)[0] == "console.main"
        for (device, port), (read, write) in wiring.wires.items():
            assert (read >= 0) == (port in ("", "vmrun.stdin")), (device, port)
            assert (write >= 0) == (port != "vmrun.stdin")
        wiring.hang_up(("agent", "vmrun.stdin"))
        assert os.read(wiring.wires["agent", "vmrun.stdin"][0], 1) == b""
        wiring.hang_up(("agent", "vmrun.stdin"))
    assert open_files() == before


# ---- input -----------------------------------------------------------------------------------------------------------


class Input:
    """A Feed between two pipes."""

    def __init__(self, *, held: bool) -> None:
        self.loop = Loop()
        self.read, self.write = os.pipe()
        self.guest, pipe = os.pipe()
        self.ends = 0
        self.feed = Feed(self.loop, self.read, pipe, ended=self._end, held=held)
        self._fds = [self.read, self.guest, pipe]

    def _end(self) -> None:
        self.ends += 1

    def turn(self, times: int = 4) -> None:
        for _ in range(times):
            self.loop.turn(0)

    def came(self) -> bytes:
        os.set_blocking(self.guest, False)
        try:
            return os.read(self.guest, 1 << 16)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self.loop.close()


@pytest.mark.parametrize("ended", [False, True])
def test_held_input_comes_with_its_release_and_its_end_after_it(ended: bool) -> None:
    feed = Input(held=True)
    os.write(feed.write, b"early ")
    if ended:
        os.close(feed.write)
    feed.turn()
    assert (feed.came(), feed.ends) == (b"", 0)
    feed.feed.release()
    if not ended:
        os.write(feed.write, b"late")
        os.close(feed.write)
    feed.turn()
    assert (feed.came(), feed.ends) == (b"early " if ended else b"early late", 1)
    feed.close()


def test_held_input_has_a_bound_and_loses_nothing() -> None:
    feed = Input(held=True)
    data = os.urandom(2 * BACKLOG)
    os.set_blocking(feed.write, False)
    sent, got = 0, b""
    for _ in range(len(data) // PIECE):
        with contextlib.suppress(BlockingIOError):
            sent += os.write(feed.write, data[sent : sent + PIECE])
        feed.turn(1)
    assert sent < len(data)
    feed.feed.release()
    while len(got) < len(data):
        with contextlib.suppress(BlockingIOError):
            sent += os.write(feed.write, data[sent : sent + PIECE])
        feed.turn(1)
        got += feed.came()
    assert got == data
    os.close(feed.write)
    feed.close()
