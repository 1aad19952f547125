"""A process with a run of the fake engine in it, for tests that kill it or take its terminal away.

run_child.py SCENARIO [FOLDER]: `hang` never ends, `echo` ends when it was told `bye`, `stuck` cannot be taken down,
`spill` says more than a pipe holds and powers off, `held` has an init that is never ready for input, `build` is never
built, `planning` never comes back from one step of Python's, `up` is vmrun's own with the manifest in the folder. The
number of threads is told at every fork.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

from run_plans import CONSOLE, CONTROL, Recorder, make_plan

from vmrun.cli import main as cli
from vmrun.engine.fake import Expect, FakeEngine, FakeExit, FakeMachine, Hang, Leave, Say
from vmrun.run import signals
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan
from vmrun.run.signals import QuitOnSignals
from vmrun.run.terminal import RawTerminal

SCRIPTS = {
    "hang": [Say(CONSOLE, b"ready\r\n"), Hang()],
    "stuck": [Say(CONSOLE, b"ready\r\n"), Hang()],
    "echo": [Say(CONSOLE, b"ready\r\n"), Expect(CONSOLE, b"bye"), Leave(FakeExit("poweroff"))],
    "held": [Say(CONTROL, b"init 1.0\n"), Say(CONSOLE, b"ready\r\n"), Hang()],
    "build": [],
    "spill": [Say(CONSOLE, b"ready\r\n" + b"x" * 300_000), Leave(FakeExit("poweroff"))],
}


class Told(Recorder):
    def note(self, text: str) -> None:
        told(f"note: {text}")


def told(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def with_a_thread() -> None:
    """As the making of a machine leaves threads behind."""
    threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


def building() -> None:
    told("building")
    threading.Event().wait()


def tell_of_the_step(main: int) -> None:
    """Say "planning" when the main thread is in its step: what comes before it takes far less than that much CPU."""
    clock = time.pthread_getcpuclockid(main)
    end = time.clock_gettime(clock) + 0.2
    while time.clock_gettime(clock) < end:
        time.sleep(0.01)
    told("planning")


def planning() -> int:
    signals.TIDY_S = 60  # however slow the host is
    with QuitOnSignals(lambda: told("tidy")):
        threading.Thread(target=tell_of_the_step, args=(threading.get_ident(),), daemon=True).start()
        hashlib.pbkdf2_hmac("sha256", b"x", b"y", (1 << 31) - 1)
    return 0


def main(scenario: str, folder: str | None = None) -> int:
    if scenario == "stuck":
        FakeMachine.vcpu_states = lambda self: time.sleep(3600) or []  # type: ignore[method-assign,assignment]
    for number in (signal.SIGINT, signal.SIGQUIT):  # a test run in the background has them ignored
        signal.signal(number, signal.SIG_DFL)
    os.register_at_fork(before=lambda: told(f"fork of {threading.active_count()}"))
    if scenario == "planning":
        return planning()
    if scenario == "up":
        os.environ |= {"TERM": "xterm", "CI": "", "XDG_CACHE_HOME": f"{folder}/cache"}
        return cli.main(["up", "--no-results", f"{folder}/m.toml"])
    terminal = RawTerminal(0) if os.isatty(0) else None
    attachment = Attachment(console_in=0 if terminal else None, terminal=terminal)
    policy = Policy(results=Path(folder) if folder else None)
    engine = FakeEngine([SCRIPTS[scenario]], on_build=building if scenario == "build" else with_a_thread)
    try:
        outcome = run_plan(make_plan(reports=scenario == "held"), engine, attachment, policy, Told())
    finally:
        if terminal is not None:
            terminal.close()
    if engine.machines and engine.machines[0].input:
        told(f"input: {engine.machines[0].input!r}")
    return outcome.code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
