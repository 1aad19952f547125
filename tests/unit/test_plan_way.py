"""The one way from a manifest to its plan: the verbs that go it agree on the files, the errors and what is pinned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from images_kit import BUSYBOX, RELEASE, kernel_files
from plan_kit import BASE, image, write
from test_images_debian import KERNEL, Repository, needs_apt

from vmrun.boards import registry
from vmrun.cli.main import main
from vmrun.errors import VmrunError
from vmrun.images import modules
from vmrun.images.apt import Apt
from vmrun.images.archive import Archive
from vmrun.images.debian import Debian
from vmrun.images.store import Store
from vmrun.planning.findings import findings
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest
from vmrun.schema.load import load_manifest

ANYWHERE = How(offline=True, anywhere=True)
DEBIAN = BASE.replace(
    'kernel = { path = "kernel" }',
    'kernel = { debian = "linux-image-riscv64", suite = "trixie" }\ninitrd = { busybox = true }',
)
DEVICES = '[console.main]\n[disk.data]\nsize = "1MiB"\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A repository in the place of Debian's, with a kernel of which no module is kept unasked; the suites asked for."""
    made = Repository(tmp_path / "repo")
    made.add("linux-image-riscv64", "6.99.1-1", {}, depends=f"{KERNEL} (= 6.99.1-1)")
    config = b"CONFIG_VIRTIO_MMIO=m\nCONFIG_VIRTIO_BLK=m\nCONFIG_VIRTIO_CONSOLE=y\n"
    own: dict[str, bytes | None] = {f"boot/vmlinux-{RELEASE}": image(), f"boot/config-{RELEASE}": config}
    made.add(KERNEL, "6.99.1-1", kernel_files() | own)
    made.add("busybox-static", "1:1.37-1", {"usr/bin/busybox": BUSYBOX})
    asked: list[str] = []

    def reach(debian: Debian, suite: str) -> Archive:
        asked.append(suite)
        return Apt(Store(), f"file:{made.folder}", suite, "riscv64", trusted=True)

    monkeypatch.setattr(Debian, "_reach", reach)
    monkeypatch.setattr(modules, "_USUAL", re.compile("none"))
    return asked


def checked(path: Path) -> list[str]:
    """Return the codes of what check finds."""
    return [finding.code for finding in findings(load_manifest(path, known=registry.known()))]


@needs_apt
@pytest.mark.parametrize("command", [None, ("true",)])
def test_what_was_fetched_is_all_that_a_run_needs(
    command: tuple[str, ...] | None, tmp_path: Path, network: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, DEBIAN + DEVICES)
    assert main(["fetch", str(path)]) == 0
    assert "initrd: initramfs of test" in capsys.readouterr().out
    fetched = set(Store().digests())
    network.clear()
    plan = plan_manifest(path, How(offline=True, anywhere=True, command=command))
    assert not network
    initrd = plan.blob("initrd")
    assert initrd is not None and initrd.path is not None
    assert b"virtio_blk.ko" in Path(initrd.path).read_bytes()
    assert (set(Store().digests()) == fetched) == (command is None), "up's is built ahead, run's from what is there"


@needs_apt
def test_check_looks_at_what_was_fetched_as_a_run_does(tmp_path: Path, network: list[str]) -> None:
    path = write(tmp_path, DEBIAN + DEVICES)
    assert checked(path) == [] and not network, "what is not here is taken for right"
    assert main(["fetch", str(path)]) == 0
    fetched = set(Store().digests())
    network.clear()
    assert checked(path) == []
    assert set(Store().digests()) == fetched
    path.write_text((DEBIAN + DEVICES).replace("busybox = true }", 'busybox = true }\nmodules = ["no_such"]'))
    assert checked(path) == ["E240"]
    with pytest.raises(VmrunError) as caught:
        plan_manifest(path, ANYWHERE)
    assert caught.value.code == "E240"
    assert not network


@needs_apt
def test_what_a_lock_pins_is_what_is_resolved(tmp_path: Path, network: list[str]) -> None:
    path = write(tmp_path, DEBIAN + DEVICES)
    assert main(["lock", str(path)]) == 0
    assert main(["fetch", "--locked", str(path)]) == 0
    assert main(["lock", "--check", str(path)]) == 0
    network.clear()
    plan = plan_manifest(path, How(locked=True, offline=True, anywhere=True))
    assert plan.blob("initrd") is not None and not plan.assumed and not network


def test_what_is_wrong_with_one_manifest_stops_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write(tmp_path, BASE + "[cpu]\ncount = 9\n").rename(tmp_path / "bad.toml")
    good = write(tmp_path)
    assert main(["fetch", str(bad), str(good)]) == 2
    said = capsys.readouterr()
    assert "E106" in said.err and "bad.toml:11" in said.err and f"{good}: kernel: " in said.out


FAULTS = {
    "a board's bound": ("[cpu]\ncount = 9\n", "E106"),
    "no initrd": ('initrd = { path = "gone" }\n', "E201"),
    "no disk": ('[disk.a]\npath = "gone"\n', "E201"),
    "a torn disk": ('[disk.a]\npath = "torn"\nmode = "rw"\n', "E141"),
    "a disk of another format": ('[disk.a]\npath = "qcow2"\n', "E143"),
    "a device without a place": ('[device.a]\nkind = "isa-debug-exit"\n', "E131"),
    "an initrd larger than RAM": ('initrd = { path = "large" }\n', "E264"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_check_finds_what_ends_a_plan(what: str, tmp_path: Path) -> None:
    extra, code = FAULTS[what]
    (tmp_path / "torn").write_bytes(bytes(513))
    (tmp_path / "qcow2").write_bytes(b"QFI\xfb".ljust(512, b"\0"))
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 30)
    path = write(tmp_path, BASE + extra)
    with pytest.raises(VmrunError) as caught:
        plan_manifest(path, ANYWHERE)
    assert checked(path) == [code] == [finding.code for finding in caught.value.diagnostics()]
    assert all(finding.span is not None for finding in caught.value.diagnostics())


def test_every_verb_refuses_a_lock_that_makes_no_sense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    (tmp_path / "vmrun.lock").write_text("x")
    for words in (["check"], ["plan"], ["plan", "--no-artifacts"], ["fetch"], ["lock"], ["lock", "--check"], ["up"]):
        assert main([*words, str(path)]) != 0, words
        said = capsys.readouterr()
        assert "E252" in said.out + said.err, words


def test_findings_are_told_in_one_order(tmp_path: Path) -> None:
    (tmp_path / "vmrun.lock").write_text("x")
    (tmp_path / "torn").write_bytes(bytes(513))
    text = 'initrd = { path = "gone" }\n[cpu]\ncount = 9\n[disk.a]\npath = "torn"\n[disk.b]\npath = "gone"\n'
    assert checked(write(tmp_path, BASE + text)) == ["E252", "E141", "E201", "E201", "E106"]
