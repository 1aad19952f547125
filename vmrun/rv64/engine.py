"""The soft engine: a MachinePlan becomes a machine of the C core with RV64 harts in software.

Everything was decided in the plan; here it is only made real: RAM, blobs, devices through the registry, harts.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.devices import registry
from vmrun.devices.model import Live, Wires
from vmrun.errors import HostError
from vmrun.frozen import frozen
from vmrun.plan.model import Blob, CpuPlan, MachinePlan
from vmrun.rv64.isa import SV48_BIT, isa_bits

CODE_CACHE_BYTES = 32 << 20
"""Decoded code that all harts together may keep; what does not fit is decoded again."""

FIRMWARE = ("sbi", "")
"""The stream of SBI's debug console (DBCN), which is no device of the plan."""

_HASH_CHUNK = 1 << 20
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

_COUNTERS = ("instructions", "traps", "interrupts", "mmio", "tlb_fills", "pages_decoded", "sbi_calls", "wfi_ns")
_MMU_BITS = {"sv39": 0, "sv48": SV48_BIT}
_SYSTEM_FAILURE = 1
"""SBI System Reset: the reset reason that says that the guest failed (SBI 2.0, section 10.1)."""


@frozen
class SoftExit:
    """Why a hart came back for good."""

    reason: str
    value: int = 0
    detail: str = ""


class SoftEngine:
    """Builds machines for riscv64 guests on any host."""

    name = "soft"

    def build(self, plan: MachinePlan, wires: Mapping[tuple[str, str], tuple[int, int]]) -> SoftMachine:
        """Return the machine of ``plan`` at its first instruction.

        Raise HostError: E310 a plan that cannot run, E311 and E312 a blob's file that vanished or changed, or what the
        core and the devices refuse.
        """
        if plan.assumed:
            raise HostError(
                f"this plan was made without {', '.join(plan.assumed)} and cannot run",
                code="E310",
                remedy="plan it again without --no-artifacts",
            )
        if plan.cpu.arch != "riscv64":
            raise HostError(f"the soft engine runs riscv64 guests, not {plan.cpu.arch}", code="E302")
        machine = SoftMachine(plan)
        try:
            machine.load(wires)
        except BaseException:
            machine.close()
            raise
        return machine


ENGINE = SoftEngine()


