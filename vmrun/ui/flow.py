"""Pieces of text in lines as wide as there is room: a line is broken between two pieces, never in one that fits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text


def piece(*parts: tuple[str, str] | str) -> Text:
    """Return text that stays on one line; parts are (text, style)."""
    return Text.assemble(*parts, no_wrap=True)


class Flow:
    """Pieces with ``gap`` columns between two; every line but the first begins with ``indent`` columns.

    A piece that is wider than a line is folded, not cut.
    """

    def __init__(self, pieces: Iterable[Text], gap: int = 3, indent: int = 0) -> None:
        self._pieces: Sequence[Text] = tuple(pieces)
        self._gap = gap
        self._indent = indent

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        line = Text(overflow="fold")
        for text in self._pieces:
            room = width - cell_len(line.plain) - self._gap
            if line.plain.strip() and cell_len(text.plain) > room:
                yield line
                line = Text(" " * self._indent, overflow="fold")
            elif line.plain.strip():
                line.append(" " * self._gap)
            line.append_text(text)
        yield line
