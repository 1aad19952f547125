"""A micro-guest that runs for a few milliseconds and finds out what this host's KVM does with kernel-mode code.

A hardware-assisted KVM runs it at full speed. One that emulates it is slow, and stops at instructions that KVM's
emulator lacks (Linux ``arch/x86/kvm/emulate.c``), though every x86-64 kernel needs them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.kvm import measure, report
from vmrun.kvm.host import Kvm
from vmrun.kvm.outcome import HUNG, MicroGuest, Try
from vmrun.kvm.vm import fault
from vmrun.kvm.x86_64 import cpuid
from vmrun.kvm.x86_64.vm import X86Vm
from vmrun.plan.model import EntryPlan

CODE, AREA, STACK, TABLES = 0x1000, 0x2000, 0x5000, 0x8000
RAM_SIZE = 64 << 10
_CR0 = 0x80000013  # PG, ET, MP, PE
_CR4 = 0x620  # OSXMMEXCPT, OSFXSR, PAE
_CR4_OSXSAVE = 1 << 18
_EFER = 0x500  # LMA, LME

_HLT = b"\xf4"
_LOOP = b"\xff\xc9\x75\xfc" + _HLT  # dec ecx; jnz; hlt
_X87 = b"\xdb\xe3\xd9\xe8\xd9\xeb\xde\xc9\xdd\xd8" + _HLT  # fninit; fld1; fldpi; fmulp; fstp st(0)
_XSAVE = b"\xb8\x03\x00\x00\x00\x31\xd2\x0f\xae\x27\x0f\xae\x2f" + _HLT  # mov eax, 3; xor edx, edx; xsave; xrstor [rdi]
_CMPXCHG16B = b"\x48\x0f\xc7\x0f" + _HLT  # cmpxchg16b [rdi]

TRIES = (
    ("x87", _X87, None, "FPU set-up"),
    ("xsave", _XSAVE, "xsave", "every task switch"),
    ("cmpxchg16b", _CMPXCHG16B, "cx16", "the allocator (SLUB)"),
)
"""Name, code, the CPU feature that a guest must be shown for it, and what a Linux kernel needs it for."""


def run(kvm: Kvm) -> MicroGuest:
    """Return what the micro-guest found out. Raise HostError E325 where KVM refuses the VM itself."""
    return measure.run(lambda core: _Guest(core, kvm))


class _Guest:
    per_round = 2

    def __init__(self, core: CoreMachine, kvm: Kvm) -> None:
        self._core = core
        core.add_ram(0, RAM_SIZE)
        self.vm = X86Vm(core, kvm, irqchip=None)
        self._vcpu = self.vm.add_vcpus(1)[0]
        self._have = frozenset(cpuid.names(self.vm.cpuid))
        self._exit = ffi.new("vmr_exit *")
        pml4 = struct.pack("<Q", TABLES + 0x1000 | 3).ljust(4096, b"\0")
        pdpt = struct.pack("<Q", TABLES + 0x2000 | 3).ljust(4096, b"\0")
        core.write_ram(TABLES, pml4 + pdpt + struct.pack("<Q", 0x83))  # the first 2 MiB, one to one

    def _run(self, code: bytes, cr4: int = _CR4, **registers: int) -> int:
        self._core.write_ram(CODE, code)
        given = {"cr0": _CR0, "cr3": TABLES, "cr4": cr4, "efer": _EFER, "rsp": STACK, **registers}
        self.vm.enter(EntryPlan(CODE, tuple(given.items())))
        return self._core.run_vcpu(self._vcpu, self._exit)

    def loop(self, rounds: int) -> bool:
        """Run the loop. See `measure.Payload`."""
        return bool(self._run(_LOOP, rcx=rounds) == lib.VMR_EXIT_HALT)

    def attempts(self) -> Sequence[Try]:
        """Try each instruction of `TRIES`."""
        return [self.attempt(*one) for one in TRIES]

    def attempt(self, name: str, code: bytes, feature: str | None, purpose: str) -> Try:
        """Run ``code`` to its end, or to where KVM gives up."""
        if feature is not None and feature not in self._have:
            return Try(name, None, purpose, "KVM does not show it to guests")
        self._core.write_ram(AREA, bytes(4096))
        cr4 = _CR4 | (_CR4_OSXSAVE if feature == "xsave" else 0)
        kind = self._run(code, cr4, rdi=AREA, rcx=0)
        if kind == lib.VMR_EXIT_HALT:
            return Try(name, True, purpose)
        why = HUNG if kind == lib.VMR_EXIT_STOPPED else report.cause(fault(self._vcpu))
        return Try(name, False, purpose, why)
