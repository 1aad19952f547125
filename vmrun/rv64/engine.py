"""The soft engine: a MachinePlan becomes a machine of the C core with RV64 harts in software.

Everything was decided in the plan; here it is only made real: RAM, blobs, devices through the registry, harts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmrun._core import ffi, lib
from vmrun.core.state import State
from vmrun.engine.machine import LiveMachine, check_runnable
from vmrun.errors import HostError
from vmrun.plan.model import MachinePlan, RiscvCpus
from vmrun.rv64.isa import SV48_BIT, isa_bits

CODE_CACHE_BYTES = 32 << 20
"""Decoded code that all harts together may keep; what does not fit is decoded again."""

TRANSLATED_BYTES = 16 << 20
"""Translated code that all harts together may keep; when it is full, it is begun anew."""
THRESHOLD = 32
"""How often a jump leads to an instruction before the code from there on is translated."""

_STATES = {
    "pc": 32,
    "privilege": 33,
    "ra": 1,
    "sp": 2,
    "scause": 4096 + 0x142,
    "sepc": 4096 + 0x141,
    "stval": 4096 + 0x143,
    "satp": 4096 + 0x180,
}
"""Where a hart stands: name -> register number of vmr_rv64_get."""

_COUNTERS = (
    *("instructions", "traps", "interrupts", "mmio", "tlb_fills", "pages_decoded", "sbi_calls", "wfi_ns"),
    *("jit_blocks", "jit_bytes", "jit_drops", "jit_ns"),
)
_MMU_BITS = {"sv39": 0, "sv48": SV48_BIT}


class SoftEngine:
    """Builds machines for riscv64 guests on any host."""

    name = "soft"

    def build(self, plan: MachinePlan, wires: Mapping[tuple[str, str], tuple[int, int]]) -> SoftMachine:
        """Return the machine of ``plan`` at its first instruction.

        Raise HostError: E310 a plan that cannot run, E311 and E312 a blob's file that vanished or changed, or what the
        core and the devices refuse.
        """
        check_runnable(plan)
        if not isinstance(plan.cpu, RiscvCpus):
            raise HostError(f"the soft engine runs riscv64 guests, not {plan.cpu.arch}", code="E302")
        return SoftMachine(plan, plan.cpu).load(wires)


ENGINE = SoftEngine()


class SoftMachine(LiveMachine):
    """A live machine whose vCPUs are harts in software."""

    def __init__(self, plan: MachinePlan, cpu: RiscvCpus) -> None:
        super().__init__(plan)
        self._cpu = cpu

    def _add_vcpus(self) -> None:
        cpu = self._cpu
        bits = _hart_bits(cpu)
        translates = self._plan.jit and lib.vmr_rv64_jit_probe() == 0
        for index in range(cpu.count):
            out = ffi.new("vmr_vcpu **")
            code = lib.vmr_rv64_new(self._core.handle, bits, cpu.timebase_hz, CODE_CACHE_BYTES // cpu.count, out)
            self._core.check(code, f"hart {index}", error="E313")
            if translates:
                code = lib.vmr_rv64_jit(out[0], THRESHOLD, TRANSLATED_BYTES // cpu.count)
                self._core.check(code, f"hart {index}", error="E313")
            self._vcpus.append(out[0])

    def _enter(self) -> None:
        in_fd, out_fd = self._firmware
        self._core.check(lib.vmr_rv64_debug_console(self._core.handle, in_fd, out_fd), "SBI console")
        for device in self._plan.devices:
            if device.kind == "imsic":
                files: Any = self._devices[device.id]
                for hart in self._vcpus:
                    self._core.check(lib.vmr_rv64_set_imsic(hart, files.handle), device.id)
        entry = self._plan.entry
        registers = dict(entry.registers)
        boot_hart = registers.get("a0", 0)
        if boot_hart >= len(self._vcpus):
            raise HostError(f"the plan starts hart {boot_hart}, and has {len(self._vcpus)}", code="E310")
        self._core.check(lib.vmr_rv64_boot(self._vcpus[boot_hart], entry.pc, registers.get("a1", 0)), "boot hart")

    # ---- what it tells ---------------------------------------------------------------------------------------------

    def _describe_fault(self, index: int) -> str:
        text = ffi.string(lib.vmr_vcpu_fault(self._vcpus[index])).decode("utf-8", "replace")
        return f"hart {index}: {text}"

    def _register(self, index: int, number: int) -> int:
        value = ffi.new("uint64_t *")
        lib.vmr_rv64_get(self._vcpus[index], number, value)
        return int(value[0])

    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return where each hart stands; only while none runs."""
        return [
            {name: self._register(index, number) for name, number in _STATES.items()}
            for index in range(len(self._vcpus))
        ]

    def save_vcpu(self, index: int) -> State:
        """Return the state of hart ``index``; only while none runs."""
        return self._core.save_state(self._vcpus[index], f"hart {index}")

    def load_vcpu(self, index: int, state: State) -> None:
        """Let hart ``index`` be what ``state`` says; only while none runs."""
        self._core.load_state(self._vcpus[index], state, f"hart {index}")

    def report(self) -> str:
        """Return where each hart stands, a line each; only while none runs."""
        stands = (" ".join(f"{name} {value:#x}" for name, value in state.items()) for state in self.vcpu_states())
        return "\n".join(f"hart {index}: {registers}" for index, registers in enumerate(stands))

    def _vcpu_counters(self) -> Mapping[str, int]:
        sums = dict.fromkeys(_COUNTERS, 0)
        stats = ffi.new("vmr_rv64_stats *")
        for hart in self._vcpus:
            lib.vmr_rv64_get_stats(hart, stats)
            for name in _COUNTERS:
                sums[name] += int(getattr(stats, name))
        return sums


def _hart_bits(cpu: RiscvCpus) -> int:
    """Return the VMR_RV64_* bits of a plan's harts. Raise HostError E314 for what the core does not have."""
    if cpu.mmu not in _MMU_BITS:
        raise HostError(f"the soft engine has no {cpu.mmu}", code="E314", remedy=f"it has {', '.join(_MMU_BITS)}")
    try:
        return isa_bits(cpu.extensions) | _MMU_BITS[cpu.mmu]
    except ValueError as error:
        raise HostError(str(error), code="E314", remedy="change [cpu] and plan the manifest again") from error
