"""The init under an independent machine: QEMU's `virt` boots Debian's kernel with an initramfs that vmrun built."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.images.initramfs import PORTS, InitramfsSpec, ModuleFile, build
from vmrun.images.resolve import KernelArtifact, Resolver
from vmrun.images.sources import DebianSource
from vmrun.images.store import Store

KERNEL = DebianSource("linux-image-riscv64", "trixie")
MODULES = ("virtio_mmio", "virtio_blk")
pytestmark = [
    pytest.mark.guest,
    pytest.mark.network,
    pytest.mark.skipif(shutil.which("qemu-system-riscv64") is None, reason="needs qemu-system-riscv64"),
]


@dataclass(frozen=True)
class Parts:
    kernel: KernelArtifact
    busybox: bytes
    modules: tuple[ModuleFile, ...]

    def initramfs(self, command: tuple[str, ...] | None, ports: tuple[str, ...]) -> bytes:
        return build(InitramfsSpec(self.busybox, self.kernel.release, self.modules, command, "tester", ports))


@dataclass(frozen=True)
class Seen:
    """What a guest said: on the console, and on the ports."""

    console: str
    control: list[str]
    out: bytes
    err: bytes


@pytest.fixture(scope="module")
def parts() -> Parts:
    resolver = Resolver(Store(), "riscv64")
    try:
        kernel = resolver.kernel(KERNEL, MODULES)
        modules = resolver.modules(KERNEL, MODULES)
        busybox = resolver.busybox("trixie").path.read_bytes()
    except ArtifactError as error:
        pytest.skip(f"needs Debian's kernel and busybox: {error}")
    return Parts(kernel, busybox, tuple(ModuleFile(m.name, m.data, m.depends) for m in modules))


def boot(folder: Path, parts: Parts, initramfs: bytes, *, ports: bool, stdin: bytes = b"", typed: bytes = b"") -> Seen:
    (folder / "initrd").write_bytes(initramfs)
    arguments = [
        *("qemu-system-riscv64", "-M", "virt", "-smp", "2", "-m", "256", "-no-reboot", "-display", "none"),
        *("-monitor", "none", "-serial", "none", "-global", "virtio-mmio.force-legacy=false"),
        *("-kernel", str(parts.kernel.image.path), "-initrd", str(folder / "initrd")),
        *("-append", "console=hvc0 panic=-1 quiet"),
        *("-device", "virtio-serial-device,max_ports=8", "-chardev", "stdio,id=con,signal=off"),
        *("-device", "virtconsole,chardev=con"),
    ]
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(patience(60))
    if ports:
        os.chdir(folder)  # a Unix socket's path is short
        listener.bind("in")
        listener.listen()
        for name in ("stdout", "stderr", "control"):
            arguments += ["-chardev", f"file,id={name},path={folder / name}"]
        arguments += ["-chardev", "socket,id=stdin,path=in"]
        for name in ("stdin", "stdout", "stderr", "control"):
            arguments += ["-device", f"virtserialport,chardev={name},name=vmrun.{name}"]
    feeder = threading.Thread(target=_feed, args=(listener, stdin))
    if ports:
        feeder.start()
    try:
        console = _console(arguments, typed)
    finally:
        listener.close()
        if ports:
            feeder.join()
    said = {name: (folder / name).read_bytes() if ports else b"" for name in ("control", "stdout", "stderr")}
    return Seen(console, said["control"].decode().split("\n")[:-1], said["stdout"], said["stderr"])


def _console(arguments: list[str], typed: bytes) -> str:
    """Run the machine to its end; type once a prompt shows: before that nobody has the terminal, and input is lost."""
    said = b""
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as machine:
        assert machine.stdin is not None
        assert machine.stdout is not None
        limit = threading.Timer(patience(90), machine.kill)
        limit.start()
        try:
            while data := os.read(machine.stdout.fileno(), 4096):
                said += data
                if typed and b"# " in said:
                    machine.stdin.write(typed)
                    machine.stdin.flush()
                    typed = b""
        finally:
            limit.cancel()
            machine.kill()
    return said.decode(errors="replace")


def _feed(listener: socket.socket, data: bytes) -> None:
    try:
        connection, _ = listener.accept()
    except OSError:
        return
    with connection:
        connection.sendall(data)


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 42"), 42),
        (("/etc/passwd",), 126),
        (("no-such-program",), 127),
        (("sh", "-c", "kill -TERM $$"), 143),
    ],
)
def test_status(tmp_path: Path, parts: Parts, command: tuple[str, ...], status: int) -> None:
    seen = boot(tmp_path, parts, parts.initramfs(command, PORTS), ports=True)
    assert re.fullmatch(r"init \d+\.\d+", seen.control[0])
    assert seen.control[1:] == ["command", f"exit {status}"]
    assert "vmrun:" not in seen.console


def test_the_kernel_opens_a_console_for_init(tmp_path: Path, parts: Parts) -> None:
    """Its driver is a module, which init loads: the kernel's warning that it found none would be true, and no use."""
    seen = boot(tmp_path, parts, parts.initramfs(("dmesg",), PORTS), ports=True)
    assert b"Run /init as init process" in seen.out
    assert b"initial console" not in seen.out


def test_streams_are_binary_clean_and_apart(tmp_path: Path, parts: Parts) -> None:
    data = bytes(range(256)) * 1000 + os.urandom(100_000)
    seen = boot(tmp_path, parts, parts.initramfs(("sh", "-c", "echo aside >&2; cat"), PORTS), ports=True, stdin=data)
    assert seen.out == data
    assert seen.err == b"aside\n"
    assert seen.control[1:] == ["command", "exit 0"]


def test_every_byte_of_an_argument(tmp_path: Path, parts: Parts) -> None:
    word = os.fsdecode(bytes(range(1, 256)))
    seen = boot(tmp_path, parts, parts.initramfs(("printf", "%s|%s", word, "it's $(x)"), PORTS), ports=True)
    assert seen.out == bytes(range(1, 256)) + b"|it's $(x)"


LOOK = """
cut -d' ' -f1,2 /proc/mounts; hostname; ls -l /dev/fd /dev/stdin; cut -d' ' -f1 /proc/modules; pwd
echo by path >/dev/stderr; ping -c 1 -W 5 127.0.0.1; tr '\\0' ' ' </proc/1/cmdline; echo; wc -c </proc/cmdline
"""


def test_without_ports_the_console_has_it_all(tmp_path: Path, parts: Parts) -> None:
    seen = boot(tmp_path, parts, parts.initramfs(("sh", "-ec", LOOK), ()), ports=False)
    said = seen.console.replace("\r", "")
    for mount in ("proc /proc", "sys /sys", "dev /dev", "tmp /tmp", "run /run", "devpts /dev/pts"):
        assert f"\n{mount}\n" in f"\n{said}"
    for words in ("tester", "virtio_blk", "/root", "by path"):
        assert f"\n{words}\n" in said
    assert "/dev/fd -> /proc/self/fd" in said
    assert " 0% packet loss" in said
    assert "\nvmrun: exit 0\n" in said


def test_shell_with_job_control(tmp_path: Path, parts: Parts) -> None:
    typed = b"tty; sleep 100 &\nkill %1 && echo job-$((6*7))\nexit 5\n"
    seen = boot(tmp_path, parts, parts.initramfs(None, ()), ports=False, typed=typed)
    assert "job-42" in seen.console
    assert "job control turned off" not in seen.console
    assert "vmrun: exit 5" in seen.console
