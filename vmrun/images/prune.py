"""The cache's bounds: what was not used for longest goes first, and what is in use stays."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmrun.frozen import frozen


@frozen
class Bounds:
    """How many files there may be, and how many bytes they may have in all."""

    files: int
    size: int


ALL = Bounds(2048, 8 << 30)
"""What the store may hold: some hundred kernels with their modules."""
BUILT = Bounds(32, 256 << 20)
"""What of it may be initramfses, which are built again within a second."""
_DIGESTS = 1024
"""Remembered digests of files that are kept."""


@frozen
class _Stored:
    used_ns: int
    size: int
    digest: str
    path: str


def prune(root: Path, everything: Bounds = ALL, built: Bounds = BUILT) -> None:
    """Bring the cache in ``root`` within its bounds. What cannot be looked at or removed stays, and is no error."""
    stored = sorted(_stored(root), key=lambda file: file.used_ns, reverse=True)
    digests = set(_initramfses(root, {file.digest for file in stored}))
    gone = set(_beyond([file for file in stored if file.digest in digests], built))
    gone |= set(_beyond([file for file in stored if file not in gone], everything))
    for file in gone:
        _remove(root, file)
    known = {file.digest for file in stored}
    for entry in _entries(root / "used"):
        if entry.name not in known:
            with contextlib.suppress(OSError):
                Path(entry.path).unlink()
    _oldest(root / "index" / "digests", _DIGESTS)


def _stored(root: Path) -> Iterator[_Stored]:
    folder = root / "sha256"
    for prefix in _entries(folder):
        for entry in _entries(folder / prefix.name):
            digest = prefix.name + entry.name
            if len(digest) != 64:
                continue
            with contextlib.suppress(OSError):
                found = entry.stat(follow_symlinks=False)
                used_ns = found.st_mtime_ns
                with contextlib.suppress(OSError):
                    used_ns = max(used_ns, (root / "used" / digest).stat().st_mtime_ns)
                yield _Stored(used_ns, found.st_size, digest, entry.path)


def _initramfses(root: Path, stored: set[str]) -> Iterator[str]:
    """Yield the digests of the initramfses; records of those that are gone go as well."""
    for entry in _entries(root / "index" / "initramfs"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            digest = json.loads(Path(entry.path).read_bytes()).get("sha256")
            if digest in stored:
                yield digest
            else:
                Path(entry.path).unlink(missing_ok=True)


def _beyond(files: Iterable[_Stored], bounds: Bounds) -> Iterator[_Stored]:
    """Yield what is beyond ``bounds`` of ``files``, which stand in order, the latest used first."""
    size = 0
    for number, file in enumerate(files, 1):
        size += file.size
        if number > bounds.files or size > bounds.size:
            yield file


def _remove(root: Path, file: _Stored) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: somebody uses it
            Path(file.path).unlink(missing_ok=True)
            (root / "used" / file.digest).unlink(missing_ok=True)
        finally:
            os.close(fd)


def _oldest(folder: Path, keep: int) -> None:
    entries = _entries(folder)
    if len(entries) > keep:
        with contextlib.suppress(OSError):
            entries.sort(key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
            for entry in entries[keep:]:
                Path(entry.path).unlink(missing_ok=True)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
