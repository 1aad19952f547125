"""``vmrun schema``: the manifest's JSON Schema, for editors."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmrun.cli.streams import write


def add_arguments(parser: ArgumentParser) -> None:
    """``vmrun schema`` takes no arguments."""


def run(args: Namespace) -> int:
    """Print the schema."""
    from vmrun.boards.registry import known
    from vmrun.schema.jsonschema import schema_text

    write(schema_text(known()).encode())
    return 0
