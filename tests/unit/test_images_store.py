"""The store: whole files under their digest, whatever happens while they are written."""

from __future__ import annotations

import errno
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.images import digests, hostfile
from vmrun.images.store import Store, cache_root


def test_content_lies_under_its_digest(tmp_path: Path) -> None:
    store = Store(tmp_path / "vmrun")
    file = store.put_bytes(b"hello", origin="a test")
    digest = hashlib.sha256(b"hello").hexdigest()
    assert file.path == tmp_path / "vmrun" / "sha256" / digest[:2] / digest[2:]
    assert (file.sha256, file.size, file.origin) == (digest, 5, "a test")
    assert file.path.read_bytes() == b"hello"
    assert not file.path.stat().st_mode & 0o222
    assert store.find(digest, 5) is not None
    assert store.find(digest, 6) is None
    assert list(store.digests()) == [digest]


def test_wrong_digest_keeps_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(ArtifactError, match=hashlib.sha256(b"x").hexdigest()) as caught:
        store.put(lambda handle: handle.write(b"x"), sha256="0" * 64, origin="it")
    assert caught.value.code == "E222"
    assert "0" * 64 in str(caught.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_failing_writer_keeps_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def write(handle: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.put(write)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(tmp_path: Path, number: int) -> None:
    def write(handle: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(ArtifactError) as caught:
        Store(tmp_path).put(write)
    assert caught.value.code == "E211"
    assert "XDG_CACHE_HOME" in str(caught.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_cache_that_is_a_file(tmp_path: Path) -> None:
    place = tmp_path / "vmrun"
    place.write_text("in the way")
    store = Store(place)
    for use in (lambda: store.put_bytes(b"x"), lambda: store.write_record("a", {}), lambda: store.folder("locks")):
        with pytest.raises(ArtifactError) as caught:
            use()
        assert caught.value.code == "E210"
    assert store.find("0" * 64) is None
    assert store.read_record("a") is None


def test_damage_is_found_and_dropped(tmp_path: Path) -> None:
    store = Store(tmp_path)
    good, bad = store.put_bytes(b"good"), store.put_bytes(b"bad!")
    bad.path.chmod(0o644)
    bad.path.write_bytes(b"evil")
    assert store.verify(good.sha256)
    assert not store.verify(bad.sha256)
    assert store.find(bad.sha256) is None


def test_records(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.read_record("debian/trixie/x") is None
    store.write_record("debian/trixie/x", {"a": [1, 2]})
    store.write_record("debian/trixie/x", {"a": [3]})
    assert store.read_record("debian/trixie/x") == {"a": [3]}
    (tmp_path / "index" / "debian" / "trixie" / "x.json").chmod(0o644)
    (tmp_path / "index" / "debian" / "trixie" / "x.json").write_text("{ not json")
    assert store.read_record("debian/trixie/x") is None


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "..", "a/../../b", "", "nul\0"])
def test_a_record_never_leaves_the_cache(tmp_path: Path, name: str) -> None:
    root = tmp_path / "deep" / "vmrun"
    Store(root).write_record(name, {"x": 1})
    written = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert written and all(root / "index" in p.parents for p in written)
    assert Store(root).read_record(name) == {"x": 1}


def test_no_digest_no_path(tmp_path: Path) -> None:
    for digest in ("", "../x", "A" * 64, "0" * 63, "0" * 64 + "\n"):
        with pytest.raises(ValueError):
            Store(tmp_path).path_of(digest)


def _put_many(root: str) -> None:
    store = Store(Path(root))
    for number in range(30):
        store.put_bytes(b"%d" % number * 1000)
        store.write_record("shared", {"n": number})


def test_concurrent_runs(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_put_many, args=(str(tmp_path),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(patience(30))
        assert worker.exitcode == 0
    store = Store(tmp_path)
    assert len(list(store.digests())) == 30
    assert all(store.verify(digest) for digest in store.digests())
    assert store.read_record("shared") == {"n": 29}


_KILLED = """
import sys, time
from pathlib import Path
from vmrun.images.store import Store
def write(handle):
    handle.write(b"half")
    print("half", flush=True)
    time.sleep(60)
Store(Path(sys.argv[1])).put(write)
"""


def test_killed_run_leaves_no_half_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        store.sweep()
        assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1, "a living writer's file must stay"
        writer.send_signal(signal.SIGKILL)
    assert list(store.digests()) == []
    part = store.folder("partial") / "x.part"
    part.write_bytes(b"resumable")
    store.sweep()
    assert part.exists()
    os.utime(part, (0, 0))
    store.sweep()
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_cache_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for value in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_root() == tmp_path / ".cache" / "vmrun"
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert cache_root() == Path("/elsewhere/vmrun")


# ---- files of the user's own


def _old(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    past = time.time() - 100
    os.utime(path, (past, past))
    return path


def test_digest_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "cache")
    path = _old(tmp_path / "Image", b"one")
    assert hostfile.resolve(path, store).sha256 == hashlib.sha256(b"one").hexdigest()
    read: list[Path] = []
    real = digests._digest
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)  # a file's last change of status cannot be set back
    monkeypatch.setattr(digests, "_digest", lambda fd, size: read.append(path) or real(fd, size))
    assert hostfile.resolve(path, store).size == 3
    assert hostfile.resolve(path, store).size == 3
    assert len(read) == 1
    _old(path, b"two")
    assert hostfile.resolve(path, store).sha256 == hashlib.sha256(b"two").hexdigest()
    assert len(read) == 2


def test_fresh_file_is_read_every_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    path = tmp_path / "Image"
    for data in (b"one", b"two"):
        path.write_bytes(data)
        assert hostfile.resolve(path, store).sha256 == hashlib.sha256(data).hexdigest()


def test_bad_paths(tmp_path: Path) -> None:
    (tmp_path / "vmlinux").write_bytes(b"")
    (tmp_path / "closed").write_bytes(b"x")
    (tmp_path / "closed").chmod(0)
    os.mkfifo(tmp_path / "pipe")
    for name, code, words in (
        ("vmlinuz", "E201", "did you mean `vmlinux`"),
        ("vmlinux/x", "E201", "does not exist"),
        ("no/such", "E201", "cannot be opened"),
        (".", "E202", "is a directory"),
        ("pipe", "E202", "no regular file"),
        ("vmlinux", "E203", "is empty"),
        *((("closed", "E204", "cannot read"),) if os.geteuid() else ()),
    ):
        with pytest.raises(ArtifactError) as caught:
            hostfile.inspect(tmp_path / name)
        assert caught.value.code == code
        assert words in str(caught.value)
