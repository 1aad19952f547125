"""Where each key and value of a TOML text stands. Loaded on the error path alone: it parses the text a second time.

tomli gives values without places; the syntax tree of tree-sitter gives places, also for a text that is no valid
TOML, which is how a key that is defined twice shows both its definitions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import tomli

from vmrun.errors import Key, Span
from vmrun.schema.tree import MAX_DEPTH

if TYPE_CHECKING:
    from tree_sitter import Node as Syntax

_KEYS = ("bare_key", "quoted_key")
_DEEPEST = MAX_DEPTH + 1
"""How long the keys are that have places: the first that is refused for its depth is one of them."""
_STRIDE = 1024
_CONTINUATION = bytes(range(0x80, 0xC0))
"""Bytes that are not the first of a character of UTF-8."""


class Places:
    """The places of one text, by key path (array items by index) and part: ``key`` or ``value``.

    A table's key is its name in the header, its value the whole header (for an inline table the braces).
    ``twice`` holds the two places of each key that is defined a second time.
    """

    def __init__(self, file: str, text: str) -> None:
        import tree_sitter
        import tree_sitter_toml

        self._file = file
        self._columns = _Columns(text)
        self._places: dict[tuple[Key, str], Span] = {}
        self._arrays: dict[Key, int] = {}
        self._headers: set[Key] = set()
        self.twice: list[tuple[Key, Span, Span]] = []
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
        self._root = parser.parse(text.encode()).root_node
        self._document(self._root)

    def find(self, key: Key, part: str) -> Span:
        """Return the place of ``key``, or of the nearest table above it; the text's first character for the root."""
        for length in range(len(key), 0, -1):
            span = self._places.get((key[:length], part)) or self._places.get((key[:length], "key"))
            if span is not None:
                return span
        return Span(self._file, 1, 1, 1, 1)

    def beyond(self, digits: int) -> Span:
        """Return the first value or key that nests beyond `MAX_DEPTH`, or number of more than ``digits`` characters.

        It is where a parser gave up at a limit of its own; the text's first character where there is no such place.
        """
        cursor, depth = self._root.walk(), 0
        while True:
            node = cursor.node
            if node is not None and (depth > MAX_DEPTH or _is_beyond(node, digits)):
                return self._span(node, node)
            nests = node is not None and node.type in ("array", "inline_table")
            if (node is None or node.type not in ("dotted_key", *_KEYS)) and cursor.goto_first_child():
                depth += nests
                continue
            while not cursor.goto_next_sibling():
                if not cursor.goto_parent():
                    return Span(self._file, 1, 1, 1, 1)
                depth -= cursor.node is not None and cursor.node.type in ("array", "inline_table")

    def _span(self, first: Syntax, last: Syntax) -> Span:
        start, end = first.start_point, last.end_point
        return Span(
            self._file,
            start.row + 1,
            self._columns.of(start.row, start.column),
            end.row + 1,
            self._columns.of(end.row, end.column),
        )

    def _document(self, root: Syntax) -> None:
        for node in root.children:
            if node.type == "pair":
                self._pair(node, ())
            elif node.type in ("table", "table_array_element"):
                self._table(node)

    def _table(self, node: Syntax) -> None:
        children = node.children
        parts = _parts(children[1])[:_DEEPEST] if len(children) > 2 else []
        is_array = node.type == "table_array_element"
        key: Key = ()
        for index, part in enumerate(parts):
            key = (*key, _name(part))
            last = index == len(parts) - 1
            span = self._span(part, part)
            if last and not is_array and (key in self._headers or (key, "inline") in self._places):
                self.twice.append((key, self._places[(key, "key")], span))
            self._places.setdefault((key, "key"), span)
            if last:
                self._places.setdefault((key, "value"), self._span(children[0], children[2]))
            if key in self._arrays or (last and is_array):
                count = self._arrays.get(key, -1) + (1 if last and is_array else 0)
                self._arrays[key] = count
                key = (*key, str(count))
        if not parts:
            return
        self._headers.add(key)
        self._places.setdefault((key, "key"), self._span(parts[-1], parts[-1]))
        self._places.setdefault((key, "value"), self._span(children[0], children[2]))
        for child in children[3:]:
            if child.type == "pair":
                self._pair(child, key)

    def _pair(self, node: Syntax, table: Key) -> None:
        children = [c for c in node.children if c.type != "comment"]
        if len(children) < 3:
            return
        key = table
        parts = _parts(children[0])
        for part in parts[: _DEEPEST - len(table)]:
            key = (*key, _name(part))
            span = self._span(part, part)
            if part is parts[-1] and ((key, "key") in self._places):
                self.twice.append((key, self._places[(key, "key")], span))
            self._places.setdefault((key, "key"), span)
        if len(table) + len(parts) > _DEEPEST:
            return
        self._places.setdefault((key, "inline"), self._span(parts[0], parts[-1]) if parts else self._span(node, node))
        self._value(children[2], key)

    def _value(self, node: Syntax, key: Key) -> None:
        self._places.setdefault((key, "value"), self._span(node, node))
        if len(key) == _DEEPEST:
            return
        if node.type == "inline_table":
            for child in node.children:
                if child.type == "pair":
                    self._pair(child, key)
        elif node.type == "array":
            items = [c for c in node.children if c.is_named and c.type != "comment"]
            for index, item in enumerate(items):
                self._value(item, (*key, str(index)))


class _Columns:
    """From bytes of a line, as a syntax tree counts, to columns in characters, in a time that no line's length sets."""

    def __init__(self, text: str) -> None:
        self._lines = text.encode().split(b"\n")
        self._counts: dict[int, list[int]] = {}

    def of(self, row: int, byte: int) -> int:
        """Return the column (from 1) of byte ``byte`` of line ``row`` (both from 0)."""
        line = self._lines[row] if row < len(self._lines) else b""
        if row not in self._counts:
            count, counts = 0, [0]
            for start in range(0, len(line), _STRIDE):
                count += len(line[start : start + _STRIDE].translate(None, _CONTINUATION))
                counts.append(count)
            self._counts[row] = counts
        stride = min(byte, len(line)) // _STRIDE
        rest = line[stride * _STRIDE : byte]
        return self._counts[row][stride] + len(rest.translate(None, _CONTINUATION)) + 1


def _is_beyond(node: Syntax, digits: int) -> bool:
    length = node.end_byte - node.start_byte
    return (node.type == "integer" and length > digits) or (node.type == "dotted_key" and len(_parts(node)) > MAX_DEPTH)


def _parts(node: Syntax) -> list[Syntax]:
    """Return the parts of a bare, quoted or dotted key, in order; a dotted key nests to the left."""
    parts: list[Syntax] = []
    stack = [node]
    while stack:
        node = stack.pop()
        if node.type in _KEYS:
            parts.append(node)
        elif node.type == "dotted_key":
            stack.extend(reversed(node.children))
    return parts


def _name(node: Syntax) -> str:
    text = (node.text or b"").decode(errors="replace")
    if node.type == "bare_key":
        return text
    try:
        return next(iter(tomli.loads(f"{text} = 0")))
    except ValueError:
        return text


@lru_cache(maxsize=64)
def places(file: str, text: str) -> Places:
    """Return the places of ``text``, parsed once."""
    return Places(file, text)
