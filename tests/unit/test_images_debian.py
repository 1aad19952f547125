"""Debian packages: read, resolved through apt from a repository made here, and extracted once."""

from __future__ import annotations

import hashlib
import lzma
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from images_kit import RELEASE, control, deb, kernel_files, server, tar

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.frozen import evolve
from vmrun.images import apt, aptsources, archive, lock
from vmrun.images import deb as debs
from vmrun.images.apt import Apt
from vmrun.images.debian import Debian
from vmrun.images.lock import Lock, Pin
from vmrun.images.mirror import Mirror
from vmrun.images.resolve import Resolver
from vmrun.images.sources import CachedFile, DebianSource, PathSource, Silent, UrlSource
from vmrun.images.store import Store

KERNEL = f"linux-image-{RELEASE}"
SOURCE = DebianSource("linux-image-riscv64", "trixie")

# ---- the .deb itself


def content(path: Path, *names: str) -> dict[str, bytes]:
    return {name: stream.read() for name, _, stream in debs.read(path, lambda n: n in names, "x 1.0")}


@pytest.mark.parametrize("compression", ["xz", "gz", "bz2"])
def test_read(tmp_path: Path, compression: str) -> None:
    path = deb(tmp_path / "a.deb", {"usr/bin/a": b"A" * 5000, "b": b""}, compression=compression)
    assert content(path, "usr/bin/a", "b", "c") == {"usr/bin/a": b"A" * 5000, "b": b""}


def test_read_zstd(tmp_path: Path) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("needs zstd")
    packed = subprocess.run(
        ["zstd", "-q"], input=tar({"./a": b"A" * 9}, ""), capture_output=True, check=True, timeout=patience(20)
    ).stdout
    header = f"{'data.tar.zst':<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(packed):<10}`\n".encode()
    (tmp_path / "z.deb").write_bytes(b"!<arch>\n" + header + packed)
    assert content(tmp_path / "z.deb", "a") == {"a": b"A" * 9}


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    whole = deb(tmp_path / "a.deb", {"a": os.urandom(3000)}).read_bytes()
    cut = tmp_path / "cut.deb"
    for length in range(0, len(whole) - 1, 13):
        cut.write_bytes(whole[:length])
        with pytest.raises(ArtifactError) as caught:
            content(cut, "a")
        assert caught.value.code == "E235", length


def test_changed_bytes_are_survived(tmp_path: Path) -> None:
    whole = deb(tmp_path / "a.deb", {"a": b"A" * 300}).read_bytes()
    bad = tmp_path / "bad.deb"
    for place in range(0, len(whole), 7):
        bad.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        try:
            content(bad, "a")
        except ArtifactError as error:
            assert error.code == "E235"


def test_a_link_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no regular file"):
        content(deb(tmp_path / "a.deb", {"a": None}), "a")


# ---- sources


def etc(folder: Path, **files: str) -> Path:
    (folder / "sources.list.d").mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", "/").replace("_", ".")).write_text(text)
    return folder


DEB822 = """\
# a comment
Types: deb deb-src
URIs: https://mirror.one/debian
# another
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Enabled: no
Types: deb
URIs: https://off/debian
Suites: bookworm
Components: main

Types: deb
URIs: https://mirror.one/debian-security
Suites: bookworm-security
Components: main
"""


def test_deb822(tmp_path: Path) -> None:
    folder = etc(tmp_path / "apt", sources_list_d__debian_sources="")
    (folder / "sources.list.d" / "debian.sources").write_text(DEB822)
    assert aptsources.mirror(folder, {}) == "https://mirror.one/debian"


