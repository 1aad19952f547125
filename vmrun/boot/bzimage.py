"""bzImage: x86 Linux in a wrapper that unpacks it, with a setup header that says how to load it.

Source: Linux Documentation/arch/x86/boot.rst (field by field; "64-bit BOOT PROTOCOL") and
arch/x86/include/uapi/asm/bootparam.h. Every number of the header is checked against the file before it is used.
"""

from __future__ import annotations

from vmrun.boot.kernel import Segment
from vmrun.boot.packed import GZIP_MAGIC, Packed
from vmrun.boot.source import Source, truncated
from vmrun.boot.x86_kernel import X86Kernel
from vmrun.errors import PlanError
from vmrun.frozen import frozen
from vmrun.units import format_size

HEADER_AT = 0x1F1
"""Where the setup header starts, in the file and in the boot parameters."""
_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_LAST_FIELD_END = 0x264
"""Protocol 2.12 ends with handover_offset there; all that is read here lies before."""
HEADER_LIMIT = 0x290
"""The boot parameters have another use for what follows (edd_mbr_sig_buffer)."""
_SECTOR = 512
_ENTRY_64 = 0x200
_LOADED_HIGH = 1
_XLF_KERNEL_64 = 1
_LOW_MEMORY_END, _TOP = 1 << 20, 1 << 32
_MAX_CMDLINE = 64 << 10
_PAYLOADS = (
    # arch/x86/boot/compressed/Makefile: the method, the payload's first bytes, and whether a size of 4 bytes follows
    ("gzip", GZIP_MAGIC, False),
    ("xz", b"\xfd7zXZ\0", True),
    ("zstd", b"\x28\xb5\x2f\xfd", True),
    ("lz4", b"\x02\x21\x4c\x18", True),
    ("lzma", b"\x5d\x00\x00", True),
)
_UNKNOWN_PAYLOADS = ((b"BZh", "bzip2"), (b"\x89LZO", "lzo"))


@frozen
class Header:
    """A setup header that holds. ``code_at`` and ``code_size`` are the protected-mode code's bytes in the file.

    ``raw`` are the bytes from HEADER_AT on. ``payload`` is (offset, size) in the file of the compressed kernel.
    """

    version: int
    raw: bytes
    code_at: int
    code_size: int
    initrd_max: int
    cmdline_max: int
    address: int
    init_size: int
    payload: tuple[int, int]

    def version_words(self) -> str:
        """Return the protocol's version as the documentation writes it."""
        return f"{self.version >> 8}.{self.version & 0xFF:02}"


def is_bzimage(head: bytes) -> bool:
    """Return whether a file that starts with ``head`` has a setup header."""
    return head[_MAGIC_AT : _MAGIC_AT + 4] == _MAGIC


def read(source: Source) -> Header:
    """Return the setup header of ``source``, which `is_bzimage`.

    Raise PlanError: E111 truncated, E112 for 32-bit x86, E117 a header that cannot be, E119 a protocol without an entry
    in 64-bit mode.
    """
    head = source.read(0, HEADER_LIMIT)
    if len(head) < _LAST_FIELD_END:
        raise truncated(source, _LAST_FIELD_END)
    end = _MAGIC_AT + head[0x201]
    version = _u16(head, 0x206)
    if _u16(head, 0x1FE) != 0xAA55:
        raise _malformed(source, f"has boot flag {_u16(head, 0x1FE):#06x}, not 0xaa55")
    if version < 0x20C or not head[0x211] & _LOADED_HIGH:
        kind = f"boot protocol {version >> 8}.{version & 0xFF:02}" if version < 0x20C else "a zImage"
        raise PlanError(
            f"{source.name}: {kind}, which has no entry in 64-bit mode",
            code="E119",
            key=source.key,
            remedy="use a kernel of 3.8 or later (boot protocol 2.12), or its vmlinux",
        )
    if not _u16(head, 0x236) & _XLF_KERNEL_64:
        raise PlanError(
            f"{source.name}: a bzImage for 32-bit x86, and the board runs x86_64",
            code="E112",
            key=source.key,
            remedy="name an x86_64 kernel",
        )
    if not _LAST_FIELD_END <= end <= HEADER_LIMIT or end > len(head):
        raise _malformed(source, f"ends at {end:#x}, not in [{_LAST_FIELD_END:#x}, {HEADER_LIMIT:#x}]")
    code_at = ((head[HEADER_AT] or 4) + 1) * _SECTOR
    code_size = _u32(head, 0x1F4) * 16
    if code_size <= _ENTRY_64:
        raise _malformed(source, f"has {code_size} bytes of code")
    if code_at + code_size > source.size:
        raise truncated(source, code_at + code_size)
    payload_at, payload_size = _u32(head, 0x248), _u32(head, 0x24C)
    if payload_at + payload_size > code_size:
        raise _malformed(
            source, f"has a payload at [{payload_at:#x}, {payload_at + payload_size:#x}) of {code_size:#x} bytes"
        )
    return Header(
        version,
        head[HEADER_AT:end],
        code_at,
        code_size,
        _u32(head, 0x22C),
        _cmdline_max(source, head),
        _address(source, head),
        _init_size(source, head, code_size),
        (code_at + payload_at, payload_size),
    )


def _cmdline_max(source: Source, head: bytes) -> int:
    size = _u32(head, 0x238)
    if not 0 < size <= _MAX_CMDLINE:
        raise _malformed(source, f"takes a command line of {size} bytes")
    return size


def _address(source: Source, head: bytes) -> int:
    """Return where the code is loaded: the preferred address, where a kernel that is not relocatable runs anyway."""
    address, align = _u64(head, 0x258), _u32(head, 0x230)
    relocatable = bool(head[0x234])
    if align == 0 or align & (align - 1):
        raise _malformed(source, f"asks for an alignment of {align:#x}, which is no power of two")
    if not _LOW_MEMORY_END <= address < _TOP or (relocatable and address % align):
        raise _malformed(source, f"prefers address {address:#x} with alignment {align:#x}")
    return address


def _init_size(source: Source, head: bytes, code_size: int) -> int:
    size = _u32(head, 0x260)
    if size < code_size:
        raise _malformed(source, f"needs {size:#x} bytes to start, and is {code_size:#x} bytes large")
    return size


def place(source: Source) -> X86Kernel:
    """Return the kernel where its header wants it, entered in 64-bit mode. Raise PlanError as `read`."""
    header = read(source)
    segment = Segment(header.address, header.code_at, header.code_size, header.init_size)
    about = f"bzImage, protocol {header.version_words()}, {format_size(header.code_size)}"
    return X86Kernel(
        "bzimage", about, (segment,), header.address + _ENTRY_64, header.raw, header.initrd_max, header.cmdline_max
    )


def payload(source: Source) -> Packed:
    """Return the compressed vmlinux in ``source``.

    Raise PlanError as `read`, and E118 where there is none, or where vmrun cannot unpack its method.
    """
    at, size = read(source).payload
    head = source.read(at, 8)
    for method, magic, sized in _PAYLOADS:
        if head.startswith(magic) and size > 4:
            return Packed(method, at, size - 4 if sized else size)
    method = next((name for magic, name in _UNKNOWN_PAYLOADS if head.startswith(magic)), "an unknown method")
    raise PlanError(
        f"{source.name}: the kernel inside is packed by {method}, which vmrun cannot unpack",
        code="E118",
        key=source.key,
        remedy='write protocol = "bzimage" in [boot], or name its vmlinux',
    )


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _malformed(source: Source, what: str) -> PlanError:
    return PlanError(
        f"{source.name}: the bzImage's header {what}", code="E117", key=source.key, remedy="fetch or build it again"
    )
