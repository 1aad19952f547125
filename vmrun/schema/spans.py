"""Where each key and value of a TOML text stands. Loaded on the error path alone: it parses the text a second time.

tomli gives values without places; the syntax tree of tree-sitter gives places, also for a text that is no valid
TOML, which is how a key that is defined twice shows both its definitions.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import tomli

from vmrun.errors import Key, Span

if TYPE_CHECKING:
    from tree_sitter import Node as Syntax

_KEYS = ("bare_key", "quoted_key")
_MAX_DEPTH = 64


class Places:
    """The places of one text, by key path (array items by index) and part: ``key`` or ``value``.

    A table's key is its name in the header, its value the whole header (for an inline table the braces).
    ``twice`` holds the two places of each key that is defined a second time.
    """

    def __init__(self, file: str, text: str) -> None:
        import tree_sitter
        import tree_sitter_toml

        self._file = file
        self._lines = text.encode().split(b"\n")
        self._places: dict[tuple[Key, str], Span] = {}
        self._arrays: dict[Key, int] = {}
        self._headers: set[Key] = set()
        self.twice: list[tuple[Key, Span, Span]] = []
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language()))
        self._document(parser.parse(text.encode()).root_node)

    def find(self, key: Key, part: str) -> Span:
        """Return the place of ``key``, or of the nearest table above it; the text's first character for the root."""
        for length in range(len(key), 0, -1):
            span = self._places.get((key[:length], part)) or self._places.get((key[:length], "key"))
            if span is not None:
                return span
        return Span(self._file, 1, 1, 1, 1)

    def _column(self, row: int, byte: int) -> int:
        line = self._lines[row] if row < len(self._lines) else b""
        return len(line[:byte].decode(errors="replace")) + 1

    def _span(self, first: Syntax, last: Syntax) -> Span:
        start, end = first.start_point, last.end_point
        return Span(
            self._file,
            start.row + 1,
            self._column(start.row, start.column),
            end.row + 1,
            self._column(end.row, end.column),
        )

    def _document(self, root: Syntax) -> None:
        for node in root.children:
            if node.type == "pair":
                self._pair(node, (), 0)
            elif node.type in ("table", "table_array_element"):
                self._table(node)

    def _table(self, node: Syntax) -> None:
        children = node.children
        parts = _parts(children[1]) if len(children) > 2 else []
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
                self._pair(child, key, 0)

    def _pair(self, node: Syntax, table: Key, depth: int) -> None:
        children = [c for c in node.children if c.type != "comment"]
        if len(children) < 3 or depth > _MAX_DEPTH:
            return
        key = table
        parts = _parts(children[0])
        for part in parts:
            key = (*key, _name(part))
            span = self._span(part, part)
            if part is parts[-1] and ((key, "key") in self._places):
                self.twice.append((key, self._places[(key, "key")], span))
            self._places.setdefault((key, "key"), span)
        self._places.setdefault((key, "inline"), self._span(parts[0], parts[-1]) if parts else self._span(node, node))
        self._value(children[2], key, depth + 1)

    def _value(self, node: Syntax, key: Key, depth: int) -> None:
        self._places.setdefault((key, "value"), self._span(node, node))
        if depth > _MAX_DEPTH:
            return
        if node.type == "inline_table":
            for child in node.children:
                if child.type == "pair":
                    self._pair(child, key, depth + 1)
        elif node.type == "array":
            items = [c for c in node.children if c.is_named and c.type != "comment"]
            for index, item in enumerate(items):
                self._value(item, (*key, str(index)), depth + 1)


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
