"""virtio disk, served by C. Spec: Virtual I/O Device (VIRTIO) 1.2, section 5.2.

Modes: ``ro``; ``rw``, under an exclusive lock; ``overlay``, where what the guest writes goes to a file without a name,
so that nothing is left however the run ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmrun.devices.model import DeviceType, Driver, HostFailure, Needs, Wires
from vmrun.devices.state import Served
from vmrun.devices.virtio.virtio_mmio import REGISTERS, aml, fdt
from vmrun.errors import HostError
from vmrun.plan.model import DevicePlan
from vmrun.units import format_size

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_ERRORS = {
    errno.EWOULDBLOCK: ("E353", "wait for the other run, or use mode overlay there and here"),
    errno.ENODATA: ("E354", "give it a size: truncate -s 1G FILE"),
    errno.EINVAL: ("E354", "make it whole: truncate -s %512 FILE"),
}

_TOO_LARGE = (errno.EFBIG, errno.EINVAL)


_COUNTERS = ("reads", "writes", "flushes", "errors", "host_errors", "overlay_clusters")
_DOING = ("reading", "writing", "writing zeroes to", "discarding in", "flushing", "the last flush of")
"""By VMR_DISK_*, before the file's name."""


class Disk(Served):
    """A live disk. ``files`` are what a person calls the disk's own file and its overlay's."""

    def __init__(self, machine: CoreMachine, handle: Any, id: str, files: tuple[str, str]) -> None:
        super().__init__(machine, handle, id)
        self._files = files

    def counters(self) -> Mapping[str, int]:
        """Return the requests done, those that failed, also by the host's fault, and the overlay's 4 KiB clusters."""
        from vmrun._core import ffi, lib

        state = ffi.new("vmr_virtio_blk_counters *")
        lib.vmr_virtio_blk_get_counters(self.handle, state)
        return {name: int(getattr(state, name)) for name in _COUNTERS}

    def host_failures(self) -> Sequence[HostFailure]:
        """Return what the host refused, each kind once."""
        from vmrun._core import ffi, lib

        found: list[HostFailure] = []
        entry = ffi.new("vmr_disk_failure *")
        while lib.vmr_virtio_blk_failure_at(self.handle, len(found), entry) == 0:
            file = self._files[entry.overlay]
            found.append(HostFailure(_DOING[entry.doing], file, int(entry.errnum), int(entry.count)))
        return found


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Disk:
    """Attach the disk at the property ``path`` in ``mode``, or an empty one of ``size`` bytes.

    Raise HostError: E352 the file cannot be opened, E353 another run holds it, E354 its size is no disk's; or as
    `scratch` does.
    """
    from vmrun._core import ffi, lib

    path, mode, serial = (device.properties.get(key) for key in ("path", "mode", "serial"))
    modes = {"ro": lib.VMR_DISK_RO, "rw": lib.VMR_DISK_RW, "overlay": lib.VMR_DISK_OVERLAY}
    kind = modes[mode if isinstance(mode, str) else "overlay"] if path is not None else lib.VMR_DISK_RW
    out = ffi.new("vmr_virtio_blk **")
    with contextlib.ExitStack() as opened:
        if path is not None:
            what = f"{device.id}: {path}"
            own = str(path)
            fd = opened.enter_context(_image(own, kind == lib.VMR_DISK_RW, device.id, wires))
        else:
            what = device.id
            size = device.number("size", 0, bits=63)  # off_t has a sign
            fd, folder = opened.enter_context(scratch(device.id, size))
            own = f"its file in {folder}"
        overlay, folder = -1, ""
        if kind == lib.VMR_DISK_OVERLAY:
            overlay, folder = opened.enter_context(scratch(device.id, os.lseek(fd, 0, os.SEEK_END)))
        text = str(serial).encode() if serial is not None else ffi.NULL
        code = lib.vmr_virtio_blk_new(
            machine.handle, device.base, device.size, wires.c_line(), fd, kind, overlay, text, out
        )
    error, remedy = _ERRORS.get(-code, ("E350", None))
    machine.check(code, what, error=error, remedy=remedy)
    return Disk(machine, out[0], device.id, (own, f"its overlay in {folder}"))


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
def scratch(id: str, size: int) -> Iterator[tuple[int, str]]:
    """Open an empty, sparse file of ``size`` bytes that has no name, so that it is gone with its last descriptor.

    Yield it and its folder. Raise HostError: E355 no place for what the guest writes to the disk ``id``; E121 no file
    system there has files of this size (ftruncate(2): EFBIG, EINVAL).
    """
    fd, place = -1, ""
    problem: OSError | None = None
    for folder in _scratch_folders():
        try:
            fd, place = _sized(folder, size), folder
            break
        except OSError as error:
            if problem is None or error.errno in _TOO_LARGE:
                problem = error
    if fd < 0:
        if problem is not None and problem.errno in _TOO_LARGE:
            raise HostError(
                f"{id}: a disk of {format_size(size)} is larger than a file may be where the guest's writes go",
                code="E121",
                errno=problem.errno,
                call="ftruncate",
                remedy="make the disk smaller (ext4 has files of 16TiB), or set TMPDIR to a folder on XFS or Btrfs",
            )
        why = problem.strerror if problem else "no folder"
        raise HostError(
            f"{id}: no place for what the guest writes: {why}", code="E355", remedy="set TMPDIR to a folder with room"
        )
    try:
        yield fd, place
    finally:
        os.close(fd)


def _sized(folder: str, size: int) -> int:
    if size >> 63:  # off_t has a sign
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    fd = _nameless(folder)
    try:
        os.ftruncate(fd, size)
    except OSError:
        os.close(fd)
        raise
    return fd


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
    owner="table",
    driver=Driver("virtio_blk", ("CONFIG_VIRTIO_BLK",)),  # Linux 6.12, drivers/block/Kconfig
    needs=Needs(size=0x200, transport="virtio-mmio"),
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
