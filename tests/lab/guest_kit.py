"""What the tests in the lab's host (L1) share: which host it is, kernels, the probe guest, a VMM under a limit."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lab_table import HOSTS, GuestKernel, Host, Peer

from patience import patience

CHECKOUT = Path("/lab/checkout")
GUESTS = Path("/lab/guests")
PROBE = GUESTS / "probe.cpio"
VMRUN = (sys.executable, "-m", "vmrun")
LIMIT_S = round(patience(90))
"""For one guest; the slowest one measured took a third of it."""


def this_host() -> Host:
    """Return the lab's host that this is."""
    return HOSTS[(CHECKOUT / "lab-host").read_text().strip()]


def kernel(tag: str, form: str) -> Path:
    """Return the kernel ``tag`` in ``form``."""
    return GUESTS / "kernels" / tag / form


def cmdline(*words: str) -> str:
    """Return the guests' kernel command line: a quiet console, since each byte of it is an exit."""
    return " ".join((f"console={this_host().guest_console}", "quiet", "panic=-1", *words))


@dataclass(frozen=True, slots=True)
class Ended:
    """How a VMM ended: ``status`` as of subprocess, None where it had to be killed."""

    status: int | None
    out: str
    err: str

    @property
    def facts(self) -> dict[str, str]:
        """What the probe guest said of itself."""
        return dict(re.findall(r"(\w+)=(\S+)", " ".join(re.findall(r"(?m)^LAB (.*)$", self.out))))

    @property
    def splats(self) -> list[str]:
        """What the guest's kernel complained of."""
        return re.findall(r"(?m)^LAB splat (.*)$", self.out.replace("\r", ""))


def run_vmm(
    argv: Sequence[str], folder: Path, limit_s: float = LIMIT_S, *, until: tuple[str, int] | None = None
) -> Ended:
    """Run a VMM to its end in ``folder``, with its descendants in a session that ends with it.

    With ``until``, a word and a count, it gets SIGTERM once its guest has said the word so often.
    """
    out, err = folder / "vmm.out", folder / "vmm.err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, start_new_session=True
        )
        end = time.monotonic() + limit_s
        if until is not None:
            word, times = until[0].encode(), until[1]
            while process.poll() is None and time.monotonic() < end and out.read_bytes().count(word) < times:
                time.sleep(0.1)
            process.terminate()
        try:
            status: int | None = process.wait(max(end - time.monotonic(), 1))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
    said = [path.read_bytes().decode(errors="replace").replace("\r", "") for path in (out, err)]
    return Ended(status, *said)


def peer_argv(peer: Peer, tag: str, form: str, line: str, *, ram_mib: int = 256, cpus: int = 1) -> list[str]:
    """Return a peer's command line for the probe guest."""
    values = {
        "kernel": str(kernel(tag, form)),
        "initrd": str(PROBE),
        "cmdline": line,
        "ram_mib": str(ram_mib),
        "cpus": str(cpus),
    }
    return [word.format_map(values) for word in peer.argv]


def manifest(
    folder: Path,
    tag: str,
    form: str,
    words: Sequence[str],
    *,
    ram_mib: int = 256,
    cpus: int = 1,
    tables: str = "auto",
    limit_s: int = LIMIT_S - 10,
) -> Path:
    """Write the manifest of the probe guest; return its path. vmrun gives up after ``limit_s``."""
    line = ", ".join(f'"{word}"' for word in ("quiet", "panic=-1", *words))
    path = folder / "probe.toml"
    path.write_text(
        f"{_machine(ram_mib, cpus, tables)}"
        f'[boot]\nkernel = {{ path = "{kernel(tag, form)}" }}\n'
        f'initrd = {{ path = "{PROBE}" }}\ncmdline = [{line}]\n[console.main]\ndevice = "serial"\n'
        f'[run]\ntimeouts = {{ total = "{limit_s}s" }}\n'
    )
    return path


def debian_manifest(folder: Path, guest: GuestKernel, more: str = "", *, cpus: int = 1) -> Path:
    """Write the manifest of a guest as users write it: Debian's package, vmrun's own initramfs; ``more`` follows."""
    path = folder / "debian.toml"
    path.write_text(
        f"{_machine(256, cpus)}"
        f'[boot]\nkernel = {{ debian = "{guest.package}", suite = "{guest.suite}" }}\n'
        'modules = ["virtio_mmio", "virtio_blk"]\ninitrd = { busybox = true }\ncmdline = ["quiet", "panic=-1"]\n'
        f'[console.main]\ndevice = "virtio"\n[run]\ntimeouts = {{ total = "{LIMIT_S - 10}s" }}\n{more}'
    )
    return path


def _machine(ram_mib: int, cpus: int, tables: str = "auto") -> str:
    return (
        f'manifest = 1\nname = "probe"\n[machine]\nboard = "{this_host().board}"\naccel = "kvm"\n'
        f'tables = "{tables}"\n'
        f'[cpu]\ncount = {cpus}\n[memory]\nsize = "{ram_mib}MiB"\n'
    )
