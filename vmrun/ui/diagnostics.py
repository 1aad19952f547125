"""Findings for a reader: the snippet of the file with a caret under the fault, or one line each.

Everything shown may come from a manifest that nobody trusts: control characters are shown, never sent.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from vmrun import regular
from vmrun.errors import Diagnostic, Label, Span
from vmrun.frozen import evolve
from vmrun.printable import clean, cut

Piece = tuple[str, str]
"""Text and its style, a rich style or empty."""
Line = list[Piece]

TAB = "    "
WIDEST = 160
"""The widest piece of a source line that is shown, in columns; a longer one is cut around its caret."""
_NEAR = 8 * WIDEST
"""How many characters of a long line are looked at: more than are shown, though some take no column."""
_SEVERITY_STYLE = {"error": "bold red", "warning": "bold yellow", "note": "bold cyan"}


def bounded(finding: Diagnostic) -> Diagnostic:
    """Return ``finding`` with each of its texts cut to what is shown, in every format."""

    def optional(text: str | None) -> str | None:
        return None if text is None else cut(text)

    return evolve(
        finding,
        message=cut(finding.message),
        key=None if finding.key is None else tuple(map(cut, finding.key)),
        label=optional(finding.label),
        help=optional(finding.help),
        labels=tuple(Label(cut(label.text), label.span) for label in finding.labels),
    )


class Texts:
    """The lines of files that findings point into, read when first asked for; ``given`` are texts that are no files."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self._lines = {name: text.split("\n") for name, text in (given or {}).items()}

    def line(self, file: str, number: int) -> str | None:
        """Return line ``number`` (from 1) of ``file``, or None where it cannot be had."""
        if file not in self._lines:
            try:
                self._lines[file] = regular.read(file, 1 << 20).decode("utf-8-sig", "replace").split("\n")
            except OSError:
                self._lines[file] = []
        lines = self._lines[file]
        return lines[number - 1].rstrip("\r") if 0 < number <= len(lines) else None


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _shown(char: str) -> str:
    return TAB if char == "\t" else clean(char)


def _columns(text: str) -> int:
    return sum(_width(c) for c in text)


def _window(line: str, first: int, last: int) -> tuple[str, int, int]:
    """Return the piece of ``line`` to show, and the caret's first column and width in it (columns from 0)."""
    if len(line) > _NEAR:
        # What is far from the caret is not shown, and a line may have a million characters.
        low = max(0, first - _NEAR // 4)
        near = line[low : low + _NEAR]
        return _cut_window([_shown(c) for c in near], first - low, min(last - low, len(near)), low, len(line))
    shown = [_shown(c) for c in line]
    start = sum(_columns(s) for s in shown[:first])
    length = max(1, sum(_columns(s) for s in shown[first:last]))
    whole = "".join(shown)
    if _columns(whole) <= WIDEST:
        return whole, start, length
    return _cut_window(shown, first, last, 0, len(line))


def _cut_window(shown: list[str], first: int, last: int, low: int, total: int) -> tuple[str, int, int]:
    """Return what `_window` does for a line that is too wide: ``shown`` are ``total``'s characters from ``low`` on."""
    begin = max(0, first - WIDEST // 4)
    piece = shown[begin : begin + WIDEST - 2]
    front = "…" if low + begin else ""
    back = "…" if low + begin + len(piece) < total else ""
    start = _columns(front) + sum(_columns(s) for s in shown[begin:first])
    length = max(1, sum(_columns(s) for s in shown[first:last]))
    return front + "".join(piece) + back, start, min(length, max(1, WIDEST - start))


def full(finding: Diagnostic, texts: Texts) -> list[Line]:
    """Return a finding as a block of lines: what, where, the snippet with its labels, and the help."""
    finding = bounded(finding)
    style = _SEVERITY_STYLE.get(finding.severity, "bold")
    lines: list[Line] = [[(f"{finding.severity}[{finding.code}]", style), (f": {clean(finding.message)}", "bold")]]
    marks: list[tuple[Span, str, bool]] = []
    if finding.span:
        marks.append((finding.span, finding.label or "", True))
    marks += [(label.span, label.text, False) for label in finding.labels if label.span]
    gutter = max((len(str(span.line)) for span, _, _ in marks), default=1)
    bar = (" " * (gutter + 1) + "|", "blue")
    files = list(dict.fromkeys(span.file for span, _, _ in marks))
    for index, file in enumerate(files):
        here = sorted((m for m in marks if m[0].file == file), key=lambda m: (m[0].line, not m[2], m[0].column))
        head = next((m for m in here if m[2]), here[0])[0]
        lines.append([(" " * gutter + ("-->" if index == 0 else ":::"), "blue"), (f" {clean(str(head))}", "")])
        lines += _snippet(here, gutter, bar, texts, style)
    for label in finding.labels:
        if label.span is None:
            lines.append([(" " * (gutter + 1) + "= ", "blue"), (f"note: {clean(label.text)}", "")])
    if finding.label and not finding.span:
        lines.append([(" " * (gutter + 1) + "= ", "blue"), (f"note: {clean(finding.label)}", "")])
    if finding.help:
        lines.append([(" " * (gutter + 1) + "= ", "blue"), ("help", "bold"), (f": {clean(finding.help)}", "")])
    return lines


def _snippet(marks: Sequence[tuple[Span, str, bool]], gutter: int, bar: Piece, texts: Texts, style: str) -> list[Line]:
    lines: list[Line] = []
    previous = 0
    for span, label, primary in marks:
        source = texts.line(span.file, span.line)
        if source is None:
            continue
        if not lines:
            lines.append([bar])
        last = span.end_column - 1 if span.end_line == span.line else len(source)
        shown, start, length = _window(source, span.column - 1, max(last, span.column))
        if span.line != previous:
            if previous and span.line > previous + 1:
                lines.append([("...", "blue")])
            lines.append([(f"{span.line:>{gutter}} |", "blue"), (f" {shown}".rstrip(), "")])
        caret = ("^" if primary else "-") * length
        text = f" {clean(label)}" if label else ""
        lines.append([bar, (" " * (start + 1), ""), (caret + text, style if primary else "blue")])
        previous = span.line
    return lines


def plain(lines: Iterable[Line]) -> str:
    """Return lines without their styles, each ended."""
    return "".join("".join(text for text, _ in line) + "\n" for line in lines)


def show(findings: Sequence[Diagnostic], stream: TextIO, given: Mapping[str, str] | None = None) -> None:
    """Write every finding in full to ``stream``, an empty line between two, coloured on a terminal."""
    texts = Texts(given)
    lines: list[Line] = []
    for index, finding in enumerate(findings):
        lines += [[], *full(finding, texts)] if index else full(finding, texts)
    from vmrun.ui.view import wants_colour

    if not wants_colour(stream):
        stream.write(plain(lines))
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(file=stream, force_terminal=True, highlight=False, markup=False, soft_wrap=True)
    for line in lines:
        console.print(Text.assemble(*line))


def concise(finding: Diagnostic) -> str:
    """Return a finding on one line: place, severity, code, message, and what to do."""
    finding = bounded(finding)
    hint = "; ".join(text for text in (finding.label, finding.help) if text)
    place = f"{finding.span}: " if finding.span else ""
    return clean(f"{place}{finding.severity}[{finding.code}]: {finding.message}{f' ({hint})' if hint else ''}")
