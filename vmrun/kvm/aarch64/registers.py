"""Registers of an arm64 vCPU by the numbers that KVM_GET_ONE_REG takes, and where code lies that a vCPU runs.

Source: Linux ``arch/arm64/include/uapi/asm/kvm.h`` (KVM_REG_ARM_CORE_REG, ARM64_SYS_REG) and ``asm/ptrace.h`` (struct
user_pt_regs); encodings of system registers and translation tables: Arm ARM (DDI 0487), C5.3 and D8.
"""

from __future__ import annotations

from collections.abc import Callable

_U64 = 0x6030_0000_0000_0000  # KVM_REG_ARM64 | KVM_REG_SIZE_U64
_CORE, _SYSTEM = 0x10 << 16, 0x13 << 16


def _core(index: int) -> int:
    """Return the number of the 64-bit word ``index`` of struct kvm_regs, which is counted in words of 32 bits."""
    return _U64 | _CORE | 2 * index


def _system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    return _U64 | _SYSTEM | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2


GENERAL = {f"x{index}": _core(index) for index in range(31)} | {"sp": _core(31), "pc": _core(32), "pstate": _core(33)}
"""What a plan's entry may set."""

SYSTEM = {
    "sp_el1": _core(34),
    "elr_el1": _core(35),
    "spsr_el1": _core(36),
    "sctlr_el1": _system(3, 0, 1, 0, 0),
    "ttbr0_el1": _system(3, 0, 2, 0, 0),
    "ttbr1_el1": _system(3, 0, 2, 0, 1),
    "tcr_el1": _system(3, 0, 2, 0, 2),
    "esr_el1": _system(3, 0, 5, 2, 0),
    "far_el1": _system(3, 0, 6, 0, 0),
    "vbar_el1": _system(3, 0, 12, 0, 0),
    "mpidr_el1": _system(3, 0, 0, 0, 5),
}
"""What else a report says of a vCPU."""

ID_AA64MMFR0_EL1 = _system(3, 0, 0, 7, 0)

_GRANULES = (
    # bytes, lowest bit of the field, the value that says that there is none (DDI 0487, ID_AA64MMFR0_EL1)
    (4 << 10, 28, 0xF),
    (16 << 10, 20, 0x0),
    (64 << 10, 24, 0xF),
)


def granules(mmfr0: int) -> tuple[int, ...]:
    """Return the page sizes in bytes that ID_AA64MMFR0_EL1 tells of."""
    return tuple(size for size, at, none in _GRANULES if mmfr0 >> at & 0xF != none)


# ---- translation -----------------------------------------------------------------------------------------------------

_TG0 = {0b00: 12, 0b01: 16, 0b10: 14}
_TG1 = {0b01: 14, 0b10: 12, 0b11: 16}
_ADDRESS = (1 << 48) - 1
_MMU_ON = 1
_VALID, _TABLE = 1, 2


def translate(registers: dict[str, int], address: int, read: Callable[[int], int | None]) -> int | None:
    """Return the guest-physical address behind a virtual one of EL1, None where it is not mapped.

    ``registers`` has those of `SYSTEM`; ``read(gpa)`` returns the 64-bit descriptor there, None beside RAM. Addresses
    of more than 48 bits are not looked up.
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
