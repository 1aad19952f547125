"""Files of the user's own: found, judged, and digested once as long as they do not change."""

from __future__ import annotations

import os
from pathlib import Path

from vmrun import regular
from vmrun.errors import ArtifactError
from vmrun.images import digests
from vmrun.images.bound import Bound
from vmrun.images.sources import CachedFile
from vmrun.images.store import Store
from vmrun.images.words import did_you_mean

_HEAD = 64


def inspect(path: Path, bound: Bound | None = None) -> os.stat_result:
    """Return the stat of a non-empty, readable, regular file.

    Raise ArtifactError that says what is amiss otherwise; E264 where it is larger than ``bound`` says.
    """
    try:
        fd = regular.open_fd(path)
        try:
            found, head = os.fstat(fd), os.pread(fd, _HEAD, 0)
        finally:
            os.close(fd)
    except OSError as error:
        raise unreadable(path, error) from None
    if found.st_size == 0:
        raise ArtifactError(f"{path} is empty", code="E203", remedy="build or copy it again")
    if bound is not None:
        bound.check(str(path), found.st_size, head)
    return found


def unreadable(path: Path, error: OSError) -> ArtifactError:
    """Return what to tell a person of ``error``, met when ``path`` was opened or read."""
    match error:
        case FileNotFoundError() | NotADirectoryError():
            return ArtifactError(f"{path} does not exist", code="E201", remedy=_nearby(path))
        case IsADirectoryError():
            return ArtifactError(f"{path} is a directory", code="E202", remedy="name the file in it")
        case regular.NotRegular():
            return ArtifactError(f"{path} is no regular file", code="E202", remedy="name a regular file")
    why = error.strerror or str(error)
    return ArtifactError(f"cannot read {path}: {why}", code="E204", remedy="make it readable for this user")


def resolve(path: Path, store: Store, bound: Bound | None = None) -> CachedFile:
    """Return the file with its digest, which is worked out once as long as the file does not change.

    Raise ArtifactError as `inspect`, and E264 where it is larger than ``bound`` says, before it is read.
    """
    path = path.absolute()
    found = inspect(path, bound)
    try:
        digest = digests.of_file(path, store.root)
    except OSError as error:
        raise unreadable(path, error) from None
    return CachedFile(path, digest, found.st_size, str(path))


def _nearby(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"the folder {path.parent} cannot be opened either"
    return did_you_mean(path.name, names, "paths start at the folder of the manifest that declares them")
