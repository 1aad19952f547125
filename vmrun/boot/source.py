"""A file read in bounded pieces: what a header claims never decides how much is read."""

from __future__ import annotations

import os
import stat
from types import TracebackType

from vmrun.errors import Key, PlanError


class Source:
    """An open regular file. ``key`` is the manifest's, for errors. A context manager; an fd given stays the caller's.

    Raise PlanError E110 where ``file`` (a path or an fd) cannot be read, is no regular file, or is empty.
    """

    def __init__(self, file: str | os.PathLike[str] | int, *, key: Key | None = None, name: str | None = None) -> None:
        self.key = key
        self.name = name or (f"fd {file}" if isinstance(file, int) else os.fspath(file))
        self._owned = not isinstance(file, int)
        try:
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            self._fd = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            status = os.fstat(self._fd)
        except OSError as error:
            raise PlanError(
                f"{self.name}: cannot be read: {error.strerror}", code="E110", key=key, remedy="check the path"
            ) from None
        if not stat.S_ISREG(status.st_mode) or status.st_size == 0:
            self.__exit__(None, None, None)
            what = "is empty" if stat.S_ISREG(status.st_mode) else "is a folder or device, not a file"
            raise PlanError(f"{self.name}: {what}", code="E110", key=key, remedy="name a file with a boot image")
        self.size = status.st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return at most ``size`` bytes at ``offset``, fewer at the end. Raise PlanError E110 on an I/O error."""
        if offset < 0 or offset >= self.size:
            return b""
        try:
            return os.pread(self._fd, min(size, self.size - offset), offset)
        except OSError as error:
            raise PlanError(f"{self.name}: cannot be read: {error.strerror}", code="E110", key=self.key) from None

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._owned:
            os.close(self._fd)


def truncated(source: Source, needed: int) -> PlanError:
    """Return the error for a kernel that ends before its byte ``needed``."""
    return PlanError(
        f"{source.name}: the kernel is truncated: {source.size} of at least {needed} bytes",
        code="E111",
        key=source.key,
        remedy="fetch or build it again",
    )
