"""The command line: finds the verb, imports its module alone, and turns every way out into an exit code.

``vmrun --help`` imports nothing more than this file (the errors alone cost another 10 ms of CPU): the verbs and their
one line stand here as data.
"""

from __future__ import annotations

import gc
import os
import sys
from importlib import import_module

from vmrun.cli.streams import drop, settle, tell, write

TYPE_CHECKING = False  # typing itself would be half of the cost of --help
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable
    from typing import NoReturn

    from vmrun.errors import VmrunError

VERBS = {
    "up": "build the machine and run it in the foreground, console attached",
    "run": "run a command inside the guest; its status is vmrun's status",
    "check": "validate manifests offline: every error, with its place in the file",
    "plan": "show the concrete machine: memory map, interrupts, devices, tables",
    "fetch": "fetch what manifests name, ahead of time",
    "lock": "pin every artefact by digest in vmrun.lock",
    "init": "write a first manifest",
    "schema": "print the JSON Schema of manifests",
    "explain": "explain a diagnostic by its code, or list them all",
    "doctor": "show what this host can run, and what to do where it cannot",
    "boards": "list the boards that a manifest can name",
    "devices": "list the kinds of devices that a manifest can name",
}
"""Verb -> what it does. The module of a verb has ``add_arguments(parser)`` and ``run(args) -> int``."""

RUNNERS = ("up", "run")
"""Verbs whose exit code is the guest's: what fails in vmrun itself is 125 there."""

LOOKERS = ("check", "plan", "lock")
"""Verbs whose exit code says whether something was found: what fails in vmrun itself is 2 there."""

CODE_VMRUN = 125
CODE_FINDINGS = 1
CODE_BLIND = 2
UNREADABLE = ("E001", "E002")
"""Codes of a manifest that could not be looked at."""

CODE_INTERRUPTED = 130
CODE_SIGPIPE = 141


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit code. Nothing but SystemExit ever leaves."""
    settle()
    gc.disable()  # what start-up makes stays; looking through it again and again is a tenth of its time
    arguments = sys.argv[1:] if argv is None else argv
    verb = arguments[0] if arguments else "--help"
    try:
        code = _dispatch(verb, arguments[1:])
        write("")
        return code
    except KeyboardInterrupt:
        return CODE_INTERRUPTED
    except BrokenPipeError:
        drop(sys.stdout)
        return CODE_SIGPIPE
    except Exception as error:
        from vmrun.errors import VmrunError

        told = _shortage(error) or error
        if not isinstance(told, VmrunError):
            return _unexpected(verb, error)
        _show(told)
        return failure_code(verb, told)
    finally:
        gc.enable()


def failure_code(verb: str, error: VmrunError) -> int:
    """Return the exit code for ``error``: 125 where the code is the guest's; else 1 for findings, 2 where vmrun could
    not look. What cannot be written is no finding: 125, but for verbs that say 2."""
    from vmrun.errors import ArtifactError, HostError, ManifestError

    if verb in RUNNERS or (error.code == "E520" and verb not in LOOKERS):
        return CODE_VMRUN
    if isinstance(error, ManifestError):
        return CODE_BLIND if any(f.code in UNREADABLE for f in error.findings) else CODE_FINDINGS
    return CODE_BLIND if isinstance(error, (ArtifactError, HostError)) else CODE_FINDINGS


def _dispatch(verb: str, rest: list[str]) -> int:
    if verb in ("-h", "--help", "help"):
        write(_help())
        return 0
    if verb in ("-V", "--version"):
        from vmrun import __version__

        write(f"vmrun {__version__}\n")
        return 0
    if verb not in VERBS:
        import difflib

        from vmrun.errors import HostError

        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean `{near[0]}`?" if near else "`vmrun --help` lists the commands"
        what = "option" if verb.startswith("-") else "command"
        raise HostError(f"there is no {what} `{verb}`", code="E501", remedy=hint)
    module = import_module(f"vmrun.cli.{verb}")
    args = _parser(verb, module.add_arguments, rest)
    code: int = module.run(args)
    return code


def _parser(verb: str, add_arguments: Callable[[ArgumentParser], None], rest: list[str]) -> Namespace:
    """Return the parsed arguments of ``verb``. What follows ``--`` is the guest's and lands in ``guest_command``."""
    from argparse import ArgumentParser, HelpFormatter

    from vmrun.errors import HostError

    def narrow(prog: str) -> HelpFormatter:
        return HelpFormatter(prog, width=80)

    class Parser(ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise HostError(f"vmrun {verb}: {message}", code="E502", remedy=f"vmrun {verb} --help")

        def _print_message(self, message: str, file: object = None) -> None:
            write(message)

        def format_help(self) -> str:
            self.formatter_class = HelpFormatter
            return super().format_help()

    # Each argument is tried in a formatter; one that asks for the terminal's width brings in shutil and all archives.
    parser: ArgumentParser = Parser(
        prog=f"vmrun {verb}", description=VERBS[verb], allow_abbrev=False, formatter_class=narrow
    )
    add_arguments(parser)
    guest: list[str] | None = None
    if verb == "run" and "--" in rest:
        cut = rest.index("--")
        rest, guest = rest[:cut], rest[cut + 1 :]
    args = parser.parse_args(rest)
    if verb == "run":
        args.guest_command = guest
    return args


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {what}" for name, what in VERBS.items())
    return f"""\
usage: vmrun COMMAND …

Runs virtual machines that are written down in TOML manifests.

commands:
{verbs}

options:
  -h, --help     show this, or with a command what it takes
  -V, --version  show the version

  vmrun up manifests/riscv-micro.toml                  boot a machine
  vmrun run manifests/riscv-micro.toml -- uname -a     run one command in it
"""


def _show(error: VmrunError) -> None:
    """Write the findings behind ``error`` to stderr; what cannot be written there is lost."""
    try:
        from vmrun.ui.diagnostics import show

        show(error.diagnostics(), sys.stderr)
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)


def _shortage(error: Exception) -> VmrunError | None:
    """Return what the host has too little of, where that is behind ``error``."""
    try:
        from vmrun.run.shortage import named

        return named(error)
    except (OSError, ImportError, MemoryError):  # too little even to say so
        return None


def _unexpected(verb: str, error: Exception) -> int:
    if os.environ.get("VMRUN_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    from vmrun.printable import clean, cut

    if isinstance(error, OSError):
        drop(sys.stdout)
    what = cut(clean(" ".join(f"{type(error).__name__}: {error}".split())))
    tell(f"error[E500]: {what} (VMRUN_DEBUG=1 shows the traceback)")
    return CODE_BLIND if verb in LOOKERS else CODE_VMRUN
