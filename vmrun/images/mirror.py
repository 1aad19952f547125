"""Debian's archive without apt: a host of another distribution reads the mirror that its user names.

The chain is apt's: the suite's InRelease is signed by a key of the Debian archive keyring (gpgv checks it), it has the
digest of the package index, and that has the digest of each package. Source: the Debian repository format.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterable, Iterator

from vmrun.errors import ArtifactError
from vmrun.images import download
from vmrun.images.archive import Archive, Candidate, OutOfStep, fields_of, keyring, no_suite, untrusted
from vmrun.images.sources import CachedFile, UrlSource

_RELEASE_LIMIT = 4 << 20
"""Bytes that an InRelease may have; Debian's have 150 kB."""


class Mirror(Archive):
    """One suite of one architecture, read by vmrun itself."""

    def fetch(self, candidate: Candidate) -> CachedFile:
        """Return the .deb, in the store, with the digest that the signed index gives."""
        if not re.fullmatch(r"pool/[A-Za-z0-9.+_~%/-]+", candidate.filename) or ".." in candidate.filename:
            raise untrusted(self._mirror, self.suite, f"`{candidate.filename}` is no place for a package")
        source = UrlSource(self._url(candidate.filename), candidate.sha256)
        origin = f"{candidate.package} {candidate.version}"
        return download.resolve(source, self._store, origin=origin, progress=self._progress)

    def _prepare(self) -> None:
        if not self._mirror.startswith(("http://", "https://")):
            raise ArtifactError(
                f"without apt, the mirror `{self._mirror}` cannot be read",
                code="E230",
                remedy="name one by http or https in VMRUN_DEBIAN_MIRROR, or install apt",
            )

    def _update(self, name: str) -> None:
        try:
            signed = download.small(self._url(f"dists/{name}/InRelease"), limit=_RELEASE_LIMIT)
        except ArtifactError as error:
            raise (no_suite(self.suite) if "answers 404" in error.message else error) from None
        release = fields_of(self._verified(signed))
        self._check_codename(release)
        if _expired(release.get("valid-until", "")):
            raise untrusted(self._mirror, self.suite, f"its index was valid until {release['valid-until']}")
        index = f"main/binary-{self.arch}/Packages.xz"
        match = re.search(rf"(?m)^([0-9a-f]{{64}}) +\d+ +{re.escape(index)}$", release.get("sha256", ""))
        if match is None:
            raise ArtifactError(
                f"{self.suite} has no packages for {self.arch}", code="E231", remedy="name a suite that has"
            )
        old = self._store.read_record(self._record)
        source = UrlSource(self._url(f"dists/{name}/{index}"), match[1])
        try:
            download.resolve(source, self._store, origin=f"package index of {self.suite}", progress=self._progress)
        except ArtifactError as error:
            if error.code != "E222":
                raise
            raise OutOfStep(error.message, code=error.code, remedy="wait until the mirror is in step again") from None
        self._store.write_record(self._record, {"sha256": match[1]})
        if old is not None and old.get("sha256") != match[1]:
            self._store.remove(str(old.get("sha256")))

    def _lookup(self, package: str, version: str | None) -> Candidate | None:
        found = None
        for stanza in self._stanzas():
            if stanza.startswith(f"Package: {package}\n"):
                found = self._candidate(stanza, package, version) or found
        return found

    def _names(self, prefix: str) -> Iterable[str]:
        start = f"Package: {prefix}"
        return {s.partition("\n")[0].removeprefix("Package: ") for s in self._stanzas() if s.startswith(start)}

    def _stanzas(self) -> Iterator[str]:
        import lzma

        record = self._store.read_record(self._record)
        index = self._store.find(str(record["sha256"])) if record else None
        if index is None:
            return
        lines: list[str] = []
        with lzma.open(index.path, "rt", errors="replace") as stream:
            try:
                for line in stream:
                    if line != "\n":
                        lines.append(line)
                    elif lines:
                        yield "".join(lines)
                        lines = []
            except (EOFError, lzma.LZMAError) as error:
                raise untrusted(self._mirror, self.suite, f"its index is damaged: {error}") from None
        if lines:
            yield "".join(lines)

    def _verified(self, signed: bytes) -> str:
        """Return the text of a clear-signed message. Raise ArtifactError where no key of the keyring signed it."""
        import tempfile

        with tempfile.NamedTemporaryFile(dir=self._folder) as message:
            message.write(signed)
            message.flush()
            argv = ["gpgv", "--status-fd", "2", "--keyring", keyring(), "--output", "-", message.name]
            try:
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
            except FileNotFoundError:
                raise ArtifactError(
                    "this host has neither apt nor gpgv to check Debian's signatures",
                    code="E230",
                    remedy="install gpgv, or give the artefact as { path } or { url, sha256 }",
                ) from None
            except subprocess.TimeoutExpired:
                raise untrusted(self._mirror, self.suite, "gpgv did not end within 60 s") from None
        status = set(re.findall(r"(?m)^\[GNUPG:\] ([A-Z_]+)", done.stderr.decode(errors="replace")))
        # A release bears several signatures, and an older keyring knows not all of the keys: one good one is enough.
        if not {"GOODSIG", "VALIDSIG"} <= status or "BADSIG" in status:
            raise untrusted(self._mirror, self.suite, "no key of the Debian archive keyring signed it")
        return done.stdout.decode(errors="replace")

    def _url(self, path: str) -> str:
        return f"{self._mirror.rstrip('/')}/{path}"

    @property
    def _record(self) -> str:
        return f"lists/{self._folder.name}"


def _expired(date: str) -> bool:
    if not date:
        return False
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(date).timestamp() < time.time()
    except ValueError:
        return True
