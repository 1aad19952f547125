"""Digests of files, worked out once as long as a file does not change.

    $XDG_CACHE_HOME/vmrun/index/digests/<device>-<inode>.json

A file is known by device, inode, size and times; the time of its last change of status cannot be set back. One that
changed a moment ago may change again within its time stamp's grain: its digest is not remembered.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from pathlib import Path

from vmrun import regular
from vmrun.errors import ArtifactError
from vmrun.images.cache import cache_root

_SETTLED_NS = 2_000_000_000
_CHUNK = 1 << 20


def of_file(path: str | os.PathLike[str], root: Path | None = None) -> str:
    """Return the SHA-256 in hex of the regular file ``path``; ``root`` is the cache (by default the user's).

    Raise OSError where it cannot be read, is no regular file, or changes while it is read. A cache that cannot be
    written is no error.
    """
    fd = regular.open_fd(path)
    try:
        identity = _identity(fd)
        record = f"digests/{identity[0]:x}-{identity[1]:x}"
        with contextlib.suppress(ArtifactError):
            root = root or cache_root()
        known = _remembered(root / "index" / f"{record}.json", identity) if root else None
        if known is not None:
            return known
        digest = _digest(fd, identity[2])
        if _identity(fd) != identity:
            raise OSError(errno.ESTALE, "it changes while it is read", os.fspath(path))
    finally:
        os.close(fd)
    if root is not None and time.time_ns() - max(identity[3:]) > _SETTLED_NS:
        from vmrun.images.store import Store

        with contextlib.suppress(ArtifactError):
            Store(root).write_record(record, {"identity": identity, "sha256": digest})
    return digest


def _identity(fd: int) -> list[int]:
    found = os.fstat(fd)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _remembered(record: Path, identity: list[int]) -> str | None:
    try:
        known = json.loads(record.read_bytes())
        return str(known["sha256"]) if known["identity"] == identity else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _digest(fd: int, size: int) -> str:
    import hashlib  # OpenSSL behind it costs 2 ms, and a remembered digest does without

    digest = hashlib.sha256()
    at = 0
    # No more than the size says: a file that grows as fast as it is read has no end.
    while at < size and (data := os.pread(fd, min(_CHUNK, size - at), at)):
        digest.update(data)
        at += len(data)
    return digest.hexdigest()
