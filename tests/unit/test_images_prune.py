"""The cache's bounds: the oldest goes, what is in use stays, in whichever process it is used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vmrun.images import lease, prune
from vmrun.images.prune import Bounds
from vmrun.images.sources import CachedFile
from vmrun.images.store import Store

HOLD = """
import sys
from vmrun.images import lease
held = lease.take(sys.argv[1])
print(held is not None, flush=True)
input()
"""


def put(root: Path, data: bytes, age_s: int, *, built: bool = False) -> CachedFile:
    """Store ``data`` as last used ``age_s`` seconds ago, by a process that is no more."""
    store = Store(root)
    file = store.put_bytes(data)
    if built:
        store.write_record(f"initramfs/{file.sha256}", {"sha256": file.sha256, "size": file.size})
    past = time.time() - age_s
    os.utime(file.path, (past, past))
    os.utime(root / "used" / file.sha256, (past, past))
    return file


def names(root: Path) -> set[str]:
    return set(Store(root).digests())


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    files = [put(tmp_path, b"%d" % n, 1000 - n) for n in range(5)]
    assert Store(tmp_path).find(files[0].sha256) is not None, "used now"
    prune.prune(tmp_path, Bounds(3, 1 << 20))
    assert names(tmp_path) == {files[n].sha256 for n in (0, 3, 4)}
    assert {entry.name for entry in (tmp_path / "used").iterdir()} == names(tmp_path)


def test_sizes_are_bounded(tmp_path: Path) -> None:
    files = [put(tmp_path, bytes([n]) * 1000, 1000 - n) for n in range(4)]
    prune.prune(tmp_path, Bounds(100, 2500))
    assert names(tmp_path) == {files[n].sha256 for n in (2, 3)}


def test_initramfses_have_bounds_of_their_own(tmp_path: Path) -> None:
    kernel = put(tmp_path, b"kernel", 5000)
    files = [put(tmp_path, b"initramfs %d" % n, 1000 - n, built=True) for n in range(4)]
    prune.prune(tmp_path, built=Bounds(1, 1 << 20))
    assert names(tmp_path) == {kernel.sha256, files[3].sha256}
    prune.prune(tmp_path, built=Bounds(1, 1 << 20))
    assert [p.stem for p in (tmp_path / "index" / "initramfs").iterdir()] == [files[3].sha256]


def test_storing_keeps_the_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prune.prune, "__defaults__", (Bounds(3, 1 << 20), Bounds(3, 1 << 20)))
    for n in range(9):
        put(tmp_path, b"%d" % n, 1000 - n)
    assert len(names(tmp_path)) == 3


def test_what_a_process_uses_stays_until_it_ends(tmp_path: Path) -> None:
    used, free = put(tmp_path, b"used", 2000), put(tmp_path, b"free", 1000)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, used.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout is not None and user.stdout.readline() == "True\n"
        past = time.time() - 2000
        os.utime(tmp_path / "used" / used.sha256, (past, past))
        prune.prune(tmp_path, Bounds(0, 0))
        assert names(tmp_path) == {used.sha256}, f"and not {free.sha256}"
        user.kill()
    prune.prune(tmp_path, Bounds(0, 0))
    assert names(tmp_path) == set()


def test_what_this_store_found_or_stored_stays_as_long_as_it_lives(tmp_path: Path) -> None:
    found = put(tmp_path, b"found", 10)
    store = Store(tmp_path)
    assert store.find(found.sha256)
    stored = store.put_bytes(b"stored")
    prune.prune(tmp_path, Bounds(0, 0))
    assert names(tmp_path) == {found.sha256, stored.sha256}
    del store
    prune.prune(tmp_path, Bounds(0, 0))
    assert names(tmp_path) == set()


def test_a_file_that_is_gone_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = put(tmp_path / "vmrun", b"x", 1)
    assert lease.keep([str(file.path), None, "/elsewhere/file"])
    other = put(tmp_path / "vmrun", b"y", 1)
    other.path.unlink()
    assert not lease.keep([str(other.path)])
    prune.prune(tmp_path / "vmrun", Bounds(0, 0))
    assert names(tmp_path / "vmrun") == {file.sha256}
