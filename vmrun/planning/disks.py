"""Whether a disk's image can be what the manifest makes of it, before a machine is built around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun import regular
from vmrun.errors import ArtifactError, Diagnostic, HostError

if TYPE_CHECKING:
    from vmrun.schema.models import Disk

SECTOR = 512
_FORMATS = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"), (b"# Disk DescriptorFile", "vmdk"))
"""First bytes of formats that are not raw sectors."""


def findings(name: str, disk: Disk) -> Iterator[Diagnostic]:
    """Yield what is wrong with the image of ``[disk.name]``, or with an empty disk's size; nothing for a download."""
    if disk.path is None:
        if disk.size is not None:
            yield from _room(name, "size", disk.size)
        return
    from vmrun.images import hostfile

    key = ("disk", name, "path")
    path = Path(disk.path).absolute()
    try:
        size = hostfile.inspect(path).st_size
        with regular.open_file(path) as file:
            head = file.read(32)
    except ArtifactError as error:
        yield Diagnostic(error.code, error.message, key, help=error.remedy)
        return
    except OSError as error:
        yield Diagnostic("E204", f"cannot read {path}: {error.strerror}", key, help="make it readable for this user")
        return
    if disk.mode == "rw" and not os.access(path, os.W_OK):
        yield Diagnostic(
            "E142",
            f"{path} is read-only, and the disk is `rw`",
            ("disk", name, "mode"),
            help='make it writable, or use mode = "overlay"',
        )
    if size % SECTOR:
        yield Diagnostic(
            "E141",
            f"{path} has {size} bytes, no multiple of {SECTOR}",
            key,
            help=f"make it whole: truncate -s %{SECTOR} {path}",
            severity="error" if disk.mode == "rw" else "warning",
        )
    if disk.mode == "overlay":
        yield from _room(name, "path", size)
    form = next((form for magic, form in _FORMATS if head.startswith(magic)), None)
    if form is not None and disk.format != "raw":
        yield Diagnostic(
            "E143",
            f"{path} is a {form} image, and vmrun reads raw ones",
            key,
            help=f"convert it: qemu-img convert -O raw {path} disk.img",
        )


def _room(name: str, key: str, size: int) -> Iterator[Diagnostic]:
    """Yield E121 where no file here can be as large as the disk, so that nothing could hold what the guest writes."""
    from vmrun.devices.virtio.virtio_blk import scratch

    try:
        with scratch(f"disk.{name}", size):
            return
    except HostError as error:
        if error.code == "E121":  # that a folder has no room is for the run to find
            yield Diagnostic(error.code, error.message, ("disk", name, key), help=error.remedy)
