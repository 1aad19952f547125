"""Files of the store that are in use, and when each was used last.

Whoever uses a file holds a shared flock(2) on it; a crash releases it. Whoever removes one holds the exclusive lock
meanwhile, without waiting: a file in use is passed over. When a file was used last is the time stamp of
``used/<digest>`` in the cache: the file's own times are part of what says that it did not change.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable

from vmrun.errors import ArtifactError
from vmrun.images.cache import cache_root


class Lease:
    """The use of a file as long as this object lives. ``fd`` is a descriptor that holds the shared lock."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __del__(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._fd)


_KEPT: dict[str, Lease] = {}


def take(path: str) -> Lease | None:
    """Return a lease of the store's file ``path``, None where it is gone or just being removed. Raise OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    lease = Lease(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    if not os.fstat(fd).st_nlink:
        return None
    touch(path)
    return lease


def touch(path: str) -> None:
    """Note that the store's file ``path`` is used now. A cache that cannot be written is no error."""
    folder, name = os.path.split(path)
    root, prefix = os.path.split(folder)
    used = os.path.join(os.path.dirname(root), "used")  # noqa: PTH118, PTH120 - a Path costs more than the call
    with contextlib.suppress(OSError):
        try:
            fd = os.open(f"{used}/{prefix}{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            os.makedirs(used, exist_ok=True)  # noqa: PTH103
            fd = os.open(f"{used}/{prefix}{name}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.utime(fd)
        os.close(fd)


def keep(paths: Iterable[str | None]) -> bool:
    """Use those of ``paths`` that lie in the user's store until this process ends; return whether all are there."""
    try:
        store = f"{cache_root()}/sha256/"
    except ArtifactError:
        return True
    for path in paths:
        if path is None or path in _KEPT or not path.startswith(store):
            continue
        try:
            lease = take(path)
        except OSError:
            lease = None
        if lease is None:
            return False
        _KEPT[path] = lease
    return True
