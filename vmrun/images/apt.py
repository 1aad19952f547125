"""Debian's archive through apt's own client, with a private state folder: any suite, any architecture, no root.

apt checks the signature of the suite with the Debian archive keyring and the chain of digests below it. The host's
own sources, preferences, hooks and package database stay out of it; its proxy and TLS settings are taken over. Where
no proxy or login stands in the way, `vmrun.images.download` fetches what apt has found: it resumes across runs.
Sources: apt.conf(5), apt-get(8), sources.list(5), README.progress-reporting of apt.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from vmrun.errors import ArtifactError
from vmrun.images import child, download
from vmrun.images.archive import ALIASES, Archive, Candidate, OutOfStep, fields_of, keyring, no_suite, untrusted
from vmrun.images.sources import CachedFile, Progress, UrlSource
from vmrun.images.store import Store

_CARRIED = re.compile(r"Acquire::(?:https?|ftp|socks\w*|Retries|ForceIPv[46]|Check-|Max-ValidTime|Min-ValidTime)")
_TRANSPORT = re.compile(r"Acquire::(?:https?|ftp|socks)\w*::")
_UNTRUSTED = re.compile(r"NO_PUBKEY|not signed|signatures? (?:were|was) invalid|BADSIG|EXPKEYSIG|Hash Sum mismatch")
_UNREACHABLE = re.compile(
    r"Could not resolve|Could not connect|Temporary failure|timed out|Unable to connect|Connection failed"
)
_OUT_OF_STEP = re.compile(r"Mirror sync in progress|Hash Sum mismatch|File has unexpected size")
_UPDATE_TIMEOUT_S = 600
_HELD = re.compile(r"(?m)Could not get lock .*?(?:\. It is held by (?P<who>process \d+ \([^)]*\)))?$")
"""apt's words where another process works on the same lists: one that a run left behind, or that a person started."""
_HELD_PAUSE_S = 0.5
_LOCAL_TIMEOUT_S = 300
"""For what asks no network: seconds, minutes where the host is busy."""


