"""What every kernel format comes down to: the pieces to copy, what they occupy, and where to start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes ``[offset, offset + size)`` of the file, copied to ``gpa``, where they occupy ``reserve >= size`` bytes."""

    gpa: int
    offset: int
    size: int
    reserve: int


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel with its place in RAM. ``format`` is ``image``, ``elf`` or ``flat``; ``about`` is for a reader."""

    format: str
    about: str
    segments: tuple[Segment, ...]
    entry: int
