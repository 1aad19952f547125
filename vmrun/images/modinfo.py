"""What a kernel module says of itself: the ``.modinfo`` section of its ELF object, through any compression.

Sources: the ELF-64 object file format; include/linux/moduleinfo and scripts/mod/modpost.c of the kernel for the
``key=value`` strings, NUL-terminated. Every offset is checked: a module comes out of a download.
"""

from __future__ import annotations

import struct

from vmrun.errors import ArtifactError
from vmrun.frozen import frozen

SUFFIXES = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")

_LARGEST = 256 << 20
"""Bytes that a module may unpack to; the largest of Debian's (amdgpu) has a tenth of it."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


@frozen
class ModuleInfo:
    """A module's own words. Names are normalised; ``pre`` and ``post`` are its soft dependencies."""

    name: str
    depends: tuple[str, ...]
    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()


def normalise(name: str) -> str:
    """Return a module's name as the kernel writes it: without folder and suffix, ``-`` as ``_``."""
    base = name.rpartition("/")[2]
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        base = base.removesuffix(suffix)
    return base.replace("-", "_")


def decompress(path: str, data: bytes) -> bytes:
    """Return the ELF object in ``data``, compressed as the suffix of ``path`` says. Raise ArtifactError otherwise."""
    if path.endswith(".ko"):
        return data
    import lzma
    import zlib

    try:
        if path.endswith(".xz"):
            unpacker = lzma.LZMADecompressor(memlimit=_LARGEST)
            unpacked = unpacker.decompress(data, _LARGEST + 1)
            whole = unpacker.eof
        elif path.endswith(".gz"):
            inflater = zlib.decompressobj(wbits=31)
            unpacked = inflater.decompress(data, _LARGEST + 1)
            whole = inflater.eof
        else:
            unpacked, whole = _unzstd(path, data), True
    except (lzma.LZMAError, zlib.error, EOFError) as error:
        raise broken(path, f"it does not unpack: {error}") from None
    if not whole or len(unpacked) > _LARGEST:
        raise broken(path, "it is cut short, or unpacks to more than a module can be")
    return unpacked


def parse(path: str, data: bytes) -> ModuleInfo:
    """Return what the ELF object ``data`` says of itself. Raise ArtifactError E241 where it is no module."""
    strings = _modinfo(path, data).split(b"\0")
    fields: dict[str, list[str]] = {}
    for entry in strings:
        key, _, value = entry.partition(b"=")
        fields.setdefault(key.decode(errors="replace"), []).append(value.decode(errors="replace"))
    depends = tuple(normalise(name) for name in ",".join(fields.get("depends", [])).split(",") if name)
    pre: list[str] = []
    post: list[str] = []
    for words in fields.get("softdep", []):
        into = pre
        for word in words.split():
            if word in ("pre:", "post:"):
                into = pre if word == "pre:" else post
            else:
                into.append(normalise(word))
    name = fields.get("name", [normalise(path)])[0]
    return ModuleInfo(normalise(name), depends, tuple(pre), tuple(post))


def broken(path: str, why: str) -> ArtifactError:
    """Return the error for a module that cannot be read."""
    return ArtifactError(
        f"the kernel module {path} is damaged: {why}",
        code="E241",
        remedy="run `vmrun fetch --verify`, then `vmrun fetch`",
    )


def _modinfo(path: str, data: bytes) -> bytes:
    if len(data) < _HEADER.size or data[:4] != b"\x7fELF":
        raise broken(path, "it is no ELF object")
    ident, kind, _, _, _, _, offset, _, _, _, _, entry_size, count, names_index = _HEADER.unpack_from(data)
    if ident[4:6] != b"\x02\x01" or kind != 1 or entry_size != _SECTION.size:
        raise broken(path, "it is no relocatable 64-bit little-endian object")
    if names_index >= count or offset + count * entry_size > len(data):
        raise broken(path, "its section table lies outside the file")
    sections = [_SECTION.unpack_from(data, offset + index * entry_size) for index in range(count)]
    names = _content(path, data, sections[names_index])
    for section in sections:
        start = section[0]
        end = names.find(b"\0", start)
        if end >= 0 and names[start:end] == b".modinfo":
            return _content(path, data, section)
    raise broken(path, "it has no .modinfo section")


def _content(path: str, data: bytes, section: tuple[int, ...]) -> bytes:
    kind, offset, size = section[1], section[4], section[5]
    if kind == 8 or offset + size > len(data):  # SHT_NOBITS has no bytes in the file
        raise broken(path, "a section lies outside the file")
    return data[offset : offset + size]


def _unzstd(path: str, data: bytes) -> bytes:
    """Return what zstd makes of ``data``, cut one byte behind the largest module."""
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as packed:
        packed.write(data)
        packed.seek(0)
        try:
            tool = subprocess.Popen(["zstd", "-dcq"], stdin=packed, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            raise ArtifactError(
                f"the kernel module {path} is packed by zstd, which this host lacks", code="E244", remedy="install zstd"
            ) from None
        with tool:
            assert tool.stdout is not None
            unpacked = tool.stdout.read(_LARGEST + 1)
            if len(unpacked) > _LARGEST:
                tool.kill()
    if tool.returncode and len(unpacked) <= _LARGEST:
        raise broken(path, "it does not unpack: zstd refuses it")
    return unpacked
