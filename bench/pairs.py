"""Alternating measurements of two programs, and their ratio: what every benchmark here has in common.

Machines are shared and noisy, so a figure on its own says little: runs alternate, and the ratio is taken pair by pair.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

Sample = dict[str, float]


def need(tool: str, package: str) -> str:
    """Return the path of ``tool``; end with one line that names its Debian package where it is missing."""
    found = shutil.which(tool)
    if found is None:
        sys.exit(f"bench: {tool} is missing: sudo apt-get install -y {package}")
    return found


def alternate(runs: int, ours: Callable[[], Sample], peers: Callable[[], Sample]) -> tuple[list[Sample], list[Sample]]:
    """Run ``ours`` and ``peers`` in turn, once each to warm up and then ``runs`` times; which goes first alternates."""
    ours()
    peers()
    mine: list[Sample] = []
    theirs: list[Sample] = []
    for index in range(runs):
        pair = [(ours, mine), (peers, theirs)]
        for measure, into in pair if index % 2 == 0 else reversed(pair):
            into.append(measure())
        print(f"run {index + 1}/{runs}", file=sys.stderr, flush=True)
    return mine, theirs


def ratios(mine: Sequence[Sample], theirs: Sequence[Sample], key: str) -> list[float]:
    """Return ours / theirs, pair by pair."""
    return [a[key] / b[key] for a, b in zip(mine, theirs, strict=True)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the extremes."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def publish(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], figures: object) -> None:
    """Print a table for people to stderr and the figures as JSON to stdout."""
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*row)
    Console(stderr=True).print(table)
    print(json.dumps(figures, indent=2))
