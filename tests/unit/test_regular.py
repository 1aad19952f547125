"""Files that others name: regular ones are opened, nothing else is waited for, read or touched."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from patience import patience
from vmrun import regular
from vmrun.errors import ArtifactError, HostError, PlanError
from vmrun.images import digests, hostfile, lock
from vmrun.images.bound import LARGEST, Bound
from vmrun.images.store import Store


def special(folder: Path, kind: str) -> Path:
    path = folder / kind
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                old = Path.cwd()
                os.chdir(folder)  # a Unix socket's path is short
                try:
                    server.bind(kind)
                finally:
                    os.chdir(old)
        case "device":
            path.symlink_to("/dev/zero")
        case "proc":
            path.symlink_to("/proc/version")
        case "folder":
            path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = special(tmp_path, kind)
    for use in (regular.open_fd, regular.open_file, regular.size, digests.of_file, lambda p: regular.read(p, 9)):
        with pytest.raises(regular.NotRegular, match="no regular file"):
            use(path)


def test_a_kernels_own_file_is_no_regular_one_to_read(tmp_path: Path) -> None:
    for name in ("/proc/version", "/sys/kernel/mm/transparent_hugepage/enabled"):
        if not Path(name).exists():
            pytest.skip(f"needs {name}")
        with pytest.raises(regular.NotRegular):
            regular.read(name, 1 << 20)


def test_folders_and_names_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        regular.open_fd(tmp_path)
    with pytest.raises(OSError, match="null byte"):
        regular.open_fd("a\0b")
    with pytest.raises(FileNotFoundError):
        regular.open_fd(tmp_path / "none")


def test_what_takes_a_files_place_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    fifo = special(tmp_path, "fifo")
    real = os.open
    monkeypatch.setattr(os, "open", lambda name, *more: real(fifo, *more))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(regular.NotRegular):
        regular.open_fd(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "its descriptor is closed"


def test_read_is_cut_after_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert (regular.read(path, 3), regular.read(path, 9), regular.size(path)) == (b"123", b"12345", 5)


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "proc", "folder"])
def test_manifests_locks_and_plans(tmp_path: Path, kind: str) -> None:
    """Through the command, so that whatever hangs is ended."""
    path = special(tmp_path, kind)
    (tmp_path / "m.toml").write_text(f'manifest = 1\nextends = ["{path.name}"]\n[machine]\nboard = "riscv_virt"\n')
    (tmp_path / "m.plan.json").symlink_to(path.name)
    for argv, code, status in ((["check", "m.toml"], "E007", 1), (["plan", "m.plan.json"], "E173", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "vmrun", *argv],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=patience(60),
            check=False,
        )
        assert (done.returncode, code in done.stdout + done.stderr) == (status, True), done.stdout + done.stderr
    with pytest.raises(ArtifactError) as caught:
        lock.read(path)
    assert caught.value.code == "E252"


@pytest.mark.parametrize("sha256", [None, "0" * 64])
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_blobs_of_a_saved_plan(tmp_path: Path, kind: str, sha256: str | None) -> None:
    from vmrun.engine import blobs
    from vmrun.plan.model import Blob

    blob = Blob("kernel", 0, 8, 8, path=str(special(tmp_path, kind)), sha256=sha256)

    class Plan:
        blobs = (blob,)

    with pytest.raises(HostError) as caught:
        blobs.verify_digests(Plan())  # type: ignore[arg-type]
    assert caught.value.code == ("E311" if kind == "folder" else "E312")
    with pytest.raises(HostError) as caught:
        blobs.load_blob(None, blob)  # type: ignore[arg-type]  # not reached
    assert caught.value.code in ("E311", "E312")


def sparse(path: Path, size: int, head: bytes = b"") -> Path:
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    return path


def test_a_size_is_judged_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmrun.engine import blobs
    from vmrun.images import download
    from vmrun.images.sources import UrlSource
    from vmrun.plan.model import Blob

    def unread(*_: object) -> str:
        raise AssertionError("it was read")

    monkeypatch.setattr(digests, "_digest", unread)
    monkeypatch.setattr(Store, "put", unread)
    store, bound = Store(tmp_path / "cache"), Bound(128 << 20)
    image, huge = sparse(tmp_path / "Image", 129 << 20), sparse(tmp_path / "vmlinux", LARGEST + 1, b"\x7fELF")
    for path in (image, huge):
        for use in (
            lambda p: hostfile.resolve(p, store, bound),
            lambda p: download.resolve(UrlSource(p.as_uri(), "0" * 64), store, bound=bound),
        ):
            with pytest.raises(ArtifactError) as caught:
                use(path)
            assert caught.value.code == "E264" and caught.value.remedy
    plan = type("Plan", (), {"blobs": (Blob("kernel", 0, 8, 8, path=str(huge), sha256="0" * 64),)})
    with pytest.raises(HostError, match="more than any file") as refused:
        blobs.verify_digests(plan)  # type: ignore[arg-type]
    assert refused.value.code == "E312"


def test_an_elf_may_be_larger_than_ram(tmp_path: Path) -> None:
    path = sparse(tmp_path / "vmlinux", 2 << 20, b"\x7fELF")
    assert hostfile.resolve(path, Store(tmp_path / "cache"), Bound(1 << 20)).size == 2 << 20


def test_a_kernel_unpacks_no_further_than_ram(tmp_path: Path) -> None:
    import gzip
    import io

    from vmrun.boot import packed
    from vmrun.boot.source import Source

    for data, fits in ((bytes(3 << 20), False), (b"\x7fELF" + bytes(3 << 20), True), (bytes(1 << 20), True)):
        path = tmp_path / "packed"
        path.write_bytes(gzip.compress(data))
        with Source(path) as source:
            how = packed.recognise(source)
            assert how is not None
            if fits:
                assert packed.unpack(source, how, io.BytesIO(), 2 << 20) == len(data)
                continue
            with pytest.raises(PlanError, match="2MiB of RAM") as caught:
                packed.unpack(source, how, io.BytesIO(), 2 << 20)
            assert caught.value.code == "E114"
