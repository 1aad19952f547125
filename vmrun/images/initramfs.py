"""The initramfs that vmrun builds: busybox, kernel modules, an init and the command, as one reproducible cpio.

The init is the data file ``init.sh``. It finds under ``/vmrun`` what the builder decided: the command as a
shell script (so any byte but NUL passes, and nothing of it shows in the kernel's command line), the modules in load
order, the virtio-console ports to wait for. The archive is not compressed: unpacking costs an
emulated hart more than copying.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vmrun.errors import ArtifactError
from vmrun.frozen import frozen
from vmrun.images import cpio

REVISION = 3
"""Counts the changes of what `build` makes of the same input, so that no archive of an older vmrun is taken for it."""

PORTS = ("control", "stdin", "stdout", "stderr")
"""The virtio-console ports that the init knows, each announced by the host as ``vmrun.<name>``."""

_FSTAB = """\
proc /proc proc nosuid,nodev,noexec 0 0
sys /sys sysfs nosuid,nodev,noexec 0 0
dev /dev devtmpfs mode=0755,nosuid 0 0
tmp /tmp tmpfs mode=1777,nosuid,nodev 0 0
run /run tmpfs mode=0755,nosuid,nodev 0 0
"""

_FOLDERS = ("bin", "dev", "etc", "lib", "mnt", "proc", "root", "run", "sys", "tmp", "usr", "var", "vmrun", "vmrun/dev")
_LINKS = (
    ("sbin", "bin"),
    ("usr/bin", "../bin"),
    ("usr/sbin", "../bin"),
    ("usr/lib", "../lib"),
    ("etc/mtab", "/proc/mounts"),
)
_DEVICE_LINKS = (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"))
_ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
    "etc/group": "root:x:0:\n",
    "etc/hosts": "127.0.0.1 localhost\n",
}

_FIRST_APPLETS = b"[\0[[\0"


@frozen
class ModuleFile:
    """A kernel module as the initramfs holds it: ``name`` as the kernel says it, ``data`` the plain ELF object."""

    name: str
    data: bytes
    depends: tuple[str, ...] = ()


@frozen
class InitramfsSpec:
    """What goes into an initramfs.

    ``command`` is an argv; None gives a shell on the console. ``release`` is the kernel's, as in ``uname -r``;
    ``modules`` stand in load order. ``ports`` are names of PORTS that the init waits for before it goes on.
    """

    busybox: bytes
    release: str
    modules: tuple[ModuleFile, ...] = ()
    command: tuple[str, ...] | None = None
    hostname: str = "vmrun"
    ports: tuple[str, ...] = ()


def init_script() -> bytes:
    """Return the text of the init."""
    return Path(__file__).with_name("init.sh").read_bytes()


def build(spec: InitramfsSpec) -> bytes:
    """Return the cpio archive of ``spec``. Raise ArtifactError for an argument or host name that it cannot hold."""
    entries = [cpio.directory(name) for name in _FOLDERS]
    entries += [cpio.symlink(name, target) for name, target in _LINKS]
    entries += [
        cpio.directory("vmrun/dev/pts"),
        cpio.directory("vmrun/dev/shm", 0o1777),
        *(cpio.symlink(f"vmrun/dev/{name}", target) for name, target in _DEVICE_LINKS),
        # The kernel opens it for init before the console's driver, which may be a module, is there, and warns where it
        # cannot (init/main.c, console_on_rootfs). /dev/null always opens, and init turns to the true console, which
        # devtmpfs has, once it is there. A link takes the place of the node that the kernel's own archive has made
        # (init/initramfs.c, clean_path); another node would not.
        cpio.symlink("dev/console", "null"),
        cpio.character_device("dev/null", 1, 3, 0o666),
        cpio.fifo("vmrun/pause"),
        cpio.regular("init", init_script(), 0o755),
        cpio.regular("bin/busybox", spec.busybox, 0o755),
        cpio.regular("vmrun/fstab", _FSTAB.encode()),
        cpio.regular("vmrun/hostname", _line(spec.hostname, "host name")),
        cpio.regular("vmrun/ports", _line(" ".join(_known_ports(spec.ports)), "port name")),
        cpio.regular("vmrun/modules", _line(" ".join(module.name for module in spec.modules), "module name")),
    ]
    entries += [cpio.regular(name, text.encode()) for name, text in _ACCOUNTS.items()]
    entries += [cpio.symlink(f"bin/{name}", "busybox") for name in applets(spec.busybox) if name != "busybox"]
    if spec.modules:
        entries += _module_tree(spec.release, spec.modules)
    if spec.command is not None:
        entries.append(cpio.regular("vmrun/command", command_script(spec.command), 0o700))
    return cpio.archive(entries)


def command_script(argv: Sequence[str]) -> bytes:
    """Return the shell script that becomes ``argv``: every argument in single quotes, byte for byte.

    Raise ArtifactError where ``argv`` is empty, or an argument has a NUL, which no process can be given.
    """
    if not argv or not argv[0]:
        raise ArtifactError("the guest's command is empty", code="E262", remedy="name a program, such as /bin/sh")
    words = []
    for number, word in enumerate(argv):
        data = os.fsencode(word)
        if b"\0" in data:
            raise ArtifactError(
                f"argument {number} of the guest's command has a NUL byte",
                code="E262",
                remedy="pass such data through a file or through standard input",
            )
        words.append(b"'" + data.replace(b"'", b"'\\''") + b"'")
    return b"exec " + b" ".join(words) + b"\n"


def applets(busybox: bytes) -> tuple[str, ...]:
    """Return the names of the applets in a busybox executable, from the sorted, NUL-separated table in it.

    Raise ArtifactError where there is no such table: the file is not a busybox.
    """
    start = busybox.find(_FIRST_APPLETS)
    names: list[bytes] = []
    while start >= 0:
        end = busybox.find(b"\0", start)
        name = busybox[start:end]
        if end < 0 or not name or (names and name <= names[-1]) or not name.isascii() or b"/" in name:
            break
        names.append(name)
        start = end + 1
    if b"sh" not in names:
        raise ArtifactError(
            "the busybox executable has no table of applets, or no shell in it",
            code="E263",
            remedy="run `vmrun fetch --verify` to have the cached file checked",
        )
    return tuple(name.decode() for name in names)


def _line(text: str, what: str) -> bytes:
    data = os.fsencode(text)
    if b"\n" in data or b"\0" in data:
        raise ArtifactError(f"the {what} `{text!r}` has a line break or a NUL", code="E262", remedy="use a plain word")
    return data + b"\n"


def _known_ports(ports: Sequence[str]) -> Sequence[str]:
    for name in ports:
        if name not in PORTS:
            raise ValueError(f"no port `{name}`: the init knows {', '.join(PORTS)}")
    return ports


def _module_tree(release: str, modules: Sequence[ModuleFile]) -> list[cpio.Entry]:
    folder = f"lib/modules/{release}"
    entries = [cpio.directory("lib/modules"), cpio.directory(folder)]
    depends = []
    for module in modules:
        entries.append(cpio.regular(f"{folder}/{module.name}.ko", module.data))
        needed = " ".join(f"{name}.ko" for name in module.depends)
        depends.append(f"{module.name}.ko: {needed}".rstrip() + "\n")
    entries.append(cpio.regular(f"{folder}/modules.dep", "".join(depends).encode()))
    return entries
