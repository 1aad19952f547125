"""Pins that are insisted on are compared with the bytes that are in the cache, not with what they are called."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from test_boot_kernels import image

from vmrun.cli.main import main
from vmrun.errors import ArtifactError
from vmrun.images import digests
from vmrun.images.store import Store

KERNEL = image(size=1 << 20, image_size=1 << 20)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest whose kernel is a download, in the cache and in the lock."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    digest = Store().put_bytes(KERNEL).sha256
    path = tmp_path / "m.toml"
    path.write_text(
        'manifest = 1\n[machine]\nboard = "riscv_virt"\n[memory]\nsize = "64MiB"\n'
        f'[boot]\nkernel = {{ url = "https://host.example/Image", sha256 = "{digest}" }}\n'
    )
    assert main(["lock", str(path)]) == 0
    return path


def stored() -> Path:
    return Store().path_of(hashlib.sha256(KERNEL).hexdigest())


def change(path: Path) -> None:
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"TAMPERED")


def test_a_changed_file_of_the_cache_is_refused(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--locked", str(manifest)]) == 0
    assert main(["lock", "--check", str(manifest)]) == 0
    change(stored())
    for argv, status in ((["plan", "--locked"], 2), (["lock", "--check"], 1)):
        capsys.readouterr()
        assert main([*argv, str(manifest)]) == status
        said = capsys.readouterr()
        assert "E212" in said.out + said.err
    assert main(["fetch", "--verify"]) == 1
    Store().put_bytes(KERNEL)
    assert main(["plan", "--locked", str(manifest)]) == 0


def test_so_it_is_by_a_saved_plan(manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plan", "--json", str(manifest)]) == 0
    saved = tmp_path / "m.plan.json"
    saved.write_text(capsys.readouterr().out)
    assert main(["plan", str(saved)]) == 0
    change(stored())
    assert main(["plan", str(saved)]) != 0
    assert "E312" in capsys.readouterr().err


def test_a_lock_that_makes_no_sense_is_found_by_check(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(manifest)]) == 0
    manifest.with_name("vmrun.lock").write_text("x")
    for more in ([], ["--no-artifacts"]):
        capsys.readouterr()
        assert main(["check", *more, str(manifest)]) == 1
        assert "E252" in capsys.readouterr().out


def test_bytes_are_read_once_as_long_as_they_do_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "_SETTLED_NS", 0)
    file = Store(tmp_path).put_bytes(b"content")
    read: list[int] = []
    real = digests._digest
    monkeypatch.setattr(digests, "_digest", lambda fd, size: read.append(size) or real(fd, size))
    for _ in range(3):
        assert Store(tmp_path, verifying=True).find(file.sha256)
    assert read == [7]
    for content in (b"conteNt", b"longer content"):
        file.path.chmod(0o644)
        file.path.write_bytes(content)
        with pytest.raises(ArtifactError) as caught:
            Store(tmp_path, verifying=True).find(file.sha256, 7)
        assert caught.value.code == "E212"
        assert (Store(tmp_path).find(file.sha256, 7) is None) == (len(content) != 7)
