"""Kernel modules: what they need, in which order, and damage of every kind."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from images_kit import RELEASE, kernel_files, module

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.images import modinfo, modules
from vmrun.images.sources import CachedFile

TREE = f"usr/lib/modules/{RELEASE}/"
FILES = {
    name.removeprefix(TREE): data
    for name, data in kernel_files().items()
    if name.startswith(TREE + "kernel/") and data is not None
}
BUILTIN = b"kernel/drivers/char/virtio_console.ko\nkernel/lib/crc16.ko\n"


def module_set(folder: Path, wanted: tuple[str, ...] = (), files: dict[str, bytes] = FILES) -> modules.ModuleSet:
    path = folder / "pack"
    with path.open("wb") as target:
        modules.write_pack(target, files, BUILTIN, wanted)
    return modules.ModuleSet(CachedFile(path, "", 0, ""), RELEASE)


def names(found: tuple[modules.Module, ...]) -> list[str]:
    return [module.name for module in found]


def test_closure_in_load_order(tmp_path: Path) -> None:
    held = module_set(tmp_path)
    assert names(held.closure(["virtio_mmio", "virtio-blk"])) == ["virtio_mmio", "virtio_blk"]
    assert names(held.closure(["virtio_net"])) == ["failover", "net_failover", "virtio_net"]
    assert names(held.closure(["virtio_net", "failover"])) == ["failover", "net_failover", "virtio_net"]
    assert held.closure(["virtio_net"])[1].depends == ("failover",)
    assert held.closure(["virtio_mmio"])[0].data == module("virtio_mmio")


def test_soft_dependency_and_dashes(tmp_path: Path) -> None:
    assert names(module_set(tmp_path).closure(["ext4"])) == ["mbcache_x", "jbd2", "crc32c_generic", "ext4"]


def test_builtin_needs_no_file(tmp_path: Path) -> None:
    assert module_set(tmp_path).closure(["virtio_console", "virtio-console", "crc16"]) == ()


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="did you mean `virtio_blk`") as caught:
        module_set(tmp_path).closure(["virtio_blkk"])
    assert caught.value.code == "E240"
    broken = {**FILES, "kernel/fs/odd.ko": module("odd", "nowhere")}
    with pytest.raises(ArtifactError, match="which odd needs"):
        module_set(tmp_path, files=broken).closure(["odd"])


def test_dependencies_in_a_circle_end(tmp_path: Path) -> None:
    files = {"kernel/fs/a.ko": module("a", "b"), "kernel/fs/b.ko": module("b", "a")}
    assert names(module_set(tmp_path, files=files).closure(["a"])) == ["b", "a"]


def test_pack_keeps_what_a_machine_may_want(tmp_path: Path) -> None:
    held = module_set(tmp_path)
    with pytest.raises(modules.ModuleMissing):
        held.closure(["usbcore"])
    with pytest.raises(modules.ModuleMissing):
        held.closure(["virtio_gpu"])
    held = module_set(tmp_path, ("virtio-gpu",))
    assert names(held.closure(["virtio_gpu"])) == ["drm", "virtio_gpu"]
    assert held.knows("usbcore")


def test_pack_is_reproducible() -> None:
    one, two = io.BytesIO(), io.BytesIO()
    modules.write_pack(one, FILES, BUILTIN, ("usbcore", "drm"))
    modules.write_pack(two, dict(reversed(FILES.items())), BUILTIN, ("drm", "usbcore"))
    assert one.getvalue() == two.getvalue()


def test_damaged_pack(tmp_path: Path) -> None:
    held = module_set(tmp_path)
    whole = held.pack.path.read_bytes()
    held.pack.path.write_bytes(b"not a tar" * 200)
    with pytest.raises(ArtifactError) as caught:
        modules.ModuleSet(held.pack, RELEASE).closure(["virtio_mmio"])
    assert caught.value.code == "E212"
    held.pack.path.write_bytes(whole)
    held.knows("x")
    held.pack.path.write_bytes(whole[:600])
    with pytest.raises(ArtifactError):
        held.closure(["virtio_mmio"])


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_compressions(suffix: str) -> None:
    plain = module("x", "a,b-c")
    if suffix == ".zst":
        if shutil.which("zstd") is None:
            pytest.skip("needs zstd")
        packed = subprocess.run(
            ["zstd", "-q"], input=plain, capture_output=True, check=True, timeout=patience(20)
        ).stdout
    else:
        packed = {"": bytes, ".xz": lzma.compress, ".gz": gzip.compress}[suffix](plain)
    path = f"kernel/x.ko{suffix}"
    assert modinfo.decompress(path, packed) == plain
    assert modinfo.parse(path, plain).depends == ("a", "b_c")
    if suffix:
        for bad in (packed[: len(packed) // 2], b"nonsense", b""):
            with pytest.raises(ArtifactError) as caught:
                modinfo.decompress(path, bad)
            assert caught.value.code == "E241"


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modinfo, "_LARGEST", 1 << 20)
    bomb = bytes(2 << 20)
    bombs = {"x.ko.xz": lzma.compress(bomb), "x.ko.gz": gzip.compress(bomb)}
    if shutil.which("zstd") is not None:
        done = subprocess.run(["zstd", "-q"], input=bomb, capture_output=True, check=True, timeout=patience(20))
        bombs["x.ko.zst"] = done.stdout
    for path, packed in bombs.items():
        with pytest.raises(ArtifactError) as caught:
            modinfo.decompress(path, packed)
        assert caught.value.code == "E241"


GOOD = module("virtio_blk", "a,b", "pre: c post: d-e")


def test_every_cut_is_an_error_or_the_truth() -> None:
    truth = modinfo.parse("x.ko", GOOD)
    assert truth == modinfo.ModuleInfo("virtio_blk", ("a", "b"), ("c",), ("d_e",))
    for length in range(len(GOOD)):
        with pytest.raises(ArtifactError):
            modinfo.parse("x.ko", GOOD[:length])


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_every_changed_byte_is_survived(place: int, value: int) -> None:
    try:
        modinfo.parse("x.ko", GOOD[:place] + bytes([value]) + GOOD[place + 1 :])
    except ArtifactError as error:
        assert error.code == "E241"


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, GOOD[:20] + noise, GOOD[:40] + noise):
        with pytest.raises(ArtifactError):
            modinfo.parse("x.ko", data)
