"""What `vmrun check` finds by opening files: disks, kernels, drivers; and the verbs plan, boards, devices."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from plan_kit import BASE, image, load, write

from patience import patience
from vmrun.cli.main import main
from vmrun.devices.virtio.virtio_blk import scratch
from vmrun.errors import Diagnostic, HostError
from vmrun.images.resolve import KernelArtifact, Resolver
from vmrun.images.sources import CachedFile
from vmrun.planning import findings as check
from vmrun.tables.fdt import decode


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def found(folder: Path, text: str) -> list[Diagnostic]:
    return check.findings(load(folder, text))


def only(folder: Path, text: str) -> Diagnostic:
    (finding,) = found(folder, text)
    return finding


DISK = BASE + '[disk.root]\npath = "disk.img"\n'


def test_a_good_machine_has_no_findings(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(512))
    assert found(tmp_path, DISK) == []


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda p: None, "E201", "does not exist"),
        (lambda p: p.mkdir(), "E202", "directory"),
        (lambda p: os.mkfifo(p), "E202", "regular"),
        (lambda p: p.touch(), "E203", "empty"),
        (lambda p: p.write_bytes(bytes(513)), "E141", "513 bytes"),
        (lambda p: p.write_bytes(b"QFI\xfb" + bytes(508)), "E143", "qcow2"),
    ],
)
def test_a_disk_that_is_no_image(make: object, code: str, words: str, tmp_path: Path) -> None:
    make(tmp_path / "disk.img")  # type: ignore[operator]
    finding = only(tmp_path, DISK)
    assert (finding.code, words in finding.message, finding.key) == (code, True, ("disk", "root", "path"))
    assert finding.help


@pytest.mark.parametrize(("mode", "severity"), [("ro", "warning"), ("overlay", "warning"), ("rw", "error")])
def test_a_torn_sector_is_an_error_where_it_would_be_written(mode: str, severity: str, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(513))
    assert only(tmp_path, f'{DISK}mode = "{mode}"\n').severity == severity


def test_a_raw_disk_may_look_like_anything(tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"QFI\xfb" + bytes(508))
    assert found(tmp_path, DISK + 'format = "raw"\n') == []


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (BASE + '[disk.root]\nsize = "256TiB"\n', ("disk", "root", "size")),
        (DISK, ("disk", "root", "path")),
    ],
)
def test_a_disk_larger_than_a_file_may_be(tmp_path: Path, text: str, key: tuple[str, ...]) -> None:
    with (tmp_path / "disk.img").open("wb") as file:
        file.truncate(1 << 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 39, hard))
    try:
        finding = only(tmp_path, text)
        with pytest.raises(HostError) as caught, scratch("disk.root", 1 << 40):
            pass
        with pytest.raises(HostError) as beyond, scratch("disk.root", 1 << 63):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (finding.code, finding.key) == (caught.value.code, key) == ("E121", key)
    assert beyond.value.code == "E121" and finding.help is not None and "smaller" in finding.help
    with scratch("disk.root", 1 << 30) as (fd, _):
        assert os.fstat(fd).st_size == 1 << 30


def test_a_read_only_file_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(512))
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    assert found(tmp_path, DISK) == []
    finding = only(tmp_path, DISK + 'mode = "rw"\n')
    assert (finding.code, finding.key) == ("E142", ("disk", "root", "mode"))


@pytest.mark.parametrize(
    ("kernel", "code"),
    [(b"\0" * 56 + b"ARM\x64" + bytes(99), "E112"), (b"MZ" + image(64)[2:40], "E111"), (image(8192, 1 << 30), "E114")],
)
def test_a_kernel_that_cannot_boot(kernel: bytes, code: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, BASE)
    (tmp_path / "kernel").write_bytes(kernel)
    (finding,) = check.findings(loaded)
    assert (finding.code, finding.key) == (code, ("boot", "kernel"))
    assert check.findings(loaded, artifacts=False) == []


def test_every_finding_is_told(tmp_path: Path) -> None:
    (tmp_path / "b.img").touch()
    text = BASE + 'initrd = { path = "gone" }\n[disk.a]\npath = "a.img"\n[disk.b]\npath = "b.img"\n[cpu]\ncount = 9\n'
    assert sorted(f.code for f in found(tmp_path, text)) == ["E106", "E201", "E201", "E203"]


def test_what_is_not_in_the_cache_is_taken_for_right(tmp_path: Path) -> None:
    text = BASE.replace('{ path = "kernel" }', '{ debian = "linux-image-riscv64", suite = "trixie" }')
    assert found(tmp_path, text) == []
    url = "{ url = 'http://localhost:9/kernel', sha256 = '" + "0" * 64 + "' }"
    assert found(tmp_path, BASE.replace('{ path = "kernel" }', url)) == []


@pytest.mark.parametrize(
    ("config", "extra", "expected"),
    [
        ("CONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_CONSOLE=y\n", "", []),
        ("CONFIG_VIRTIO_MMIO=y\n# CONFIG_VIRTIO_CONSOLE is not set\n", "", [("E150", "error")]),
        ("CONFIG_VIRTIO_MMIO=m\nCONFIG_VIRTIO_CONSOLE=y\n", "", [("E151", "warning")]),
        ("CONFIG_VIRTIO_MMIO=m\nCONFIG_VIRTIO_CONSOLE=m\n", "initrd = { busybox = true }\n", []),
    ],
)
def test_drivers_that_the_kernels_configuration_lacks(
    config: str, extra: str, expected: list[tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text(config)
    loaded = load(tmp_path, BASE + extra + "[console.main]\n")
    kernel = CachedFile(tmp_path / "kernel", "0" * 64, 8192, "")
    artifact = KernelArtifact(kernel, CachedFile(tmp_path / "config", "", 1, ""))
    monkeypatch.setattr(Resolver, "kernel", lambda *asked: artifact)
    assert [(f.code, f.severity) for f in check.findings(loaded)] == expected


def test_a_serial_console_needs_the_8250_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("CONFIG_SERIAL_OF_PLATFORM=y\n")
    loaded = load(tmp_path, BASE + '[console.main]\ndevice = "serial"\n')
    kernel = CachedFile(tmp_path / "kernel", "0" * 64, 8192, "")
    artifact = KernelArtifact(kernel, CachedFile(tmp_path / "config", "", 1, ""))
    monkeypatch.setattr(Resolver, "kernel", lambda *asked: artifact)
    (finding,) = check.findings(loaded)
    assert (finding.code, finding.key) == ("E150", ("console", "main"))
    assert "CONFIG_SERIAL_8250_CONSOLE" in finding.message


# The verbs.


def test_plan_prints_text_tree_and_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = str(write(tmp_path))
    for option, words in ((None, "memory map"), ("--tree", "└─"), ("--dts", "/dts-v1/;"), ("--json", '"format": 1')):
        assert main(["plan", manifest, *([option] if option else [])]) == 0
        assert words in capsys.readouterr().out


def test_plan_writes_the_blob(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, blob = str(write(tmp_path)), tmp_path / "m.dtb"
    assert main(["plan", manifest, "--dtb", str(blob)]) == 0
    assert decode(blob.read_bytes()).find("chosen") is not None
    if shutil.which("dtc"):
        done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", blob], capture_output=True, timeout=patience(30))
        assert (done.returncode, done.stderr) == (0, b"")


def test_a_saved_plan_shows_as_its_manifest_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, saved = str(write(tmp_path)), tmp_path / "m.plan.json"
    assert main(["plan", manifest, "--json"]) == 0
    saved.write_text(capsys.readouterr().out)
    assert main(["plan", manifest]) == 0
    text = capsys.readouterr().out
    assert main(["plan", str(saved)]) == 0
    assert capsys.readouterr().out == text
    assert main(["plan", manifest, "--diff", str(saved)]) == 0
    assert capsys.readouterr().out == ""


def test_a_difference_is_shown_and_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest, saved = str(write(tmp_path)), tmp_path / "m.plan.json"
    assert main(["plan", manifest, "--json"]) == 0
    saved.write_text(capsys.readouterr().out)
    assert main(["plan", str(saved), "--diff", manifest, "--set", "cpu.count=2"]) == 1
    out = capsys.readouterr().out
    assert "cpu: count 1 -> 2" in out.splitlines()
    assert "fdt tree: cpus/cpu@1/" in out


@pytest.mark.parametrize(
    ("text", "status"),
    [("not toml [", 1), (BASE.replace("riscv_virt", "nothing"), 1), (BASE + "[cpu]\ncount = 9\n", 1), (None, 2)],
)
def test_a_plan_that_cannot_be_is_an_exit_status(
    text: str | None, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gone.toml" if text is None else write(tmp_path, text)
    assert main(["plan", str(path)]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "error[E" in captured.err and "Traceback" not in captured.err


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"format": 99})])
def test_a_bad_saved_plan_is_status_1(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.plan.json"
    path.write_text(text)
    assert main(["plan", str(path)]) == 1
    assert "error[E17" in capsys.readouterr().err


def test_a_blob_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(write(tmp_path)), "--dtb", str(tmp_path / "no/such/m.dtb")]) == 2
    assert "error[E520]" in capsys.readouterr().err


def test_the_registries_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards"]) == 0
    assert "riscv_virt" in capsys.readouterr().out
    assert main(["devices"]) == 0
    assert "virtio-rng" in capsys.readouterr().out
