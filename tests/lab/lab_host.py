"""The emulated host: QEMU's TCG with virtualization hardware, a Debian kernel, the lab's disks. Boots, waits, reads."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lab_table import QEMU_MAJOR, SUITE, Host

from vmrun.images.initramfs import InitramfsSpec, ModuleFile, build
from vmrun.images.resolve import Resolver
from vmrun.images.sources import DebianSource
from vmrun.images.store import Store

_ENTER = Path(__file__).parent / "l1" / "enter.sh"
_RESULTS_SIZE = 256 << 20
_STATUS = re.compile(rb"(?m)^vmrun: exit (\d+)\r?$")


class Unable(Exception):
    """Why the lab cannot run on this machine, in one line with its remedy."""


@dataclass(frozen=True, slots=True)
class Disks:
    """The images that L1 gets."""

    root: Path
    checkout: Path
    guests: Path


def need_tools(host: Host) -> None:
    """Raise Unable where a tool is missing or too old."""
    tools = (
        (host.qemu, f"-t bookworm-backports {host.qemu_package}"),
        ("mksquashfs", "squashfs-tools"),
        ("dpkg-deb", "dpkg"),
        ("apt-get", "apt"),
        ("zstd", "zstd"),
        ("lz4", "lz4"),
        (host.compiler, host.compiler_package),
    )
    for tool, package in tools:
        if shutil.which(tool) is None:
            raise Unable(f"{tool} is missing: sudo apt-get install {package}")
    told = subprocess.run([host.qemu, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"version (\d+)", told)
    if version is None or int(version[1]) < QEMU_MAJOR:
        raise Unable(
            f"{host.qemu} is {version[1] if version else 'of no known version'}, the lab needs {QEMU_MAJOR} or later: "
            f"sudo apt-get install -t bookworm-backports {host.qemu_package}"
        )


def boot_files(host: Host, folder: Path, scratch: Path) -> tuple[Path, Path]:
    """Return kernel and initramfs of L1. The initramfs is vmrun's own, its command is to go into the root."""
    resolver = Resolver(Store(folder / host.debian / "store"), host.debian)
    source = DebianSource(host.kernel, SUITE)
    kernel = resolver.kernel(source, host.modules)
    modules = tuple(ModuleFile(m.name, m.data, m.depends) for m in resolver.modules(source, host.modules))
    busybox = resolver.busybox(SUITE).path.read_bytes()
    command = ("sh", "-c", _ENTER.read_text())
    initrd = scratch / "initrd"
    initrd.write_bytes(build(InitramfsSpec(busybox, kernel.release, modules, command, f"lab-{host.name}")))
    return kernel.image.path, initrd


def run(
    host: Host, files: tuple[Path, Path], disks: Disks, out: Path, *, cpus: int, memory_mib: int, limit_s: float
) -> int | None:
    """Boot L1 and wait for its end; ``out`` gets console.log and the results. Return L1's status, None without one."""
    results = out / "results.img"
    with results.open("wb") as file:
        file.truncate(_RESULTS_SIZE)
    command = [
        *(host.qemu, *host.machine, "-accel", "tcg,thread=multi", "-smp", str(cpus), "-m", str(memory_mib)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", str(files[0]), "-initrd", str(files[1])),
        *("-append", f"console={host.console} panic=-1 quiet"),
    ]
    images = (("root", disks.root, "on"), ("checkout", disks.checkout, "on"), ("guests", disks.guests, "on"))
    for name, path, readonly in (*images, ("results", results, "off")):
        escaped = str(path).replace(",", ",,")
        command += ["-drive", f"if=none,id={name},format=raw,readonly={readonly},file={escaped}"]
        command += ["-device", f"virtio-blk-pci,drive={name},serial={name}"]
    console = out / "console.log"
    with console.open("wb") as log, (out / "qemu.log").open("wb") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=words)
        try:
            _follow(process, log, limit_s)
        finally:
            process.kill()
            process.wait()
    extract(results, out)
    results.unlink()
    found = _STATUS.findall(console.read_bytes())
    return int(found[-1]) if found else None


def _follow(process: subprocess.Popen[bytes], log: IO[bytes], limit_s: float) -> None:
    """Copy the console to ``log`` and to this process's output until the machine ends or its time is over."""
    import selectors

    assert process.stdout is not None
    end = time.monotonic() + limit_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while (left := end - time.monotonic()) > 0:
            if not selector.select(left):
                break
            data = process.stdout.read1(65536)  # type: ignore[attr-defined]
            if not data:
                return
            log.write(data)
            log.flush()
            sys.stdout.write(data.decode(errors="replace").replace("\r\n", "\n"))
            sys.stdout.flush()
    log.write(f"\nlab: the host did not end within {limit_s:.0f} s\n".encode())


def extract(results: Path, out: Path) -> None:
    """Unpack the results, a tar, into the folder ``out``: files alone, and none beside it."""
    try:
        with tarfile.open(results, "r:") as archive:
            for member in archive:  # extractall knows how to be careful from Python 3.11.4 on
                target = (out / member.name).resolve()
                if member.isreg() and target.is_relative_to(out.resolve()):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    except tarfile.ReadError:
        print("lab: the host brought no results", file=sys.stderr)
