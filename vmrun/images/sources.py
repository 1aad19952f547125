"""What an artefact is: where it comes from, where it lies once it is here, and who is told of the progress."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vmrun.frozen import frozen


@frozen
class PathSource:
    """A file of the user's own, used where it lies."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@frozen
class UrlSource:
    """A file behind a URL (http, https, file), known by its SHA-256 digest in hex."""

    url: str
    sha256: str

    def __str__(self) -> str:
        return self.url


@frozen
class DebianSource:
    """A Debian package of a suite; ``file`` names a path inside it where it is not the kernel that is meant."""

    package: str
    suite: str
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.package} ({self.suite})"


Source = PathSource | UrlSource | DebianSource


@frozen
class CachedFile:
    """A file on this host's disk: ``size`` in bytes, ``sha256`` in hex, ``origin`` in words for a person."""

    path: Path
    sha256: str
    size: int
    origin: str


class Progress(Protocol):
    """Who is told how far a transfer is. Drawing is the caller's. Calls come from one thread, many a second."""

    def start(self, label: str, total: int | None) -> None:
        """A transfer of ``total`` bytes (None: unknown) begins."""

    def advance(self, done: int) -> None:
        """``done`` bytes of it are here, counted from its beginning."""

    def finish(self) -> None:
        """It ended, well or not."""


class Silent:
    """A Progress that draws nothing."""

    def start(self, label: str, total: int | None) -> None:
        pass

    def advance(self, done: int) -> None:
        pass

    def finish(self) -> None:
        pass