def test_one_line_and_others_entries(tmp_path: Path) -> None:
    folder = etc(tmp_path / "apt")
    (folder / "sources.list").write_text(
        "# deb https://commented/debian trixie main\n"
        "deb-src https://source/debian trixie main\n"
        "deb [arch=amd64] https://vendor.example/apt stable main\n"
        "deb cdrom:[Debian]/ trixie main\n"
        "deb http://security.example/debian-security trixie-security main\n"
        "deb [ arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg ]"
        " http://right/debian trixie main # x\n"
    )
    (folder / "sources.list.d" / "a.list").write_text("deb http://archive.raspberrypi.com/debian trixie main\n")
    (folder / "sources.list.d" / "b.list.disabled").write_text("deb http://no/debian trixie main\n")
    assert aptsources.mirror(folder, {}) == "http://right/debian"


def test_no_debian_here(tmp_path: Path) -> None:
    folder = etc(tmp_path / "apt")
    (folder / "sources.list").write_text("deb http://mirror.example/ubuntu noble main\n")
    for place in (folder, tmp_path / "none"):
        with pytest.raises(ArtifactError, match="VMRUN_DEBIAN_MIRROR") as caught:
            aptsources.mirror(place, {})
        assert caught.value.code == "E230"
    assert aptsources.mirror(folder, {"VMRUN_DEBIAN_MIRROR": "https://m/debian"}) == "https://m/debian"
    for bad in ("nonsense", "http://a b", "https://x/\ndeb evil"):
        with pytest.raises(ArtifactError):
            aptsources.mirror(folder, {"VMRUN_DEBIAN_MIRROR": bad})


# ---- a repository

needs_apt = pytest.mark.skipif(shutil.which("apt-get") is None, reason="needs apt-get")


