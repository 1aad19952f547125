"""What the tests of KVM on arm64 share: a machine with RAM and vCPUs, and code in EL1 that ends by PSCI.

Encodings: Arm ARM (DDI 0487), C6.2.
"""

from __future__ import annotations

import struct
from typing import Any

from kvm_lab import KvmLab

from vmrun.plan.model import EntryPlan

RAM = 0x4000_0000
CODE, DATA = RAM + 0x1000, RAM + 0x10_0000
SYSTEM_OFF, SYSTEM_RESET, CPU_ON = 0x8400_0008, 0x8400_0009, 0xC400_0003  # Arm DEN 0022
_LOG = {1: 0, 2: 1, 4: 2, 8: 3}


def words(*found: int) -> bytes:
    return struct.pack(f"<{len(found)}I", *found)


def mov(register: int, value: int) -> bytes:
    """Return movz and movk: all 64 bits."""
    parts = [value >> 16 * part & 0xFFFF for part in range(4)]
    return words(*((0xF2800000 if n else 0xD2800000) | n << 21 | part << 5 | register for n, part in enumerate(parts)))


def store(size: int, value: int, base: int) -> bytes:
    return words(0x39000000 | _LOG[size] << 30 | base << 5 | value)


def load(size: int, value: int, base: int) -> bytes:
    return words(0x39400000 | _LOG[size] << 30 | base << 5 | value)


def write(size: int, address: int, value: int) -> bytes:
    return mov(10, address) + mov(11, value) + store(size, 11, 10)


def system(op0: int, op1: int, crn: int, crm: int, op2: int) -> int:
    return op0 << 19 | op1 << 16 | crn << 12 | crm << 8 | op2 << 5


def msr(register: int, value: int) -> bytes:
    """Return code that sets a system register, and waits until it holds."""
    return mov(11, value) + words(0xD5000000 | register | 11, 0xD5033FDF)


def mrs(register: int, into: int) -> bytes:
    return words(0xD5200000 | register | into)


def psci(function: int, *arguments: int) -> bytes:
    """Return a call: its function in w0, its arguments in x1 and up; what it says is in x0."""
    given = b"".join(mov(index + 1, value) for index, value in enumerate(arguments))
    return given + mov(0, function) + words(0xD4000002)  # hvc 0


END = psci(SYSTEM_OFF)
SPIN = words(0x14000000)  # b .


class Lab(KvmLab):
    """A machine of ``vcpus`` vCPUs, the first at CODE, the others off; ``features`` as a plan names them."""

    ram = (RAM, 4 << 20)

    def __init__(self, vcpus: int = 1, features: tuple[str, ...] = ()) -> None:
        self._features = features
        super().__init__(vcpus)

    def make(self, kvm: Any, vcpus: int) -> Any:
        from vmrun.kvm.aarch64.vm import ArmVm

        vm = ArmVm(self.core, kvm, RAM + (4 << 20) - 1)
        vm.add_vcpus(vcpus, self._features)
        return vm

    def load(self, code: bytes) -> None:
        """Put code into RAM and the first vCPU before it."""
        self.core.write_ram(CODE, code)
        self.vm.enter(EntryPlan(CODE, ()))
