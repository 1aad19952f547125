"""The artefact store: files by the SHA-256 of their content, and small named records that point at them.

    $XDG_CACHE_HOME/vmrun/sha256/ab/cdef…   content, read-only, under its digest
    $XDG_CACHE_HOME/vmrun/index/<name>.json  records, such as the files of a Debian package's version
    $XDG_CACHE_HOME/vmrun/partial/           downloads to resume
    $XDG_CACHE_HOME/vmrun/locks/             one lock a piece of work, so that two runs do not do it twice

A file gets its final name only when it is whole, verified and on the disk: it is written beside its
place under a temporary name, locked by its writer for as long as that lives, then renamed. A temporary
file without a living writer is what a killed run left: the next one sweeps it. What this object has found or
stored is in use as long as it lives (`vmrun.images.lease`), and safe from the cache's bounds (`vmrun.images.prune`),
which are looked after whenever something new is stored.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from vmrun.errors import ArtifactError
from vmrun.images import lease, prune
from vmrun.images.cache import cache_root
from vmrun.images.lease import Lease
from vmrun.images.sources import CachedFile

CHUNK = 1 << 20
"""Bytes moved at a time."""

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TEMPORARY = ".tmp-"
_PARTIAL_AGE_S = 7 * 24 * 3600


class Store:
    """The cache of one user. Any number of processes may use it at once."""

    def __init__(self, root: Path | None = None, *, verifying: bool = False) -> None:
        """``verifying`` compares what is found with its digest: where pins are insisted on."""
        self.root = root or cache_root()
        self.written: dict[str, tuple[int, ...]] = {}
        """What was written here, by path: device, inode, time of the last change of content (ns) and size."""
        self._verifying = verifying
        self._swept = False
        self._leases: dict[Path, Lease] = {}

    def path_of(self, sha256: str) -> Path:
        """Return where the content of that digest lies, or would lie. Raise ValueError for what is no digest."""
        if not _DIGEST.fullmatch(sha256):
            raise ValueError(f"`{sha256}` is no SHA-256 digest in hex")
        return self.root / "sha256" / sha256[:2] / sha256[2:]

    def find(self, sha256: str, size: int | None = None, *, origin: str = "") -> CachedFile | None:
        """Return the stored file, or None. Its size is compared, its content only where this store is verifying.

        Raise ArtifactError E212 then for a file that is not what was stored.
        """
        path = self.path_of(sha256)
        try:
            if not self._use(path):
                return None
            found = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self.unusable(error) from None
        fits = size is None or found == size
        if self._verifying and not (fits and self._has(path, sha256)):
            raise ArtifactError(
                f"the cached file of {origin or 'an artefact'} is damaged: {path} is not what was stored",
                code="E212",
                remedy="run `vmrun fetch --verify`, which drops it, then `vmrun fetch`",
            )
        return CachedFile(path, sha256, found, origin) if fits else None

    def _use(self, path: Path) -> bool:
        """Use the stored file as long as this object lives; return whether it is there. Raise OSError."""
        held = self._leases.get(path) or lease.take(str(path))
        if held is not None:
            self._leases[path] = held
        return held is not None

    def _has(self, path: Path, sha256: str) -> bool:
        from vmrun.images import digests

        try:
            return digests.of_file(path, self.root) == sha256
        except OSError as error:
            raise self.unusable(error) from None

    def verify(self, sha256: str) -> bool:
        """Return whether the stored content has its digest. Content that has not is removed."""
        path = self.path_of(sha256)
        try:
            good = digest_of(path) == sha256
            if not good:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise self.unusable(error) from None
        return good

    def read(self, file: CachedFile) -> bytes:
        """Return the content of a stored file."""
        try:
            return file.path.read_bytes()
        except OSError as error:
            raise self.unusable(error) from None

    def remove(self, sha256: str) -> None:
        """Remove the stored content of that digest, if it is there."""
        try:
            self.path_of(sha256).unlink(missing_ok=True)
        except OSError as error:
            raise self.unusable(error) from None

    def digests(self) -> Iterator[str]:
        """Yield the digest of everything stored, in order."""
        for path in sorted(self.root.glob("sha256/[0-9a-f][0-9a-f]/*")):
            digest = path.parent.name + path.name
            if _DIGEST.fullmatch(digest):
                yield digest

    def put(self, write: Callable[[IO[bytes]], object], *, sha256: str | None = None, origin: str = "") -> CachedFile:
        """Store what ``write`` writes to the file it is given.

        With ``sha256`` the content must have that digest: ArtifactError E222 otherwise, and nothing is kept.
        """
        if not self._swept:
            self._swept = True
            self.sweep()
        folder = self.folder("sha256")
        with self._temporary(folder) as (handle, path):
            hashing = _Hashing(handle)
            write(hashing)  # type: ignore[arg-type]
            found = hashing.digest.hexdigest()
            if sha256 is not None and found != sha256:
                raise wrong_digest(origin or "the data", sha256, found)
            target = self.path_of(found)
            target.parent.mkdir(exist_ok=True)
            self._install(handle, path, target)
            # Its writer's exclusive lock becomes the lease: there is no moment without one.
            fcntl.flock(handle, fcntl.LOCK_SH)
            self._leases[target] = Lease(os.dup(handle.fileno()))
            lease.touch(str(target))
        prune.prune(self.root)
        return CachedFile(target, found, hashing.size, origin)

    def put_bytes(self, data: bytes, *, origin: str = "") -> CachedFile:
        """Store ``data``."""
        return self.put(lambda handle: handle.write(data), origin=origin)

    def adopt(self, path: Path, *, sha256: str, origin: str) -> CachedFile:
        """Verify the file ``path``, which lies in this store's folder and was fsynced, and move it to its place.

        Raise ArtifactError E222 where its digest is another; ``path`` is removed then.
        """
        try:
            found = digest_of(path)
            if found != sha256:
                path.unlink(missing_ok=True)
                raise wrong_digest(origin, sha256, found)
            target = self.path_of(sha256)
            self.folder(f"sha256/{sha256[:2]}")
            size = path.stat().st_size
            path.chmod(0o444)
            self._move(path, path.stat(), target)
            self._leases.pop(target, None)
            self._use(target)
        except OSError as error:
            raise self.unusable(error) from None
        prune.prune(self.root)
        return CachedFile(target, sha256, size, origin)

    def read_record(self, name: str) -> dict[str, Any] | None:
        """Return the record of that name, or None where there is none that can be read."""
        import json

        try:
            data = json.loads(self._record_path(name).read_bytes())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        except OSError as error:
            raise self.unusable(error) from None
        return data if isinstance(data, dict) else None

    def write_record(self, name: str, record: dict[str, Any]) -> None:
        """Write the record of that name, atomically; the last writer wins."""
        import json

        target = self._record_path(name)
        self.folder(str(target.parent.relative_to(self.root)))
        with self._temporary(target.parent) as (handle, path):
            handle.write(json.dumps(record, indent=1, sort_keys=True).encode() + b"\n")
            self._install(handle, path, target)

    def remove_record(self, name: str) -> None:
        """Forget the record of that name."""
        try:
            self._record_path(name).unlink(missing_ok=True)
        except OSError as error:
            raise self.unusable(error) from None

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock called ``name``: a second run waits here until the first has done the work."""
        path = self.folder("locks") / hashlib.sha256(name.encode()).hexdigest()[:32]
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self.unusable(error) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def folder(self, name: str) -> Path:
        """Return the folder ``name`` of the cache, made if need be. Raise ArtifactError where that cannot be."""
        path = self.root / name
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.unusable(error) from None
        return path

    def sweep(self) -> None:
        """Remove the temporary files of runs that were killed, and downloads that nobody resumed for a week."""
        for path in self.root.glob("partial/*.part"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _PARTIAL_AGE_S:
                    path.unlink()
        for path in self.root.glob(f"**/{_TEMPORARY}*"):
            with contextlib.suppress(OSError):
                handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(handle)

    def unusable(self, error: OSError) -> ArtifactError:
        """Return what to tell a person of ``error``, met in this cache."""
        what = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return ArtifactError(
                f"cannot write to the cache {self.root}: {what}",
                code="E211",
                remedy="make room, or name a folder on another disk in XDG_CACHE_HOME",
            )
        return ArtifactError(
            f"cannot use the cache {error.filename or self.root}: {what}",
            code="E210",
            remedy="make the folder yours and writable, or name another one in XDG_CACHE_HOME",
        )

    def _record_path(self, name: str) -> Path:
        # A record's name is built from package names, suites and digests: one folder a part, each a plain word.
        parts = [re.sub(r"[^A-Za-z0-9.+_~-]", "_", part).lstrip(".") or "_" for part in name.split("/")]
        return self.root.joinpath("index", *parts[:-1], parts[-1] + ".json")

    @contextlib.contextmanager
    def _temporary(self, folder: Path) -> Iterator[tuple[IO[bytes], Path]]:
        """Give a file in ``folder`` that this process has locked; it is gone at the end unless it was renamed."""
        path = folder
        try:
            while True:
                path = folder / f"{_TEMPORARY}{os.getpid()}-{os.urandom(6).hex()}"
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                fcntl.flock(handle, fcntl.LOCK_EX)
                if os.fstat(handle).st_nlink:
                    break
                os.close(handle)  # a sweep came between the two calls
            with os.fdopen(handle, "w+b") as file:
                try:
                    yield file, path
                finally:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise self.unusable(error) from None

    def _install(self, handle: IO[bytes], path: Path, target: Path) -> None:
        handle.flush()
        os.fchmod(handle.fileno(), 0o444)
        os.fsync(handle.fileno())
        self._move(path, os.fstat(handle.fileno()), target)

    def _move(self, path: Path, status: os.stat_result, target: Path) -> None:
        path.rename(target)
        self.written[str(target)] = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
        _sync_folder(target.parent)


class _Hashing:
    """A binary file to write to, which counts and digests what passes."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._handle.write(data)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of the file's content in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def wrong_digest(origin: str, expected: str, found: str) -> ArtifactError:
    """Return the error for data whose digest is not the one that was asked for."""
    return ArtifactError(
        f"{origin} has the SHA-256 {found}, not {expected}",
        code="E222",
        remedy="if the new content is right, put its digest where the old one stands; nothing was kept",
    )


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
