"""What the guests of the lab (L2) are booted from: Debian's kernels in each form, the probe initramfs, vmrun's store.

It becomes one squashfs that L1 mounts: `kernels/TAG/FORM`, `probe.cpio`, and `store`, the artefact store with all that
`vmrun --offline` needs to boot the same kernels as Debian packages.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from lab_rootfs import digest, squash
from lab_table import GuestKernel, Host

from vmrun.errors import ArtifactError
from vmrun.images import cpio
from vmrun.images.resolve import Resolver
from vmrun.images.sources import DebianSource
from vmrun.images.store import Store

MODULES = ("virtio_mmio", "virtio_blk", "virtio-rng", "virtio_console")
"""The modules that a manifest in L1 may ask for."""

_REVISION = "2"
"""Counts the changes of what is made of the same inputs."""

_PAGE, _PAGE_BEGIN = 4096, 64
_ZBOOT_HEADER = 64
_PROBE = Path(__file__).parent / "guest" / "probe.sh"
_SETUP_MAGIC = b"HdrS"
_XZ, _GZIP = b"\xfd7zXZ\0", b"\x1f\x8b"
_BY_TOOL = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}


def guests(host: Host, folder: Path) -> Path:
    """Return the squashfs with the guests of ``host``, built where a kernel, busybox or the probe changed."""
    store = Store(folder / host.debian / "store")
    resolver = Resolver(store, host.debian)
    kernels = {}
    for guest in (*host.guests, *host.more_guests):
        source = DebianSource(guest.package, guest.suite)
        kernels[guest.tag] = (guest, resolver.kernel(source, MODULES))
        resolver.modules(source, (), MODULES)
    busybox = {guest.suite: resolver.busybox(guest.suite) for guest in host.guests}
    inputs = [artifact.image.sha256 for _, artifact in kernels.values()]
    inputs += [file.sha256 for file in busybox.values()]
    mark = digest(_REVISION, _PROBE.read_text(), *inputs, *host.guests, *host.more_guests)
    target = folder / host.debian / f"guests-{mark}.squashfs"
    if target.exists():
        return target
    for old in target.parent.glob("guests-*.squashfs"):
        old.unlink()
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        tree = Path(scratch) / "tree"
        for guest, artifact in kernels.values():
            _forms(guest, artifact.image.path.read_bytes(), tree / "kernels" / guest.tag)
        first = busybox[host.guests[0].suite].path.read_bytes()
        (tree / "probe.cpio").write_bytes(probe(first))
        _copy_store(store, tree / "store")
        squash(tree, target)
    return target


def probe(busybox: bytes) -> bytes:
    """Return the probe initramfs: busybox, and an init that says INIT-OK before anything else."""
    data = cpio.archive(
        [
            *(cpio.directory(name) for name in ("bin", "dev", "proc", "sys")),
            cpio.character_device("dev/console", 5, 1),
            cpio.character_device("dev/null", 1, 3, 0o666),
            cpio.regular("bin/busybox", busybox, 0o755),
            cpio.symlink("bin/sh", "busybox"),
            cpio.regular("init", _PROBE.read_bytes(), 0o755),
        ]
    )
    # QEMU's microvm puts an initrd up to the last byte of its last page, and its firmware ACPI tables over that: the
    # guest of an ELF kernel hangs. An initrd that ends early in a page leaves room for both. Zeros end no archive.
    return data + bytes(-len(data) % _PAGE + _PAGE_BEGIN)


def vmlinux(image: bytes) -> bytes:
    """Return the ELF kernel inside the bzImage ``image`` (Documentation/arch/x86/boot.rst, protocol 2.08 and later)."""
    if image[0x202:0x206] != _SETUP_MAGIC:
        raise ArtifactError("the kernel is no bzImage", code="E236", remedy="look at the kernel's package")
    setup = (image[0x1F1] or 4) * 512 + 512
    start = setup + int.from_bytes(image[0x248:0x24C], "little")
    # The payload ends with the size of what is in it.
    payload = image[start : start + int.from_bytes(image[0x24C:0x250], "little") - 4]
    if payload.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(_GZIP):
        return gzip.decompress(payload)
    if tool := _BY_TOOL.get(payload[:4]):
        return subprocess.run([tool, "-dcq"], input=payload, check=True, capture_output=True).stdout
    raise ArtifactError(
        f"the kernel's payload is packed in a way that is not known: {payload[:8].hex()}", code="E236", remedy="add it"
    )


def zboot(image: bytes) -> bytes:
    """Return ``image`` as an EFI zboot kernel: its header, without the EFI program, and the gzip payload.

    Debian's kernels are not built so. Source: Linux drivers/firmware/efi/libstub/zboot-header.S.
    """
    payload = gzip.compress(image, mtime=0)
    header = struct.pack("<2s2x4sII8x32s", b"MZ", b"zimg", _ZBOOT_HEADER, len(payload), b"gzip")
    return header.ljust(_ZBOOT_HEADER, b"\0") + payload


def _forms(guest: GuestKernel, image: bytes, folder: Path) -> None:
    folder.mkdir(parents=True)
    for form in guest.forms:
        if form == "vmlinux":
            data = vmlinux(image)
        elif form == "Image.gz":
            data = gzip.compress(image, mtime=0)
        elif form == "vmlinuz.efi":
            data = zboot(image)
        else:
            data = image
        (folder / form).write_bytes(data)


def _copy_store(store: Store, target: Path) -> None:
    for name in ("sha256", "index"):
        shutil.copytree(store.root / name, target / name)
