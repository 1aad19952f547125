"""From a manifest to its files: sources, the initramfs and its cache, the lock, and the keys in errors."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from images_kit import BUSYBOX, RELEASE, kernel_files, server
from test_images_cpio import headers
from test_images_debian import KERNEL, Repository, debian, needs_apt

from vmrun.cli import fetch as fetch_verb
from vmrun.cli import lock as lock_verb
from vmrun.errors import ArtifactError
from vmrun.images import initramfs
from vmrun.images.resolve import Resolver
from vmrun.images.store import Store
from vmrun.planning import artifacts, steps
from vmrun.planning.artifacts import Artifacts
from vmrun.planning.found import Found
from vmrun.planning.how import How
from vmrun.schema.known import EXAMPLE_KNOWN
from vmrun.schema.load import LoadedManifest, load_manifest

DEBIAN = """\
kernel = { debian = "linux-image-riscv64", suite = "trixie" }
modules = ["virtio-net"]
initrd = { busybox = true }
"""


def manifest(folder: Path, boot: str, rest: str = "") -> LoadedManifest:
    path = folder / "m.toml"
    path.write_text(
        f'manifest = 1\nname = "box"\n[machine]\nboard = "riscv_virt"\n[memory]\nsize = "64MiB"\n[boot]\n{boot}\n{rest}'
    )
    return load_manifest(path, known=EXAMPLE_KNOWN)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repo")
    made.add("linux-image-riscv64", "6.99.1-1", {}, depends=f"{KERNEL} (= 6.99.1-1)")
    made.add(KERNEL, "6.99.1-1", kernel_files())
    made.add("busybox-static", "1:1.37-1", {"usr/bin/busybox": BUSYBOX})
    return made


def resolve(
    loaded: LoadedManifest,
    store: Store,
    repository: Repository | None = None,
    *,
    how: How = How(),  # noqa: B008
    **more: tuple[str, ...],
) -> Artifacts:
    """Return the files of ``loaded``, its packages out of ``repository``."""
    found = Found(loaded, how)
    if repository is not None:
        resolver = Resolver(store, "riscv64", debian=debian(store, repository))
    else:
        resolver = artifacts.resolver_for("riscv64", how, store, steps.lock_of(loaded, found))
    return artifacts.resolve(loaded, how, found, store, resolver, **more)


def initrd_files(found: Artifacts) -> dict[str, bytes]:
    assert found.initrd is not None
    return {name: content for name, _, content in headers(found.initrd.path.read_bytes())}


@needs_apt
def test_debian_kernel_and_built_initramfs(tmp_path: Path, repository: Repository) -> None:
    loaded = manifest(tmp_path, DEBIAN, '[run]\ncommand = ["/bin/sh", "-c", "true"]')
    drivers = ("virtio_mmio", "virtio_console", "no_such")
    found = resolve(loaded, Store(tmp_path / "c"), repository, ports=("control",), drivers=drivers)
    held = initrd_files(found)
    assert held["vmrun/modules"] == b"failover net_failover virtio_net virtio_mmio\n"
    assert held["vmrun/command"] == b"exec '/bin/sh' '-c' 'true'\n"
    assert held["vmrun/ports"] == b"control\n"
    assert held["vmrun/hostname"] == b"box\n"
    assert f"lib/modules/{RELEASE}/virtio_net.ko" in held
    assert found.files.reports
    assert found.files.kernel is not None
    assert found.files.kernel.size == 800
    assert [line.partition(":")[0] for line in found.lines()] == ["kernel", "initrd"]


@needs_apt
def test_second_time_builds_nothing(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, store = manifest(tmp_path, DEBIAN), Store(tmp_path / "c")
    first = resolve(loaded, store, repository)
    shutil.rmtree(repository.folder)
    monkeypatch.setattr(initramfs, "build", None)
    assert resolve(loaded, store, repository) == first


@needs_apt
def test_every_input_makes_another_initramfs(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "c")
    base = resolve(manifest(tmp_path, DEBIAN), store, repository)
    others = [
        resolve(manifest(tmp_path, DEBIAN), store, repository, how=How(command=("/bin/true",))),
        resolve(manifest(tmp_path, DEBIAN), store, repository, ports=("control",)),
        resolve(manifest(tmp_path, DEBIAN), store, repository, drivers=("virtio_blk",)),
        resolve(manifest(tmp_path, DEBIAN.replace("virtio-net", "ext4")), store, repository),
    ]
    digests = {found.digest_of_inputs for found in (base, *others)}
    assert len(digests) == 5
    assert resolve(manifest(tmp_path, DEBIAN), store, repository).digest_of_inputs == base.digest_of_inputs


def test_files_of_the_users_own(tmp_path: Path) -> None:
    for name in ("Image", "initrd", "root.img"):
        (tmp_path / name).write_bytes(name.encode())
    digest = hashlib.sha256(b"data").hexdigest()
    with server({"/data": b"data"}) as web:
        loaded = manifest(
            tmp_path,
            'kernel = { path = "Image" }\ninitrd = { path = "initrd" }',
            f'[disk.root]\npath = "root.img"\n[disk.data]\nurl = "{web.url}/data"\nsha256 = "{digest}"\n'
            '[disk.scratch]\nsize = "1MiB"\n',
        )
        found = resolve(loaded, Store(tmp_path / "c"))
    assert found.files.kernel is not None
    assert found.files.kernel.path == str(tmp_path / "Image")
    disks = [(name, disk.size, disk.sha256) for name, disk in found.files.disks]
    assert disks == [("root", 8, ""), ("data", 4, digest)]
    assert not found.files.reports


@pytest.mark.parametrize(
    ("boot", "rest", "key", "code"),
    [
        ('kernel = { path = "none" }', "", ("boot", "kernel"), "E201"),
        ('kernel = { path = "." }', "", ("boot", "kernel"), "E202"),
        ('kernel = { path = "Image" }\ninitrd = { path = "empty" }', "", ("boot", "initrd"), "E203"),
        ('kernel = { path = "Image" }', '[disk.a]\npath = "none"', ("disk", "a", "path"), "E201"),
        ('kernel = { path = "Image" }', '[disk.a]\npath = "empty"', ("disk", "a", "path"), "E203"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, boot: str, rest: str, key: tuple[str, ...], code: str) -> None:
    (tmp_path / "Image").write_bytes(b"x")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ArtifactError) as caught:
        resolve(manifest(tmp_path, boot, rest), Store(tmp_path / "c"))
    assert (caught.value.key, caught.value.code) == (key, code)


@needs_apt
def test_unknown_module_names_the_key(tmp_path: Path, repository: Repository) -> None:
    loaded = manifest(tmp_path, DEBIAN.replace("virtio-net", "virtio-nett"))
    with pytest.raises(ArtifactError, match="virtio_net") as caught:
        resolve(loaded, Store(tmp_path / "c"), repository)
    assert (caught.value.key, caught.value.code) == (("boot", "modules"), "E240")


@needs_apt
def test_command_with_nul_names_the_key(tmp_path: Path, repository: Repository) -> None:
    with pytest.raises(ArtifactError) as caught:
        resolve(manifest(tmp_path, DEBIAN), Store(tmp_path / "c"), repository, how=How(command=("a\0b",)))
    assert (caught.value.key, caught.value.code) == (("run", "command"), "E262")


# ---- the verbs


def run(verb: object, *argv: str) -> int:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    verb.add_arguments(parser)  # type: ignore[attr-defined]
    code: int = verb.run(parser.parse_args(argv))  # type: ignore[attr-defined]
    return code


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vmrun"


def test_lock_and_its_check(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Image").write_bytes(b"one")
    path = str(manifest(tmp_path, 'kernel = { path = "Image" }').path)
    assert run(lock_verb, path, "--check") == 1
    assert "E250" in capsys.readouterr().err
    assert run(lock_verb, path) == 0
    assert "path:Image" in capsys.readouterr().out
    text = (tmp_path / "vmrun.lock").read_bytes()
    assert run(lock_verb, path, "--check") == 0
    assert run(lock_verb, path) == 0
    assert (tmp_path / "vmrun.lock").read_bytes() == text
    (tmp_path / "Image").write_bytes(b"two")
    assert run(lock_verb, path, "--check") == 1
    assert "E251" in capsys.readouterr().err
    with pytest.raises(ArtifactError) as caught:
        resolve(load_manifest(path, known=EXAMPLE_KNOWN), Store(verifying=True), how=How(locked=True))
    assert caught.value.code == "E251"
    assert run(lock_verb, path) == 0
    assert "changed" in capsys.readouterr().out
    assert run(lock_verb, path, "--check") == 0


def test_lock_of_two_manifests_in_one_folder(tmp_path: Path, cache: Path) -> None:
    for name in ("Image", "Other"):
        (tmp_path / name).write_bytes(b"x")
    one = str(manifest(tmp_path, 'kernel = { path = "Image" }').path)
    two = tmp_path / "two.toml"
    two.write_text(Path(one).read_text().replace("Image", "Other"))
    assert run(lock_verb, one) == 0
    assert run(lock_verb, str(two)) == 0
    assert run(lock_verb, one, str(two), "--check") == 0
    assert run(lock_verb, str(two), "--prune") == 0
    assert "Image" not in (tmp_path / "vmrun.lock").read_text()


def test_fetch_and_verify(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "Image").write_bytes(b"one")
    path = str(manifest(tmp_path, 'kernel = { path = "Image" }').path)
    assert run(fetch_verb, path) == 0
    assert f"{path}: kernel: {tmp_path}/Image, 3 bytes" in capsys.readouterr().out
    assert run(fetch_verb, path, "--locked") == 2
    assert "E250" in capsys.readouterr().err
    bad = Store().put_bytes(b"content")
    bad.path.chmod(0o644)
    bad.path.write_bytes(b"damaged")
    assert run(fetch_verb, "--verify") == 1
    assert f"damaged, dropped: {bad.sha256}" in capsys.readouterr().out
    assert run(fetch_verb, "--verify", path) == 0
