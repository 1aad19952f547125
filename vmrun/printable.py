"""Text that others wrote, made fit to be shown: a manifest's, a saved plan's, a guest's, a file's name.

Every such text that reaches a person passes through `clean`, which is the one place that says what a terminal gets.
"""

from __future__ import annotations

LONGEST = 400
"""The longest text of a finding that is shown, in characters: values stand in some, and may be of any length."""


def clean(text: str) -> str:
    """Return ``text`` on one line, with whatever could move a cursor, or is no character, written as an escape."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def cut(text: str) -> str:
    """Return ``text``, or its first `LONGEST` characters and an ellipsis."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
