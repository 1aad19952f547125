"""``vmrun devices``: the device kinds that ``[device.NAME]`` may name, with their properties."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vmrun.cli.streams import write

if TYPE_CHECKING:
    from vmrun.schema.known import KindInfo, Property


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun devices``: none."""


def run(args: Namespace) -> int:
    """Print each kind with its properties."""
    from vmrun.boards.registry import known

    for name, info in sorted(known().kinds.items()):
        write("".join(f"{line}\n" for line in _lines(name, info)))
    return 0


def _lines(name: str, info: KindInfo) -> Iterator[str]:
    yield f"{name:<16} {info.doc}".rstrip()
    for key, declared in info.properties.items():
        yield f"    {key:<12} {_words(declared)}"


def _words(declared: Property) -> str:
    words = [declared.type]
    if declared.choices:
        words.append(f"one of {', '.join(declared.choices)}")
    if declared.required:
        words.append("required")
    if declared.default is not None:
        words.append(f"default {declared.default}")
    return f"{', '.join(words)}: {declared.doc}" if declared.doc else ", ".join(words)
