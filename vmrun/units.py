"""Sizes and times as people write them: ``256MiB``, ``1.5s``. Values in, integers out."""

from __future__ import annotations

import re

_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_TIMES_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000, "h": 3_600_000_000_000}
_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")
_MAX_DIGITS = 64
"""Digits of a number that are read: more than any size or time has, and few enough to be counted at once."""


def _scaled(text: str, table: dict[str, int], what: str) -> int:
    match = _NUMBER.fullmatch(text.strip())
    if match is None or match[2] not in table:
        raise ValueError(f"`{text}` is no {what}: write a number and one of {', '.join(table)}")
    if len(match[1]) > _MAX_DIGITS:
        raise ValueError(f"`{text}` is no {what}: write at most {_MAX_DIGITS} digits")
    whole, _, fraction = match[1].partition(".")
    scale = table[match[2]]
    numerator = int(whole + fraction) * scale
    divisor: int = 10 ** len(fraction)
    value, rest = divmod(numerator, divisor)
    if rest:
        raise ValueError(f"`{text}` is not a whole number of {next(iter(table))}")
    return value


def parse_size(text: str) -> int:
    """Return the bytes of ``text``, such as ``"256MiB"``. Raise ValueError, in words for a person, otherwise."""
    return _scaled(text, _SIZES, "size")


def parse_time_ns(text: str) -> int:
    """Return the nanoseconds of ``text``, such as ``"20s"``. Raise ValueError, in words for a person, otherwise."""
    return _scaled(text, _TIMES_NS, "time")


def format_size(size: int) -> str:
    """Return ``size`` in bytes as the largest whole unit: ``format_size(1 << 20) == "1MiB"``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]}{unit}"
    return f"{size}B"


def format_time_ns(value: int) -> str:
    """Return nanoseconds for a reader: three significant places and a unit."""
    for unit, scale in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if value >= scale:
            return f"{value / scale:.3g}{unit}" if value < 100 * scale else f"{value / scale:.0f}{unit}"
    return f"{value}ns"
