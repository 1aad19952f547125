"""A manifest's values with the place each one came from, and the merge of two of them.

A `Node` is a TOML value; tables hold nodes by key, arrays hold nodes in order. Values from several files meet in
one tree, and each node still knows its `Origin`, so that an error points at the file that said it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vmrun.errors import Key
from vmrun.frozen import frozen

MAX_DEPTH = 32
"""How deep tables and arrays may nest; the format itself needs five."""

MAX_VALUES = 1 << 14
"""How many values, tables and arrays among them, the files of one manifest may hold together."""

INTEGERS = range(-(1 << 63), 1 << 63)
"""TOML 1.0: an integer that 64 bits with a sign do not hold is an error."""

APPEND = "+"
"""The suffix of a key whose array is appended to what the merge has so far."""

WHOLE_FILE = ("manifest", "extends", "profile")
"""Keys that say what a file is, so that neither a profile nor ``--set`` can hold them."""

SOURCE_TABLES = (("boot", "kernel"), ("boot", "initrd"), ("boot", "firmware"), ("disk", "*"))
"""Tables that name one source of bytes."""
SOURCES = ("path", "url", "debian", "busybox", "size")
"""Keys that each name a source by themselves: one of them, merged in, replaces the source that was there."""
SOURCE_KEYS = frozenset((*SOURCES, "sha256", "suite", "file"))


@frozen
class Source:
    """A text that keys come from: a file as the user would name it, or the ``--set`` arguments (no ``path``)."""

    name: str
    text: str
    folder: str
    is_file: bool = True


@frozen
class Origin:
    """Where a value stands: its source and its key path there (array items by their index in decimal)."""

    source: Source
    key: Key


class Node:
    """A TOML value: ``dict[str, Node]``, ``list[Node]`` or a scalar; with its origin."""

    __slots__ = ("origin", "value")

    def __init__(self, value: Any, origin: Origin) -> None:
        self.value = value
        self.origin = origin


class BeyondError(ValueError):
    """A value beyond a limit of the format: `MAX_DEPTH`, `MAX_VALUES` or `INTEGERS`; ``key`` says where."""

    def __init__(self, message: str, key: Key) -> None:
        super().__init__(message)
        self.key = key


def wrap(value: Any, origin: Callable[[Key], Origin], room: int = MAX_VALUES) -> Node:
    """Return the tree of a parsed TOML value, each node with the ``origin`` of its key.

    Raise BeyondError for a limit, or for more than ``room`` values.
    """
    left = room

    def visit(value: Any, key: Key) -> Node:
        nonlocal left
        left -= 1
        if len(key) > MAX_DEPTH:
            raise BeyondError(f"a value is nested more than {MAX_DEPTH} levels deep", key)
        if left < 0:
            raise BeyondError(f"the manifest has more than {MAX_VALUES} values", key)
        if isinstance(value, dict):
            return Node({k: visit(v, (*key, k)) for k, v in value.items()}, origin(key))
        if isinstance(value, list):
            return Node([visit(v, (*key, str(i))) for i, v in enumerate(value)], origin(key))
        if isinstance(value, int) and value not in INTEGERS:
            raise BeyondError("an integer has more than 64 bits", key)
        return Node(value, origin(key))

    return visit(value, ())


def plain(node: Node) -> Any:
    """Return the tree as dicts, tuples and scalars."""
    value = node.value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return tuple(plain(v) for v in value)
    return value


def walk(node: Node, key: Key = ()) -> Iterator[tuple[Key, Node]]:
    """Yield every node below and including ``node`` with its key, parents first."""
    yield key, node
    if isinstance(node.value, dict):
        for name, child in node.value.items():
            yield from walk(child, (*key, name))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from walk(child, (*key, str(index)))


def is_index(part: str) -> bool:
    """Tell whether a part of a key can be the index of an array's item: short enough to be one, in plain digits."""
    return len(part) < 8 and part.isascii() and part.isdigit()


def find(node: Node, key: Key) -> Node | None:
    """Return the node at ``key``, or None."""
    for part in key:
        if isinstance(node.value, dict) and part in node.value:
            node = node.value[part]
        elif isinstance(node.value, list) and is_index(part) and int(part) < len(node.value):
            node = node.value[int(part)]
        else:
            return None
    return node


def matches(pattern: Key, key: Key) -> bool:
    """Tell whether ``key`` is what ``pattern`` names; ``*`` stands for any one part."""
    return len(pattern) == len(key) and all(p in ("*", k) for p, k in zip(pattern, key, strict=True))


def merge(base: Node, over: Node, key: Key = ()) -> Node:
    """Return ``base`` with ``over`` laid on it: tables merge, anything else replaces, ``key+`` appends.

    An append to what is not there yet stays pending (``key+``) until `settle`, which is what makes the merge
    associative. In a table of `SOURCE_TABLES` a new source takes the old one's keys away, so that a manifest can
    replace ``{ debian, suite }`` of the one that it extends by ``{ path }``.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    result: dict[str, Node] = dict(base.value)
    if any(matches(p, key) for p in SOURCE_TABLES) and any(k in SOURCES for k in over.value):
        result = {k: v for k, v in result.items() if k not in SOURCE_KEYS}
    for name, node in over.value.items():
        if name.endswith(APPEND):
            continue
        result.pop(name + APPEND, None)
        result[name] = merge(result[name], node, (*key, name)) if name in result else node
    for name, node in over.value.items():
        if name.endswith(APPEND):
            target = name[: -len(APPEND)]
            slot = target if target in result and isinstance(result[target].value, list) else name
            result[slot] = _append(result.get(slot), node)
    return Node(result, over.origin)


def _append(base: Node | None, more: Node) -> Node:
    if base is None or not isinstance(base.value, list) or not isinstance(more.value, list):
        return more
    return Node([*base.value, *more.value], base.origin)


def settle(node: Node) -> tuple[Node, list[tuple[Key, Node]]]:
    """Return the tree with every pending ``key+`` made ``key``, and the appends that found no array to go to."""
    refused: list[tuple[Key, Node]] = []

    def visit(node: Node, key: Key) -> Node:
        if not isinstance(node.value, dict):
            return node
        result: dict[str, Node] = {}
        for name, child in node.value.items():
            target = name[: -len(APPEND)] if name.endswith(APPEND) else name
            if target != name and (target in node.value or not isinstance(child.value, list)):
                refused.append(((*key, name), child))
            else:
                result[target] = visit(child, (*key, target))
        return Node(result, node.origin)

    return visit(node, ()), refused


def expand(table: Node) -> Node:
    """Return a table whose quoted dotted keys (``"boot.cmdline+"``) became nested tables, as a profile writes them."""
    result = Node({}, table.origin)
    for name, child in table.value.items():
        inner = expand(child) if isinstance(child.value, dict) else child
        for part in reversed(name.split(".")):
            inner = Node({part: inner}, inner.origin)
        result = merge(result, inner)
    return result
