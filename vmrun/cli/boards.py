"""``vmrun boards``: the kinds of machine that a manifest may name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmrun.cli.streams import write


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun boards``: none."""


def run(args: Namespace) -> int:
    """Print each board with its architecture and bounds."""
    from vmrun.boards import registry

    for name in registry.NAMES:
        board = registry.load(name)
        write(f"{name:<12} {board.arch:<8} up to {board.limits.vcpus} CPUs  {board.doc}\n")
    return 0
