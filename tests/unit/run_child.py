"""A process with a run of the fake engine in it, for tests that kill it or take its terminal away.

run_child.py SCENARIO [FOLDER]: `hang` never ends, `echo` ends when it was told `bye`, `stuck` cannot be taken down,
`spill` says more than a pipe holds and powers off.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from run_plans import CONSOLE, Recorder, make_plan

from vmrun.engine.fake import Expect, FakeEngine, FakeExit, FakeMachine, Hang, Leave, Say
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan

SCRIPTS = {
    "hang": [Say(CONSOLE, b"ready\r\n"), Hang()],
    "stuck": [Say(CONSOLE, b"ready\r\n"), Hang()],
    "echo": [Say(CONSOLE, b"ready\r\n"), Expect(CONSOLE, b"bye"), Leave(FakeExit("poweroff"))],
    "spill": [Say(CONSOLE, b"ready\r\n" + b"x" * 300_000), Leave(FakeExit("poweroff"))],
}


class Told(Recorder):
    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)


def main(scenario: str, folder: str | None = None) -> int:
    if scenario == "stuck":
        FakeMachine.vcpu_states = lambda self: time.sleep(3600) or []  # type: ignore[method-assign,assignment]
    for number in (signal.SIGINT, signal.SIGQUIT):  # a test run in the background has them ignored
        signal.signal(number, signal.SIG_DFL)
    raw = os.isatty(0)
    attachment = Attachment(console_in=0 if raw else None, raw=raw)
    policy = Policy(results=Path(folder) if folder else None)
    engine = FakeEngine([SCRIPTS[scenario]])
    outcome = run_plan(make_plan(), engine, attachment, policy, Told())
    if engine.machines[0].input:
        print(f"input: {engine.machines[0].input!r}", file=sys.stderr, flush=True)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
