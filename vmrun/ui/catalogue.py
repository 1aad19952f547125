"""The catalogue of diagnostics: what each stable code means, from ``vmrun/catalogue/*.toml``."""

from __future__ import annotations

from functools import cache
from importlib import resources

import tomli

from vmrun.frozen import frozen


@frozen
class Entry:
    """One code: a title of a few words, and the text that `vmrun explain` prints."""

    code: str
    title: str
    text: str


@cache
def catalogue() -> dict[str, Entry]:
    """Return every entry by its code, in the order of codes. Raise ValueError where two files have one code."""
    found: dict[str, Entry] = {}
    for file in resources.files("vmrun").joinpath("catalogue").iterdir():
        if not file.name.endswith(".toml"):
            continue
        for code, table in tomli.loads(file.read_text("utf-8")).items():
            if code in found:
                raise ValueError(f"{code} stands twice in the catalogue, once in {file.name}")
            found[code] = Entry(code, table["title"], table["text"].strip())
    return dict(sorted(found.items()))
