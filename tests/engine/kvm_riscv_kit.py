"""What the tests of KVM on riscv64 share: a machine with RAM, harts, and code in S-mode that ends by SBI's reset."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rv64asm import assemble

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.kvm.riscv64.vm import RiscvVm
from vmrun.plan.model import EntryPlan, RiscvCpus

RAM, RAM_SIZE = 0x8000_0000, 4 << 20
CODE, DATA = RAM + 0x1000, RAM + 0x10_0000
SRST, DBCN, HSM = 0x53525354, 0x4442434E, 0x48534D


def sbi(extension: int, function: int, *arguments: str | int) -> str:
    loads = "".join(f"li a{index}, {value}\n" for index, value in enumerate(arguments))
    return f"{loads} li a7, {extension}\n li a6, {function}\n ecall\n"


END = sbi(SRST, 0, 0, 0)


class Lab:
    """A machine of ``vcpus`` harts, as a plan's ``cpu`` says where one is given; the first begins at CODE."""

    def __init__(self, vcpus: int = 1, cpu: RiscvCpus | None = None) -> None:
        from vmrun.kvm.host import Kvm

        self.core = CoreMachine()
        self.threads: list[threading.Thread] = []
        try:
            self.core.add_ram(RAM, RAM_SIZE)
            with Kvm() as kvm:
                self.vm = RiscvVm(self.core, kvm)
                self.vcpus = self.vm.add_vcpus(vcpus, cpu)
            self.exits: list[Any] = [ffi.new("vmr_exit *") for _ in range(vcpus)]
        except BaseException:
            self.core.close()
            raise

    def load(self, code: bytes | str) -> None:
        """Put code, or its text, into RAM and the first hart before it."""
        self.core.write_ram(CODE, assemble(code, CODE) if isinstance(code, str) else code)
        self.vm.enter(EntryPlan(CODE, (("a0", 0), ("a1", DATA))))

    def run(self, index: int = 0) -> int:
        """Run a hart until it leaves for good; return VMR_EXIT_*."""
        return self.core.run_vcpu(self.vcpus[index], self.exits[index])

    def spawn(self, index: int = 0) -> threading.Thread:
        """Run a hart on a thread of its own."""
        thread = threading.Thread(target=self.run, args=(index,), daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def data(self, offset: int, size: int = 8) -> int:
        """Return a number that the payload left at DATA."""
        return int.from_bytes(self.core.read_ram(DATA + offset, size), "little")

    def wrongs(self) -> dict[tuple[str, str], int]:
        return {(device, what): count for device, what, count in self.core.guest_errors()}

    def close(self) -> None:
        self.core.stop()
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive(), "a hart did not stop"
        self.core.close()


@contextmanager
def lab(vcpus: int = 1, cpu: RiscvCpus | None = None) -> Iterator[Lab]:
    made = Lab(vcpus, cpu)
    try:
        yield made
    finally:
        made.close()


def ended(made: Lab, index: int = 0) -> tuple[int, int]:
    """Run a hart to the reset that it asks for; return the kind of reset, and the reason."""
    assert made.run(index) == lib.VMR_EXIT_SYSTEM
    return int(made.exits[index].code), int(made.exits[index].data)
