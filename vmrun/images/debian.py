"""Artefacts out of Debian packages: a version resolved, the .deb fetched, what a guest needs extracted and kept.

A kernel package has twice the size of what a virtual machine may want of it, so the .deb goes once it is unpacked.
Kept are the image, its configuration, and a pack of the modules (see `vmrun.images.modules`). A module that is not in
the pack brings the .deb once more, and stays in the pack from then on. Where Debian spreads a kernel over several
packages, its ``parts``, they are read as if they were one.

A resolved version is used until `vmrun fetch` or `vmrun lock` asks anew: the same manifest boots the same kernel,
without a look at the network.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

from vmrun.errors import ArtifactError
from vmrun.frozen import as_dict, frozen
from vmrun.images import aptsources, deb, modules
from vmrun.images.apt import Apt
from vmrun.images.archive import Archive, Candidate
from vmrun.images.lock import Lock, Pin, differs
from vmrun.images.mirror import Mirror
from vmrun.images.sources import CachedFile, DebianSource, Progress
from vmrun.images.store import CHUNK, Store
from vmrun.images.words import did_you_mean

_KERNEL = re.compile(r"boot/vmlinu[xz]-(?P<release>[^/]+)|usr/lib/modules/(?P<own>[^/]+)/vmlinu[xz]")
_CONFIG = re.compile(r"boot/config-.+|usr/lib/modules/[^/]+/config")
_MODULES = re.compile(r"(?:usr/)?lib/modules/(?P<release>[^/]+)/(?P<path>kernel/.+|modules\.builtin)")
_META = re.compile(r"\b(linux-image-[a-z0-9.+-]+)")


@frozen
class DebianKernel:
    """What a kernel package gives: ``release`` is that of ``uname -r``, ``version`` the package's."""

    image: CachedFile
    config: CachedFile | None
    modules: modules.ModuleSet | None
    release: str
    version: str


