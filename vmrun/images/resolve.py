"""Every kind of source through one door: a source in, files on this host's disk out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmrun.errors import ArtifactError
from vmrun.frozen import frozen
from vmrun.images import download, hostfile
from vmrun.images.bound import Bound
from vmrun.images.debian import Debian, pin_of
from vmrun.images.lock import Lock, Pin, differs
from vmrun.images.modules import Module
from vmrun.images.sources import CachedFile, DebianSource, PathSource, Progress, Source, UrlSource
from vmrun.images.store import Store

BUSYBOX = "busybox-static"
_BUSYBOX_PATHS = ("usr/bin/busybox", "bin/busybox")


@frozen
class KernelArtifact:
    """A kernel: its image, and where it came out of a package, its configuration, release and version.

    ``has_modules`` says that `Resolver.modules` can be asked.
    """

    image: CachedFile
    config: CachedFile | None = None
    release: str = ""
    version: str = ""
    has_modules: bool = False


class Resolver:
    """Resolves sources for a guest of ``arch`` (Debian's name of it) through ``store``.

    ``lock`` pins what it names; with ``locked`` nothing else is taken. ``offline`` takes the store alone. ``refresh``
    asks anew which version of a Debian package is current.
    """

    def __init__(
        self,
        store: Store,
        arch: str,
        *,
        lock: Lock | None = None,
        locked: bool = False,
        offline: bool = False,
        refresh: bool = False,
        progress: Progress | None = None,
        debian: Debian | None = None,
    ) -> None:
        """``debian`` stands in for this host's apt in tests."""
        if locked and lock is None:
            raise ValueError("`locked` needs a lock")
        self._store = store
        self._arch = arch
        self._lock = lock
        self._locked = locked
        self._offline = offline
        self._progress = progress
        self._debian = debian or Debian(
            store, arch, lock=lock, locked=locked, offline=offline, refresh=refresh, progress=progress
        )

    def file(self, source: Source, bound: Bound | None = None) -> CachedFile:
        """Return the file of ``source``. Raise ArtifactError where it cannot be had, or is larger than ``bound``."""
        if isinstance(source, DebianSource):
            if source.file is None:
                raise ArtifactError(
                    f"no file of the package {source} is named", code="E236", remedy='name it with `file = "…"`'
                )
            return self._debian.file(source, source.file)
        if isinstance(source, UrlSource):
            self._check(source, source.sha256)
            return download.resolve(source, self._store, progress=self._progress, offline=self._offline, bound=bound)
        found = hostfile.resolve(source.path, self._store, bound)
        self._check(source, found.sha256)
        return found

    def kernel(self, source: Source, modules: Iterable[str] = (), bound: Bound | None = None) -> KernelArtifact:
        """Return the kernel of ``source``; ``modules`` will be asked for later and are fetched along."""
        if not isinstance(source, DebianSource) or source.file is not None:
            return KernelArtifact(self.file(source, bound))
        found = self._debian.kernel(source, modules)
        return KernelArtifact(found.image, found.config, found.release, found.version, found.modules is not None)

    def modules(self, source: Source, names: Iterable[str], optional: Iterable[str] = ()) -> tuple[Module, ...]:
        """Return the modules of the kernel ``source`` called ``names``, and what they need, in load order.

        ``optional`` ones follow, as far as the kernel knows them. Raise ArtifactError E242 where the kernel did not
        come out of a package, E240 for an unknown name, E241 for a damaged module.
        """
        asked = tuple(names)
        if not isinstance(source, DebianSource) or source.file is not None:
            if asked:
                raise ArtifactError(
                    "modules can be taken from a Debian kernel package alone",
                    code="E242",
                    remedy="build them into the kernel, or give the initrd that has them as { path }",
                )
            return ()
        return self._debian.closure(source, asked, tuple(optional))

    def busybox(self, suite: str) -> CachedFile:
        """Return Debian's static busybox of the guest's architecture."""
        return self._debian.file(DebianSource(BUSYBOX, suite), *_BUSYBOX_PATHS)

    def pins(self, source: Source, bound: Bound | None = None) -> Iterator[tuple[Source, Pin]]:
        """Yield what a lock file says of ``source``, and of its parts, as they are now.

        A Debian package is looked up, not fetched.
        """
        if isinstance(source, DebianSource):
            yield source, pin_of(self._debian.resolve(source))
            yield from ((part, pin_of(found)) for part, found in self._debian.parts(source))
        else:
            found = self.file(source, bound)
            yield source, Pin(found.sha256, found.size)

    def _check(self, source: PathSource | UrlSource, sha256: str) -> None:
        """Raise ArtifactError where only pinned sources may be taken and this one is not (E250) or differs (E251)."""
        if self._lock is None or not self._locked:
            return
        pin = self._lock.pin(source, self._arch, required=True)
        if pin is not None and pin.sha256 != sha256.lower():
            raise differs(source, self._lock, pin.sha256, sha256)
