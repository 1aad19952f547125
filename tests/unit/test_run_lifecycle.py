"""Runs on the fake engine: what ends them, what is read before they are judged, and what they leave."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from plan_kit import BASE, planned
from run_plans import CONSOLE, CONTROL, STDERR, STDIN, STDOUT, Capture, Recorder, make_plan

from vmrun.engine.fake import Break, Expect, FakeEngine, FakeExit, Hang, Leave, Say, Step
from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.plan.model import MachinePlan
from vmrun.run import takedown
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan
from vmrun.run.loop import Loop
from vmrun.run.outcome import Outcome
from vmrun.rv64.engine import ENGINE

OFF = Leave(FakeExit("poweroff"))
RESET = Leave(FakeExit("reboot"))
MS = 1_000_000
PANIC = b"[    3.141592] Kernel panic - not syncing: sysrq triggered crash\r\n"
RESTART = b"[    3.141592] reboot: Restarting system\r\n"
PANIC_END = b"[    3.141999] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n"


class Bench:
    """One run with everything captured."""

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.engine = FakeEngine(scripts)
        self.seen = Recorder()
        self.out, self.err, self.console = Capture(), Capture(), Capture()

    def run(self, plan: MachinePlan, *, policy: Policy = Policy(), **attachment: object) -> Outcome:  # noqa: B008
        fds = {"console_out": self.console.fd, "command_out": self.out.fd, "command_err": self.err.fd}
        attached = Attachment(**(fds | {"output": self.out.fd} | attachment))  # type: ignore[arg-type]
        return run_plan(plan, self.engine, attached, policy, self.seen)

    def close(self) -> None:
        for capture in (self.out, self.err, self.console):
            capture.bytes()


@pytest.fixture
def bench() -> Iterator[type[Bench]]:
    made: list[Bench] = []

    class Tracked(Bench):
        def __init__(self, *scripts: Sequence[Step]) -> None:
            super().__init__(*scripts)
            made.append(self)

    yield Tracked
    for one in made:
        one.close()


def report(status: int | None) -> list[Step]:
    lines = [b"init 1.25\n", b"command\n"] + ([] if status is None else [f"exit {status}\n".encode()])
    return [Say(CONTROL, line) for line in lines]


def test_poweroff_is_0_and_the_console_passes_through(bench: type[Bench]) -> None:
    b = bench([Say(CONSOLE, b"hello\r\n"), OFF])
    outcome = b.run(make_plan())
    assert (outcome.reason, outcome.code) == ("poweroff", 0)
    assert b.console.bytes() == b"hello\r\n" == outcome.tail
    assert b.engine.machines[0].journal == ["start", "stop", "enter", "halt", "exit"]
    assert b.seen.phases == ["build", "kernel"]
    assert [p.name for p in outcome.phases] == ["start", "build", "kernel"]


@pytest.mark.parametrize(("value", "code"), [(1, 1), (42, 42), (0, 1), (256, 1), (0x1FF, 255)])
def test_the_guests_own_value(bench: type[Bench], value: int, code: int) -> None:
    outcome = bench([Leave(FakeExit("exit", value))]).run(make_plan())
    assert (outcome.reason, outcome.code, outcome.value) == ("exit", code, value)


@pytest.mark.parametrize("status", [0, 1, 42, 126, 127, 137, 255])
def test_the_commands_status(bench: type[Bench], status: int) -> None:
    b = bench([*report(status), OFF])
    outcome = b.run(make_plan(reports=True, command=("x",)))
    assert (outcome.reason, outcome.code, outcome.status) == ("poweroff", status, status)
    assert b.seen.phases == ["build", "kernel", "init", "command", "off"]


@pytest.mark.parametrize(
    ("script", "reason", "code"),
    [
        ([*report(None), OFF], "early-poweroff", 255),  # no evidence, no pass
        ([*report(None), RESET], "silent-reset", 255),
        ([*report(None), Say(CONSOLE, RESTART), RESET], "early-reset", 255),
        ([Say(CONSOLE, RESTART), RESET], "early-reset", 255),
        ([RESET], "silent-reset", 255),
        ([*report(None), Leave(FakeExit("exit", 3))], "early-exit", 255),
        ([*report(None), Leave(FakeExit("triple-fault", detail="vCPU 0: triple fault"))], "triple-fault", 255),
        ([*report(0), RESET], "reboot", 255),  # died between the report and power-off
        ([*report(0), Say(CONSOLE, PANIC), RESET], "panic", 255),
        ([*report(0), Leave(FakeExit("exit", 3))], "exit", 3),
        ([Say(CONTROL, b"exit 0\ninit\nexit 7\n"), OFF], "poweroff", 0),  # a report counts once
        ([Say(CONTROL, b"exit 999\nexit -1\nexit\n" + b"x" * 4000 + b"\n"), OFF], "early-poweroff", 255),
    ],
)
def test_a_command_that_was_due(bench: type[Bench], script: list[Step], reason: str, code: int) -> None:
    outcome = bench(script).run(make_plan(reports=True, command=("x",)))
    assert (outcome.reason, outcome.code) == (reason, code)


@pytest.mark.parametrize(("script", "reason"), [([RESET], "silent-reset"), ([*report(None), RESET], "early-reset")])
def test_a_kernel_that_let_go_of_its_devices_was_told_to_restart(
    bench: type[Bench], script: list[Step], reason: str
) -> None:
    b = bench(script)
    b.engine.released = True  # before init nobody has them either
    assert b.run(make_plan(reports=True, command=("x",))).reason == reason


def test_a_kernel_that_resets_before_its_init_is_started_once(bench: type[Bench]) -> None:
    b = bench([RESET], [OFF])
    outcome = b.run(make_plan(reports=True))
    assert (outcome.reason, outcome.code, len(b.engine.machines)) == ("silent-reset", 255, 1)


def test_streams_of_a_command_are_binary_clean_and_apart(bench: type[Bench]) -> None:
    data = bytes(range(256)) * 4096
    script = [Say(CONSOLE, b"noise"), Say(STDOUT, data, 7919), Say(STDERR, b"oops\n"), *report(0), OFF]
    b = bench(script)
    b.run(make_plan(reports=True, command=("x",)))
    assert (b.out.bytes() == data, b.err.bytes(), b.console.bytes()) == (True, b"oops\n", b"noise")


def test_input_reaches_the_command_with_its_end(bench: type[Bench], tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "in").write_bytes(data)
    b = bench([*report(None), Expect(STDIN), Say(CONTROL, b"exit 0\n"), OFF])
    with open(tmp_path / "in", "rb") as stdin:
        b.run(make_plan(reports=True, command=("x",)), command_in=stdin.fileno())
    assert b.engine.machines[0].input == data


def test_without_input_the_command_meets_its_end_at_once(bench: type[Bench]) -> None:
    b = bench([Expect(STDIN), *report(0), OFF])
    assert b.run(make_plan(reports=True, command=("x",))).code == 0


def test_input_of_the_console_has_no_end(bench: type[Bench], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"poweroff\n")
    b = bench([Expect(CONSOLE, b"poweroff\n"), OFF])
    with open(tmp_path / "in", "rb") as stdin:
        assert b.run(make_plan(), console_in=stdin.fileno()).code == 0


def test_input_of_the_console_waits_for_its_reader(bench: type[Bench], tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"typed\n")
    init, command = (Say(CONTROL, line) for line in (b"init 1.25\n", b"command\n"))
    with open(tmp_path / "in", "rb") as stdin:
        b = bench([init, command, Expect(CONSOLE, b"typed\n"), OFF])
        assert b.run(make_plan(reports=True), console_in=stdin.fileno()).reason == "poweroff"
    with open(tmp_path / "in", "rb") as stdin:
        b = bench([init, Expect(CONSOLE, b"typed\n"), OFF])
        assert b.run(make_plan(reports=True, total_ns=100 * MS), console_in=stdin.fileno()).reason == "timeout"
    assert b.engine.machines[0].input == b""


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 0])
def test_a_panic_ends_the_run_however_it_is_cut(bench: type[Bench], chunk: int) -> None:
    b = bench([Say(CONSOLE, b"boot\r\n" + PANIC + b"Call Trace:\r\n" + PANIC_END, chunk), Hang()])
    outcome = b.run(make_plan())
    assert (outcome.reason, outcome.code) == ("panic", 255)
    assert "sysrq triggered crash" in outcome.detail
    assert b"Call Trace" in b.console.bytes()


def test_a_panic_without_an_end_ends_the_run_as_well(bench: type[Bench]) -> None:
    assert bench([Say(CONSOLE, PANIC), Hang()]).run(make_plan()).reason == "panic"


def test_a_reset_after_a_panic_is_the_panic(bench: type[Bench]) -> None:
    b = bench([Say(CONSOLE, PANIC), RESET])
    assert b.run(make_plan()).code == 255
    assert len(b.engine.machines) == 1


def test_a_panic_in_the_last_unfinished_line(bench: type[Bench]) -> None:
    assert bench([Say(CONSOLE, PANIC.rstrip()), RESET]).run(make_plan()).reason == "panic"


def test_a_reboot_starts_a_fresh_machine(bench: type[Bench]) -> None:
    b = bench([Say(CONSOLE, b"one\n"), RESET], [Say(CONSOLE, b"two\n"), OFF])
    outcome = b.run(make_plan())
    assert (outcome.code, outcome.boots) == (0, 2)
    assert b.console.bytes() == b"one\ntwo\n"
    assert b.engine.machines[0].journal[-1] == "exit"


def test_a_reboot_that_is_not_wanted_ends_the_run(bench: type[Bench]) -> None:
    b = bench([RESET])
    assert (b.run(make_plan(), policy=Policy(reboots=False)).reason) == "reboot"
    assert len(b.engine.machines) == 1


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"boot_ns": 20 * MS}, "not up within 20ms"),
        ({"boot_ns": 20 * MS, "ready": "login:"}, "not up within"),
        ({"idle_ns": 20 * MS}, "said nothing for 20ms"),
        ({"total_ns": 20 * MS}, "longer than 20ms"),
    ],
)
def test_a_bound_ends_the_run_with_124(bench: type[Bench], bounds: dict[str, object], words: str) -> None:
    outcome = bench([Say(CONSOLE, b"x"), Hang()]).run(make_plan(**bounds))
    assert (outcome.reason, outcome.code) == ("timeout", 124)
    assert words in outcome.detail


def test_being_up_ends_the_bound_on_the_boot(bench: type[Bench]) -> None:
    plan = make_plan(boot_ns=20 * MS, total_ns=80 * MS, ready="login:")
    outcome = bench([Say(CONSOLE, b"debian log"), Say(CONSOLE, b"in: "), Hang()]).run(plan)
    assert "longer than" in outcome.detail
    reports = make_plan(boot_ns=20 * MS, total_ns=80 * MS, reports=True, command=("x",))
    assert "longer than" in bench([*report(None), Hang()]).run(reports).detail


def test_the_total_bound_spans_reboots(bench: type[Bench]) -> None:
    outcome = bench([RESET], [RESET], [Hang()]).run(make_plan(total_ns=50 * MS))
    assert (outcome.reason, outcome.boots) == ("timeout", 3)


def test_a_guest_that_does_not_power_off(bench: type[Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmrun.run.boot.OFF_GRACE_NS", 20 * MS)
    outcome = bench([*report(42), Hang()]).run(make_plan(reports=True, command=("x",)))
    assert (outcome.reason, outcome.code, outcome.status) == ("fault", 255, 42)
    assert "42" in outcome.detail and "did not power off" in outcome.detail


def test_the_first_outcome_wins_and_the_others_are_stopped(bench: type[Bench]) -> None:
    for _ in range(50):
        later = [Leave(FakeExit("exit", 9), index) for index in (1, 2, 3)]
        b = bench([*later, OFF])
        assert b.run(make_plan(cpus=4)).reason == "poweroff"
        b.close()


def test_a_fault_of_the_engine(bench: type[Bench]) -> None:
    outcome = bench([Leave(FakeExit("fault", detail="hart 0 ran off at pc 0x0"))]).run(make_plan())
    assert (outcome.reason, outcome.code, outcome.detail) == ("fault", 255, "hart 0 ran off at pc 0x0")


@pytest.mark.parametrize("error", [HostError("no memory", code="E303"), RuntimeError("bug")])
def test_an_engine_that_fails_is_125_and_is_taken_down(bench: type[Bench], error: Exception) -> None:
    b = bench([Break(error)])
    outcome = b.run(make_plan(cpus=2))
    assert (outcome.reason, outcome.code) == ("engine-error", 125)
    assert str(error).split(" (")[0] in outcome.detail
    assert b.engine.machines[0].journal[-1] == "exit"


def test_a_machine_that_cannot_be_built_leaves_a_result(bench: type[Bench], tmp_path: Path) -> None:
    b = bench()
    with pytest.raises(HostError):
        b.run(make_plan(), policy=Policy(results=tmp_path))
    result = json.loads(next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text())
    assert (result["outcome"], result["code"]) == ("engine-error", 125)


def test_what_a_run_leaves(bench: type[Bench], tmp_path: Path) -> None:
    b = bench([Say(CONSOLE, b"\xff\0hello\n"), *report(3), OFF])
    b.run(make_plan(reports=True, command=("x", "y")), policy=Policy(results=tmp_path))
    (folder,) = (tmp_path / ".vmrun" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert (folder / "console.log").read_bytes() == b"\xff\0hello\n"
    assert {k: result[k] for k in ("result", "id", "name", "outcome", "code", "status", "command", "boots")} == {
        "result": 3,
        "id": folder.name,
        "name": "fake",
        "outcome": "poweroff",
        "code": 3,
        "status": 3,
        "command": ["x", "y"],
        "boots": 1,
    }
    assert result["guest_errors"] == [{"device": "fake", "what": "scripted", "count": 1}]
    assert result["vcpus"] == [{"pc": "0x1000"}]
    assert [p["name"] for p in result["phases"]] == ["start", "build", "kernel", "init", "command", "off"]
    assert all(p["start_ns"] <= p["end_ns"] for p in result["phases"])
    assert (tmp_path / ".vmrun" / ".gitignore").read_text() == "*\n"


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("fault", ["exit reason 17", "  rip 1"]),
        ("triple-fault", ["exit reason 17", "  rip 1"]),
        ("poweroff", []),
        ("exit", []),
    ],
)
def test_the_engines_report_is_kept_of_faults_alone(
    bench: type[Bench], tmp_path: Path, reason: str, told: list[str]
) -> None:
    b = bench([Leave(FakeExit(reason, detail="vCPU 0: fell"))])
    b.engine.report = "exit reason 17\n  rip 1"
    outcome = b.run(make_plan(), policy=Policy(results=tmp_path))
    assert outcome.reason == reason
    assert outcome.report.splitlines() == told
    result = json.loads(next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text())
    assert (result["report"], result["code"] == 255) == (told, reason.endswith("fault"))


def test_what_the_host_refused_is_told_once_and_kept(bench: type[Bench], tmp_path: Path) -> None:
    b = bench([Say(CONSOLE, b"on\n"), OFF])
    full = ("disk.root", "writing", "/images/root.img", errno.ENOSPC, 7)
    short = ("disk.root", "reading", "/images/root.img", errno.ENODATA, 1)
    b.engine.host_errors = [full, ("disk.root", "flushing", "/images/root.img", errno.ENOSPC, 2), short]
    outcome = b.run(make_plan(), policy=Policy(results=tmp_path))
    assert outcome.code == 0
    assert b.seen.warnings == [
        "disk.root: writing /images/root.img: No space left on device (errno 28, ENOSPC) [E401]",
        "disk.root: reading /images/root.img: the file has become shorter than it was when the run began"
        " (errno 61, ENODATA) [E401]",
    ]
    result = json.loads(next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text())
    assert len(result["host_errors"]) == 3
    assert result["host_errors"][0] == {
        "device": "disk.root",
        "what": "writing",
        "file": "/images/root.img",
        "errno": errno.ENOSPC,
        "error": "No space left on device",
        "count": 7,
    }


def test_the_host_is_heard_while_the_guest_runs(bench: type[Bench]) -> None:
    b = bench([Hang()])
    b.engine.host_errors = [("disk.root", "writing", "/images/root.img", errno.EIO, 1)]
    told = b.seen.warn

    def warn(text: str) -> None:
        told(text)
        assert "halt" not in b.engine.machines[0].journal
        os.kill(os.getpid(), signal.SIGTERM)  # ends the run, which would have no end

    b.seen.warn = warn  # type: ignore[method-assign]
    assert b.run(make_plan()).reason == "signal"
    assert len(b.seen.warnings) == 1


@pytest.mark.parametrize("end", ["signal", "poweroff", "timeout"])
def test_devices_that_never_have_done_do_not_hold_up_the_end(
    bench: type[Bench], monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(takedown, "PATIENCE_MS", 200)
    monkeypatch.setattr(takedown, "LONG_PATIENCE_MS", 300)
    b = bench([OFF] if end == "poweroff" else [Hang()])
    b.engine.busy = True
    if end == "signal":
        begin = b.seen.phase

        def phase(name: str, at_ns: int) -> None:
            begin(name, at_ns)
            if name == "kernel":
                os.kill(os.getpid(), signal.SIGTERM)

        b.seen.phase = phase  # type: ignore[method-assign]
    outcome = b.run(make_plan(**({"total_ns": 50 * MS} if end == "timeout" else {})))
    assert outcome.reason == end
    assert b.engine.machines[0].journal[-2:] == ["halt", "exit"]


def test_two_runs_at_once_keep_two_results(bench: type[Bench], tmp_path: Path) -> None:
    for _ in range(2):
        bench([OFF]).run(make_plan(), policy=Policy(results=tmp_path))
    assert len(list(tmp_path.glob(".vmrun/runs/*/result.json"))) == 2


def test_a_folder_that_takes_no_results_is_a_warning(bench: type[Bench], tmp_path: Path) -> None:
    (tmp_path / ".vmrun").write_text("a file in the way")
    b = bench([OFF])
    assert b.run(make_plan(), policy=Policy(results=tmp_path)).code == 0
    assert len(b.seen.warnings) == 1 and "no results" in b.seen.warnings[0]


def test_a_log_that_is_a_pipe_without_a_reader_is_refused(bench: type[Bench], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(HostError, match="cannot be written"):
        bench([OFF]).run(make_plan(logs=(("console.main", str(tmp_path / "pipe")),)))


def test_nobody_wakes_a_loop_that_is_closed(bench: type[Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    wake, closed = Loop.wake, threading.Event()
    late: list[bool] = []

    def slow(loop: Loop) -> None:
        if threading.current_thread().name == "take-down":
            late.append(closed.wait(0.2))
        wake(loop)

    def close(loop: Loop, really: object = Loop.close) -> None:
        closed.set()
        really(loop)  # type: ignore[operator]

    monkeypatch.setattr(Loop, "wake", slow)
    monkeypatch.setattr(Loop, "close", close)
    assert bench([OFF]).run(make_plan()).code == 0
    assert late == [False]


def test_many_lifecycles_in_one_process_keep_nothing() -> None:
    def lifecycles(count: int) -> int:
        for _ in range(count):
            b = Bench([Say(CONSOLE, b"hello"), OFF])
            b.run(make_plan())
            b.close()
        gc.collect()
        return len(gc.get_objects()) + gc.get_freeze_count()

    before = lifecycles(10)
    assert lifecycles(100) - before < 100


def test_many_machines_in_one_process_keep_nothing(tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE.replace("128MiB", "16MiB"))  # a guest that jumps to where it is
    plan = evolve(plan, run=evolve(plan.run, total_ns=MS))
    null = os.open(os.devnull, os.O_WRONLY)
    attachment = Attachment(console_out=null, command_out=null, command_err=null, output=null)

    def lifecycles(count: int) -> tuple[int, int]:
        for _ in range(count):
            assert run_plan(plan, ENGINE, attachment, Policy(), Recorder()).reason == "timeout"
        gc.collect()
        return len(gc.get_objects()) + gc.get_freeze_count(), len([*Path("/proc/self/fd").iterdir()])

    objects, files = lifecycles(5)
    more, still = lifecycles(30)
    os.close(null)
    assert more - objects < 30 and still == files


def test_a_log_of_the_manifest(bench: type[Bench], tmp_path: Path) -> None:
    log = tmp_path / "own.log"
    bench([Say(CONSOLE, b"words"), OFF]).run(make_plan(logs=(("console.main", str(log)),)))
    assert log.read_bytes() == b"words"
    with pytest.raises(HostError, match="cannot be written"):
        bench([OFF]).run(make_plan(logs=(("console.main", str(tmp_path)),)))


def test_a_full_disk_is_told_once_and_the_run_goes_on(bench: type[Bench]) -> None:
    b = bench([Say(CONSOLE, b"words" * 1000, 10), OFF])
    assert b.run(make_plan(logs=(("console.main", "/dev/full"),))).code == 0
    assert b.seen.warnings == ["/dev/full ends here: No space left on device"]


def test_output_that_nobody_reads_is_sigpipe(bench: type[Bench]) -> None:
    read, write = os.pipe()
    os.close(read)
    outcome = bench([Say(CONSOLE, b"words"), Hang()]).run(make_plan(), console_out=write, output=write)
    os.close(write)
    assert (outcome.reason, outcome.code) == ("signal", 141)


def test_output_on_a_full_disk_is_no_pass(bench: type[Bench]) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    outcome = bench([Say(CONSOLE, b"words"), OFF]).run(make_plan(), console_out=full, output=full)
    os.close(full)
    assert (outcome.reason, outcome.code) == ("engine-error", 125)
    assert "No space left" in outcome.detail


def test_a_slow_reader_loses_nothing(bench: type[Bench]) -> None:
    read, write = os.pipe()
    data = os.urandom(1 << 20)
    b = bench([Say(CONSOLE, data), OFF])
    got = bytearray()

    def drain() -> None:
        while len(got) < len(data):
            got.extend(os.read(read, 1000))

    thread = threading.Timer(0.1, drain)
    thread.start()
    assert b.run(make_plan(), console_out=write, output=write).code == 0
    thread.join()
    os.close(read)
    os.close(write)
    assert bytes(got) == data
