"""Signals, a terminal and its loss, on real processes with the fake engine."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plan_kit import write

from patience import patience
from vmrun.run.terminal import SANE

CHILD = Path(__file__).with_name("run_child.py")


def eventually(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + patience(20)
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Process:
    """A child on pipes, or on a terminal of its own."""

    def __init__(self, scenario: str, *more: str, terminal: bool = False) -> None:
        command = [sys.executable, str(CHILD), scenario, *more]
        path = os.pathsep.join([str(CHILD.parent), str(CHILD.parents[2]), os.environ.get("PYTHONPATH", "")])
        env = os.environ | {"PYTHONPATH": path}
        self.seen = b""
        self.terminal: int | None = None
        if terminal:
            self.out, self.terminal = pty.openpty()
            self.before = termios.tcgetattr(self.terminal)
            self.process = subprocess.Popen(
                command, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal, env=env,
                start_new_session=True, preexec_fn=_take_terminal,
            )  # fmt: skip
        else:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env
            )
            assert self.process.stdout is not None
            self.out = self.process.stdout.fileno()

    def until(self, words: bytes) -> None:
        end = time.monotonic() + patience(20)
        while words not in self.seen:
            assert time.monotonic() < end, f"{words!r} never came: {self.seen!r}"
            if select.select([self.out], [], [], 0.1)[0]:
                self.seen += os.read(self.out, 65536)

    def settings(self) -> list[Any]:
        assert self.terminal is not None
        return termios.tcgetattr(self.terminal)

    def raw(self) -> bool:
        return not self.settings()[3] & termios.ICANON

    def type(self, keys: bytes) -> None:
        os.write(self.out, keys)

    def wait(self) -> int:
        return self.process.wait(patience(20))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self.terminal is not None:
            os.close(self.terminal)
            os.close(self.out)


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def begin(*args: str, **options: bool) -> Process:
        started.append(Process(*args, **options))
        return started[-1]

    yield begin
    for process in started:
        process.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_stops_the_guest_and_is_the_code(start: Callable[..., Process], number: int, tmp_path: Path) -> None:
    child = start("hang", str(tmp_path))
    child.until(b"ready")
    child.process.send_signal(number)
    assert child.wait() == 128 + number
    result = json.loads(next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text())
    assert (result["outcome"], result["value"], result["code"]) == ("signal", number, 128 + number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_signal_stops_the_building(
    start: Callable[..., Process], number: int, terminal: bool, tmp_path: Path
) -> None:
    child = start("build", str(tmp_path), terminal=terminal)
    child.until(b"building")
    child.process.send_signal(number)
    assert child.wait() == 128 + number
    result = json.loads(next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text())
    assert (result["outcome"], result["code"]) == ("signal", 128 + number)
    assert not terminal or child.settings() == child.before


def test_a_signal_ends_a_step_that_python_does_not_come_back_from(start: Callable[..., Process]) -> None:
    child = start("planning")
    child.until(b"planning")
    child.process.send_signal(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM
    child.until(b"tidy")


def test_a_bunch_of_signals_is_one(start: Callable[..., Process]) -> None:
    child = start("hang")
    child.until(b"ready")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGTERM, signal.SIGCONT):
        child.process.send_signal(number)
    assert child.wait() == 128 + signal.SIGTERM


def test_a_second_signal_forces(start: Callable[..., Process]) -> None:
    child = start("stuck")
    child.until(b"ready")
    child.process.send_signal(signal.SIGTERM)
    time.sleep(patience(0.5))
    child.process.send_signal(signal.SIGHUP)
    time.sleep(patience(0.2))
    assert child.process.poll() is None
    child.process.send_signal(signal.SIGINT)
    assert child.wait() == 128 + signal.SIGINT


def test_output_that_is_never_read_does_not_keep_a_stopped_run(start: Callable[..., Process]) -> None:
    child = start("spill")
    child.until(b"ready")  # and leave the rest, more than a pipe holds
    assert child.process.poll() is None  # it waits for its reader
    child.process.send_signal(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM


def test_keys_reach_the_guest_one_by_one_and_the_terminal_comes_back(start: Callable[..., Process]) -> None:
    child = start("echo", terminal=True)
    child.until(b"ready")
    assert child.raw()
    child.type(b"a\x03b\x1a\x01\x01bye")
    child.until(b"input: b'a\\x03b\\x1a\\x01bye'")
    child.until(SANE)  # whatever the guest wrote, the terminal can be read
    assert child.wait() == 0
    assert child.settings() == child.before


def test_the_guardian_is_forked_before_there_is_any_thread(start: Callable[..., Process]) -> None:
    child = start("echo", terminal=True)
    child.until(b"ready")
    assert b"fork of 1\r\n" in child.seen and child.seen.count(b"fork of") == 1


def test_the_guardian_of_vmrun_up_is_forked_before_there_is_any_thread(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    write(tmp_path)
    child = start("up", str(tmp_path), terminal=True)
    child.until(b"console")  # the guest has the terminal
    assert eventually(child.raw)
    child.type(b"\x01x")
    child.until(SANE)
    assert child.wait() == 0
    assert b"fork of 1\r\n" in child.seen and child.seen.count(b"fork of") == 1
    assert child.settings() == child.before


def test_the_keys_of_vmrun_act_while_input_is_held(start: Callable[..., Process]) -> None:
    child = start("held", terminal=True)
    child.until(b"ready")
    child.type(b"typed\n\x01h")
    child.until(b"Ctrl-a x quits")
    child.type(b"\x01x")
    assert child.wait() == 0
    child.until(SANE)
    assert b"input:" not in child.seen


def test_the_keys_of_vmrun(start: Callable[..., Process]) -> None:
    child = start("hang", terminal=True)
    child.until(b"ready")
    child.type(b"\x01h")
    child.until(b"Ctrl-a x quits")
    child.type(b"\x01p")
    child.until(b"this machine has no power key")
    child.type(b"\x01")
    child.type(b"x")
    assert child.wait() == 0
    assert child.settings() == child.before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_restores_the_terminal(start: Callable[..., Process], number: int) -> None:
    child = start("hang", terminal=True)
    child.until(b"ready")
    assert child.raw()
    child.process.send_signal(number)
    assert child.wait() == 128 + number
    assert child.settings() == child.before


def test_the_terminal_comes_back_after_sigkill(start: Callable[..., Process]) -> None:
    child = start("hang", terminal=True)
    child.until(b"ready")
    assert child.raw()
    child.process.kill()
    assert child.wait() == -signal.SIGKILL
    assert eventually(lambda: child.settings() == child.before)


def test_the_guardian_ends_with_the_run(start: Callable[..., Process]) -> None:
    child = start("echo", terminal=True)
    child.until(b"ready")
    children = Path(f"/proc/{child.process.pid}/task/{child.process.pid}/children")
    guardian = int(children.read_text().split()[0])
    child.type(b"bye")
    assert child.wait() == 0
    assert eventually(lambda: not Path(f"/proc/{guardian}").exists())


def test_a_forced_end_restores_the_terminal(start: Callable[..., Process]) -> None:
    child = start("stuck", terminal=True)
    child.until(b"ready")
    child.process.send_signal(signal.SIGTERM)
    time.sleep(patience(0.5))
    child.process.send_signal(signal.SIGTERM)
    assert child.wait() == 128 + signal.SIGTERM
    assert child.settings() == child.before


def test_a_continued_run_is_raw_again(start: Callable[..., Process]) -> None:
    child = start("hang", terminal=True)
    child.until(b"ready")
    os.kill(child.process.pid, signal.SIGSTOP)
    assert child.terminal is not None
    termios.tcsetattr(child.terminal, termios.TCSANOW, child.before)
    os.kill(child.process.pid, signal.SIGCONT)
    assert eventually(child.raw)
