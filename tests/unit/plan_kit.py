"""Manifests and kernels for tests of plans: small, made here, without a network."""

from __future__ import annotations

import struct
from pathlib import Path

from vmrun.boards import registry
from vmrun.boards.takes import lay_out
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import MachinePlan
from vmrun.plan.offer import Offer
from vmrun.rv64.offer import offer
from vmrun.schema.load import LoadedManifest, load_manifest

MIB = 1 << 20
OFFER: Offer = offer("because a test says so")

BASE = """
manifest = 1
name = "test"
[machine]
board = "riscv_virt"
[memory]
size = "128MiB"
[boot]
kernel = { path = "kernel" }
"""


def image(size: int = 8192, image_size: int = MIB) -> bytes:
    """Return a riscv64 Image without code."""
    head = struct.pack(
        "<IIQQQIIQQII", 0x6F, 0, 2 * MIB, image_size, 0, 2, 0, 0, 0, int.from_bytes(b"RSC\x05", "little"), 0
    )
    return head.ljust(size, b"\0")


def write(folder: Path, text: str = BASE, kernel: bytes | None = None) -> Path:
    """Write a manifest and its kernel; return the manifest's path."""
    (folder / "kernel").write_bytes(image() if kernel is None else kernel)
    path = folder / "m.toml"
    path.write_text(text)
    return path


def load(folder: Path, text: str = BASE) -> LoadedManifest:
    """Return the manifest ``text``, loaded."""
    return load_manifest(write(folder, text), known=registry.known())


def laid_out_and_loaded(
    loaded: LoadedManifest, files: BootFiles, offer: Offer, ports: tuple[str, ...] = ()
) -> MachinePlan:
    """Return the plan that the manifest's board makes of it with ``files``."""
    board = registry.load(loaded.manifest.machine.board)
    return board.load(lay_out(board, loaded.manifest, offer, ports), loaded.manifest, files, offer)


def planned(folder: Path, text: str = BASE, *, ports: tuple[str, ...] = (), engine: Offer = OFFER) -> MachinePlan:
    """Return the plan of the manifest ``text`` with its own kernel."""
    loaded = load(folder, text)
    kernel = folder / "kernel"
    disks = tuple((name, BootFile(disk.path, 0, "")) for name, disk in loaded.manifest.disk.items() if disk.path)
    files = BootFiles(BootFile(str(kernel), kernel.stat().st_size, "0" * 64, "a test"), disks=disks)
    return laid_out_and_loaded(loaded, files, engine, ports)
