"""Words that several errors share."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return a question that offers the names of ``known`` nearest to ``name``, or ``otherwise`` where none is near."""
    import difflib

    close = difflib.get_close_matches(name, known, 3)
    return f"did you mean {' or '.join(f'`{near}`' for near in close)}?" if close else otherwise
