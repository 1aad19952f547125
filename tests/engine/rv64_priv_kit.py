"""A small machine of the software core for privileged tests: RAM, harts on threads, a results area, registers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rv64translator
from rv64asm import Asm

from patience import patience
from vmrun._core import ffi, lib
from vmrun.core.line import CoreLine

RAM = 0x8000_0000
RAM_SIZE = 16 << 20
CODE = RAM + 0x20_0000
OUT = RAM + 0x40_0000
"""Where programs leave 64-bit results (register s0 holds it at entry of :func:`program`)."""
TABLES = RAM + 0x50_0000
TIMEBASE = 10_000_000
ALL = 4095
"""After this a guest that does not end is stopped, and the test fails on its result."""

PC, PRIVILEGE, F, CSR = 32, 33, 64, 4096
STVEC, SEPC, SCAUSE, STVAL = 0x105, 0x141, 0x142, 0x143

POWEROFF = "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
HEADER = f"li s0, {OUT}; la t0, trap; csrw stvec, t0"
HANDLER = f"""
        j never
        .align 4
trap:   li   t0, {OUT + 0xF00}
        ld   t1, 0(t0)
        addi t1, t1, 1
        sd   t1, 0(t0)
        csrr t1, scause
        sd   t1, 8(t0)
        csrr t1, stval
        sd   t1, 16(t0)
        csrr t1, sepc
        sd   t1, 24(t0)
        add  t1, t1, s11       # s11: how far to go on after a trap, in bytes
        csrw sepc, t1
        sret
never:  {POWEROFF}
"""
"""Counts traps, keeps the last one's cause, value and pc, and goes on s11 bytes after the instruction."""


@dataclass(frozen=True, slots=True)
class Trap:
    """The handler's record: number of traps, and the last one."""

    count: int
    cause: int
    value: int
    pc: int


class Guest:
    """A machine with ``harts`` harts, hart 0 of which starts at ``CODE``."""

    def __init__(self, code: bytes, harts: int = 1, isa: int = ALL, cache: int = 4 << 20) -> None:
        holder = ffi.new("vmr_machine **")
        assert lib.vmr_machine_new(holder) == 0
        self.machine = holder[0]
        self.check(lib.vmr_ram_add(self.machine, RAM, RAM_SIZE))
        self.write(CODE, code)
        self.harts: list[Any] = []
        for _ in range(harts):
            cpu = ffi.new("vmr_vcpu **")
            self.check(lib.vmr_rv64_new(self.machine, isa, TIMEBASE, cache, cpu))
            self.harts.append(cpu[0])
            self.check(rv64translator.equip(cpu[0]))
        self.check(lib.vmr_rv64_boot(self.harts[0], CODE, 0))
        self.exit = ffi.new("vmr_exit *")

    def line(self, input: int, hart: int = 0) -> CoreLine:
        """Return the line to an interrupt input of a hart."""
        out = ffi.new("vmr_line *")
        self.check(lib.vmr_vcpu_line(self.machine, hart, input, out))
        return CoreLine(out[0])

    def check(self, result: int) -> None:
        assert result == 0, ffi.string(lib.vmr_machine_error(self.machine)).decode()

    def write(self, at: int, data: bytes) -> None:
        self.check(lib.vmr_ram_write(self.machine, at, data, len(data)))

    def write_words(self, at: int, *values: int) -> None:
        self.write(at, b"".join(v.to_bytes(8, "little") for v in values))

    def read(self, at: int, size: int) -> bytes:
        found = ffi.new("uint8_t[]", size)
        self.check(lib.vmr_ram_read(self.machine, at, found, size))
        return bytes(ffi.buffer(found))

    def out(self, index: int) -> int:
        """Return the result in the index-th 64-bit word of OUT."""
        return int.from_bytes(self.read(OUT + 8 * index, 8), "little")

    def trap(self) -> Trap:
        return Trap(*(self.out(0x1E0 + i) for i in range(4)))

    def get(self, register: int, hart: int = 0) -> int:
        value = ffi.new("uint64_t *")
        assert lib.vmr_rv64_get(self.harts[hart], register, value) == 0
        return int(value[0])

    def set(self, register: int, value: int, hart: int = 0) -> None:
        assert lib.vmr_rv64_set(self.harts[hart], register, value % (1 << 64)) == 0

    def stats(self, hart: int = 0) -> Any:
        stats = ffi.new("vmr_rv64_stats *")
        self.check(lib.vmr_rv64_get_stats(self.harts[hart], stats))
        return stats

    def step(self, count: int) -> int:
        """Run ``count`` instructions of hart 0; return the exit's kind."""
        self.check(lib.vmr_rv64_run(self.harts[0], count, self.exit))
        return int(self.exit.kind)

    def run(self) -> None:
        """Start the machine, run every hart on a thread until hart 0 (or any) powers off, stop, join."""
        self.check(lib.vmr_machine_start(self.machine))
        kinds: dict[int, tuple[int, int, int]] = {}

        def body(index: int) -> None:
            left = ffi.new("vmr_exit *")
            lib.vmr_vcpu_run(self.harts[index], left)
            kinds[index] = (left.kind, left.code, left.data)
            lib.vmr_machine_stop(self.machine)

        guard = threading.Timer(patience(20), lambda: lib.vmr_machine_stop(self.machine))
        guard.start()
        threads = [threading.Thread(target=body, args=(i,)) for i in range(len(self.harts))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        guard.cancel()
        self.kinds = kinds
        assert lib.VMR_EXIT_SYSTEM in [k for k, _, _ in kinds.values()], (
            f"the guest did not end: {kinds}, {self.where()}"
        )

    def where(self) -> str:
        parts = {"pc": PC, "scause": CSR + SCAUSE, "sepc": CSR + SEPC, "stval": CSR + STVAL}
        return "; ".join(" ".join(f"{n}={self.get(r, i):#x}" for n, r in parts.items()) for i in range(len(self.harts)))

    def close(self) -> None:
        lib.vmr_machine_stop(self.machine)
        lib.vmr_machine_free(self.machine)


@contextmanager
def guest(text: str, **options: int) -> Iterator[Guest]:
    """Assemble ``text`` at CODE into a machine that is freed at the end."""
    made = Guest(Asm().text(text).assemble(CODE), **options)
    try:
        yield made
    finally:
        made.close()


def program(text: str) -> str:
    """Return ``text`` between the usual header and power-off, with the trap handler behind."""
    return f"{HEADER}; li s11, 4\n{text}\n{POWEROFF}\n{HANDLER}"


@contextmanager
def ran(text: str, **options: int) -> Iterator[Guest]:
    """Run :func:`program` of ``text`` to its end."""
    with guest(program(text), **options) as made:
        made.run()
        yield made


@contextmanager
def console(made: Guest, given: bytes = b"") -> Iterator[int]:
    """Give the machine a debug console; yields the fd to read its output from."""
    in_r, in_w = os.pipe()
    out_r, out_w = os.pipe()
    os.write(in_w, given)
    made.check(lib.vmr_rv64_debug_console(made.machine, in_r, out_w))
    try:
        yield out_r
    finally:
        for fd in (in_r, in_w, out_r, out_w):
            os.close(fd)


V, R, W, X, A, D = 1, 2, 4, 8, 64, 128
RWXAD = V | R | W | X | A | D


def leaf(gpa: int, flags: int) -> int:
    """Return the page table entry for ``gpa``."""
    return gpa >> 12 << 10 | flags
