"""A micro-guest of a few milliseconds in S-mode: how fast kernel code runs, and whether a kernel's instructions do.

It ends by SBI's system reset, with reason 0 at the end of a piece of code and 1 where an instruction trapped.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.kvm import measure, report
from vmrun.kvm.host import Kvm
from vmrun.kvm.outcome import HUNG, MicroGuest, Try
from vmrun.kvm.riscv64 import isa, registers
from vmrun.kvm.riscv64.vm import RiscvVm
from vmrun.kvm.vm import fault
from vmrun.plan.model import EntryPlan

CODE, TRAP, AREA = 0x8000_1000, 0x8000_2000, 0x8000_3000
RAM_BASE, RAM_SIZE = 0x8000_0000, 64 << 10


def _words(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def _end(reason: int) -> bytes:
    """Return li a0, 0; li a1, reason; li a7, SRST; li a6, 0; ecall."""
    return _words(0x00000513, 0x00000593 | reason << 20, 0x535258B7, 0x3548889B, 0x00000813, 0x00000073)


_LOOP = _words(0xFFF50513, 0xFE051EE3)  # addi a0, a0, -1; bnez a0, back
_FLOAT = _words(
    *(0x000062B7, 0x1002A073),  # lui t0, 6; csrs sstatus, t0: FS is on
    *(0xD225F553, 0x12A57553, 0x00A5B027),  # fcvt.d.l fa0, a1; fmul.d fa0, fa0, fa0; fsd fa0, (a1)
)
_ATOMICS = _words(
    0x00A5B2AF,  # amoadd.d t0, a0, (a1)
    *(0x1005B2AF, 0x18A5B32F, 0xFE031CE3),  # lr.d t0, (a1); sc.d t1, a0, (a1); bnez t1, back
)
_TIME = _words(0xC01022F3)  # rdtime t0
_PAGING = _words(0x180022F3, 0x18029073, 0x12000073)  # csrr t0, satp; csrw satp, t0; sfence.vma

TRIES = (
    ("atomics", _ATOMICS, "a", "every lock"),
    ("floating point", _FLOAT, "d", "every task switch"),
    ("time", _TIME, "zicntr", "the clock"),
    ("paging", _PAGING, None, "virtual memory"),
)
"""Name, code, the ISA extension that a guest must have for it, and what a Linux kernel needs it for."""


def run(kvm: Kvm) -> MicroGuest:
    """Return what the micro-guest found out. Raise HostError E325 where KVM refuses the VM itself."""
    return measure.run(lambda core: _Guest(core, kvm))


class _Guest:
    per_round = 2

    def __init__(self, core: CoreMachine, kvm: Kvm) -> None:
        self._core = core
        core.add_ram(RAM_BASE, RAM_SIZE)
        core.write_ram(TRAP, _end(1))
        self.vm = RiscvVm(core, kvm)
        (self._vcpu,) = self.vm.add_vcpus(1)
        self._have = isa.read(self.vm, self._vcpu).extensions
        self._exit = ffi.new("vmr_exit *")

    def _run(self, code: bytes, **given: int) -> int:
        """Run ``code``; return 0 where it came to its end, 1 where it trapped, -1 where KVM or a stop ended it."""
        self._core.write_ram(CODE, code + _end(0))
        isa.put(self.vm, self._vcpu, registers.csr("stvec"), TRAP)
        self.vm.enter(EntryPlan(CODE, tuple({"a0": 0, **given}.items())))
        kind = self._core.run_vcpu(self._vcpu, self._exit)
        return int(self._exit.data) if kind == lib.VMR_EXIT_SYSTEM else -1

    def loop(self, rounds: int) -> bool:
        """Run the loop. See `measure.Payload`."""
        # The number of the boot hart is in a0 at a kernel's entry: so the loop begins by taking its own from a1.
        return self._run(_words(0x00058513) + _LOOP, a1=rounds) == 0  # mv a0, a1

    def attempts(self) -> Sequence[Try]:
        """Try each piece of `TRIES`."""
        return [self.attempt(*one) for one in TRIES]

    def attempt(self, name: str, code: bytes, extension: str | None, purpose: str) -> Try:
        """Run ``code`` to its end, or to where it traps or KVM gives up."""
        if extension is not None and extension not in self._have:
            return Try(name, None, purpose, "KVM does not give it to guests")
        ended = self._run(code, a1=AREA)
        if ended == 0:
            return Try(name, True, purpose)
        if ended == 1:
            cause = isa.get(self.vm, self._vcpu, registers.csr("scause"))
            return Try(name, False, purpose, f"it traps (scause {cause})")
        stopped = self._exit.kind == lib.VMR_EXIT_STOPPED
        why = HUNG if stopped else report.cause(fault(self._vcpu))
        return Try(name, False, purpose, why)
