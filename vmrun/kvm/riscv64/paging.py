"""Address translation of S-mode, for reports: a walk through the guest's own page tables in its RAM.

Source: RISC-V privileged architecture, chapters "Sv39", "Sv48", "Sv57" and "Svnapot".
"""

from __future__ import annotations

from collections.abc import Callable

_LEVELS = {8: 3, 9: 4, 10: 5}
"""MODE of satp -> levels of its page tables."""
_PAGE_BITS, _INDEX_BITS = 12, 9
_VALID, _LEAF = 1, 0b1110  # V; R, W, X
_PPN_AT, _PPN_MASK = 10, (1 << 44) - 1
_NAPOT = 1 << 63
_NAPOT_PAGES = 16
"""A contiguous range has as many pages: the only size there is, 64 KiB."""
_MODE_AT = 60

Read = Callable[[int, int], bytes]
"""Returns the bytes at a guest-physical address; raises HostError where that is no RAM."""


def translate(read: Read, satp: int, address: int) -> int | None:
    """Return the guest-physical address of a virtual one, None where it is not mapped.

    Raise HostError as ``read``, where a table lies in no RAM.
    """
    mode = satp >> _MODE_AT
    if mode == 0:
        return address
    levels = _LEVELS.get(mode)
    if levels is None or not _canonical(address, _PAGE_BITS + levels * _INDEX_BITS):
        return None
    table = (satp & _PPN_MASK) << _PAGE_BITS
    for level in reversed(range(levels)):
        shift = _PAGE_BITS + level * _INDEX_BITS
        index = address >> shift & (1 << _INDEX_BITS) - 1
        entry = int.from_bytes(read(table + 8 * index, 8), "little")
        if not entry & _VALID:
            return None
        table = (entry >> _PPN_AT & _PPN_MASK) << _PAGE_BITS
        if entry & _LEAF:
            size = 1 << shift
            if level == 0 and entry & _NAPOT:
                size *= _NAPOT_PAGES
            return table & -size | address & size - 1
    return None


def read_virtual(read: Read, satp: int, address: int, size: int) -> bytes:
    """Return up to ``size`` bytes at a virtual address, as far as they are mapped and in RAM."""
    from vmrun.errors import HostError

    found = b""
    try:
        while len(found) < size:
            here = address + len(found)
            gpa = translate(read, satp, here)
            if gpa is None:
                break
            found += read(gpa, min(size - len(found), (1 << _PAGE_BITS) - here % (1 << _PAGE_BITS)))
    except HostError:
        pass  # beyond RAM: what was found so far is better than nothing
    return found


def _canonical(address: int, bits: int) -> bool:
    """Return whether the bits above the translated ones are copies of its highest one."""
    return address >> bits - 1 in (0, (1 << 64 - bits + 1) - 1)
