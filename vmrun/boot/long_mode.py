"""The processor state of the 64-bit boot protocol: control registers, descriptors and identity page tables.

Source: Linux Documentation/arch/x86/boot.rst, "64-bit BOOT PROTOCOL"; Intel SDM 3A, sections 3.4.5 (segment
descriptors), 2.2.1 (EFER), 2.5 (control registers) and 4.5.4 (4-level paging).
"""

from __future__ import annotations

import struct

CR0_PROTECTED = 0x11
"""Protection on (PE), and the bit that always is (ET)."""
CR0_PAGING = 1 << 31 | CR0_PROTECTED
CR4_PAE = 1 << 5
EFER = 0x500
"""Long mode enabled and active (LME, LMA)."""

_CODE_64 = 0x00AF_9B00_0000_FFFF
"""Flat, present, accessed, readable code in 64-bit mode."""
_DATA = 0x00CF_9300_0000_FFFF
"""Flat, present, accessed, writable data."""
_PRESENT_WRITABLE = 0x3
_LARGE = 0x80
_LARGE_PAGE = 2 << 20
GDT = struct.pack("<4Q", 0, 0, _CODE_64, _DATA)
"""__BOOT_CS is selector 0x10, __BOOT_DS is 0x18."""


def table(next_table: int, count: int = 1) -> bytes:
    """Return a page table whose first ``count`` entries are the tables at ``next_table`` and in the pages after it."""
    return struct.pack(f"<{count}Q", *(next_table + 4096 * index | _PRESENT_WRITABLE for index in range(count)))


def directories(count: int) -> bytes:
    """Return page directories that map the first ``count`` GiB to themselves, in pages of 2 MiB."""
    pages = range(512 * count)
    return struct.pack(f"<{len(pages)}Q", *(page * _LARGE_PAGE | _LARGE | _PRESENT_WRITABLE for page in pages))
