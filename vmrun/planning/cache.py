"""Plans that were made before: found again by everything they were made from, without reading the manifest.

    $XDG_CACHE_HOME/vmrun/plans/<checksum of the key>.json

The key names the arguments and vmrun's own code; the entry lists every file and environment variable that was looked
at, as it was then. An entry of which anything differs is not used. Files are compared by size, times and inode, so an
entry is kept only where they had settled before it was made, or where this very run wrote them: what the cache is given
on the way (a kernel fetched or unpacked, an initramfs) never changes in its place.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vmrun import __version__
from vmrun.errors import VmrunError
from vmrun.frozen import frozen
from vmrun.images.cache import cache_root
from vmrun.plan import codec
from vmrun.plan.model import PLAN_FORMAT, MachinePlan

SETTLE_NS = 50_000_000
"""A file changed less than this before it was looked at may change again within one tick of the file system's clock."""
KEEP = 64
"""Entries that are kept, the latest used ones."""
_PACKAGE = Path(__file__).absolute().parents[1]
_CODE_SUFFIXES = (".py", ".sh", ".h", ".toml")

Signature = tuple[int, ...] | None


@frozen
class LookedAt:
    """What a plan depends on beside its arguments.

    ``contents`` are files whose bytes matter, ``sizes`` files of which only kind and size do, ``env`` the environment
    variables with their values, None where not set. ``written`` are files that this run put into the store, as
    `Store.written`. ``lasting`` is False where another look at the host may give another plan.
    """

    contents: tuple[str, ...]
    sizes: tuple[str, ...]
    env: Mapping[str, str | None]
    written: Mapping[str, tuple[int, ...]]
    lasting: bool = True


def key(arguments: Sequence[Any]) -> str:
    """Return the key of a plan made with ``arguments`` (JSON values) by this vmrun."""
    return json.dumps([__version__, PLAN_FORMAT, _code(), arguments], sort_keys=True)


def _code() -> list[int]:
    """Return what changes with vmrun's own files: who works on vmrun itself keeps one version for long."""
    count = newest = checksum = 0
    folders = [os.fspath(_PACKAGE)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.name.endswith(_CODE_SUFFIXES):
                    status = entry.stat()
                    count, newest = count + 1, max(newest, status.st_mtime_ns)
                    checksum = zlib.crc32(f"{entry.path} {status.st_size} {status.st_mtime_ns}".encode(), checksum)
    return [count, newest, checksum]


def find(key: str) -> MachinePlan | None:
    """Return the plan kept under ``key``, or None where there is none that still holds."""
    path = _path(key)
    try:
        entry = json.loads(path.read_bytes())
        if entry["key"] != key or not _holds(entry):
            return None
        plan = codec.from_data(entry["plan"], name=str(path))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, VmrunError):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)
    return plan


def keep(key: str, plan: MachinePlan, looked_at: LookedAt, began_ns: int) -> None:
    """Keep ``plan`` under ``key``; ``began_ns`` is the wall clock before anything was looked at.

    A cache that cannot be written is no error, and nothing is kept of what has not settled.
    """
    files = {path: signature(path) for path in looked_at.contents}
    written = looked_at.written
    if not looked_at.lasting or not all(
        sig is None or max(sig[2:4]) <= began_ns - SETTLE_NS or written.get(path) == (sig[0], sig[1], sig[2], sig[4])
        for path, sig in files.items()
    ):
        return
    entry = {
        "key": key,
        "contents": [[path, sig] for path, sig in files.items()],
        "sizes": [[path, _size(path)] for path in looked_at.sizes],
        "env": dict(looked_at.env),
        "plan": codec.to_data(plan, trees=False),
    }
    path = _path(key)
    folder = path.parent
    temporary = folder / f".tmp-{os.getpid()}-{time.monotonic_ns()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(entry), encoding="utf-8", errors="surrogateescape")
        temporary.replace(path)
    except (OSError, ValueError):
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        return
    _prune(folder)


def _holds(entry: Mapping[str, Any]) -> bool:
    return (
        all(os.environ.get(name) == value for name, value in entry["env"].items())
        and _same(entry["contents"], signature)
        and _same(entry["sizes"], _size)
    )


def _same(then: Iterable[Sequence[Any]], look: Any) -> bool:
    return all(look(path) == (None if was is None else tuple(was)) for path, was in then)


def signature(path: str) -> Signature:
    """Return what changes with a file's content: device, inode, times (ns), size; None where there is no file."""
    try:
        s = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
    except OSError:
        return None
    return s.st_dev, s.st_ino, s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_mode


def _size(path: str) -> Signature:
    try:
        s = os.stat(path)  # noqa: PTH116 - a Path costs more than the call
    except OSError:
        return None
    return stat.S_IFMT(s.st_mode), s.st_size


def _path(key: str) -> Path:
    """Return where the plan of ``key`` lies. Two keys may meet there: the entry says whose it is."""
    data = key.encode("utf-8", "surrogateescape")
    return cache_root() / "plans" / f"{zlib.crc32(data):08x}{zlib.adler32(data):08x}.json"


def _prune(folder: Path) -> None:
    """Remove the entries that were not used for longest."""
    with contextlib.suppress(OSError):
        entries = sorted(((e.stat().st_mtime_ns, e.path) for e in os.scandir(folder)), reverse=True)
        for _, path in entries[KEEP:]:
            Path(path).unlink(missing_ok=True)
