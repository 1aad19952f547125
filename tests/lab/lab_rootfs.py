"""The file system of the emulated host: Debian packages in a squashfs, with bytecode; and Python for its builder.

Without bytecode imports take five times as long in an emulated host. It depends on Python's version alone, so the build
machine's own architecture of the same Python makes it for every other one.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from lab_packages import PackageSet, unpack
from lab_table import BASE_PACKAGES, PYTHON, SUITE, Host

from vmrun.errors import ArtifactError
from vmrun.frozen import as_dict
from vmrun.images.archive import Candidate
from vmrun.images.initramfs import applets
from vmrun.images.store import Store

_REVISION = "1"
"""Counts the changes of what is made of the same packages."""

_LEFT_OUT = (
    *(
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/info",
        "usr/share/lintian",
        "usr/share/zoneinfo",
    ),
    *("usr/share/bash-completion", "usr/share/perl5", "usr/share/i18n", "usr/share/icons", "usr/share/applications"),
    "var",
)
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}
_FOLDERS = ("dev", "proc", "sys", "run", "tmp", "root", "var/tmp", "lab/checkout", "lab/guests", "lab/work")
_COMMANDS = ("usr/bin", "usr/sbin")
_PYTHON_FOLDERS = (f"usr/lib/python{PYTHON}", "usr/lib/python3/dist-packages")
_WHEELS = Path(__file__).with_name("wheels.txt")
_KEPT = 2
"""How many root file systems of an architecture stay in the cache."""


class Builder:
    """Makes and keeps what the lab is built from, in ``folder``."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store

    def rootfs(self, host: Host) -> Path:
        """Return the squashfs of ``host``'s root, built where its packages or this recipe changed."""
        packages = self.packages(host.debian)
        candidates = packages.closure((*BASE_PACKAGES, *host.packages))
        target = (
            self.folder
            / host.debian
            / f"root-{digest(_recipe(), candidates, *host.wheels, _WHEELS.read_text())}.squashfs"
        )
        if not target.exists():
            with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
                tree = Path(scratch) / "tree"
                unpack(packages.fetch_all(candidates), tree)
                _finish(tree)
                if host.wheels:
                    _add_wheels(host, Path(scratch), tree / _PYTHON_FOLDERS[1])
                self.compile(tree, _PYTHON_FOLDERS)
                squash(tree, target)
            _forget(target)
        return target

    def headers(self, host: Host) -> Path:
        """Return the include folder with the Python headers of ``host``."""
        packages = self.packages(host.debian)
        name = f"libpython{PYTHON}-dev"
        candidate = packages.show(name)
        target = self.folder / host.debian / f"headers-{digest(_recipe(), [candidate])}"
        self._tree(packages, [candidate], target)
        return target / "usr" / "include"

    def compile(self, tree: Path, folders: Sequence[str]) -> None:
        """Compile all modules below the ``folders`` of ``tree`` to bytecode that is taken unchecked."""
        options = ["-q", "-s", str(tree), "-p", "/", "--invalidation-mode", "unchecked-hash"]
        present = [str(tree / folder) for folder in folders]
        home = {"PYTHONHOME": str(self._tools / "usr")}
        subprocess.run([*self._python(), "-m", "compileall", *options, *present], check=True, env=home)

    def packages(self, arch: str) -> PackageSet:
        """Return the packages of the lab's suite for Debian's architecture ``arch``."""
        return PackageSet(self._store, SUITE, arch, self.folder / arch / "debs")

    def _python(self) -> list[str]:
        """Return the command that runs the suite's Python here: out of its packages, by its own loader."""
        tree = self._tools
        (loader,) = sorted(tree.glob("usr/lib*/ld-linux*.so.*"))[:1]
        (libraries,) = [path.parent for path in tree.glob("usr/lib/*/libc.so.6")]
        return [str(loader), "--library-path", str(libraries), str(tree / "usr" / "bin" / f"python{PYTHON}")]

    @cached_property
    def _tools(self) -> Path:
        arch = subprocess.run(
            ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
        ).stdout.strip()
        packages = self.packages(arch)
        candidates = packages.closure((f"python{PYTHON}",))
        target = self.folder / arch / f"python-{digest(_recipe(), candidates)}"
        self._tree(packages, candidates, target)
        return target

    def _tree(self, packages: PackageSet, candidates: Sequence[Candidate], target: Path) -> None:
        if target.exists():
            return
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            tree = Path(scratch) / "tree"
            unpack(packages.fetch_all(candidates), tree)
            tree.rename(target)


def _add_wheels(host: Host, scratch: Path, target: Path) -> None:
    """Add the wheels that are pinned in wheels.txt to the modules in ``target``."""
    command = [
        *(sys.executable, "-m", "pip", "download", "-q", "--require-hashes", "--no-deps", "--only-binary=:all:"),
        *("--implementation=cp", f"--python-version={PYTHON}", *(f"--platform={tag}" for tag in host.wheels)),
        *("-d", str(scratch), "-r", str(_WHEELS)),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ArtifactError(
            f"pip cannot fetch the wheels of {_WHEELS.name}: {done.stderr.strip().rpartition(chr(10))[2]}", code="E221"
        )
    for wheel in sorted(scratch.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)


def squash(tree: Path, target: Path) -> None:
    """Write the squashfs of ``tree`` to ``target``, everything root's own."""
    part = target.with_suffix(".part")
    part.unlink(missing_ok=True)
    options = ["-comp", "lz4", "-Xhc", "-all-root", "-noappend", "-no-progress", "-quiet", "-no-xattrs"]
    subprocess.run(["mksquashfs", tree, part, *options], check=True, stdout=subprocess.DEVNULL)
    part.rename(target)


def digest(*parts: object) -> str:
    """Return a short digest of ``parts``."""
    text = json.dumps([_plain(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(part: object) -> object:
    if isinstance(part, list):
        return [_plain(item) for item in part]
    return tuple(as_dict(part).values()) if isinstance(part, Candidate) else str(part)


def _recipe() -> str:
    return "".join([_REVISION, *_LEFT_OUT, *_FOLDERS])


def _finish(tree: Path) -> None:
    for name in _LEFT_OUT:
        shutil.rmtree(tree / name, ignore_errors=True)
    for name in _FOLDERS:
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name, text in _ACCOUNTS.items():
        (tree / name).write_text(text)
    busybox = tree / "usr/bin/busybox"
    for name in applets(busybox.read_bytes()):
        if not any((tree / folder / name).is_symlink() or (tree / folder / name).exists() for folder in _COMMANDS):
            (tree / "usr/bin" / name).symlink_to("busybox")


def _forget(newest: Path) -> None:
    stem = newest.name.partition("-")[0]
    found = sorted(newest.parent.glob(f"{stem}-*.squashfs"), key=lambda path: path.stat().st_mtime)
    for path in found[:-_KEPT]:
        path.unlink()