class Debian:
    """Debian packages of one architecture, through one store.

    ``refresh`` resolves anew what ``lock`` does not pin; with ``locked`` nothing but what it pins is taken.
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
        archive: Callable[[str], Archive] | None = None,
    ) -> None:
        """``archive`` opens a suite; by default through this host's apt, or without one from the user's mirror."""
        self.arch = arch
        self._store = store
        self._lock = lock
        self._locked = locked
        self._offline = offline
        self._refresh = refresh
        self._archive = archive or self._reach
        self._progress = progress
        self._open: dict[str, Archive] = {}
        self._resolved: dict[str, Candidate] = {}

    def resolve(self, source: DebianSource) -> Candidate:
        """Return the package that ``source`` means; a meta package of kernels leads to the kernel's own."""
        pin = self._lock.pin(source, self.arch, required=self._locked) if self._lock else None
        if pin is not None:
            package = pin.package or source.package
            return Candidate(package, pin.version, pin.filename, pin.sha256, pin.size, parts=pin.parts)
        name = f"debian/{source.suite}/{self.arch}/{source.package}"
        if name not in self._resolved:
            self._resolved[name] = self._remembered(name) or self._look_up(source, name)
        return self._resolved[name]

    def _remembered(self, name: str) -> Candidate | None:
        """Return what was resolved before, if something was extracted of it: the mirror may not have it any more."""
        record = None if self._refresh else self._store.read_record(name)
        found = _candidate(record) if record else None
        return found if found and self._store.read_record(f"deb/{found.sha256}") else None

    def _look_up(self, source: DebianSource, name: str) -> Candidate:
        self._need_network(f"which version of {source} is current")
        suite = self._suite(source.suite)
        found = suite.show(source.package, refresh=self._refresh)
        seen = {found.package}
        while (target := _next_kernel(found)) and target not in seen:
            seen.add(target)
            found = suite.show(target)
        self._store.write_record(name, as_dict(found))
        return found

    def parts(self, source: DebianSource) -> tuple[tuple[DebianSource, Candidate], ...]:
        """Return the packages that the kernel package which ``source`` means is spread over, () where it has it all."""
        whole = self.resolve(source)
        named = [DebianSource(name, source.suite) for name in whole.parts]
        return tuple((part, self._part(part, whole.version)) for part in named)

    def _part(self, source: DebianSource, version: str) -> Candidate:
        pin = self._lock.pin(source, self.arch, required=self._locked) if self._lock else None
        if pin is not None:
            return Candidate(source.package, pin.version, pin.filename, pin.sha256, pin.size)
        self._need_network(f"{source.package} {version}")
        return self._suite(source.suite).show(source.package, version)

    def file(self, source: DebianSource, *paths: str) -> CachedFile:
        """Return the first of ``paths`` that the package has. Raise ArtifactError E236 where it has none of them."""
        candidate = self.resolve(source)
        wanted = tuple(path.lstrip("/").removeprefix("./") for path in paths)
        key = f"file {' or '.join(wanted)}"
        contents: Mapping[str, CachedFile] | None = self._contents(candidate, (key,))
        if contents is None:
            contents = self._extract(source, candidate, _file_extraction(wanted, key), (key,))
        return contents[key]

    def kernel(self, source: DebianSource, wanted: Iterable[str] = ()) -> DebianKernel:
        """Return the kernel of the package, with modules among which are those called ``wanted`` and what they need."""
        candidate = self.resolve(source)
        contents: Mapping[str, CachedFile] | None = self._contents(candidate, ("kernel",))
        if contents is None:
            contents = self._extract(source, candidate, _KernelExtraction(tuple(wanted)), ("kernel",))
        release = self._release(candidate)
        pack = contents.get("modules")
        held = modules.ModuleSet(pack, release) if pack else None
        return DebianKernel(contents["kernel"], contents.get("config"), held, release, candidate.version)

    def closure(
        self, source: DebianSource, wanted: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> tuple[modules.Module, ...]:
        """Return the ``wanted`` modules, the ``optional`` ones that exist, and what they need, in load order."""
        held = self.kernel(source, wanted).modules
        wanted += tuple(name for name in optional if held is not None and held.knows(name))
        if not wanted:
            return ()
        if held is None:
            raise ArtifactError(
                f"the package {source} has no modules",
                code="E242",
                remedy="take out boot.modules, or name a kernel package",
            )
        try:
            return held.closure(wanted)
        except modules.ModuleMissing:
            candidate = self.resolve(source)
            contents = self._extract(source, candidate, _KernelExtraction(wanted), ("modules",), wanted)
            return modules.ModuleSet(contents["modules"], held.release).closure(wanted)

    def _reach(self, suite: str) -> Archive:
        client = Apt if shutil.which("apt-get") else Mirror
        return client(self._store, aptsources.mirror(), suite, self.arch, progress=self._progress)

    def _suite(self, suite: str) -> Archive:
        if suite not in self._open:
            self._open[suite] = self._archive(suite)
        return self._open[suite]

    def _need_network(self, what: str) -> None:
        if self._offline:
            raise ArtifactError(f"not in the cache: {what}", code="E260", remedy="run `vmrun fetch` with a network")

    def _contents(self, candidate: Candidate, needed: Iterable[str]) -> Mapping[str, CachedFile] | None:
        """Return what was extracted of the package, if all ``needed`` is still there."""
        record = self._store.read_record(f"deb/{candidate.sha256}")
        files = record.get("files") if record else None
        if not isinstance(files, dict):
            return None
        origin = f"{candidate.package} {candidate.version}"
        found: dict[str, CachedFile] = {}
        for key, (sha256, size) in files.items():
            cached = self._store.find(sha256, size, origin=origin)
            if cached is None:
                return None
            found[key] = cached
        return found if all(key in found for key in needed) else None

    def _release(self, candidate: Candidate) -> str:
        record = self._store.read_record(f"deb/{candidate.sha256}") or {}
        return str(record.get("release", ""))

    def _extract(
        self,
        source: DebianSource,
        candidate: Candidate,
        extraction: Extraction,
        needed: tuple[str, ...],
        wanted: tuple[str, ...] = (),
    ) -> Mapping[str, CachedFile]:
        """Fetch the package and its parts, take out what ``extraction`` says, remember it and drop the packages.

        Nothing is done where another run has just taken out all ``needed`` and the modules ``wanted``.
        """
        origin = f"{candidate.package} {candidate.version}"
        with self._store.locked(f"extract {candidate.sha256}"):
            name = f"deb/{candidate.sha256}"
            known = self._store.read_record(name) or {}
            record = {"files": {}, "release": "", "wanted": [], **known, "origin": origin}
            present = self._contents(candidate, needed)
            if present is not None and set(wanted) <= set(record["wanted"]):
                return present
            packages = [self._package(part, found) for part, found in ((source, candidate), *self.parts(source))]
            got = extraction(self._store, packages, tuple(record["wanted"]))
            superseded = record["files"].get("modules")
            record["files"].update({key: [file.sha256, file.size] for key, file in got.files.items()})
            record["release"] = got.release or record["release"]
            record["wanted"] = sorted({*record["wanted"], *got.wanted})
            self._store.write_record(name, record)
            for package in packages:
                self._store.remove(package.sha256)
            if superseded and superseded != record["files"]["modules"]:
                self._store.remove(superseded[0])
        return got.files

    def _package(self, source: DebianSource, candidate: Candidate) -> CachedFile:
        """Return the .deb, from the store or from the network."""
        origin = f"{candidate.package} {candidate.version}"
        package = self._store.find(candidate.sha256, candidate.size, origin=origin)
        if package is None:
            self._need_network(origin)
            package = self._fetch(source, candidate)
        return package

    def _fetch(self, source: DebianSource, candidate: Candidate) -> CachedFile:
        """Return the .deb, after a check that the index still says what was resolved or pinned."""
        shown = self._suite(source.suite).show(candidate.package, candidate.version)
        if shown.sha256 != candidate.sha256:
            if self._lock is not None:
                raise differs(source, self._lock, candidate.sha256, shown.sha256)
            raise ArtifactError(
                f"{source.suite} has another SHA-256 for {candidate.package} {candidate.version} than before",
                code="E234",
                remedy="run `vmrun fetch` to take the new one",
            )
        return self._suite(source.suite).fetch(shown)


@frozen
class Extracted:
    """What came out of a package: files of the store by key, a kernel's release, the modules that were asked for."""

    files: Mapping[str, CachedFile]
    release: str = ""
    wanted: tuple[str, ...] = ()


Extraction = Callable[[Store, Sequence[CachedFile], tuple[str, ...]], Extracted]
"""Takes what it wants out of the .debs of a package and its parts: the store, they, the modules asked for before."""


def pin_of(candidate: Candidate) -> Pin:
    """Return the pin of a resolved package."""
    return Pin(
        candidate.sha256, candidate.size, candidate.package, candidate.version, candidate.filename, candidate.parts
    )


def _file_extraction(wanted: tuple[str, ...], key: str) -> Extraction:
    def extraction(store: Store, packages: Sequence[CachedFile], before: tuple[str, ...]) -> Extracted:
        names: list[str] = []

        def take(name: str) -> bool:
            names.append(name)
            return name in wanted

        for package in packages:
            for _, _, content in deb.read(package.path, take, package.origin):
                return Extracted({key: _stored(store, content, package.origin)}, wanted=before)
        raise ArtifactError(
            f"{_named(packages)} no file `{wanted[0]}`",
            code="E236",
            remedy=did_you_mean(wanted[0], names, "list its files with `dpkg -c`"),
        )

    return extraction


class _KernelExtraction:
    """Takes kernel image, configuration and modules out of a package."""

    def __init__(self, wanted: tuple[str, ...]) -> None:
        self._wanted = wanted

    def __call__(self, store: Store, packages: Sequence[CachedFile], before: tuple[str, ...]) -> Extracted:
        wanted = (*before, *self._wanted)
        origin = packages[0].origin
        files: dict[str, CachedFile] = {}
        release = ""
        with tempfile.TemporaryFile(dir=store.folder("partial")) as spooled:
            spool = _Spool(spooled)
            for name, size, content in _members(packages):
                if match := _KERNEL.fullmatch(name):
                    files["kernel"], release = _stored(store, content, origin), match["release"] or match["own"]
                elif _CONFIG.fullmatch(name):
                    files["config"] = _stored(store, content, origin)
                elif match := _MODULES.fullmatch(name):
                    try:
                        spool.add(match["path"], size, content)
                    except OSError as error:
                        raise store.unusable(error) from None
            if "kernel" not in files:
                raise _no_kernel(packages)
            if modules.BUILTIN in spool:
                builtin = spool.pop(modules.BUILTIN)
                files["modules"] = store.put(
                    lambda handle: modules.write_pack(handle, spool, builtin, wanted), origin=origin
                )
        return Extracted(files, release, wanted)


class _Spool(Mapping[str, bytes]):
    """Files by name, kept in one temporary file, not in memory."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def add(self, name: str, size: int, content: IO[bytes]) -> None:
        self._handle.seek(self._end)
        shutil.copyfileobj(content, self._handle, CHUNK)
        self._places[name] = (self._end, size)
        self._end += size

    def pop(self, name: str) -> bytes:
        content = self[name]
        del self._places[name]
        return content

    def __getitem__(self, name: str) -> bytes:
        offset, size = self._places[name]
        self._handle.seek(offset)
        return self._handle.read(size)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _members(packages: Sequence[CachedFile]) -> Iterator[tuple[str, int, IO[bytes]]]:
    for package in packages:
        yield from deb.read(package.path, _of_kernel, package.origin)


def _named(packages: Sequence[CachedFile]) -> str:
    """Return the packages as the subject of a sentence, with its verb."""
    names = ", ".join(package.origin for package in packages)
    return f"the package {names} has" if len(packages) == 1 else f"the packages {names} have"


def _no_kernel(packages: Sequence[CachedFile]) -> ArtifactError:
    """Return the error for packages without a kernel; the advice leaves out what was done already."""
    by_file = "the kernel's file in the package with `file`"
    named = packages[0].origin.startswith("linux-image-")
    return ArtifactError(
        f"{_named(packages)} no kernel in boot/ or usr/lib/modules/",
        code="E236",
        remedy=f"name {by_file}" if named else f"name a linux-image package, or {by_file}",
    )


def _next_kernel(candidate: Candidate) -> str | None:
    """Return the kernel package that a meta package of kernels stands for."""
    match = _META.search(candidate.depends) if candidate.package.startswith("linux-image-") else None
    return match[1] if match else None


def _of_kernel(name: str) -> bool:
    match = _MODULES.fullmatch(name)
    if match:
        return match["path"] == modules.BUILTIN or modules.is_module(name)
    return bool(_KERNEL.fullmatch(name) or _CONFIG.fullmatch(name))


def _stored(store: Store, content: IO[bytes], origin: str) -> CachedFile:
    return store.put(lambda handle: shutil.copyfileobj(content, handle, CHUNK), origin=origin)


def _candidate(record: dict[str, Any]) -> Candidate | None:
    try:
        return Candidate(**{**record, "parts": tuple(record.get("parts", ()))})
    except TypeError:
        return None
