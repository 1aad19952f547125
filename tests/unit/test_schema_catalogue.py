"""Each code that the source raises is explained, and each that is explained is raised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tomli

from vmrun.ui.catalogue import catalogue

PACKAGE = Path(__file__).parents[2] / "vmrun"
_CODE = re.compile(r"""["'](E\d{3})["']""")


def raised() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for code in _CODE.findall(path.read_text(encoding="utf-8")):
            found.setdefault(code, set()).add(str(path.relative_to(PACKAGE)))
    # Printed by hand where nothing else can be trusted any more.
    if "error[E500]" in (PACKAGE / "cli" / "main.py").read_text(encoding="utf-8"):
        found.setdefault("E500", set()).add("cli/main.py")
    return found


def test_every_code_that_is_raised_is_explained() -> None:
    entries = catalogue()
    assert {code: sorted(where) for code, where in raised().items() if code not in entries} == {}


def test_every_code_that_is_explained_is_raised() -> None:
    assert sorted(set(catalogue()) - set(raised())) == []


def test_no_code_stands_twice() -> None:
    seen: dict[str, str] = {}
    for path in sorted((PACKAGE / "catalogue").glob("*.toml")):
        for code in tomli.loads(path.read_text(encoding="utf-8")):
            assert code not in seen, f"{code} in {seen[code]} and {path.name}"
            seen[code] = path.name


@pytest.mark.parametrize("path", sorted((PACKAGE / "catalogue").glob("*.toml")), ids=lambda p: p.name)
def test_entries_are_whole(path: Path) -> None:
    codes = list(tomli.loads(path.read_text(encoding="utf-8")).items())
    assert [code for code, _ in codes] == sorted(code for code, _ in codes)
    for code, entry in codes:
        assert re.fullmatch(r"E\d{3}", code)
        assert set(entry) == {"title", "text"}, code
        assert entry["title"] and not entry["title"].endswith("."), code
        assert len(entry["text"].strip()) > 40, code
