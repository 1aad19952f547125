"""One suite of Debian's archive, whichever client reaches it: what is common to `vmrun.images.apt` and `.mirror`."""

from __future__ import annotations

import hashlib
import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

from vmrun.errors import ArtifactError
from vmrun.frozen import evolve, frozen
from vmrun.images.aptsources import SUITES
from vmrun.images.sources import CachedFile, Progress, Silent
from vmrun.images.store import Store
from vmrun.images.words import did_you_mean

LISTS_AGE_S = 24 * 3600
"""For how long the package lists of a suite are good, in seconds; a package that is not in them refreshes them."""

KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
ALIASES = {"bookworm": "oldstable", "trixie": "stable", "forky": "testing", "sid": "unstable"}
"""Where else a mirror has a suite. While it, or a cache before it, is being brought up to date, one of the two may lack
the index that its InRelease tells of. An alias moves on with time: what stands there counts by its codename alone."""

_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+:~-]+")
_SUITE = re.compile(r"[a-z][a-z0-9.-]*(?:/[a-z-]+)?")


@frozen
class Candidate:
    """A package as the signed index describes it: ``sha256`` in hex and ``size`` in bytes of the .deb.

    ``parts`` are the packages, of the same version, that a kernel is spread over where its own holds none of it.
    """

    package: str
    version: str
    filename: str
    sha256: str
    size: int
    depends: str = ""
    parts: tuple[str, ...] = ()


class OutOfStep(ArtifactError):
    """A mirror's package index is not the one that its InRelease tells of."""


class Archive(ABC):
    """One suite of one architecture on one mirror, with a folder of its own in the store."""

    def __init__(self, store: Store, mirror: str, suite: str, arch: str, progress: Progress | None = None) -> None:
        if not _SUITE.fullmatch(suite):
            raise no_suite(suite)
        self.suite = suite
        self.arch = arch
        self._store = store
        self._mirror = mirror
        self._progress = progress or Silent()
        self._asked = False
        mark = hashlib.sha256(mirror.encode()).hexdigest()[:8]
        self._folder = store.folder(f"apt/{suite.replace('/', '_')}-{arch}-{mark}")

    def show(self, package: str, version: str | None = None, *, refresh: bool = False) -> Candidate:
        """Return the package's newest version, or the one named. The lists are refreshed where they are old or lack it.

        Raise ArtifactError: E230 no client, E231 no such suite, E232 no such package, E221 unreachable, E233 and E234
        for what else the client says.
        """
        if not _NAME.fullmatch(package) or (version is not None and not _VERSION.fullmatch(version)):
            raise self._no_package(package, version, ())
        with self._store.locked(f"apt {self._folder}"):
            self._prepare()
            fresh = not self._asked and (refresh or self._age() > LISTS_AGE_S)
            if fresh:
                self._refresh()
            found = self._lookup(package, version)
            if found is None and not self._asked:
                self._refresh()
                found = self._lookup(package, version)
            if found is None:
                raise self._no_package(package, version, self._names(package[:3]))
            return found

    @abstractmethod
    def fetch(self, candidate: Candidate) -> CachedFile:
        """Return the .deb, in the store, with the digest that the signed index gives."""

    @abstractmethod
    def _prepare(self) -> None:
        """Make ready what the other steps need."""

    @abstractmethod
    def _update(self, name: str) -> None:
        """Bring the lists up to date, signatures checked, from the mirror's ``name`` for the suite; `_check_codename`.

        Raise OutOfStep where the mirror has another index than it says.
        """

    @abstractmethod
    def _lookup(self, package: str, version: str | None) -> Candidate | None:
        """Return what the lists say of the package."""

    @abstractmethod
    def _names(self, prefix: str) -> Iterable[str]:
        """Return the names of all packages that begin with ``prefix``."""

    def _refresh(self) -> None:
        self._progress.start(f"package lists of {self.suite} for {self.arch}", None)
        try:
            self._update_by_any_name()
        finally:
            self._progress.finish()
        self._write("updated", "")
        self._asked = True

    def _update_by_any_name(self) -> None:
        try:
            self._update(self.suite)
        except OutOfStep as error:
            if self.suite not in ALIASES:
                raise
            try:
                self._update(ALIASES[self.suite])
            except ArtifactError:
                raise error from None

    def _check_codename(self, release: dict[str, str]) -> None:
        """Raise ArtifactError E234 where an InRelease is of another suite than asked for."""
        if self.suite not in (release.get("suite"), release.get("codename")):
            raise untrusted(self._mirror, self.suite, f"it answers with the suite {release.get('suite')}")

    def _age(self) -> float:
        try:
            return abs(time.time() - (self._folder / "updated").stat().st_mtime)
        except FileNotFoundError:
            return float("inf")
        except OSError as error:
            raise self._store.unusable(error) from None

    def _candidate(self, stanza: str, package: str, version: str | None) -> Candidate | None:
        """Return what a stanza of an index says, if it is that package in that version."""
        fields = fields_of(stanza)
        if fields.get("package") != package or (version is not None and fields.get("version") != version):
            return None
        sha256, size = fields.get("sha256", ""), fields.get("size", "")
        if not re.fullmatch(r"[0-9a-f]{64}", sha256) or not size.isdecimal():
            raise ArtifactError(
                f"the index of {self.suite} gives no SHA-256 and size for {package}",
                code="E234",
                remedy="name another mirror",
            )
        depends = ", ".join(fields[key] for key in ("pre-depends", "depends") if key in fields)
        found = Candidate(package, fields.get("version", ""), fields.get("filename", ""), sha256, int(size), depends)
        return evolve(found, parts=kernel_parts(found))

    def _no_package(self, package: str, version: str | None, known: Iterable[str]) -> ArtifactError:
        if version is not None:
            return ArtifactError(
                f"{self.suite} has no {package} {version} for {self.arch}; the mirror may have moved on",
                code="E232",
                remedy="run `vmrun lock` to pin the present version, or name a snapshot mirror in VMRUN_DEBIAN_MIRROR",
            )
        return ArtifactError(
            f"{self.suite} has no package `{package}` for {self.arch}",
            code="E232",
            remedy=did_you_mean(package, known, "check its name and suite"),
        )

    def _read(self, path: Path) -> str:
        try:
            return path.read_text("utf-8", "replace")
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise self._store.unusable(error) from None

    def _write(self, name: str, text: str) -> None:
        try:
            (self._folder / name).write_text(text)
        except OSError as error:
            raise self._store.unusable(error) from None


