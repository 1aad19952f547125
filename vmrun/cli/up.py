"""``vmrun up M``: build the machine and run it in the foreground, console attached."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

from vmrun.cli import launch
from vmrun.run.attach import Attachment


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun up``."""
    launch.add_arguments(parser)
    launch.add_escape(parser)
    parser.add_argument("--no-reboot", action="store_true", help="end the run where the guest reboots")


def run(args: Namespace) -> int:
    """Run the machine. The console and the command's output go to stdout, the terminal's keys to the console."""
    escape = launch.escape_of(args)
    fd = 0 if launch.is_input(0) else None
    terminal = None
    if fd is not None and os.isatty(fd):
        from vmrun.run.terminal import RawTerminal

        terminal = RawTerminal(fd)
    try:
        attachment = Attachment(console_in=fd, terminal=terminal, escape=escape)
        return launch.launch(args, attachment, launch.stderr_view(args, brief=False), command=None)
    finally:
        if terminal is not None:
            terminal.close()
