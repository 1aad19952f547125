"""What every kernel format comes down to: the pieces to copy, what they occupy, and where to start."""

from __future__ import annotations

from vmrun.frozen import frozen


@frozen
class Segment:
    """Bytes ``[offset, offset + size)`` of the file, copied to ``gpa``, where they occupy ``reserve >= size`` bytes."""

    gpa: int
    offset: int
    size: int
    reserve: int


@frozen
class Kernel:
    """A kernel with its place in RAM. ``format`` is ``image``, ``elf`` or ``flat``; ``about`` is for a reader."""

    format: str
    about: str
    segments: tuple[Segment, ...]
    entry: int
