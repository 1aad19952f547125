"""Limits of tests and benchmarks come from one place, and none stands beside it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import patience

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py"))
LIMITS = {"timeout", "timeout_s", "limit_s"}
WAITS = {"join", "settimeout", "Timer"}
APART = {"tests/lab/l1/steps.py"}
"""Programs that a folder of the emulated host has to itself."""


def numbers(text: str) -> list[int]:
    """Return the lines of ``text`` on which something is waited for that long: a limit that is a bare number."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            given = [word.value for word in node.keywords if word.arg in LIMITS]
            given += node.args[:1] if name in WAITS else []
            found += [
                value.lineno
                for value in given
                if isinstance(value, ast.Constant) and isinstance(value.value, int | float) and value.value >= 1
            ]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_limit_is_a_bare_number(path: Path) -> None:
    if str(path.relative_to(ROOT)) not in APART:
        assert numbers(path.read_text()) == []


def test_a_bare_number_is_found() -> None:
    assert numbers("run(a, timeout=20)\nthread.join(5)\nTimer(2, f)\nx.settimeout(1.5)\nrun(limit_s=9)") == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert numbers("run(timeout=patience(20))\n','.join(a)\nwait(20)\nthread.join()") == []


@pytest.mark.parametrize(
    ("looks", "load", "slowness"),
    [
        ((1, 1, 1), 0.5, 1),
        ((0.5, 0.4, 0.3), 0.5, 1),
        ((2.5, 2.4, 2.5), 0.5, 2.5),
        ((1, 4, 1), 0.5, 4),
        ((1, 1.5, 1), 6, 6),
        ((2.5, 4, 3), 6, 15),
        ((1, 1000, 1), 0.5, 40),
    ],
)
def test_the_worst_counts(
    looks: tuple[float, ...], load: float, slowness: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(patience.VARIABLE, raising=False)
    seconds = iter(looks)
    monkeypatch.setattr(patience, "_work", lambda: next(seconds) * patience._REFERENCE_S)
    monkeypatch.setattr(patience, "_load", lambda: load)
    assert patience.slowness.__wrapped__() == pytest.approx(slowness)
    assert float(os.environ[patience.VARIABLE]) == pytest.approx(slowness), "for the processes of this session"


def test_a_process_of_the_session_does_not_measure_again() -> None:
    env = os.environ | {patience.VARIABLE: "2.5"}
    done = subprocess.run([sys.executable, patience.__file__, "9"], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "23\n"
