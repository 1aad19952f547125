"""The kernel and the initrd as blobs of a plan, and what stands in for them where nobody looked for files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import Blob

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

ASSUMED_KERNEL = 32 << 20
ASSUMED_INITRD = 16 << 20
"""Sizes in bytes of what stands in for artefacts that are not looked for."""


def kernel(files: BootFiles, base: int, detect: Callable[[Source], Kernel]) -> Kernel:
    """Return the kernel as ``detect`` finds it; where nobody looked for one, a stand-in for an Image at ``base``."""
    if files.kernel is None:
        return Kernel("image", "", (Segment(base, 0, ASSUMED_KERNEL, ASSUMED_KERNEL),), base)
    file = files.kernel
    with Source(file.path, key=("boot", "kernel"), name=file.origin or None) as source:
        return detect(source)


def kernel_blobs(file: BootFile | None, segments: Sequence[Segment]) -> tuple[Blob, ...]:
    """Return a kernel's segments; those of no file have no bytes."""
    return tuple(
        Blob(
            f"kernel.{index}" if index else "kernel",
            segment.gpa,
            segment.size,
            segment.reserve,
            path=file.path if file else None,
            offset=segment.offset,
            sha256=(file.sha256 or None) if file else None,
            origin=(file.origin or None) if file else None,
        )
        for index, segment in enumerate(segments)
    )


def initrd_size(manifest: Manifest, files: BootFiles) -> int:
    """Return the initrd's size in bytes, 0 where there is none."""
    if files.initrd is not None:
        return files.initrd.size
    return ASSUMED_INITRD if manifest.boot.initrd is not None else 0


def initrd_blobs(files: BootFiles, gpa: int, size: int) -> tuple[Blob, ...]:
    """Return the initrd of ``size`` bytes at ``gpa``; nothing for none."""
    file = files.initrd
    if not size:
        return ()
    if file is None:
        return (Blob("initrd", gpa, size, size),)
    return (Blob("initrd", gpa, size, size, path=file.path, sha256=file.sha256 or None, origin=file.origin or None),)


def assumed(manifest: Manifest, files: BootFiles) -> Iterator[str]:
    """Yield the names of what a plan was made without."""
    if files.kernel is None:
        yield "kernel"
    if files.initrd is None and manifest.boot.initrd is not None:
        yield "initrd"
    images = dict(files.disks)
    yield from (f"disk.{name}" for name, disk in manifest.disk.items() if disk.url is not None and name not in images)
