"""A micro-guest that runs for a few milliseconds and finds out what this host's KVM does with kernel-mode code.

It runs in EL1 with the MMU off and ends by PSCI SYSTEM_OFF (Arm DEN 0022, 5.10).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.kvm import measure, report
from vmrun.kvm.aarch64.vm import ArmVm
from vmrun.kvm.host import Kvm
from vmrun.kvm.outcome import HUNG, MicroGuest, Try
from vmrun.kvm.vm import fault
from vmrun.plan.model import EntryPlan

CODE = 0x1000
RAM_SIZE = 64 << 10

_OFF = (0x52B08000, 0x72800100, 0xD4000002)  # movz w0, 0x8400, lsl 16; movk w0, 8; hvc 0
_LOOP = (0xF1000463, 0x54FFFFE1, *_OFF)  # subs x3, x3, 1; b.ne
# mov x1, 0x300000; msr cpacr_el1, x1; isb; fmov d0, 1.0; fadd d0, d0, d0
_FP = (0xD2A00601, 0xD5181041, 0xD5033FDF, 0x1E6E1000, 0x1E602800, *_OFF)
_TIMER = (0xD53BE042, 0xD53BE002, *_OFF)  # mrs x2, cntvct_el0; mrs x2, cntfrq_el0

TRIES = (
    ("floating point", _FP, "every task switch"),
    ("virtual counter", _TIMER, "the clock"),
)
"""Name, code, and what a Linux kernel needs it for."""


def run(kvm: Kvm) -> MicroGuest:
    """Return what the micro-guest found out. Raise HostError E325 where KVM refuses the VM itself."""
    return measure.run(lambda core: _Guest(core, kvm))


class _Guest:
    per_round = 2

    def __init__(self, core: CoreMachine, kvm: Kvm) -> None:
        self._core = core
        core.add_ram(0, RAM_SIZE)
        self._vm = ArmVm(core, kvm, RAM_SIZE - 1)
        self._vm.add_vcpus(1, ())
        self._exit = ffi.new("vmr_exit *")

    def _run(self, code: tuple[int, ...], rounds: int = 0) -> int:
        self._core.write_ram(CODE, struct.pack(f"<{len(code)}I", *code))
        self._vm.reset(0)  # the vCPU is off after the last run
        self._vm.enter(EntryPlan(CODE, (("x3", rounds),)))
        return self._core.run_vcpu(self._vm.vcpus[0], self._exit)

    def loop(self, rounds: int) -> bool:
        """Run the loop. See `measure.Payload`."""
        return bool(self._run(_LOOP, rounds) == lib.VMR_EXIT_SYSTEM)

    def attempts(self) -> Sequence[Try]:
        """Try each piece of `TRIES`."""
        return [self._attempt(*one) for one in TRIES]

    def _attempt(self, name: str, code: tuple[int, ...], purpose: str) -> Try:
        kind = self._run(code)
        if kind == lib.VMR_EXIT_SYSTEM:
            return Try(name, True, purpose)
        why = HUNG if kind == lib.VMR_EXIT_STOPPED else report.cause(fault(self._vm.vcpus[0]))
        return Try(name, False, purpose, why)