class SoftMachine:
    """A live machine. See ``vmrun.run.engine.Machine`` for what it promises."""

    def __init__(self, plan: MachinePlan) -> None:
        self._plan = plan
        self._core = CoreMachine()
        self._harts: list[Any] = []
        self._devices: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._power: SoftExit | None = None

    # ---- its making ------------------------------------------------------------------------------------------------

    def load(self, wires: Mapping[tuple[str, str], tuple[int, int]]) -> None:
        """Make RAM, harts and devices, and copy the blobs. Raise HostError where the host refuses."""
        plan, core = self._plan, self._core
        for region in plan.ram:
            core.add_ram(region.base, region.size)
        self._add_harts()
        injected = Wires(streams=wires, power=self._on_power)
        for device in plan.devices:
            self._devices[device.id] = registry.load(device.kind).realize(device, core, injected)
        for blob in plan.blobs:
            load_blob(core, blob)
        in_fd, out_fd = wires.get(FIRMWARE, (-1, -1))
        core.check(lib.vmr_rv64_debug_console(core.handle, in_fd, out_fd), "SBI console")
        registers = dict(plan.entry.registers)
        boot_hart = registers.get("a0", 0)
        if boot_hart >= len(self._harts):
            raise HostError(f"the plan starts hart {boot_hart}, and has {len(self._harts)}", code="E310")
        code = lib.vmr_rv64_boot(self._harts[boot_hart], plan.entry.pc, registers.get("a1", 0))
        core.check(code, "boot hart")

    def _add_harts(self) -> None:
        cpu = self._plan.cpu
        bits = _hart_bits(cpu)
        for index in range(cpu.count):
            out = ffi.new("vmr_vcpu **")
            code = lib.vmr_rv64_new(self._core.handle, bits, cpu.timebase_hz, CODE_CACHE_BYTES // cpu.count, out)
            self._core.check(code, f"hart {index}", error="E313")
            self._harts.append(out[0])

    # ---- its life --------------------------------------------------------------------------------------------------

    def __enter__(self) -> SoftMachine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hand the guest's last output to the host, then free everything; ``rw`` disks are flushed. Idempotent."""
        if self._core.handle is not None:
            self._core.drain()
        self._core.close()

    @property
    def vcpu_count(self) -> int:
        """How many harts there are."""
        return len(self._harts)

    def start(self) -> None:
        """Start the I/O thread."""
        self._core.start()

    def stop(self) -> None:
        """Make every hart return."""
        self._core.stop()

    def run_vcpu(self, index: int) -> SoftExit:
        """Run hart ``index`` to its end. Raise HostError where the engine fails."""
        left = ffi.new("vmr_exit *")
        kind = self._core.run_vcpu(self._harts[index], left)
        if kind == lib.VMR_EXIT_SYSTEM:
            return _system_exit(int(left.code), int(left.data))
        if kind == lib.VMR_EXIT_FAULT:
            text = ffi.string(lib.vmr_machine_error(self._core.handle)).decode("utf-8", "replace")
            return SoftExit("fault", detail=f"hart {index} at pc {self._register(index, 32):#x}: {text}")
        with self._lock:
            return self._power or SoftExit("stopped")

    def _on_power(self, kind: str, value: int) -> None:
        """Take what a device says of the power switch; the first word counts. Called on a hart's thread."""
        with self._lock:
            if self._power is None:
                self._power = SoftExit(kind, value)
        self._core.stop()

    # ---- what it tells ---------------------------------------------------------------------------------------------

    def resize_console(self, columns: int, rows: int) -> None:
        """Tell every console that can tell its guest."""
        for device in self._devices.values():
            resize = getattr(device, "resize", None)
            if resize is not None:
                resize(columns, rows)

    def _register(self, index: int, number: int) -> int:
        value = ffi.new("uint64_t *")
        lib.vmr_rv64_get(self._harts[index], number, value)
        return int(value[0])

    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return where each hart stands; only while none runs."""
        return [
            {name: self._register(index, number) for name, number in _STATES.items()}
            for index in range(len(self._harts))
        ]

    def counters(self) -> Mapping[str, int]:
        """Return the harts' counters, summed, and those of the devices, as ``device.counter``."""
        sums = dict.fromkeys(_COUNTERS, 0)
        stats = ffi.new("vmr_rv64_stats *")
        for hart in self._harts:
            lib.vmr_rv64_get_stats(hart, stats)
            for name in _COUNTERS:
                sums[name] += int(getattr(stats, name))
        for id, device in self._devices.items():
            sums.update({f"{id}.{name}": value for name, value in device.counters().items()})
        return sums

    def guest_errors(self) -> Sequence[tuple[str, str, int]]:
        """Return what the guest did wrong."""
        return self._core.guest_errors()


def _hart_bits(cpu: CpuPlan) -> int:
    """Return the VMR_RV64_* bits of a plan's harts. Raise HostError E314 for what the core does not have."""
    if cpu.mmu not in _MMU_BITS:
        raise HostError(f"the soft engine has no {cpu.mmu}", code="E314", remedy=f"it has {', '.join(_MMU_BITS)}")
    try:
        return isa_bits(cpu.extensions) | _MMU_BITS[cpu.mmu]
    except ValueError as error:
        raise HostError(str(error), code="E314", remedy="change [cpu] and plan the manifest again") from error


def _system_exit(code: int, reason: int) -> SoftExit:
    if code != lib.VMR_SYSTEM_POWEROFF:
        return SoftExit("reboot", reason)
    return SoftExit("exit", reason) if reason == _SYSTEM_FAILURE else SoftExit("poweroff", reason)


def load_blob(core: CoreMachine, blob: Blob) -> None:
    """Copy ``blob`` into RAM.

    Raise HostError E311 where its file cannot be read, E312 where it is another than planned.
    """
    if blob.data is not None:
        core.write_ram(blob.gpa, blob.data)
        return
    if blob.path is None:
        raise HostError(f"the plan has no bytes for {blob.name}", code="E310", remedy="plan the manifest again")
    try:
        fd = os.open(blob.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check_file(fd, blob)
            core.load_fd(blob.gpa, fd, blob.offset, blob.size, blob.name)
        finally:
            os.close(fd)
    except OSError as error:
        text = f"{blob.name}: {blob.path}: {error.strerror}"
        raise HostError(text, code="E311", errno=error.errno, remedy="fetch and plan the manifest again") from error


def _check_file(fd: int, blob: Blob) -> None:
    """Raise HostError E312 unless the open file is what was planned: large enough, and of the planned digest.

    A file of the store is named by its digest, was verified when it came in, and is read-only: its size is enough.
    """
    found = os.fstat(fd)
    again = "plan the manifest again"
    if not stat.S_ISREG(found.st_mode):
        raise HostError(f"{blob.name}: {blob.path} is no file", code="E312", remedy=again)
    planned = blob.offset + blob.size
    if found.st_size < planned:
        short = f"{blob.name}: {blob.path} has {found.st_size} bytes, and {planned} were planned"
        raise HostError(short, code="E312", remedy=again)
    if blob.sha256 is None or _names_its_digest(blob.path or "", blob.sha256):
        return
    import hashlib  # OpenSSL behind it costs 2 ms, and hardly any plan needs it

    digest = hashlib.sha256()
    at = 0
    while data := os.pread(fd, _HASH_CHUNK, at):
        digest.update(data)
        at += len(data)
    if digest.hexdigest() != blob.sha256:
        raise HostError(f"{blob.name}: {blob.path} has changed since it was planned", code="E312", remedy=again)


def _names_its_digest(path: str, sha256: str) -> bool:
    return path.endswith(f"/vmrun/sha256/{sha256[:2]}/{sha256[2:]}")
