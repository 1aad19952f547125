"""What a person sees of a run, on a terminal and without one."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from run_plans import make_plan

from vmrun.frozen import evolve
from vmrun.plan.model import Blob, DevicePlan, Interrupt, RamRegion
from vmrun.run.outcome import GuestFault, Outcome, Phase
from vmrun.ui.plain import PlainView
from vmrun.ui.view import View, choose, wants_colour, wants_live

PHASES = tuple(Phase(n, i * 10**8, (i + 1) * 10**8) for i, n in enumerate(("start", "build", "kernel", "off")))
EVIL = "evil\x1b[2J\nname"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def plan_of(name: str = "micro"):  # type: ignore[no-untyped-def]
    devices = (DevicePlan("uart0", "uart16550", 0x1000_0000, 0x100, Interrupt(10)),)
    return evolve(
        make_plan(cpus=2),
        name=name,
        ram=(RamRegion(0x8000_0000, 256 << 20),),
        devices=devices,
        blobs=(Blob("kernel", 0x8020_0000, 28 << 20, 31 << 20), Blob("fdt", 0x8F00_0000, 4096, 4096)),
    )


def play(view: View, outcome: Outcome, name: str = "micro") -> None:
    view.phase("plan", 10_000_000)
    view.start("linux-image", 100 << 20)
    view.advance(50 << 20)
    view.finish()
    view.machine(plan_of(name))
    view.phase("build", 20_000_000)
    view.phase("kernel", 200_000_000)
    view.warn("careful")
    view.note("by the way")
    view.outcome(outcome)
    view.close()


def plain(outcome: Outcome, **options: bool) -> list[str]:
    stream = io.StringIO()
    given = {"quiet": False, "verbose": False, "brief": False, "colour": False} | options
    play(PlainView(stream, **given), outcome)
    return stream.getvalue().splitlines()


GOOD = Outcome("poweroff", 0, "the command ended with 0", status=0, phases=PHASES)
DEAD = Outcome(
    "panic",
    255,
    "the guest's kernel died",
    phases=PHASES,
    tail=b"one\r\n\x1b[31mtwo\r\n\r\n",
    folder="/x/.vmrun/runs/1",
    guest_errors=(GuestFault("disk.root", "bad ring", 3),),
)


def test_plain_lines() -> None:
    lines = plain(GOOD)
    assert all(line.startswith("vmrun: ") for line in lines)
    assert "vmrun: engine fake: a test" in lines
    assert "vmrun:    0.20s  first instruction" in lines
    assert lines[-2] == "vmrun: the command ended with 0 after 0.40s"
    assert lines[-1] == "vmrun: start 100ms · build 100ms · kernel 100ms · off 100ms"


def test_a_pipeline_hears_of_the_engine_and_of_failures_alone() -> None:
    assert plain(GOOD, brief=True) == [
        "vmrun: fetching linux-image (100.0 MiB)",
        "vmrun: fetched linux-image: 50.0 MiB",
        "vmrun: engine fake: a test",
        "vmrun: warning: careful",
        "vmrun: by the way",
    ]
    dead = plain(DEAD, brief=True)
    assert "vmrun: | one" in dead and "vmrun: | [31mtwo" in dead
    assert "vmrun: results: /x/.vmrun/runs/1" in dead
    assert "vmrun: the guest did wrong: disk.root: bad ring (3 times)" in dead


def test_quiet_says_only_what_went_wrong() -> None:
    assert plain(GOOD, quiet=True) == ["vmrun: warning: careful"]
    assert [line for line in plain(DEAD, quiet=True) if "died" in line]


FELL = Outcome("fault", 255, "vCPU 0: fell", phases=PHASES, report="vCPU 0: fell\nexit reason 17\x1b[2J\nrip 1")


@pytest.mark.parametrize("options", [{}, {"brief": True}, {"quiet": True}, {"verbose": True}])
def test_a_fault_shows_the_engines_report_after_the_verdict(options: dict[str, bool]) -> None:
    lines = plain(FELL, **options)
    verdict = next(i for i, line in enumerate(lines) if "fell" in line)
    assert lines[verdict + 1 : verdict + 3] == ["vmrun:   exit reason 17\\x1b[2J", "vmrun:   rip 1"]
    assert sum("fell" in line for line in lines) == 1
    assert not any("rip 1" in line for line in plain(evolve(FELL, reason="panic"), **options))


def test_the_live_view_shows_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("CI", raising=False)
    for outcome, shown in ((FELL, True), (evolve(FELL, reason="panic"), False)):
        stream = Terminal()
        play(choose(stream, quiet=False, verbose=False, brief=False), outcome)
        verdict, _, after = stream.getvalue().rpartition("fell")
        assert verdict
        assert ("exit reason 17" in after and "rip 1" in after) == shown
        assert "17\x1b[2J" not in after


def test_verbose_shows_the_machine() -> None:
    lines = plain(GOOD, verbose=True)
    assert any("0x0010000000  uart0: uart16550, interrupt 10" in line for line in lines)


@pytest.mark.parametrize("live", [False, True])
def test_no_name_moves_the_cursor(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    stream = Terminal()
    view = choose(stream, quiet=not live, verbose=False, brief=False)
    play(view, evolve(GOOD, code=1, detail=EVIL), EVIL)
    assert "\x1b[2J" not in stream.getvalue()
    assert "evil" in stream.getvalue()


def test_a_view_survives_a_stream_that_does_not() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    play(PlainView(Gone(), quiet=False, verbose=True, brief=False, colour=True), DEAD)
    play(PlainView(None, quiet=False, verbose=True, brief=False, colour=False), DEAD)


def test_the_live_view_draws_the_machine_and_then_leaves_the_cursor_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("CI", raising=False)
    stream = Terminal()
    view = choose(stream, quiet=False, verbose=False, brief=False)
    view.phase("plan", 1)
    view.machine(plan_of())
    view.phase("kernel", 2)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    assert "▣ 0  ▣ 1" in shown and "uart16550" in shown and "kernel 28 MiB" in shown and "a test" in shown
    before = len(stream.getvalue())
    view.warn("careful")
    view.outcome(DEAD)
    view.close()
    after = stream.getvalue()[before:]
    assert not re.search(r"\x1b\[[0-9;?]*[A-HJKfhls]", after)
    assert "255" in after and "bad ring" in after


def test_the_live_view_gives_the_cursor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    stream = Terminal()
    view = choose(stream, quiet=False, verbose=False, brief=False)
    view.start("x", None)
    view.advance(5)
    view.close()
    text = stream.getvalue()
    assert text.rfind("\x1b[?25h") >= text.rfind("\x1b[?25l")


@pytest.mark.parametrize(
    ("env", "live"),
    [({"TERM": "xterm"}, True), ({"TERM": "dumb"}, False), ({}, False), ({"TERM": "xterm", "CI": "true"}, False)],
)
def test_who_draws(env: dict[str, str], live: bool) -> None:
    assert wants_live(Terminal(), env) == live
    assert not wants_live(io.StringIO(), env)
    assert not wants_live(None, env)


@pytest.mark.parametrize(
    ("env", "colour"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_who_colours(env: dict[str, str], colour: bool) -> None:
    assert wants_colour(Terminal(), env) == colour


def test_without_a_terminal_rich_is_not_imported() -> None:
    script = (
        "import sys; from vmrun.ui.view import choose; import vmrun.cli.up, vmrun.run.lifecycle;"
        "choose(sys.stderr, quiet=False, verbose=True, brief=False);"
        "print([m for m in ('rich', 'pydantic', 'tree_sitter') if m in sys.modules])"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PYTHONPATH": root, "TERM": "xterm"}
    )
    assert done.stdout == "[]\n", done.stderr


WIDE = (
    DevicePlan("console.main", "virtio-console", 0x1000_1000, 0x1000, Interrupt(1)),
    DevicePlan("plic", "plic", 0x0C00_0000, 0x60_0000),
)
PARTS = (
    Blob("kernel", 0x8020_0000, 28 << 20, 28 << 20),
    Blob("kernel.1", 0x8220_0000, 0, 3 << 20),
    Blob("initrd", 0x8B00_0000, 1660704, 1660704),
    Blob("fdt", 0x8F00_0000, 2399, 2399),
)


@pytest.mark.parametrize("columns", [20, 30, 40, 60, 80, 100, 200])
def test_a_narrow_terminal_breaks_lines_between_things(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("CI", raising=False)
    stream = Terminal()
    view = choose(stream, quiet=False, verbose=False, brief=False)
    for at, name in enumerate(("plan", "check", "fetch", "plan", "build")):
        view.phase(name, at * 10**8)
    view.machine(evolve(plan_of(), devices=WIDE, blobs=PARTS))
    view.phase("kernel", 10**9)
    names = ("start", "plan", "check", "fetch", "plan", "build", "kernel", "init", "command", "off")
    phases = tuple(Phase(name, at * 10**8, (at + 1) * 10**8) for at, name in enumerate(names))
    view.outcome(evolve(GOOD, phases=phases))
    view.close()
    lines = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).splitlines()
    assert all(len(line) <= columns for line in lines if "exit code" not in line)  # the verdict wraps by itself
    whole = ["0x10001000", "0xc000000", "irq 1"]
    if columns >= 40:  # below, the labels leave less room than a piece takes
        whole += ["kernel 28 MiB", "initrd 1.58 MiB", "fdt 2.34 KiB", "● plan 200ms", "● command 100ms", "plan 200ms"]
    for words in whole if columns >= 30 else []:
        assert any(words in line for line in lines), words
    assert "kernel.1" not in stream.getvalue() and " 0 B" not in stream.getvalue()
    assert sum("● plan" in line for line in lines) == 1
