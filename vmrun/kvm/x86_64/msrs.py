"""Model-specific registers that firmware would have set before a kernel starts, as data.

Source: Intel SDM vol. 4, table 2-2; what Linux reads of them: ``arch/x86/kernel/cpu/intel.c`` and ``mtrr/``.
"""

from __future__ import annotations

from vmrun.frozen import frozen


@frozen
class Msr:
    """A register, its value, and what it is for."""

    name: str
    number: int
    value: int
    purpose: str


MTRR_ENABLE = 1 << 11
WRITE_BACK = 6

AT_ENTRY = (
    Msr("IA32_MISC_ENABLE", 0x1A0, 1, "fast string instructions: without the bit Linux masks `rep_good` and `erms`"),
    Msr("IA32_MTRR_DEF_TYPE", 0x2FF, MTRR_ENABLE | WRITE_BACK, "all memory is cached, as firmware leaves it"),
)
