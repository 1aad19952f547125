"""virtio disk, served by C. Spec: Virtual I/O Device (VIRTIO) 1.2, section 5.2.

Modes: ``ro``; ``rw``, under an exclusive lock; ``overlay``, where what the guest writes goes to a file without a name,
so that nothing is left however the run ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmrun.devices.model import DeviceType, Needs, Wires, irq_of
from vmrun.devices.virtio.virtio_mmio import REGISTERS, aml, fdt
from vmrun.errors import HostError
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_ERRORS = {
    errno.EWOULDBLOCK: ("E353", "wait for the other run, or use mode overlay there and here"),
    errno.ENODATA: ("E354", "give it a size: truncate -s 1G FILE"),
    errno.EINVAL: ("E354", "make it whole: truncate -s %512 FILE"),
}


class Disk:
    """A live disk."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def counters(self) -> Mapping[str, int]:
        """Return the requests done, those that failed, and how many 4 KiB clusters the overlay holds."""
        from vmrun._core import ffi, lib

        state = ffi.new("vmr_virtio_blk_state *")
        lib.vmr_virtio_blk_get_state(self.handle, state)
        return {
            name: int(getattr(state, name)) for name in ("reads", "writes", "flushes", "errors", "overlay_clusters")
        }


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Disk:
    """Attach the disk at the property ``path`` in ``mode``, or an empty one of ``size`` bytes.

    Raise HostError: E352 the file cannot be opened, E353 another run holds it, E354 its size is no disk's, E355 no
    place for what the guest writes.
    """
    from vmrun._core import ffi, lib

    path, mode, serial = (device.properties.get(key) for key in ("path", "mode", "serial"))
    modes = {"ro": lib.VMR_DISK_RO, "rw": lib.VMR_DISK_RW, "overlay": lib.VMR_DISK_OVERLAY}
    kind = modes[mode if isinstance(mode, str) else "overlay"] if path is not None else lib.VMR_DISK_RW
    out = ffi.new("vmr_virtio_blk **")
    with contextlib.ExitStack() as opened:
        if path is not None:
            what = f"{device.id}: {path}"
            fd = opened.enter_context(_image(str(path), kind == lib.VMR_DISK_RW, device.id, wires))
        else:
            what = device.id
            fd = opened.enter_context(_scratch(device.id))
            size = device.properties.get("size", 0)
            assert isinstance(size, int)
            os.ftruncate(fd, size)
        overlay = opened.enter_context(_scratch(device.id)) if kind == lib.VMR_DISK_OVERLAY else -1
        text = str(serial).encode() if serial is not None else ffi.NULL
        code = lib.vmr_virtio_blk_new(
            machine.handle, device.base, device.size, irq_of(device), fd, kind, overlay, text, out
        )
    error, remedy = _ERRORS.get(-code, ("E350", None))
    machine.check(code, what, error=error, remedy=remedy)
    return Disk(out[0])


@contextlib.contextmanager
def _image(path: str, writable: bool, id: str, wires: Wires) -> Iterator[int]:
    flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK  # no wait for a pipe's other side
    try:
        fd = wires.open_file(path, flags)
    except OSError as error:
        read_only = writable and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM)
        raise HostError(
            f"{id}: {path}: {error.strerror}" + (" for writing" if read_only else ""),
            code="E352",
            errno=error.errno,
            call="open",
            remedy='make it writable, or use mode = "overlay"' if read_only else "give the path of a raw disk image",
        ) from None
    try:
        form = os.fstat(fd).st_mode
        if not (stat.S_ISREG(form) or stat.S_ISBLK(form)):
            what = "a directory" if stat.S_ISDIR(form) else "neither a file nor a block device"
            raise HostError(f"{id}: {path} is {what}", code="E352", remedy="give the path of a raw disk image")
        yield fd
    finally:
        os.close(fd)


def _scratch_folders() -> Iterator[str]:
    """Yield where writes may go: what the user says, the cache, which is rarely memory, then the common places."""
    for name in ("TMPDIR", "XDG_CACHE_HOME"):
        if os.environ.get(name):
            yield os.environ[name]
    yield str(Path("~/.cache").expanduser())
    yield from ("/var/tmp", "/tmp")


@contextlib.contextmanager
def _scratch(id: str) -> Iterator[int]:
    """Open an empty file that has no name, so that it is gone with its last descriptor."""
    fd = -1
    problem: OSError | None = None
    for folder in _scratch_folders():
        try:
            fd = _nameless(folder)
            break
        except OSError as error:
            problem = problem or error
    if fd < 0:
        why = problem.strerror if problem else "no folder"
        raise HostError(
            f"{id}: no place for what the guest writes: {why}", code="E355", remedy="set TMPDIR to a folder with room"
        )
    try:
        yield fd
    finally:
        os.close(fd)


def _nameless(folder: str) -> int:
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
    import tempfile  # a file system that knows no nameless files

    fd, path = tempfile.mkstemp(prefix="vmrun-", dir=folder)
    Path(path).unlink()
    return fd


DEVICE = DeviceType(
    kind="virtio-blk",
    doc="raw disk: read-only, written, or under an overlay",
    needs=Needs(size=0x200, transport="virtio-mmio"),
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
