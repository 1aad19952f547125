"""Files of the user's own: found, judged, and digested once as long as they do not change."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from pathlib import Path

from vmrun.errors import ArtifactError
from vmrun.images.sources import CachedFile
from vmrun.images.store import Store, digest_of
from vmrun.images.words import did_you_mean

_SETTLED_NS = 2_000_000_000
"""A file written less than 2 s ago may be written again within its time stamp's grain: its digest is not remembered."""


def inspect(path: Path) -> os.stat_result:
    """Return the stat of a non-empty, readable, regular file. Raise ArtifactError that says what is amiss otherwise."""
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ArtifactError(f"{path} is a directory", code="E202", remedy="name the file in it")
        if not stat.S_ISREG(found.st_mode):
            raise ArtifactError(f"{path} is no regular file", code="E202", remedy="name a regular file")
        os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(f"{path} does not exist", code="E201", remedy=_nearby(path)) from None
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path}: {error.strerror}", code="E204", remedy="make it readable for this user"
        ) from None
    if found.st_size == 0:
        raise ArtifactError(f"{path} is empty", code="E203", remedy="build or copy it again")
    return found


def resolve(path: Path, store: Store) -> CachedFile:
    """Return the file with its digest, which is read again only when the file's identity, size or time changed."""
    path = path.absolute()
    found = inspect(path)
    identity = [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    name = "paths/" + hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    record = store.read_record(name)
    if record and record.get("path") == str(path) and record.get("identity") == identity:
        return CachedFile(path, str(record["sha256"]), found.st_size, str(path))
    try:
        digest = digest_of(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}", code="E204", remedy="check the disk") from None
    if time.time_ns() - found.st_mtime_ns > _SETTLED_NS:
        store.write_record(name, {"path": str(path), "identity": identity, "sha256": digest})
    return CachedFile(path, digest, found.st_size, str(path))


def _nearby(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"the folder {path.parent} cannot be opened either"
    return did_you_mean(path.name, names, "paths start at the folder of the manifest that declares them")
