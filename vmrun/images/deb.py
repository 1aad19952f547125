"""Debian binary packages: an ar archive whose ``data.tar`` holds the files (deb(5)).

Nothing is unpacked to paths that the archive names: a caller says which members it wants, and gets their bytes.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal, cast

from vmrun.errors import ArtifactError

_MAGIC = b"!<arch>\n"
_HEADER_SIZE = 60
_MODES: dict[str, Literal["r|", "r|xz", "r|gz", "r|bz2"]] = {
    "data.tar": "r|",
    "data.tar.xz": "r|xz",
    "data.tar.gz": "r|gz",
    "data.tar.bz2": "r|bz2",
}


def read(path: Path, wanted: Callable[[str], bool], origin: str) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Yield name, size in bytes and content of each regular file that ``wanted`` takes, in the archive's order.

    Names are relative, as in ``boot/vmlinux-…``. A content can be read until the next is asked for.
    Raise ArtifactError E235 where the package cannot be read.
    """
    try:
        with _data_tar(path, origin) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if not wanted(name):
                    continue
                stream = archive.extractfile(member) if member.isfile() else None
                if stream is None:
                    raise _broken(origin, f"`{name}` is no regular file")
                yield name, member.size, cast(IO[bytes], _Checked(stream, member.size, origin))
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _broken(origin, str(error)) from None
    except OSError as error:
        raise _broken(origin, error.strerror or str(error)) from None


@contextlib.contextmanager
def _data_tar(path: Path, origin: str) -> Iterator[tarfile.TarFile]:
    import lzma

    with path.open("rb") as handle:
        name, start, size = _find_data(handle, origin)
        handle.seek(start)
        part = cast(IO[bytes], io.BufferedReader(_Part(handle, size)))
        try:
            if name == "data.tar.zst":
                with _zstd(part, origin) as plain, tarfile.open(fileobj=plain, mode="r|") as archive:
                    yield archive
            elif name in _MODES:
                with tarfile.open(fileobj=part, mode=_MODES[name]) as archive:
                    yield archive
            else:
                raise _broken(origin, f"`{name}` is packed in a way that is not known")
        except lzma.LZMAError as error:
            raise _broken(origin, str(error)) from None


def _find_data(handle: IO[bytes], origin: str) -> tuple[str, int, int]:
    """Return name, offset and size in bytes of the ``data.tar`` member."""
    end = handle.seek(0, io.SEEK_END)
    handle.seek(0)
    if handle.read(len(_MAGIC)) != _MAGIC:
        raise _broken(origin, "it is no ar archive")
    while True:
        header = handle.read(_HEADER_SIZE)
        if len(header) < _HEADER_SIZE:
            raise _broken(origin, "it has no data.tar")
        digits = header[48:58].strip()
        if header[58:60] != b"`\n" or not digits.isdigit():
            raise _broken(origin, "an ar header is damaged")
        start, size = handle.tell(), int(digits)
        if start + size > end:
            raise _broken(origin, "it is cut short")
        name = header[:16].rstrip().rstrip(b"/").decode("ascii", "replace")
        if name.startswith("data.tar"):
            return name, start, size
        handle.seek(start + size + size % 2)


class _Part(io.RawIOBase):
    """The next ``size`` bytes of a file, as a file."""

    def __init__(self, handle: IO[bytes], size: int) -> None:
        super().__init__()
        self._handle = handle
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._handle.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


class _Checked(io.RawIOBase):
    """The content of a member, whose reader is told in vmrun's words when the archive ends too early."""

    def __init__(self, stream: IO[bytes], size: int, origin: str) -> None:
        super().__init__()
        self._stream = stream
        self._left = size
        self._origin = origin

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        import lzma

        try:
            data = self._stream.read(min(len(buffer), self._left))
        except (tarfile.TarError, EOFError, OSError, lzma.LZMAError) as error:
            raise _broken(self._origin, str(error)) from None
        if not data and self._left:
            raise _broken(self._origin, "it is cut short")
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


@contextlib.contextmanager
def _zstd(part: IO[bytes], origin: str) -> Iterator[IO[bytes]]:
    import shutil
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as packed:
        shutil.copyfileobj(part, packed)
        packed.seek(0)
        try:
            process = subprocess.Popen(
                ["zstd", "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise ArtifactError(
                f"{origin} is packed by zstd, which this host lacks", code="E244", remedy="install zstd"
            ) from None
        with process:
            try:
                assert process.stdout is not None
                yield process.stdout
            finally:
                process.kill()


def _broken(origin: str, why: str) -> ArtifactError:
    return ArtifactError(f"the package {origin} is damaged: {why}", code="E235", remedy="run `vmrun fetch` again")
