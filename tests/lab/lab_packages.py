"""A set of Debian packages with all they depend on: resolved by apt's own solver, fetched, unpacked into a folder.

vmrun's private apt client checks the suite's signature; each .deb is compared with the digest of the signed index.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.images import aptsources
from vmrun.images.apt import Apt
from vmrun.images.archive import Candidate
from vmrun.images.store import Store

_INSTALLED = re.compile(r"(?m)^Inst (\S+) \((\S+) ")
_USR_MERGED = ("bin", "sbin", "lib", "lib64")
_FETCH_TIMEOUT_S = patience(1200)


class PackageSet(Apt):
    """Packages of one suite and architecture. ``folder`` keeps the .debs."""

    def __init__(self, store: Store, suite: str, arch: str, folder: Path) -> None:
        super().__init__(store, aptsources.mirror(), suite, arch)
        self._debs = folder
        folder.mkdir(parents=True, exist_ok=True)

    def closure(self, names: Sequence[str]) -> list[Candidate]:
        """Return the packages ``names`` and all that these depend on, recommendations left out, sorted by name."""
        self.show(names[0])  # refreshes the lists where they are old
        solved = self._run(["apt-get", "-s", "-y", "--no-install-recommends", "install", *names])
        found = _INSTALLED.findall(solved.stdout)
        if solved.returncode or not found:
            raise self._failure(solved.stdout + solved.stderr)
        versions = dict(found)
        shown = self._run(["apt-cache", "show", *(f"{name}={version}" for name, version in found)])
        candidates: dict[str, Candidate] = {}
        for stanza in shown.stdout.split("\n\n"):
            name = stanza.partition("Package: ")[2].partition("\n")[0]
            if name in versions and name not in candidates:
                candidate = self._candidate(stanza, name, versions[name])
                if candidate is not None:
                    candidates[name] = candidate
        missing = sorted(versions.keys() - candidates.keys())
        if missing:
            raise ArtifactError(f"apt does not describe {', '.join(missing)}", code="E233", remedy="run it again")
        return [candidates[name] for name in sorted(candidates)]

    def fetch_all(self, candidates: Sequence[Candidate]) -> list[Path]:
        """Return the .debs of ``candidates``, each with the digest that the signed index gives."""
        wanted = [candidate for candidate in candidates if not self._holds(candidate)]
        if wanted:
            names = [f"{candidate.package}={candidate.version}" for candidate in wanted]
            done = subprocess.run(
                ["apt-get", "-q", "download", *names],
                cwd=self._debs,
                env=self._environment(own=True),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_FETCH_TIMEOUT_S,
            )
            if done.returncode:
                raise self._failure(done.stdout + done.stderr)
        for candidate in wanted:
            if not self._holds(candidate):
                raise ArtifactError(
                    f"{candidate.package} {candidate.version} is not what the index says", code="E234", remedy="retry"
                )
        return [self._path(candidate) for candidate in candidates]

    def _path(self, candidate: Candidate) -> Path:
        # apt's own name of a download: the epoch's colon is escaped.
        architecture = candidate.filename.rpartition("_")[2]
        return self._debs / f"{candidate.package}_{candidate.version.replace(':', '%3a')}_{architecture}"

    def _holds(self, candidate: Candidate) -> bool:
        path = self._path(candidate)
        if not path.is_file() or path.stat().st_size != candidate.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == candidate.sha256


def unpack(packages: Sequence[Path], tree: Path) -> None:
    """Unpack ``packages`` into the empty folder ``tree``: one file system with /usr merged, as Debian's is."""
    for name in _USR_MERGED:
        (tree / "usr" / name).mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(f"usr/{name}")
    for package in packages:
        # tar, unlike dpkg -x, keeps the links of the merged /usr where a package brings them as folders.
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as source:
            subprocess.run(
                ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", tree],
                stdin=source.stdout,
                check=True,
            )
        if source.returncode:
            raise ArtifactError(f"{package.name} cannot be unpacked", code="E235", remedy="remove it and run again")
