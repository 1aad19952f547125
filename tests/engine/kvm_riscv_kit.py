"""What the tests of KVM on riscv64 share: a machine with RAM, harts, and code in S-mode that ends by SBI's reset."""

from __future__ import annotations

from typing import Any

from kvm_lab import KvmLab
from rv64asm import assemble

from vmrun._core import lib
from vmrun.kvm.riscv64.vm import RiscvVm
from vmrun.plan.model import EntryPlan, RiscvCpus

RAM, RAM_SIZE = 0x8000_0000, 4 << 20
CODE, DATA = RAM + 0x1000, RAM + 0x10_0000
SRST, DBCN, HSM = 0x53525354, 0x4442434E, 0x48534D


def sbi(extension: int, function: int, *arguments: str | int) -> str:
    loads = "".join(f"li a{index}, {value}\n" for index, value in enumerate(arguments))
    return f"{loads} li a7, {extension}\n li a6, {function}\n ecall\n"


END = sbi(SRST, 0, 0, 0)


class Lab(KvmLab):
    """A machine of ``vcpus`` harts, as a plan's ``cpu`` says where one is given; the first begins at CODE."""

    ram = (RAM, RAM_SIZE)

    def __init__(self, vcpus: int = 1, cpu: RiscvCpus | None = None) -> None:
        self._cpu = cpu
        super().__init__(vcpus)

    def make(self, kvm: Any, vcpus: int) -> RiscvVm:
        vm = RiscvVm(self.core, kvm)
        vm.add_vcpus(vcpus, self._cpu)
        return vm

    def load(self, code: bytes | str) -> None:
        """Put code, or its text, into RAM and the first hart before it."""
        self.core.write_ram(CODE, assemble(code, CODE) if isinstance(code, str) else code)
        self.vm.enter(EntryPlan(CODE, (("a0", 0), ("a1", DATA))))

    def data(self, offset: int, size: int = 8) -> int:
        """Return a number that the payload left at DATA."""
        return int.from_bytes(self.core.read_ram(DATA + offset, size), "little")


lab = Lab


def ended(made: Lab, index: int = 0) -> tuple[int, int]:
    """Run a hart to the reset that it asks for; return the kind of reset, and the reason."""
    assert made.run(index) == lib.VMR_EXIT_SYSTEM
    return int(made.exits[index].code), int(made.exits[index].data)
