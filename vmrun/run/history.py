"""The runs that ``.vmrun/runs`` remembers: bounded by number and size, the oldest are forgotten first.

A run that is alive holds a lock on its folder (flock(2)), which the kernel lets go with the process: no number of a
process that is another one by now can stand for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path

KEEP = 100
"""Runs that are kept."""
KEEP_BYTES = 1 << 30
"""Bytes that they may have together."""
AT_ONCE = 200
"""Runs that are forgotten at once, at most: who has thousands waits for none of them."""
_ID = re.compile(r"\d{8}-\d{6}-\d+(?:-\d+)?")


def hold(folder: Path) -> int | None:
    """Mark the run of ``folder`` as alive; return the descriptor that does it, None where its file system cannot."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd
    os.close(fd)
    return None


def forget(root: Path, keep: int = KEEP, keep_bytes: int = KEEP_BYTES) -> None:
    """Remove the oldest runs under ``root`` that are over a bound, none that is alive; what cannot be, stays.

    Folders that are not named as runs are nobody's business here.
    """
    with contextlib.suppress(OSError):
        names = sorted((e.name for e in os.scandir(root / ".vmrun" / "runs") if _is_run(e)), reverse=True)
        count = total = 0
        over = []
        for name in names:
            size = sum(_sizes(root / ".vmrun" / "runs" / name))
            count, total = count + 1, total + size
            if count > keep or total > keep_bytes:
                over.append(name)
        for name in over[: -AT_ONCE - 1 : -1]:
            _remove(root / ".vmrun" / "runs" / name)


def _is_run(entry: os.DirEntry[str]) -> bool:
    return _ID.fullmatch(entry.name) is not None and entry.is_dir(follow_symlinks=False)


def _sizes(folder: Path) -> Iterator[int]:
    """Yield the bytes that each file below ``folder`` takes on its disk."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False).st_blocks * 512


def _remove(folder: Path) -> None:
    import shutil

    fd = hold(folder)
    if fd is not None:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)
