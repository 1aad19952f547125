"""What a guest says on its UART and through its firmware comes out in the order in which it said it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from rv64_priv_kit import CODE, OUT, POWEROFF, Guest
from rv64asm import Asm

from vmrun._core import ffi, lib
from vmrun.core.line import nowhere
from vmrun.plan.model import (
    PLAN_FORMAT,
    Blob,
    DevicePlan,
    EntryPlan,
    Interrupt,
    MachinePlan,
    RamRegion,
    RiscvCpus,
    RunPlan,
)
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan
from vmrun.rv64.engine import ENGINE

UART = 0x1000_0000
DBCN = 0x4442434E
ROUNDS = 40_000
"""So that both ways come to a pipe that is full: a pipe holds 64 KiB."""


def payload(rounds: int) -> bytes:
    """Code that says `.` by the UART, then `a` by one call and `bc` by another, so many times, and powers off."""
    text = f"""
        li   s0, {UART}
        li   s1, {rounds}
        li   s2, {OUT}
        li   t0, 0x6362; sh t0, 0(s2)
again:  lbu  t0, 5(s0)
        andi t0, t0, 0x20
        beqz t0, again
        li   t0, 0x2e
        sb   t0, 0(s0)
one:    li   a0, 0x61; li a7, {DBCN}; li a6, 2; ecall
        bnez a0, one
        mv   s3, s2; li s4, 2
more:   mv   a0, s4; mv a1, s3; li a2, 0; li a7, {DBCN}; li a6, 0; ecall
        add  s3, s3, a1
        sub  s4, s4, a1
        bnez s4, more
        addi s1, s1, -1
        bnez s1, again
        {POWEROFF}"""
    return Asm().text(text).assemble(CODE)


class Reader(threading.Thread):
    """Reads all that comes, after a while."""

    def __init__(self, fd: int, late_s: float) -> None:
        super().__init__()
        self.fd = fd
        self.late_s = late_s
        self.data = b""

    def run(self) -> None:
        time.sleep(self.late_s)
        while part := os.read(self.fd, 1 << 16):
            self.data += part


@pytest.fixture(params=["pipe", "socket"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A reading and a writing end."""
    import socket

    if request.param == "pipe":
        made = os.pipe()
    else:
        one, other = socket.socketpair()
        made = (one.detach(), other.detach())
    yield made
    os.close(made[0])


@pytest.mark.parametrize("late_s", [0.0, 0.5], ids=["soon", "late"])
def test_one_pipe_has_one_order(ends: tuple[int, int], late_s: float) -> None:
    reading, writing = ends
    made = Guest(payload(ROUNDS))
    reader = Reader(reading, late_s)
    try:
        uart = ffi.new("vmr_uart16550 **")
        made.check(lib.vmr_uart16550_new(made.machine, UART, 0x100, nowhere(), -1, writing, uart))
        made.check(lib.vmr_rv64_debug_console(made.machine, -1, writing))
        os.close(writing)
        reader.start()
        made.run()
        made.check(lib.vmr_machine_drain(made.machine, 20_000))
    finally:
        made.close()
    reader.join()
    assert reader.data == b".abc" * ROUNDS


class Deaf:
    """An observer that is not there."""

    def phase(self, name: str, at_ns: int) -> None: ...

    def warn(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


def test_a_run_keeps_the_order() -> None:
    code = payload(ROUNDS)
    cpu = RiscvCpus("riscv64", 1, ("i", "m", "a", "f", "d", "c", "zicsr", "zifencei"), "rv64imafdc", "sv39", 10_000_000)
    ram = (RamRegion(0x8000_0000, 16 << 20),)
    blobs = (Blob("kernel", CODE, len(code), len(code), data=code),)
    devices = (
        DevicePlan("plic", "plic", 0x0C00_0000, 0x60_0000, properties={"sources": 95}),
        DevicePlan("uart0", "uart16550", UART, 0x100, Interrupt(10)),
    )
    entry = EntryPlan(CODE, (("a0", 0), ("a1", 0)))
    run = RunPlan(console="uart0")
    plan = MachinePlan(PLAN_FORMAT, "p", "riscv_virt", "soft", "why", cpu, ram, devices, blobs, entry, "", run)
    reading, writing = os.pipe()
    reader = Reader(reading, 0)
    reader.start()
    outcome = run_plan(plan, ENGINE, Attachment(console_out=writing), Policy(), Deaf())
    os.close(writing)
    reader.join()
    os.close(reading)
    assert (outcome.reason, outcome.code) == ("poweroff", 0)
    assert reader.data == b".abc" * ROUNDS
