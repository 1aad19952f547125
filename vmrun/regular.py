"""Opens files that somebody else names: regular files alone, without waiting, whatever the path leads to by then.

A manifest, a lock, a saved plan may name a pipe without a writer, which would be waited for, or a device or one of the
kernel's own files, which may have no end, or do something when opened. So a path is looked at before it is opened, it
is opened by O_NONBLOCK, and what was opened is looked at again. Source: open(2), inode(7).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO

StrPath = str | os.PathLike[str]


class NotRegular(OSError):
    """What a path leads to is neither a regular file nor a folder (that is IsADirectoryError)."""

    def __init__(self, path: StrPath) -> None:
        super().__init__(errno.EINVAL, "no regular file", os.fspath(path))


def open_fd(path: StrPath) -> int:
    """Return a descriptor of the regular file ``path``, to read. Raise OSError; NotRegular for what is none."""
    try:
        require(os.stat(path), path)  # noqa: PTH116 - a Path costs more than the call
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from None
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        require(os.fstat(fd), path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_file(path: StrPath) -> BinaryIO:
    """Return the regular file ``path``, open to read, as a file object. Raise as `open_fd`."""
    return os.fdopen(open_fd(path), "rb")


def read(path: StrPath, limit: int) -> bytes:
    """Return the content of the regular file ``path``, cut after ``limit`` bytes.

    Raise as `open_fd`; NotRegular also for a file that has other bytes than its size says, as those of /proc and /sys.
    """
    with open_file(path) as file:
        before = os.fstat(file.fileno()).st_size
        data = file.read(limit)
        if len(data) != min(limit, before) and os.fstat(file.fileno()).st_size == before:
            raise NotRegular(path)
        return data


def size(path: StrPath) -> int:
    """Return the size in bytes of the regular file ``path``. Raise as `open_fd`."""
    fd = open_fd(path)
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def require(found: os.stat_result, path: StrPath) -> None:
    """Raise IsADirectoryError or NotRegular unless ``found``, the status of ``path``, is a regular file's."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular(path)
