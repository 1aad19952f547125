"""The newc cpio archive, the format of a Linux initramfs: entries in, bytes out, the same bytes for the same entries.

Source: Documentation/driver-api/early-userspace/buffer-format.rst of the kernel. Every entry is owned by
root, dated 0 and numbered in order, parents come before their children and names are sorted, so that
nothing of the building host shows in the archive.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable

from vmrun.frozen import frozen

_MAGIC = b"070701"
_TRAILER = b"TRAILER!!!"
_LIMIT = 0xFFFF_FFFF
_PATH_MAX = 4096
"""The kernel's unpacker refuses a name, or a symlink target, of more than PATH_MAX bytes with its NUL."""


@frozen
class Entry:
    """One file of an archive.

    ``name`` is relative, ``/``-separated, without ``.`` or ``..`` parts. ``mode`` has type and permission bits.
    ``data`` is a regular file's content or a symlink's target; ``major`` and ``minor`` number a device node.
    """

    name: bytes
    mode: int
    data: bytes = b""
    major: int = 0
    minor: int = 0


def directory(name: str, mode: int = 0o755) -> Entry:
    """Return a directory entry."""
    return Entry(name.encode(), stat.S_IFDIR | mode)


def regular(name: str, data: bytes, mode: int = 0o644) -> Entry:
    """Return a regular file entry with ``data`` as its content."""
    return Entry(name.encode(), stat.S_IFREG | mode, data)


def symlink(name: str, target: str) -> Entry:
    """Return a symbolic link entry."""
    return Entry(name.encode(), stat.S_IFLNK | 0o777, target.encode())


def character_device(name: str, major: int, minor: int, mode: int = 0o600) -> Entry:
    """Return a character device node."""
    return Entry(name.encode(), stat.S_IFCHR | mode, major=major, minor=minor)


def fifo(name: str, mode: int = 0o600) -> Entry:
    """Return a named pipe."""
    return Entry(name.encode(), stat.S_IFIFO | mode)


def archive(entries: Iterable[Entry]) -> bytes:
    """Return the newc archive of ``entries``, sorted by name.

    Raise ValueError for a name that is empty, absolute, too long or there twice, for a ``.`` or ``..`` part, a NUL, or
    data past 4 GiB - 1: the format cannot say these, or the kernel would unpack them elsewhere.
    """
    ordered = sorted(entries, key=lambda entry: entry.name.split(b"/"))
    parts: list[bytes] = []
    seen: set[bytes] = set()
    for inode, entry in enumerate(ordered, 1):
        _check(entry, seen)
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        parts.append(_header(inode, entry.mode, links, len(entry.data), entry.major, entry.minor, entry.name))
        parts.append(_padded(entry.data))
    parts.append(_header(0, 0, 1, 0, 0, 0, _TRAILER))
    return b"".join(parts)


def _check(entry: Entry, seen: set[bytes]) -> None:
    name = entry.name
    shown = name.decode(errors="backslashreplace")
    if not name or any(part in (b"", b".", b"..") for part in name.split(b"/")) or b"\0" in name:
        raise ValueError(f"`{shown}` is no name for an archive: it must be relative, without empty, `.` or `..` parts")
    if len(name) >= _PATH_MAX:
        raise ValueError(f"a name of {len(name)} bytes is too long for an archive: the limit is {_PATH_MAX - 1}")
    if name == _TRAILER:
        raise ValueError(f"`{shown}` ends an archive and cannot be a name in it")
    if name in seen:
        raise ValueError(f"`{shown}` stands twice in the archive")
    if len(entry.data) > _LIMIT:
        raise ValueError(f"`{shown}` has {len(entry.data)} bytes: an archive holds 4 GiB - 1 a file")
    if stat.S_ISLNK(entry.mode) and not 0 < len(entry.data) < _PATH_MAX:
        raise ValueError(f"the link `{shown}` needs a target of 1 to {_PATH_MAX - 1} bytes")
    seen.add(name)


def _header(inode: int, mode: int, links: int, size: int, major: int, minor: int, name: bytes) -> bytes:
    # ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    fields = (inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, len(name) + 1, 0)
    return _padded(_MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0")


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