class Repository:
    """A flat repository on this disk."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.stanzas: list[str] = []

    def add(self, package: str, version: str, files: dict[str, bytes | None], *, depends: str = "") -> Path:
        head = control(package, version, depends=depends)
        name = f"{package}_{version.rpartition(':')[2]}_riscv64.deb"
        path = deb(self.folder / name, files, control=head)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        self.stanzas.append(f"{head}Filename: ./{path.name}\nSize: {len(data)}\nSHA256: {digest}\n")
        self.publish()
        return path

    def publish(self) -> None:
        (self.folder / "Packages").write_text("\n".join(self.stanzas))


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repo")
    made.add("linux-image-riscv64", "6.99.1-1", {}, depends=f"{KERNEL} (= 6.99.1-1)")
    made.add(KERNEL, "6.99.1-1", kernel_files(), depends="kmod, linux-base (>= 4) | initramfs-tools")
    made.add("busybox-static", "1:1.37-1", {"usr/bin/busybox": b"a busybox", "usr/share/doc/x": b""})
    return made


def debian(store: Store, repository: Repository, **more: object) -> Debian:
    def archive(suite: str) -> Apt:
        return Apt(store, f"file:{repository.folder}", suite, "riscv64", trusted=True)

    return Debian(store, "riscv64", archive=archive, **more)  # type: ignore[arg-type]


@needs_apt
def test_kernel_from_its_meta_package(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    found = debian(store, repository).kernel(SOURCE, ["virtio_mmio"])
    assert found.image.path.read_bytes() == b"a kernel" * 100
    assert found.config is not None
    assert found.config.path.read_bytes() == b"CONFIG_VIRTIO_MMIO=m\n"
    assert (found.release, found.version) == (RELEASE, "6.99.1-1")
    assert found.image.origin == f"{KERNEL} 6.99.1-1"
    package = hashlib.sha256((repository.folder / f"{KERNEL}_6.99.1-1_riscv64.deb").read_bytes()).hexdigest()
    assert store.find(package) is None, "the .deb goes once it is unpacked"
    assert [m.name for m in debian(store, repository).closure(SOURCE, ("virtio-net",))] == [
        "failover",
        "net_failover",
        "virtio_net",
    ]


def spread(repository: Repository, version: str = "7.2-1") -> DebianSource:
    """Add a kernel as Debian has it from Linux 7.2 on: an empty linux-image package that needs three others."""
    kinds = ("base", "binary", "modules")
    parts = {kind: f"linux-{kind}-{RELEASE}2" for kind in kinds}
    tree = f"usr/lib/modules/{RELEASE}2"
    files: dict[str, dict[str, bytes | None]] = {kind: {} for kind in kinds}
    for name, data in kernel_files(f"{RELEASE}2").items():
        if name.startswith("boot/vmlinux-"):
            files["binary"][f"{tree}/vmlinuz"] = data
        elif name.startswith("boot/config-"):
            files["base"][f"{tree}/config"] = data
        elif name.startswith(f"{tree}/kernel/"):
            files["modules"][name] = data
        else:
            files["base"][name] = data
    needs = ", ".join(f"{package} (= {version})" for package in parts.values())
    meta = f"linux-image-{RELEASE}2"
    repository.add("linux-image-new", version, {}, depends=f"{meta} (= {version})")
    repository.add(meta, version, {}, depends=f"dracut | initramfs-tools (>= 0.1), {needs}")
    for kind in kinds:
        repository.add(parts[kind], version, files[kind])
    return DebianSource("linux-image-new", "sid")


@needs_apt
def test_kernel_spread_over_packages(tmp_path: Path, repository: Repository) -> None:
    source = spread(repository)
    store = Store(tmp_path / "cache")
    found = debian(store, repository).kernel(source, ["usbcore"])
    assert found.image.path.read_bytes() == b"a kernel" * 100
    assert found.config is not None
    assert found.config.path.read_bytes() == b"CONFIG_VIRTIO_MMIO=m\n"
    assert (found.release, found.version) == (f"{RELEASE}2", "7.2-1")
    assert len(list(store.digests())) == 3, "image, config, and one pack: no package stays"
    by_path = DebianSource("linux-image-new", "sid", f"usr/lib/modules/{RELEASE}2/vmlinuz")
    assert debian(store, repository).file(by_path, str(by_path.file)).sha256 == found.image.sha256
    shutil.rmtree(repository.folder)
    names = [m.name for m in debian(store, repository, offline=True).closure(source, ("ext4", "virtio_console"))]
    assert names[-1] == "ext4"
    assert "jbd2" in names


@needs_apt
def test_every_package_of_a_spread_kernel_is_pinned(tmp_path: Path, repository: Repository) -> None:
    source = spread(repository)
    empty = Lock(tmp_path / "vmrun.lock", {})
    fresh = Resolver(Store(tmp_path / "a"), "riscv64", debian=debian(Store(tmp_path / "a"), repository))
    lock.write(empty.path, {empty.key(s, "riscv64"): pin for s, pin in fresh.pins(source)})
    held = lock.read(empty.path)
    assert sorted(key.partition("riscv64:")[2] for key in held.pins) == [
        *(f"linux-{kind}-{RELEASE}2" for kind in ("base", "binary")),
        "linux-image-new",
        f"linux-modules-{RELEASE}2",
    ]
    found = debian(Store(tmp_path / "b"), repository, lock=held, locked=True).kernel(source)
    assert found.modules is not None
    binary = f"debian:sid:riscv64:linux-binary-{RELEASE}2"
    for pins, code in (
        ({k: v for k, v in held.pins.items() if k != binary}, "E250"),
        (held.pins | {binary: evolve(held.pins[binary], sha256="0" * 64)}, "E251"),
    ):
        with pytest.raises(ArtifactError) as caught:
            debian(Store(tmp_path / code), repository, lock=Lock(empty.path, pins), locked=True).kernel(source)
        assert caught.value.code == code


@needs_apt
def test_no_kernel_says_where_it_was_looked_for(tmp_path: Path, repository: Repository) -> None:
    repository.add("linux-image-7.9-x", "1", {"usr/share/x": b""})
    with pytest.raises(ArtifactError) as caught:
        debian(Store(tmp_path / "cache"), repository).kernel(DebianSource("linux-image-7.9-x", "sid"))
    assert caught.value.code == "E236"
    assert "linux-image-7.9-x 1 has no kernel in boot/ or usr/lib/modules/" in caught.value.message
    assert "linux-image" not in str(caught.value.remedy), "that is what was named"


@needs_apt
def test_from_the_cache_without_network(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    with pytest.raises(ArtifactError, match="vmrun fetch") as caught:
        debian(store, repository, offline=True).kernel(SOURCE)
    assert caught.value.code == "E260"
    first = debian(store, repository).kernel(SOURCE)
    shutil.rmtree(repository.folder)
    again = debian(store, repository, offline=True)
    assert again.kernel(SOURCE) == first
    assert [m.name for m in again.closure(SOURCE, ("ext4",), ("virtio_console", "nonsense"))][-1] == "ext4"
    with pytest.raises(ArtifactError) as caught:
        again.closure(SOURCE, ("usbcore",))
    assert caught.value.code == "E260"


@needs_apt
def test_module_outside_the_pack_brings_the_package_again(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    debian(store, repository).kernel(SOURCE)
    assert [m.name for m in debian(store, repository).closure(SOURCE, ("usbcore",))] == ["usbcore"]
    assert [m.name for m in debian(store, repository).closure(SOURCE, ("virtio_gpu",))] == ["drm", "virtio_gpu"]
    shutil.rmtree(repository.folder)
    offline = debian(store, repository, offline=True)
    assert [m.name for m in offline.closure(SOURCE, ("usbcore", "virtio_gpu"))] == ["usbcore", "drm", "virtio_gpu"]
    assert len(list(store.digests())) == 3, "image, config, and one pack"


@needs_apt
def test_newer_version_only_when_asked(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    busybox = DebianSource("busybox-static", "trixie")
    assert debian(store, repository).file(busybox, "usr/bin/busybox").path.read_bytes() == b"a busybox"
    repository.add("busybox-static", "1:1.38-1", {"usr/bin/busybox": b"a newer one"})
    assert debian(store, repository).file(busybox, "usr/bin/busybox").path.read_bytes() == b"a busybox"
    newer = debian(store, repository, refresh=True).file(busybox, "bin/busybox", "/usr/bin/busybox")
    assert newer.path.read_bytes() == b"a newer one"


@needs_apt
def test_lists_that_another_process_holds_are_waited_for(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    opened = Apt(store, f"file:{repository.folder}", "trixie", "riscv64", trusted=True)
    lists = store.folder(f"{opened._folder.relative_to(store.root)}/lists")
    said: list[str] = []
    # A lock of fcntl(2), as apt's, belongs to a process: this one would not meet its own.
    holds = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", holds, lists / "lock"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin is not None and holder.stdout is not None
        holder.stdout.readline()

        class Told(Silent):
            def start(self, label: str, total: int | None) -> None:
                said.append(label)
                if "once" in label:
                    holder.stdin.close()  # type: ignore[union-attr]  # what ends it

        opened._progress = Told()
        assert opened.show("busybox-static").version == "1:1.37-1"
    assert [f"once process {holder.pid}" in label for label in said] == [False, True]


def test_a_child_ends_with_vmrun_however_it_ends() -> None:
    program = (
        "import subprocess, sys\nfrom vmrun.images import child\n"
        "p = subprocess.Popen([sys.executable, '-c', 'print(flush=True); input()'], stdin=subprocess.PIPE,"
        " preexec_fn=child.ends_with_parent())\nprint(p.pid, flush=True)\np.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        # The end of the pipe's last writer, and the input is kept open by a third: only the signal ends the child.
        lines = sorted(parent.stdout.readline().strip() for _ in range(2))
        kept = os.open(f"/proc/{lines[1]}/fd/0", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(f"/proc/{parent.pid}/fd/{_pipe_end(parent.pid, lines[1])}", os.O_WRONLY)
        parent.kill()
        ended, _, _ = select.select([parent.stdout], [], [], 60)
        os.close(writer)  # which would end the child as well
        os.close(kept)
        assert ended and parent.stdout.read() == "", "nobody holds the output any more"


def _pipe_end(parent: int, child: str) -> str:
    """Return the parent's descriptor of the pipe that is the child's standard input."""
    wanted = Path(f"/proc/{child}/fd/0").readlink()
    return next(fd.name for fd in Path(f"/proc/{parent}/fd").iterdir() if fd.readlink() == wanted)


@needs_apt
def test_package_that_came_after_the_lists(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    debian(store, repository).resolve(SOURCE)
    repository.add("late", "1", {"x": b"late"})
    assert debian(store, repository).file(DebianSource("late", "trixie"), "x").path.read_bytes() == b"late"


@needs_apt
def test_what_is_not_there(tmp_path: Path, repository: Repository) -> None:
    opened = debian(Store(tmp_path / "cache"), repository)
    for use, code, words in (
        (lambda: opened.resolve(DebianSource("linux-image-riscv65", "trixie")), "E232", "`linux-image-riscv64`"),
        (lambda: opened.resolve(DebianSource("-o=evil", "trixie")), "E232", "has no package"),
        (lambda: opened.resolve(DebianSource("x y", "trixie")), "E232", "has no package"),
        (lambda: opened.resolve(DebianSource("busybox", "../..")), "E231", "no suite"),
        (lambda: opened.file(DebianSource("busybox-static", "t"), "bin/busibox"), "E236", "has no file `bin/busibox`"),
        (lambda: opened.kernel(DebianSource("busybox-static", "trixie")), "E236", "no kernel"),
    ):
        with pytest.raises(ArtifactError) as caught:
            use()
        assert (caught.value.code, words in str(caught.value)) == (code, True)
        assert "\n" not in str(caught.value)


@needs_apt
def test_package_that_is_not_what_the_index_says(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    path = repository.add("busybox-static", "1:2", {"usr/bin/busybox": b"honest"})
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        debian(store, repository).file(DebianSource("busybox-static", "trixie"), "usr/bin/busybox")
    assert caught.value.code in ("E222", "E234")
    assert list(store.digests()) == []


@needs_apt
def test_download_by_apt_itself(tmp_path: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "_has_logins", lambda etc: True)
    found = debian(Store(tmp_path / "cache"), repository).file(DebianSource("busybox-static", "t"), "usr/bin/busybox")
    assert found.path.read_bytes() == b"a busybox"


@needs_apt
def test_unsigned_repository_is_refused(tmp_path: Path, repository: Repository) -> None:
    if not any(Path(path).exists() for path in archive.KEYRINGS):
        pytest.skip("needs debian-archive-keyring")
    dists = repository.folder / "dists" / "trixie" / "main" / "binary-riscv64"
    dists.mkdir(parents=True)
    shutil.copy(repository.folder / "Packages", dists)
    digest = hashlib.sha256((dists / "Packages").read_bytes()).hexdigest()
    size = (dists / "Packages").stat().st_size
    (repository.folder / "dists" / "trixie" / "Release").write_text(
        "Suite: trixie\nCodename: trixie\nDate: Sun, 01 Jan 2023 00:00:00 UTC\n"
        "Architectures: riscv64\nComponents: main\n"
        f"SHA256:\n {digest} {size} main/binary-riscv64/Packages\n"
    )
    opened = Apt(Store(tmp_path / "cache"), f"file:{repository.folder}", "trixie", "riscv64")
    with pytest.raises(ArtifactError, match="is not trusted") as caught:
        opened.show("busybox-static")
    assert caught.value.code == "E234"


@needs_apt
def test_over_http_a_broken_download_resumes(tmp_path: Path, repository: Repository) -> None:
    repository.add("big", "1", {"x": os.urandom(300_000)})
    body = {f"/./{path.name}": path.read_bytes() for path in repository.folder.iterdir()}
    with server(body) as web:

        def archive(suite: str) -> Apt:
            return Apt(Store(tmp_path / "cache"), web.url, suite, "riscv64", trusted=True)

        opened = Debian(Store(tmp_path / "cache"), "riscv64", archive=archive)
        opened.resolve(DebianSource("big", "trixie"))
        web.cut, web.requests = [100_000], []
        assert opened.file(DebianSource("big", "trixie"), "x").size == 300_000
        assert [request.get("Range") for request in web.requests] == [None, "bytes=100000-"]


@needs_apt
def test_no_such_suite_and_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Apt, "_host_settings", lambda apt: ['Acquire::Retries "0";'])
    store = Store(tmp_path / "cache")
    with server({}) as web:
        url = f"{web.url}/debian"
        with pytest.raises(ArtifactError, match="did you mean `trixie`") as caught:
            Apt(store, url, "trixi", "riscv64").show("busybox-static")
        assert caught.value.code == "E231"
    with pytest.raises(ArtifactError, match="cannot reach") as caught:
        Apt(store, url, "trixie", "riscv64").show("busybox-static")
    assert caught.value.code == "E221"


def test_host_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> object:
        raise FileNotFoundError("apt-config")

    monkeypatch.setattr("subprocess.run", run)
    with pytest.raises(ArtifactError, match="no apt") as caught:
        Apt(Store(tmp_path), "http://h/debian", "trixie", "riscv64").show("busybox-static")
    assert caught.value.code == "E230"


# ---- without apt


class Signer:
    """Signs repositories with a key made here."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(mode=0o700)
        self.gpg("--quick-generate-key", "tester", "default", "default", "never")
        (home / "keys.gpg").write_bytes(self.gpg("--export"))

    def gpg(self, *argv: str, data: bytes = b"") -> bytes:
        always = ["gpg", "--homedir", str(self.home), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        return subprocess.run(
            [*always, *argv], input=data, capture_output=True, check=True, timeout=patience(60)
        ).stdout

    def body(self, repository: Repository, *, suite: str = "trixie", more: str = "") -> dict[str, bytes]:
        text = "\n".join(repository.stanzas).replace("Filename: ./", "Filename: pool/")
        index = lzma.compress(text.encode())
        listed = ((text.encode(), "Packages"), (index, "Packages.xz"))
        release = f"Suite: stable\nCodename: {suite}\n{more}SHA256:\n" + "".join(
            f" {hashlib.sha256(data).hexdigest()} {len(data)} main/binary-riscv64/{name}\n" for data, name in listed
        )
        body = {f"/d/pool/{path.name}": path.read_bytes() for path in repository.folder.glob("*.deb")}
        body["/d/dists/trixie/InRelease"] = self.gpg("--clearsign", data=release.encode())
        body["/d/dists/trixie/main/binary-riscv64/Packages.xz"] = index
        return body


@pytest.fixture(scope="module")
def signer() -> Iterator[Signer]:
    if not all(map(shutil.which, ("gpg", "gpg-agent", "gpgv", "gpgconf"))):
        pytest.skip("needs gpg, gpg-agent and gpgv")
    with tempfile.TemporaryDirectory(dir="/tmp") as home:  # an agent's socket has a short path
        made = Signer(Path(home) / "g")
        yield made
        subprocess.run(["gpgconf", "--homedir", str(made.home), "--kill", "all"], check=False, timeout=patience(20))


@pytest.fixture
def signed(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> Signer:
    monkeypatch.setenv("VMRUN_DEBIAN_KEYRING", str(signer.home / "keys.gpg"))
    return signer


def test_mirror_without_apt(tmp_path: Path, repository: Repository, signed: Signer) -> None:
    store = Store(tmp_path / "cache")
    with server(signed.body(repository)) as web:
        opened = Debian(store, "riscv64", archive=lambda suite: Mirror(store, f"{web.url}/d", suite, "riscv64"))
        assert opened.kernel(SOURCE).version == "6.99.1-1"
        assert opened.file(DebianSource("busybox-static", "trixie"), "usr/bin/busybox").size == 9
        with pytest.raises(ArtifactError, match="did you mean `busybox-static`") as caught:
            opened.resolve(DebianSource("busybox-statik", "trixie"))
        assert caught.value.code == "E232"
        with pytest.raises(ArtifactError) as caught:
            opened.resolve(DebianSource("busybox-static", "trixi"))
        assert caught.value.code == "E231"


@pytest.mark.parametrize(("alias", "code"), [("trixie", None), ("forky", "E222")])
def test_mirror_out_of_step_is_read_by_its_other_name(
    tmp_path: Path, repository: Repository, signed: Signer, alias: str, code: str | None
) -> None:
    """What the alias leads to counts as long as it is the suite: once it is the next one, it does not."""
    store = Store(tmp_path / "cache")
    body = signed.body(repository)
    other = signed.body(repository, suite=alias) if code else body
    body |= {name.replace("/trixie/", "/stable/"): data for name, data in other.items()}
    body["/d/dists/trixie/main/binary-riscv64/Packages.xz"] += b"x"
    with server(body) as web:
        opened = Mirror(store, f"{web.url}/d", "trixie", "riscv64")
        if code is None:
            assert opened.show("busybox-static").version
            return
        with pytest.raises(ArtifactError) as caught:
            opened.show("busybox-static")
    assert caught.value.code == code


@needs_apt
def test_apt_out_of_step_reads_the_other_name(tmp_path: Path, repository: Repository, signed: Signer) -> None:
    store = Store(tmp_path / "cache")
    more = "Date: Sun, 01 Jan 2023 00:00:00 UTC\nArchitectures: riscv64\nComponents: main\n"
    with server(signed.body(repository, more=more)) as web:
        web.body |= {name.replace("/trixie/", "/stable/"): data for name, data in web.body.items()}
        web.body["/d/dists/trixie/main/binary-riscv64/Packages.xz"] += b"x"
        assert Apt(store, f"{web.url}/d", "trixie", "riscv64").show("busybox-static").version
        web.body.clear()  # the lists are there: the next process asks nobody
        assert Apt(store, f"{web.url}/d", "trixie", "riscv64").show("busybox-static").version


@pytest.mark.parametrize("what", ["key", "text", "index", "package", "suite", "old"])
def test_mirror_that_lies(
    tmp_path: Path, repository: Repository, signed: Signer, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "cache")
    more = "Valid-Until: Sun, 01 Jan 2023 00:00:00 UTC\n" if what == "old" else ""
    body = signed.body(repository, suite="sid" if what == "suite" else "trixie", more=more)
    release = "/d/dists/trixie/InRelease"
    if what == "key":
        if not Path(archive.KEYRINGS[0]).exists():
            pytest.skip("needs debian-archive-keyring")
        monkeypatch.delenv("VMRUN_DEBIAN_KEYRING")
    elif what == "text":
        body[release] = body[release].replace(b"Suite: stable", b"Suite: stabel")
    elif what == "index":
        body["/d/dists/trixie/main/binary-riscv64/Packages.xz"] += b"x"
    elif what == "package":
        body = {name: data[::-1] if name.endswith(".deb") else data for name, data in body.items()}
    with server(body) as web, pytest.raises(ArtifactError) as caught:
        opened = Debian(store, "riscv64", archive=lambda suite: Mirror(store, f"{web.url}/d", suite, "riscv64"))
        opened.file(DebianSource("busybox-static", "trixie"), "usr/bin/busybox")
    assert caught.value.code == ("E222" if what in ("index", "package") else "E234")


@pytest.mark.network
def test_debian_itself_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("gpgv") is None:
        pytest.skip("needs gpgv")
    store = Store(tmp_path / "cache")
    found = Mirror(store, aptsources.mirror(), "trixie", "riscv64").show("linux-image-riscv64")
    assert found.depends.startswith("linux-image-6.")


# ---- locks


@needs_apt
def test_locked(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    kernel = tmp_path / "Image"
    kernel.write_bytes(b"own kernel")
    path, url = PathSource(kernel), UrlSource("https://h/x", "a" * 64)
    empty = Lock(tmp_path / "vmrun.lock", {})
    for source in (path, url, SOURCE):
        strict = debian(store, repository, lock=empty, locked=True)
        with pytest.raises(ArtifactError) as caught:
            Resolver(store, "riscv64", lock=empty, locked=True, debian=strict).kernel(source)
        assert caught.value.code == "E250"
    fresh = Resolver(store, "riscv64", debian=debian(store, repository, refresh=True))
    pins = {empty.key(s, "riscv64"): pin for source in (path, SOURCE) for s, pin in fresh.pins(source)}
    pins[empty.key(url, "riscv64")] = Pin("b" * 64, 1)
    lock = Lock(empty.path, pins)
    assert pins["debian:trixie:riscv64:linux-image-riscv64"].package == KERNEL
    repository.add(KERNEL, "6.99.2-1", {})
    repository.add("linux-image-riscv64", "6.99.2-1", {}, depends=KERNEL)
    locked = Resolver(
        store, "riscv64", lock=lock, locked=True, debian=debian(store, repository, lock=lock, locked=True, refresh=True)
    )
    assert locked.kernel(SOURCE).version == "6.99.1-1"
    assert locked.kernel(path).image.size == 10
    kernel.write_bytes(b"another")
    for source in (path, url):
        with pytest.raises(ArtifactError) as caught:
            locked.kernel(source)
        assert caught.value.code == "E251"


@needs_apt
def test_pinned_version_that_the_mirror_lost(tmp_path: Path, repository: Repository) -> None:
    store = Store(tmp_path / "cache")
    lock = Lock(
        tmp_path / "vmrun.lock", {"debian:trixie:riscv64:busybox-static": Pin("a" * 64, 1, "busybox-static", "1:0.9-1")}
    )
    opened = debian(store, repository, lock=lock, locked=True)
    with pytest.raises(ArtifactError, match="snapshot") as caught:
        opened.file(DebianSource("busybox-static", "trixie"), "usr/bin/busybox")
    assert caught.value.code == "E232"


def test_modules_of_a_kernel_without_package(tmp_path: Path) -> None:
    resolver = Resolver(Store(tmp_path), "riscv64")
    assert resolver.modules(PathSource(tmp_path / "Image"), (), ("virtio_mmio",)) == ()
    with pytest.raises(ArtifactError) as caught:
        resolver.modules(PathSource(tmp_path / "Image"), ("virtio_mmio",))
    assert caught.value.code == "E242"


# ---- Debian itself


@pytest.mark.network
@needs_apt
def test_debian_itself(tmp_path: Path) -> None:
    store = Store(tmp_path / "cache")
    opened = Debian(store, "riscv64")
    busybox = opened.file(DebianSource("busybox-static", "trixie"), "usr/bin/busybox", "bin/busybox")
    assert isinstance(busybox, CachedFile)
    assert busybox.path.read_bytes()[:4] == b"\x7fELF"
    found = opened.resolve(SOURCE)
    assert found.package.startswith("linux-image-6.")
    assert found.size > 50 << 20
    with pytest.raises(ArtifactError, match="did you mean `trixie`"):
        opened.resolve(DebianSource("busybox-static", "trixi"))


@pytest.mark.network
@pytest.mark.slow
@needs_apt
@pytest.mark.parametrize("suite", ["trixie", "forky", "sid"])
@pytest.mark.parametrize("arch", ["amd64", "arm64"])
def test_cloud_kernels_of_every_suite(tmp_path: Path, suite: str, arch: str) -> None:
    resolver = Resolver(Store(tmp_path), arch)
    source = DebianSource(f"linux-image-cloud-{arch}", suite)
    found = resolver.kernel(source, ("btrfs",))
    assert found.image.size > 1 << 20 and found.config is not None and found.release.endswith(f"cloud-{arch}")
    assert [module.name for module in resolver.modules(source, ("btrfs",))][-1] == "btrfs"
