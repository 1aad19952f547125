"""A file read in bounded pieces: what a header claims never decides how much is read."""

from __future__ import annotations

import os
from types import TracebackType

from vmrun import regular
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
            self._fd = file if isinstance(file, int) else regular.open_fd(file)
            status = os.fstat(self._fd)
            regular.require(status, self.name)
        except (IsADirectoryError, regular.NotRegular):
            raise PlanError(
                f"{self.name}: is a folder or device, not a file",
                code="E110",
                key=key,
                remedy="name a file with a boot image",
            ) from None
        except OSError as error:
            raise PlanError(
                f"{self.name}: cannot be read: {error.strerror}", code="E110", key=key, remedy="check the path"
            ) from None
        if status.st_size == 0:
            self.__exit__(None, None, None)
            raise PlanError(f"{self.name}: is empty", code="E110", key=key, remedy="name a file with a boot image")
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
