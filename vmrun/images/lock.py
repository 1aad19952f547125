"""vmrun.lock: every artefact pinned by digest, beside the manifest, so that a machine is the same next year.

TOML, one table an artefact, sorted, so that a change shows as a small diff. A key says what is pinned:
``path:<file from the lock's folder>``, ``url:<address>``, ``debian:<suite>:<architecture>:<package>``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from vmrun import regular
from vmrun.errors import ArtifactError
from vmrun.frozen import field_names, frozen
from vmrun.images.sources import PathSource, Source, UrlSource
from vmrun.units import format_size

NAME = "vmrun.lock"
_VERSION = 1
_MAX_BYTES = 16 << 20
_HEADER = "# Written by `vmrun lock`: every artefact by digest. Not to be edited.\n"


@frozen
class Pin:
    """One pinned artefact: ``sha256`` and ``size`` in bytes of the file, of a Debian package those of its .deb.

    ``parts`` are packages that belong to it, each with a pin of its own (see `vmrun.images.archive.Candidate`).
    """

    sha256: str
    size: int
    package: str = ""
    version: str = ""
    filename: str = ""
    parts: tuple[str, ...] = ()


@frozen
class Lock:
    """The pins of one lock file; ``path`` is where it stands, or would stand."""

    path: Path
    pins: Mapping[str, Pin]

    def key(self, source: Source, arch: str) -> str:
        """Return the key of ``source`` in this lock."""
        if isinstance(source, PathSource):
            return "path:" + os.path.relpath(source.path, self.path.parent).replace(os.sep, "/")
        if isinstance(source, UrlSource):
            return f"url:{source.url}"
        return f"debian:{source.suite}:{arch}:{source.package}"

    def pin(self, source: Source, arch: str, *, required: bool = False) -> Pin | None:
        """Return the pin of ``source``. With ``required``, raise ArtifactError E250 where there is none."""
        found = self.pins.get(self.key(source, arch))
        if found is None and required:
            raise ArtifactError(
                f"{source} is not pinned in {self.path}",
                code="E250",
                remedy="run `vmrun lock`, and commit the lock file",
            )
        return found


def beside(manifest: Path) -> Path:
    """Return where the lock file of a manifest stands."""
    return manifest.absolute().parent / NAME


def differs(source: object, lock: Lock, pinned: str, found: str) -> ArtifactError:
    """Return the error for an artefact that is not the pinned one."""
    return ArtifactError(
        f"{source} has the SHA-256 {found}, but {lock.path} pins {pinned}",
        code="E251",
        remedy="run `vmrun lock` if the change is meant",
    )


def read(path: Path) -> Lock:
    """Return the lock at ``path``, empty where there is none. Raise ArtifactError E252 where it makes no sense."""
    try:
        content = regular.read(path, _MAX_BYTES + 1)
    except FileNotFoundError:
        return Lock(path, {})
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from None
    if len(content) > _MAX_BYTES:
        raise _unreadable(path, f"it is larger than {format_size(_MAX_BYTES)}")
    import tomli

    try:
        data = tomli.loads(content.decode())
    except (tomli.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    if data.get("version") != _VERSION:
        raise _unreadable(path, f"its version is {data.get('version')!r}, this vmrun writes {_VERSION}")
    artifacts = data.get("artifact", {})
    if not isinstance(artifacts, dict):
        raise _unreadable(path, "`artifact` is no table")
    return Lock(path, {key: _pin(path, key, value) for key, value in artifacts.items()})


def text(pins: Mapping[str, Pin]) -> str:
    """Return the lock file of ``pins``: the same pins give the same bytes."""
    parts = [_HEADER, f"version = {_VERSION}\n"]
    for key in sorted(pins):
        pin = pins[key]
        parts.append(f"\n[artifact.{_quoted(key)}]\n")
        for name in ("package", "version", "filename"):
            if value := getattr(pin, name):
                parts.append(f"{name} = {_quoted(value)}\n")
        if pin.parts:
            parts.append(f"parts = [{', '.join(map(_quoted, pin.parts))}]\n")
        parts.append(f"sha256 = {_quoted(pin.sha256)}\nsize = {pin.size}\n")
    return "".join(parts)


def write(path: Path, pins: Mapping[str, Pin]) -> None:
    """Write the lock file, atomically. Raise ArtifactError E252 where its folder does not allow it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text(pins), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(
            f"cannot write {path}: {error.strerror}", code="E252", remedy="make the folder writable"
        ) from None


def _pin(path: Path, key: str, value: object) -> Pin:
    if not isinstance(value, dict):
        raise _unreadable(path, f"`{key}` is no table")
    known = set(field_names(Pin))
    if unknown := sorted(set(value) - known):
        raise _unreadable(path, f"`{key}` has the unknown key `{unknown[0]}`")
    sha256, size = value.get("sha256"), value.get("size")
    if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise _unreadable(path, f"`{key}` has no SHA-256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise _unreadable(path, f"`{key}` has no size")
    if not all(isinstance(value.get(name, ""), str) for name in ("package", "version", "filename")):
        raise _unreadable(path, f"`{key}` has a value that is no string")
    parts = value.get("parts", [])
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise _unreadable(path, f"`{key}` has parts that are no list of strings")
    return Pin(**{**value, "parts": tuple(parts)})


def _unreadable(path: Path, why: str) -> ArtifactError:
    return ArtifactError(f"cannot use {path}: {why}", code="E252", remedy="remove it and run `vmrun lock`")


def _quoted(value: str) -> str:
    """Return a TOML basic string (TOML 1.0, String)."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04X}", escaped) + '"'
