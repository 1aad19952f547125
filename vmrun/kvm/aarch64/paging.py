"""Address translation of EL1, for reports: a walk through the guest's own tables in its RAM.

Source: Arm ARM (DDI 0487), D8 (VMSAv8-64).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

_TG0 = {0b00: 12, 0b01: 16, 0b10: 14}
_TG1 = {0b01: 14, 0b10: 12, 0b11: 16}
_ADDRESS = (1 << 48) - 1
_MMU_ON = 1
_VALID, _TABLE = 1, 2


def translate(registers: Mapping[str, int], address: int, read: Callable[[int], int | None]) -> int | None:
    """Return the guest-physical address behind a virtual one of EL1, None where it is not mapped.

    ``registers`` has those of `registers.SYSTEM`; ``read(gpa)`` returns the 64-bit descriptor there, None beside
    RAM. Addresses of more than 48 bits are not looked up.
    """
    if not registers["sctlr_el1"] & _MMU_ON:
        return address
    tcr, high = registers["tcr_el1"], address >> 55 & 1
    shift = (_TG1 if high else _TG0).get(tcr >> (30 if high else 14) & 3)
    bits = 64 - (tcr >> (16 if high else 0) & 0x3F)
    if shift is None or bits > 48 or bits <= shift:
        return None
    stride = shift - 3
    levels = -(-(bits - shift) // stride)
    table = registers["ttbr1_el1" if high else "ttbr0_el1"] & _ADDRESS & ~1
    for level in range(4 - levels, 4):
        below = shift + stride * (3 - level)
        index = (address & (1 << bits) - 1) >> below & (1 << stride) - 1
        found = read(table + 8 * index)
        if found is None or not found & _VALID or (level == 3 and not found & _TABLE):
            return None
        output = found & _ADDRESS & -(1 << shift)
        if level == 3 or not found & _TABLE:
            return output & -(1 << below) | address & (1 << below) - 1
        table = output
    return None
