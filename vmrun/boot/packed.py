"""Kernels inside a compressed wrapper: gzip (Image.gz), EFI zboot (vmlinuz.efi), or what `bzimage.payload` finds.

Source: RFC 1952; Linux drivers/firmware/efi/libstub/zboot-header.S and include/linux/pe.h. gzip, xz and lzma are
Python's own; zstd and lz4 are unpacked by the tools of these names.
"""

from __future__ import annotations

import struct
from typing import IO, Protocol

from vmrun.boot.source import Source
from vmrun.errors import PlanError
from vmrun.frozen import frozen
from vmrun.units import format_size

GZIP_MAGIC = b"\x1f\x8b\x08"
_ZBOOT = struct.Struct("<2s2x4sII8x32s")  # MZ, "zimg", payload offset, payload size, compression name
MAX_UNPACKED = 1 << 30
"""No kernel unpacks to more bytes than this; an archive that does is a trap."""
_CHUNK = 1 << 20
_TOOLS = ("zstd", "lz4")
_METHODS = ("gzip", "xz", "lzma", *_TOOLS)
_ZBOOT_NAMES = {"xzkern": "xz", "zstd22": "zstd"}
"""What Makefile.zboot calls methods by the way they are applied."""


@frozen
class Packed:
    """A compressed kernel: ``[offset, offset + size)`` of the file, in ``method`` (gzip, xz, lzma, zstd, lz4)."""

    method: str
    offset: int
    size: int


class _Decompressor(Protocol):
    """What lzma's decompressor offers."""

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
    if head.startswith(GZIP_MAGIC):
        return Packed("gzip", 0, source.size)
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


def unpack(source: Source, packed: Packed, out: IO[bytes]) -> int:
    """Write the unpacked kernel to ``out``; return its bytes.

    Raise PlanError E118 for a damaged or endless archive, or where the tool that unpacks it is not installed.
    """
    if packed.method in _TOOLS:
        return _unpack_by_tool(source, packed, out)
    import lzma
    import zlib

    engine = _decompressor(packed.method)
    at, end, total = packed.offset, packed.offset + packed.size, 0
    while not engine.eof:
        feed = source.read(at, min(_CHUNK, end - at)) if engine.needs_input else b""
        at += len(feed)
        if engine.needs_input and not feed:
            raise _damaged(source, "it ends too early")
        try:
            data = engine.decompress(feed, _CHUNK)
        except (zlib.error, lzma.LZMAError) as error:
            raise _damaged(source, str(error)) from None
        total += len(data)
        if total > MAX_UNPACKED:
            raise _damaged(source, f"it unpacks to more than {format_size(MAX_UNPACKED)}")
        out.write(data)
    return total


def has_tool(method: str) -> bool:
    """Return whether this host can unpack ``method``."""
    import shutil

    return method not in _TOOLS or shutil.which(method) is not None


def _unpack_by_tool(source: Source, packed: Packed, out: IO[bytes]) -> int:
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
        total = 0
        with tool:
            assert tool.stdout is not None
            while total <= MAX_UNPACKED and (data := tool.stdout.read(_CHUNK)):
                total += len(data)
                out.write(data)
            if total > MAX_UNPACKED:
                tool.kill()
    if total > MAX_UNPACKED:
        raise _damaged(source, f"it unpacks to more than {format_size(MAX_UNPACKED)}")
    if tool.returncode or not total:
        raise _damaged(source, f"{packed.method} refuses it")
    return total


def _decompressor(method: str) -> _Decompressor:
    if method == "gzip":
        return _Gzip()
    import lzma

    return lzma.LZMADecompressor(lzma.FORMAT_XZ if method == "xz" else lzma.FORMAT_ALONE)


def _damaged(source: Source, why: str) -> PlanError:
    return PlanError(
        f"{source.name}: the compressed kernel is damaged: {why}",
        code="E118",
        key=source.key,
        remedy="fetch or build it again",
    )
