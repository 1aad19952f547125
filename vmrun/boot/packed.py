"""Kernels inside a compressed wrapper: Image.gz and its kin, EFI zboot (vmlinuz.efi), or what `bzimage.payload` finds.

Source: Linux scripts/Makefile.lib (the methods of the kernel's own build), drivers/firmware/efi/libstub/zboot-header.S
and include/linux/pe.h; RFC 1952 (gzip), RFC 8878 (zstd), The .xz File Format 1.2, lz4_Frame_format.md (both formats),
The .lzma File Format (XZ Utils, lzma-file-format.txt), lzop's src/lzop.c. gzip, bzip2, xz and lzma are Python's own;
zstd and lz4 are unpacked by the tools of these names; lzo by nobody here.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Generator
from typing import IO, Protocol

from vmrun.boot.source import Source
from vmrun.errors import PlanError
from vmrun.frozen import frozen
from vmrun.units import format_size

GZIP_MAGIC = b"\x1f\x8b\x08"
MAGICS = (
    (GZIP_MAGIC, "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x02\x21\x4c\x18", "lz4"),  # the legacy format, which the kernel's build makes
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x89LZO\0\r\n\x1a\n", "lzo"),
)
_ELF = b"\x7fELF"
_ZBOOT = struct.Struct("<2s2x4sII8x32s")  # MZ, "zimg", payload offset, payload size, compression name
MAX_UNPACKED = 1 << 30
"""No kernel unpacks to more bytes than this; an archive that does is a trap."""
_MEMORY = 1 << 30
"""Bytes of memory that unpacking may take: an archive says itself how large its dictionary is."""
_CHUNK = 1 << 20
_TOOLS = ("zstd", "lz4")
_METHODS = ("gzip", "bzip2", "xz", "lzma", *_TOOLS)
_ZBOOT_NAMES = {"xzkern": "xz", "zstd22": "zstd"}
"""What Makefile.zboot calls methods by the way they are applied."""


@frozen
class Packed:
    """A compressed kernel: ``[offset, offset + size)`` of the file, in ``method``, one that vmrun can unpack."""

    method: str
    offset: int
    size: int


class _Decompressor(Protocol):
    """What the decompressors of lzma and bz2 offer."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of lzma's."""

    def __init__(self) -> None:
        import zlib

        self._zlib = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def recognise(source: Source) -> Packed | None:
    """Return how ``source`` is packed, None where it is not. Raise PlanError E118 for a method vmrun cannot unpack."""
    head = source.read(0, 56)
    whole = next((method for magic, method in MAGICS if head.startswith(magic)), None)
    whole = whole or ("lzma" if _is_lzma(head) else None)
    if whole == "lzo":
        raise PlanError(
            f"{source.name}: a kernel packed by lzo, which vmrun cannot unpack",
            code="E118",
            key=source.key,
            remedy="name the Image itself, or unpack it: lzop -d",
        )
    if whole is not None:
        return Packed(whole, 0, source.size)
    if len(head) < _ZBOOT.size or head[:2] != b"MZ" or head[4:8] != b"zimg":
        return None
    _, _, offset, size, name = _ZBOOT.unpack_from(head)
    method = name.split(b"\0")[0].decode("ascii", "replace")
    if offset + size > source.size or size == 0:
        raise _damaged(source, f"payload [{offset:#x}, {offset + size:#x}) of {source.size:#x} bytes")
    method = _ZBOOT_NAMES.get(method, method)
    if method not in _METHODS:
        raise PlanError(
            f"{source.name}: an EFI zboot kernel packed with `{method}`, which vmrun cannot unpack",
            code="E118",
            key=source.key,
            remedy="name the Image itself",
        )
    return Packed(method, offset, size)


def _is_lzma(head: bytes) -> bool:
    """Return whether ``head`` starts a .lzma file, which has no magic: its fields have to be what an encoder writes."""
    if len(head) < 14 or head[0] >= 9 * 5 * 5 or head[13]:  # lc, lp, pb; the range coder's first byte is 0
        return False
    dictionary, size = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:13], "little")
    power = 1 << max(dictionary.bit_length() - 1, 0)
    return dictionary >= 4096 and dictionary in (power, power + power // 2) and (size == 2**64 - 1 or size < 1 << 38)


def unpack(source: Source, packed: Packed, out: IO[bytes], ram: int | None = None) -> int:
    """Write the unpacked kernel to ``out``; return its bytes.

    It has to fit into ``ram`` bytes (None: however many), unless it is an ELF, of which only a part is loaded. Raise
    PlanError: E118 for a damaged or endless archive, or where the tool that unpacks it is not installed; E114 for one
    that does not fit.
    """
    total, limit = 0, MAX_UNPACKED if ram is None else min(ram, MAX_UNPACKED)
    pieces = _by_tool(source, packed) if packed.method in _TOOLS else _by_library(source, packed)
    with contextlib.closing(pieces):
        for data in pieces:
            if not total and data.startswith(_ELF):
                limit = MAX_UNPACKED
            total += len(data)
            if total > limit:
                raise _too_large(source, limit)
            out.write(data)
    return total


def _too_large(source: Source, limit: int) -> PlanError:
    if limit == MAX_UNPACKED:
        return _damaged(source, f"it unpacks to more than {format_size(MAX_UNPACKED)}")
    return PlanError(
        f"{source.name}: the kernel unpacks to more than the {format_size(limit)} of RAM",
        code="E114",
        key=source.key,
        remedy="set a larger memory.size, or name another kernel",
    )


def has_tool(method: str) -> bool:
    """Return whether this host can unpack ``method``."""
    import shutil

    return method not in _TOOLS or shutil.which(method) is not None


def _by_library(source: Source, packed: Packed) -> Generator[bytes, None, None]:
    import lzma
    import zlib

    at, end = packed.offset, packed.offset + packed.size
    try:
        engine = _decompressor(packed.method)
        while not engine.eof:
            feed = source.read(at, min(_CHUNK, end - at)) if engine.needs_input else b""
            at += len(feed)
            if engine.needs_input and not feed:
                raise _damaged(source, "it ends too early")
            yield engine.decompress(feed, _CHUNK)
    except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
        raise _damaged(source, str(error)) from None


def _by_tool(source: Source, packed: Packed) -> Generator[bytes, None, None]:
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as payload:
        for at in range(packed.offset, packed.offset + packed.size, _CHUNK):
            payload.write(source.read(at, min(_CHUNK, packed.offset + packed.size - at)))
        payload.seek(0)
        try:
            tool = subprocess.Popen(
                [packed.method, "-dc"], stdin=payload, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except FileNotFoundError:
            raise PlanError(
                f"{source.name}: the kernel inside is packed by {packed.method}, which this host lacks",
                code="E118",
                key=source.key,
                remedy=f"install {packed.method}",
            ) from None
        some = False
        with tool:
            assert tool.stdout is not None
            try:
                while data := tool.stdout.read(_CHUNK):
                    some = True
                    yield data
            except BaseException:  # a reader that has had enough
                tool.kill()
                raise
    if tool.returncode or not some:
        raise _damaged(source, f"{packed.method} refuses it")


def _decompressor(method: str) -> _Decompressor:
    if method == "gzip":
        return _Gzip()
    if method == "bzip2":
        import bz2

        return bz2.BZ2Decompressor()
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ if method == "xz" else lzma.FORMAT_ALONE, memlimit=_MEMORY)


def _damaged(source: Source, why: str) -> PlanError:
    return PlanError(
        f"{source.name}: the compressed kernel is damaged: {why}",
        code="E118",
        key=source.key,
        remedy="fetch or build it again",
    )
