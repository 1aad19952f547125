"""``--set key=value``: one key of the manifest, given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import tomli

from vmrun.errors import Diagnostic, Key, Span
from vmrun.schema.tree import APPEND, MAX_DEPTH, WHOLE_FILE, BeyondError, Node, Origin, Source, merge, wrap

NAME = "<--set>"
"""The file's name that diagnostics give to the arguments of --set; each argument is a line."""


def pseudo_text(sets: Sequence[str]) -> str:
    """Return the text that spans in `NAME` count in: one argument a line."""
    return "\n".join(text.replace("\n", " ") for text in sets)


def override(tree: Node, sets: Sequence[str]) -> tuple[Node, list[Diagnostic]]:
    """Return the manifest with every ``key=value`` laid on it in order, and what is no such text.

    A value is read as TOML, and where it is none as a string, so that ``memory.size=512MiB`` needs no quotes.
    ``key+=value`` appends, one item or an array. Paths are from the working folder.
    """
    if not sets:
        return tree, []
    source = Source(NAME, pseudo_text(sets), str(Path.cwd()), is_file=False)
    findings: list[Diagnostic] = []
    for line, text in enumerate(sets, 1):
        name, equals, value = text.partition("=")
        key = _key(name) if equals else None
        span = Span(NAME, line, 1, line, len(text) + 1)
        if key is None or len(key) > MAX_DEPTH:
            message = f"`{text}` is no key=value"
            findings.append(Diagnostic("E026", message, None, span, None, "write --set memory.size=512MiB, say"))
            continue
        if key[0].removesuffix(APPEND) in WHOLE_FILE:
            message = f"`{key[0]}` is a file's own and cannot be set"
            findings.append(Diagnostic("E026", message, None, span, None, "change the manifest, or extend it"))
            continue
        origin = Origin(source, (str(line),))
        try:
            node = wrap(_value(value), partial(_same, origin))
        except BeyondError as error:
            findings.append(Diagnostic("E006", f"`{name}`: {error}", None, span))
            continue
        if key[-1].endswith(APPEND) and not isinstance(node.value, list):
            node = Node([node], origin)
        for part in reversed(key):
            node = Node({part: node}, origin)
        tree = merge(tree, node)
    return tree, findings


def _same(origin: Origin, key: Key) -> Origin:
    """Return the one origin that every part of a value of ``--set`` has."""
    return origin


def _key(text: str) -> Key | None:
    """Return the parts of a dotted TOML key, whose last may end in ``+``; None where it is none."""
    append = text.endswith(APPEND)
    try:
        value = tomli.loads(f"{text.removesuffix(APPEND)} = 0")
    except (ValueError, RecursionError):  # tomli bounds the parts of a key
        return None
    key: list[str] = []
    table: Any = value
    while isinstance(table, dict):
        if len(table) != 1:
            return None
        name, table = next(iter(table.items()))
        key.append(name)
    if not key or table != 0:
        return None
    if append:
        key[-1] += APPEND
    return tuple(key)


def _value(text: str) -> Any:
    try:
        table = tomli.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return table["value"] if len(table) == 1 else text
