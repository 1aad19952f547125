"""Whether a disk's image can be what the manifest makes of it, before a machine is built around it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.errors import ArtifactError, Diagnostic

if TYPE_CHECKING:
    from vmrun.schema.models import Disk

SECTOR = 512
_FORMATS = ((b"QFI\xfb", "qcow2"), (b"KDMV", "vmdk"), (b"vhdxfile", "vhdx"), (b"# Disk DescriptorFile", "vmdk"))
"""First bytes of formats that are not raw sectors."""


def findings(name: str, disk: Disk) -> Iterator[Diagnostic]:
    """Yield what is wrong with the image of ``[disk.name]``; nothing for a download or an empty disk."""
    if disk.path is None:
        return
    from vmrun.images import hostfile

    key = ("disk", name, "path")
    path = Path(disk.path).absolute()
    try:
        size = hostfile.inspect(path).st_size
        with path.open("rb") as file:
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
    form = next((form for magic, form in _FORMATS if head.startswith(magic)), None)
    if form is not None and disk.format != "raw":
        yield Diagnostic(
            "E143",
            f"{path} is a {form} image, and vmrun reads raw ones",
            key,
            help=f"convert it: qemu-img convert -O raw {path} disk.img",
        )
