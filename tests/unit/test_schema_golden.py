"""What a person sees of bad manifests, byte for byte. VMRUN_UPDATE_GOLDENS=1 writes the files anew."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from vmrun.cli.check import check_one
from vmrun.schema.known import EXAMPLE_KNOWN
from vmrun.ui.diagnostics import clean, show

GOLDEN = Path(__file__).parents[1] / "golden" / "check"
CASES = sorted(path.stem for path in GOLDEN.glob("*.toml"))
UPDATE = os.environ.get("VMRUN_UPDATE_GOLDENS") == "1"


def rendered(name: str) -> str:
    stream = io.StringIO()
    show(check_one(name, EXAMPLE_KNOWN, [], None, ()), stream)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("VMRUN_TEST_UNSET", raising=False)


def test_there_are_many_and_no_text_is_left_over() -> None:
    assert len(CASES) >= 25
    assert UPDATE or sorted(path.stem for path in GOLDEN.glob("*.txt")) == CASES


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    text = rendered(f"{case}.toml")
    golden = GOLDEN / f"{case}.txt"
    if UPDATE:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("case", CASES)
def test_no_word_of_pydantic_or_python_reaches_a_person(case: str) -> None:
    text = "\n".join(line for line in rendered(f"{case}.toml").splitlines() if line.startswith(("error", "   = ")))
    assert re.search(r"pydantic|[Ii]nput should|\bNone\b|\b(dict|tuple|str|int)\b|[A-Z]\w+Error|<class", text) is None


def test_the_contracts_own_example() -> None:
    """The diagnostic that the format's description shows."""
    text = rendered("unknown-key.toml")
    assert text == (
        "error[E014]: unknown key `pth` in [disk.root]\n"
        "  --> unknown-key.toml:13:1\n"
        "   |\n"
        '13 | pth = "rootfs.ext4"\n'
        "   | ^^^ did you mean `path`?\n"
        "   = help: keys are path, url, sha256, format, mode, serial, size\n"
    )


def test_control_characters_are_shown_not_sent() -> None:
    assert clean("a\x1b[31m\n\u202e\ud800é日") == "a\\x1b[31m\\n\\u202e\\ud800é日"
    assert "\x1b" not in rendered("unprintable.toml")


def test_colour_only_where_it_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    findings = check_one("unknown-key.toml", EXAMPLE_KNOWN, [], None, ())

    def shown(**env: str) -> str:
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM", "CI"):
            monkeypatch.delenv(name, raising=False)
        for name, value in {"TERM": "xterm", **env}.items():
            monkeypatch.setenv(name, value)
        stream = Terminal()
        show(findings, stream)
        return stream.getvalue()

    plain = rendered("unknown-key.toml")
    coloured = shown()
    assert "\x1b[" in coloured
    assert shown(NO_COLOR="1") == plain
    assert shown(TERM="dumb") == plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain
