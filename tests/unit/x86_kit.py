"""x86 kernels that are no programs: headers around nothing, each field as a test wants it."""

from __future__ import annotations

import struct

MIB = 1 << 20
NOTE = (b"Xen\0", 18)


def bzimage(
    *,
    payload: bytes = b"",
    size: int | None = None,
    setup_sects: int = 1,
    version: int = 0x20F,
    boot_flag: int = 0xAA55,
    loadflags: int = 1,
    xloadflags: int = 0x7F,
    syssize: int | None = None,
    initrd_max: int = 0x7FFF_FFFF,
    alignment: int = 2 * MIB,
    relocatable: int = 1,
    cmdline_size: int = 2047,
    payload_offset: int = 0x2CC,
    payload_length: int | None = None,
    pref_address: int = 16 * MIB,
    init_size: int = 2 * MIB,
    jump: int = 0x6A,
) -> bytes:
    """Return a bzImage with code that is no code, and ``payload`` in it; ``size`` cuts or extends the file."""
    end = payload_offset + len(payload) if payload_offset < 1 << 20 else 0
    code = bytearray(max(end, 0x300) + 15 & ~15)
    if payload_offset + len(payload) <= len(code):
        code[payload_offset : payload_offset + len(payload)] = payload
    head = bytearray(((setup_sects or 4) + 1) * 512)
    head[0x1F1] = setup_sects
    fields = (
        ("<I", 0x1F4, len(code) // 16 if syssize is None else syssize),
        ("<H", 0x1FE, boot_flag),
        ("<BB", 0x200, (0xEB, jump)),
        ("<4s", 0x202, b"HdrS"),
        ("<H", 0x206, version),
        ("<B", 0x211, loadflags),
        ("<I", 0x22C, initrd_max),
        ("<I", 0x230, alignment),
        ("<B", 0x234, relocatable),
        ("<H", 0x236, xloadflags),
        ("<I", 0x238, cmdline_size),
        ("<I", 0x248, payload_offset),
        ("<I", 0x24C, len(payload) if payload_length is None else payload_length),
        ("<Q", 0x258, pref_address),
        ("<I", 0x260, init_size),
    )
    for form, at, value in fields:
        struct.pack_into(form, head, at, *(value if isinstance(value, tuple) else (value,)))
    whole = bytes(head) + bytes(code)
    return whole if size is None else whole[:size].ljust(size, b"\0")


def vmlinux(
    *,
    entry: int = 16 * MIB + 0x10,
    machine: int = 62,
    bits: int = 2,
    order: int = 1,
    segments: tuple[tuple[int, int, int], ...] = ((16 * MIB, 4096, MIB),),
    note: bytes | None = struct.pack("<Q", 16 * MIB + 0x20),
) -> bytes:
    """Return a vmlinux; ``segments`` are (physical address, bytes in the file, bytes in memory)."""
    notes = b"" if note is None else struct.pack("<III", 4, len(note), NOTE[1]) + NOTE[0] + note
    count = len(segments) + bool(notes)
    at = 64 + 56 * count
    ident = struct.pack("<4sBBBB8x", b"\x7fELF", bits, order, 1, 0)
    head = ident + struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, 56, count, 64, 0, 0)
    rows, body = b"", b""
    for physical, in_file, in_memory in segments:
        virtual = physical + 0xFFFF_FFFF_8000_0000 & (1 << 64) - 1
        rows += struct.pack("<IIQQQQQQ", 1, 7, at + len(body), virtual, physical, in_file, in_memory, 4096)
        body += b"\x90" * in_file
    if notes:
        rows += struct.pack("<IIQQQQQQ", 4, 4, at + len(body), 0, 0, len(notes), len(notes), 4)
        body += notes
    return head + rows + body