class Apt(Archive):
    """One suite of one architecture on one mirror, as apt sees it."""

    def __init__(
        self,
        store: Store,
        mirror: str,
        suite: str,
        arch: str,
        *,
        progress: Progress | None = None,
        trusted: bool = False,
    ) -> None:
        """``trusted`` skips the signatures: for the tests' own repositories only."""
        super().__init__(store, mirror, suite, arch, progress)
        self._trusted = trusted
        self._direct = False
        self._ready = False

    def fetch(self, candidate: Candidate) -> CachedFile:
        """Return the .deb, in the store, with the digest that the signed index gives."""
        origin = f"{candidate.package} {candidate.version}"
        found = self._store.find(candidate.sha256, origin=origin)
        if found is not None:
            return found
        self._prepare()
        uri = self._uri(candidate)
        if self._direct and uri.startswith(("http://", "https://")):
            source = UrlSource(uri, candidate.sha256)
            return download.resolve(source, self._store, origin=origin, progress=self._progress)
        with self._store.locked(f"deb {candidate.sha256}"):
            return self._download(candidate, origin)

    def _prepare(self) -> None:
        if self._ready:
            return
        for name in ("lists/partial", "cache/archives/partial"):
            self._store.folder(str((self._folder / name).relative_to(self._store.root)))
        carried = [line for line in self._host_settings() if _CARRIED.match(line)]
        self._direct = not any(_TRANSPORT.match(line) for line in carried) and not _has_logins(Path("/etc/apt"))
        sources = self._folder / "sources.list"
        if not any(self._sources(name) == self._read(sources) for name in (self.suite, ALIASES.get(self.suite))):
            self._write(sources.name, self._sources(self.suite))
        self._write("apt.conf", "".join(f"{line}\n" for line in (*carried, *self._settings())))
        self._ready = True

    def _sources(self, name: str | None) -> str:
        options = f"trusted=yes arch={self.arch}" if self._trusted else f"arch={self.arch} signed-by={keyring()}"
        components = "./" if self._trusted else f"{name} main"
        return f"deb [{options}] {self._mirror} {components}\n"

    def _settings(self) -> Iterator[str]:
        quoted = str(self._folder).replace("\\", "\\\\").replace('"', '\\"')
        values = {
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::sourcelist": f"{quoted}/sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::State": quoted,
            "Dir::State::lists": f"{quoted}/lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": f"{quoted}/cache",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Architecture": self.arch,
            "APT::Architectures": self.arch,
            # apt as root would fetch as user _apt, who cannot reach a private cache, and warn about it.
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::GzipIndexes": "true",
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
        }
        return (f'{key} "{value}";' for key, value in values.items())

    def _host_settings(self) -> list[str]:
        return self._run(["apt-config", "dump"], own=False).stdout.splitlines()

    def _run(
        self, argv: Sequence[str], *, own: bool = True, timeout: float = _LOCAL_TIMEOUT_S
    ) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                argv,
                env=self._environment(own),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                preexec_fn=child.ends_with_parent(),
            )
        except FileNotFoundError:
            raise ArtifactError(
                "this host has no apt, which fetches Debian packages and checks their signatures",
                code="E230",
                remedy="install apt and debian-archive-keyring, or give the artefact as { path } or { url, sha256 }",
            ) from None
        except subprocess.TimeoutExpired:
            raise ArtifactError(
                f"`{' '.join(argv[:2])}` did not end within {timeout:.0f} s", code="E221", remedy="check the network"
            ) from None

    def _environment(self, own: bool) -> dict[str, str]:
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", "") + ":/usr/bin:/bin"}
        if own:
            environment["APT_CONFIG"] = str(self._folder / "apt.conf")
        return environment

    def _update(self, name: str) -> None:
        self._write("sources.list", self._sources(name))
        try:
            self._apt_update()
            if name != self.suite:
                for release in (self._folder / "lists").glob("*_InRelease"):
                    self._check_codename(fields_of(self._read(release).partition("\n\n")[2]))
        except ArtifactError:
            self._write("sources.list", self._sources(self.suite))
            raise

    def _apt_update(self) -> None:
        until = time.monotonic() + _UPDATE_TIMEOUT_S
        told = False
        while True:
            done = self._run(["apt-get", "-q", "update"], timeout=_UPDATE_TIMEOUT_S)
            said = done.stdout + done.stderr
            held = _HELD.search(said) if done.returncode else None
            if held is None or time.monotonic() > until:
                break
            if not told:
                told = True
                who = held["who"] or "another apt-get"
                self._progress.start(
                    f"package lists of {self.suite} for {self.arch}, once {who} is done with them", None
                )
            time.sleep(_HELD_PAUSE_S)
        if done.returncode:
            error = self._failure(said)
            if _OUT_OF_STEP.search(said):
                raise OutOfStep(error.message, code=error.code, remedy=error.remedy)
            raise error

    def _lookup(self, package: str, version: str | None) -> Candidate | None:
        name = package if version is None else f"{package}={version}"
        shown = self._run(["apt-cache", "show", "--no-all-versions", name])
        return self._candidate(shown.stdout.partition("\n\n")[0], package, version)

    def _names(self, prefix: str) -> Iterable[str]:
        return self._run(["apt-cache", "pkgnames", prefix]).stdout.split()

    def _uri(self, candidate: Candidate) -> str:
        printed = self._run(["apt-get", "--print-uris", "download", f"{candidate.package}={candidate.version}"])
        match = re.match(r"'([^']+)'", printed.stdout)
        if printed.returncode or match is None:
            raise self._failure(printed.stdout + printed.stderr)
        return match[1]

    def _download(self, candidate: Candidate, origin: str) -> CachedFile:
        found = self._store.find(candidate.sha256, origin=origin)
        if found is not None:
            return found
        folder = self._store.folder(f"partial/deb-{candidate.sha256[:16]}")
        self._progress.start(origin, candidate.size)
        try:
            self._apt_download(candidate, folder)
        finally:
            self._progress.finish()
        packages = sorted(folder.glob("*.deb"))
        if not packages:
            raise ArtifactError(f"apt fetched no file for {origin}", code="E233", remedy="run `vmrun fetch` again")
        got = self._store.adopt(packages[0], sha256=candidate.sha256, origin=origin)
        folder.rmdir()
        return got

    def _apt_download(self, candidate: Candidate, folder: Path) -> None:
        import tempfile

        what = f"{candidate.package}={candidate.version}"
        reading, writing = os.pipe()
        with tempfile.TemporaryFile() as output, os.fdopen(reading, errors="replace") as status:
            try:
                process = subprocess.Popen(
                    ["apt-get", "-q", "-o", f"APT::Status-Fd={writing}", "download", what],
                    env=self._environment(own=True),
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(writing,),
                    preexec_fn=child.ends_with_parent(),
                )
            finally:
                os.close(writing)
            with process:
                try:
                    for line in status:
                        kind, _, rest = line.partition(":")
                        percent = rest.split(":")[1] if kind == "dlstatus" and rest.count(":") >= 2 else ""
                        if re.fullmatch(r"\d+(\.\d+)?", percent):
                            self._progress.advance(int(candidate.size * min(float(percent), 100) / 100))
                except BaseException:
                    process.terminate()
                    raise
            if process.returncode:
                output.seek(0)
                raise self._failure(output.read().decode(errors="replace"))

    def _failure(self, output: str) -> ArtifactError:
        """Return what apt's words mean."""
        lines = [line[2:].strip() for line in output.splitlines() if line.startswith("E:")]
        first = lines[0] if lines else output.strip().rpartition("\n")[2] or "no reason given"
        if "does not have a Release file" in output and "404" in output:
            return no_suite(self.suite)
        if _UNTRUSTED.search(output):
            return untrusted(self._mirror, self.suite, first)
        if re.search(r"No space left|not have enough (?:free )?space", output):
            return ArtifactError(f"apt cannot write to the cache: {first}", code="E211", remedy="make room")
        if _UNREACHABLE.search(output):
            return ArtifactError(
                f"cannot reach {self._mirror}: {first}",
                code="E221",
                remedy="check the network and apt's proxy, or name another mirror in VMRUN_DEBIAN_MIRROR",
            )
        return ArtifactError(
            f"apt failed for {self.suite}: {first}", code="E233", remedy="see whether `apt-get update` works here"
        )


def _has_logins(etc: Path) -> bool:
    if (etc / "auth.conf").exists():
        return True
    try:
        return any((etc / "auth.conf.d").iterdir())
    except FileNotFoundError:
        return False
    except OSError:
        return True
