"""``vmrun run M -- CMD…``: run a command inside the guest; its output is vmrun's output, its status vmrun's status."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmrun.cli import launch
from vmrun.errors import HostError
from vmrun.run.attach import Attachment


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun run``; the command follows ``--`` and is not among them."""
    launch.add_arguments(parser)
    parser.add_argument("--console", action="store_true", help="show the guest's console on stderr")
    parser.usage = "vmrun run [options] M -- CMD…"


def run(args: Namespace) -> int:
    """Run the command: stdin, stdout and stderr are the command's, byte for byte."""
    if not args.guest_command:
        example = f"vmrun run {args.manifest} -- uname"
        raise HostError("vmrun run: there is no command", code="E502", remedy=f"write it after --: {example}")
    attachment = Attachment(
        console_out=2 if args.console else None,
        command_in=0 if launch.is_input(0) else None,
    )
    return launch.launch(
        args, attachment, launch.stderr_view(args, brief=not args.verbose), command=tuple(args.guest_command)
    )
