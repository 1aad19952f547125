"""Registers of an arm64 vCPU by the numbers that KVM_GET_ONE_REG takes.

Source: Linux ``arch/arm64/include/uapi/asm/kvm.h`` (KVM_REG_ARM_CORE_REG, ARM64_SYS_REG) and ``asm/ptrace.h`` (struct
user_pt_regs); encodings of system registers: Arm ARM (DDI 0487), C5.3.
"""

from __future__ import annotations

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

WRITABLE = {name: number for name, number in (GENERAL | SYSTEM).items() if name != "mpidr_el1"}
"""What is saved of a vCPU: its number in the machine is the plan's."""

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