def kernel_parts(candidate: Candidate) -> tuple[str, ...]:
    """Return the packages that hold the kernel which ``candidate``, a linux-image package of a release, stands for.

    From Linux 7.2 on, Debian's linux-image-RELEASE is empty and needs, in its own version, linux-binary-RELEASE (the
    image), linux-base-RELEASE (configuration, built-in modules) and linux-modules-RELEASE; before, it has it all.
    """
    release = re.escape(candidate.package.removeprefix("linux-image-"))
    if not candidate.package.startswith("linux-image-"):
        return ()
    version = re.escape(candidate.version)
    names = re.findall(rf"(?<![\w.+-])(linux-(?:base|binary|modules)-{release}) \(= {version}\)", candidate.depends)
    return tuple(sorted(set(names)))


def no_suite(suite: str) -> ArtifactError:
    """Return the error for a suite that the mirror does not have."""
    hint = did_you_mean(suite, SUITES, "")
    known = f"suites are {', '.join(SUITES)}"
    return ArtifactError(f"Debian's mirror has no suite `{suite}`", code="E231", remedy=f"{hint} {known}".strip())


def untrusted(mirror: str, suite: str, why: str) -> ArtifactError:
    """Return the error for a suite whose signature cannot be relied on."""
    return ArtifactError(
        f"{mirror} is not trusted for {suite}: {why}",
        code="E234",
        remedy="bring debian-archive-keyring up to date, or name another mirror in VMRUN_DEBIAN_MIRROR",
    )


def fields_of(stanza: str) -> dict[str, str]:
    """Return the fields of a stanza (deb822(5)), names in lower case, continued lines joined by line breaks."""
    fields: dict[str, str] = {}
    key = ""
    for line in stanza.splitlines():
        if line[:1] in (" ", "\t"):
            fields[key] = fields.get(key, "") + "\n" + line.strip()
        else:
            key, _, value = line.partition(":")
            key = key.lower()
            fields[key] = value.strip()
    return fields


def keyring() -> str:
    """Return the file with the keys of Debian's archive, or what ``$VMRUN_DEBIAN_KEYRING`` names. Raise E230."""
    named = os.environ.get("VMRUN_DEBIAN_KEYRING")
    for path in (named,) if named else KEYRINGS:
        if Path(path).is_file() and Path(path).is_absolute():
            return path
    raise ArtifactError(
        "this host has no Debian archive keyring to check signatures with",
        code="E230",
        remedy="install the package debian-archive-keyring, or name the file in VMRUN_DEBIAN_KEYRING",
    )
