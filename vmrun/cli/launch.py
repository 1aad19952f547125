"""What ``up`` and ``run`` share: their options, the way from a manifest or a saved plan to a run, and its exit code."""

from __future__ import annotations

import os
import stat
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.engine.table import CARRIED, ENGINES
from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.run.attach import Attachment, Policy, owns
from vmrun.run.lifecycle import run_plan
from vmrun.run.phases import PhaseClock
from vmrun.run.signals import QuitOnSignals

if TYPE_CHECKING:
    from vmrun.plan.model import MachinePlan
    from vmrun.ui.view import View


DEFAULT_ESCAPE = "ctrl-a"
ACCELS = ("auto", *(row.name for row in ENGINES))


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options that ``up`` and ``run`` share."""
    add = parser.add_argument
    add("manifest", metavar="M", help="a manifest, or a saved plan (*.json)")
    add("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key of the manifest")
    add("--profile", metavar="P", help="apply a profile of the manifest")
    add("--accel", choices=ACCELS, metavar="A", help=f"choose the engine: {', '.join(('auto', *CARRIED))}")
    add("--no-jit", action="store_true", help="let the soft engine interpret all code, and translate none")
    add("--locked", action="store_true", help="take only artefacts that vmrun.lock pins")
    add("--offline", action="store_true", help="fetch nothing")
    add("--save-plan", metavar="F", help="write the plan to F before the run")
    add("--no-results", action="store_true", help="leave no .vmrun folder")
    add("-q", "--quiet", action="store_true", help="say only what went wrong")
    add("-v", "--verbose", action="store_true", help="say more: the memory map, the counters")


def add_escape(parser: ArgumentParser) -> None:
    """Declare ``--escape``."""
    parser.add_argument(
        "--escape", default=DEFAULT_ESCAPE, metavar="KEY", help="the key before vmrun's own: ctrl-a; none for none"
    )


def launch(args: Namespace, attachment: Attachment, view: View, *, command: tuple[str, ...] | None) -> int:
    """Plan, build and run what ``args`` name; return the exit code. ``command`` takes the place of the manifest's."""
    clock = PhaseClock()

    def tidy() -> None:
        view.close()
        if attachment.terminal is not None:
            attachment.terminal.restore()

    with QuitOnSignals(tidy):
        try:
            root = None if args.no_results else Path.cwd()
            plan = _plan(args, view, clock, command)
            if args.no_jit:
                plan = evolve(plan, jit=False)
            if args.save_plan:
                _save(plan, args.save_plan)
            view.machine(plan)
            from vmrun.planning.engines import load

            policy = Policy(reboots=command is None and not getattr(args, "no_reboot", False), results=root)
            outcome = run_plan(plan, load(plan), attachment_of(plan, attachment), policy, view, clock)
            view.outcome(outcome)
            return outcome.code
        finally:
            view.close()


def attachment_of(plan: MachinePlan, attachment: Attachment) -> Attachment:
    """Return ``attachment`` without the console's input where the plan has a command: its input is the command's."""
    return evolve(attachment, console_in=None, terminal=None) if plan.run.command else attachment


def _plan(args: Namespace, view: View, clock: PhaseClock, command: tuple[str, ...] | None) -> MachinePlan:
    from vmrun.planning.how import How
    from vmrun.planning.planner import plan_manifest

    def phase(name: str) -> None:
        clock.begin(name)
        view.phase(name, clock.now_ns())

    phase("plan")
    how = How(
        sets=tuple(args.sets),
        profile=args.profile,
        accel=args.accel,
        command=command,
        offline=args.offline,
        locked=args.locked,
        progress=view,
        phase=phase,
        warn=view.warn,
    )
    return plan_manifest(args.manifest, how)


def _save(plan: MachinePlan, path: str) -> None:
    from vmrun.plan import codec

    try:
        Path(path).write_text(codec.to_json(plan), encoding="utf-8")
    except OSError as error:
        raise HostError(f"the plan cannot be saved: {path}: {error.strerror}", code="E514") from error


def is_input(fd: int) -> bool:
    """Return whether ``fd`` carries input for a guest: a pipe, a file, or a terminal in whose foreground vmrun stands.

    /dev/null and a closed descriptor carry none; a terminal belongs to whoever is in the foreground.
    """
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    if stat.S_ISCHR(mode):
        return owns(fd)
    return not stat.S_ISDIR(mode)


def escape_of(args: Namespace) -> int | None:
    """Return the byte of ``--escape``."""
    if args.escape == DEFAULT_ESCAPE:
        return Attachment().escape
    from vmrun.run.terminal import parse_escape

    return parse_escape(args.escape)


def stderr_view(args: Namespace, *, brief: bool) -> View:
    """Return the view on standard error that ``args`` ask for."""
    from vmrun.ui.view import choose

    return choose(sys.stderr, quiet=args.quiet, verbose=args.verbose, brief=brief)
