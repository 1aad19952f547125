"""How a run ends whose guest has asked its disk for more than it can have: really, on the software core."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path

import pytest
from rv64asm import Asm

from vmrun._core import lib
from vmrun.devices.testing import INDIRECT, NEXT, WRITE
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
from vmrun.run.outcome import Outcome
from vmrun.rv64.engine import ENGINE

RAM = 0x8000_0000
RAM_SIZE = 64 << 20
CODE = RAM
RINGS = RAM + 0x10_0000
AVAIL, USED, TABLE, HEADER, STATUS = (RINGS + offset for offset in (0x2000, 0x4000, 0x6000, 0x8000, 0x8100))
ROOM, ROOM_SIZE = RAM + 0x20_0000, 48 << 20
DISK = 0x1000_1000
SERIAL = 0x1000_0000
REQUESTS, PARTS, SIZE = 200, 254, 256
"""Each request reads PARTS times ROOM_SIZE bytes: 12 GB."""


def rings() -> bytes:
    """The requests, as a driver would have queued them: every one the same."""
    parts = [(HEADER, 16, NEXT), *[(ROOM, ROOM_SIZE, NEXT | WRITE)] * (PARTS - 1), (STATUS, 1, WRITE)]
    table = b"".join(struct.pack("<QIHH", gpa, size, flags, i + 1) for i, (gpa, size, flags) in enumerate(parts))
    made = bytearray(0x9000)
    for at, data in (
        (RINGS, struct.pack("<QIHH", TABLE, len(table), INDIRECT, 0) * SIZE),
        (AVAIL, struct.pack("<HH", 0, REQUESTS) + struct.pack(f"<{SIZE}H", *range(SIZE))),
        (TABLE, table),
        (HEADER, struct.pack("<IIQ", lib.VMR_VIRTIO_BLK_T_IN, 0, 0)),
    ):
        made[at - RINGS : at - RINGS + len(data)] = data
    return bytes(made)


def driver(ending: str) -> bytes:
    """Code that hands the queue over, waits for the first byte to arrive, says `r`, and goes on as ``ending`` does."""
    writes = [("STATUS", 0), ("STATUS", 3), ("DRIVER_FEATURES_SEL", 1), ("DRIVER_FEATURES", 1)]
    writes += [("DRIVER_FEATURES_SEL", 0), ("DRIVER_FEATURES", 1 << 28), ("STATUS", 11), ("QUEUE_SEL", 0)]
    writes += [("QUEUE_NUM", SIZE), ("QUEUE_DESC_LOW", RINGS), ("QUEUE_DRIVER_LOW", AVAIL), ("QUEUE_DEVICE_LOW", USED)]
    writes += [("QUEUE_READY", 1), ("STATUS", 15), ("QUEUE_NOTIFY", 0)]
    steps = "".join(
        f"li t1, {DISK + getattr(lib, f'VMR_VIRTIO_MMIO_{name}')}; li t0, {value}; sw t0, 0(t1)\n"
        for name, value in writes
    )
    text = f"""
        li   s0, {ROOM}; li t0, 1; sb t0, 0(s0)
        {steps}
wait:   lbu  t0, 0(s0)
        bnez t0, wait
        li   s0, {SERIAL}; li t0, 0x72; sb t0, 0(s0); li t0, 0xa; sb t0, 0(s0)
        {ending}
hang:   j    hang"""
    return Asm().text(text).assemble(CODE)


class Killer:
    """An observer that sends SIGTERM when the guest has said that it is ready."""

    def phase(self, name: str, at_ns: int) -> None:
        if name == "ready":
            os.kill(os.getpid(), signal.SIGTERM)

    def warn(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


class Deaf(Killer):
    def phase(self, name: str, at_ns: int) -> None: ...


OFF = "li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall"
RESET = f"li t1, {DISK + lib.VMR_VIRTIO_MMIO_STATUS}; sw zero, 0(t1)\n{OFF}"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, PARTS * ROOM_SIZE)
    return path


def run(image: Path, ending: str, observer: Killer, **bounds: object) -> Outcome:
    cpu = RiscvCpus("riscv64", 1, ("i", "m", "a", "f", "d", "c", "zicsr", "zifencei"), "rv64imafdc", "sv39", 10_000_000)
    blobs = tuple(
        Blob(name, gpa, len(data), len(data), data=data)
        for name, gpa, data in (("kernel", CODE, driver(ending)), ("rings", RINGS, rings()))
    )
    disk = {"path": str(image), "mode": "ro"}
    devices = (
        DevicePlan("plic", "plic", 0x0C00_0000, 0x60_0000, properties={"sources": 95}),
        DevicePlan("uart0", "uart16550", SERIAL, 0x100, Interrupt(10)),
        DevicePlan("disk.large", "virtio-blk", DISK, 0x1000, Interrupt(1), "virtio-mmio", disk),
    )
    ram = (RamRegion(RAM, RAM_SIZE),)
    entry = EntryPlan(CODE, (("a0", 0), ("a1", 0)))
    how = RunPlan(console="uart0", ready="r", **bounds)  # type: ignore[arg-type]
    plan = MachinePlan(PLAN_FORMAT, "p", "riscv_virt", "soft", "why", cpu, ram, devices, blobs, entry, "", how)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        return run_plan(plan, ENGINE, Attachment(console_out=nowhere, output=nowhere), Policy(), observer)
    finally:
        os.close(nowhere)


def test_a_signal_ends_it(image: Path) -> None:
    outcome = run(image, "", Killer())
    assert (outcome.reason, outcome.code) == ("signal", 128 + signal.SIGTERM)
    assert outcome.counters["disk.large.reads"] < REQUESTS


def test_a_bound_ends_it(image: Path) -> None:
    outcome = run(image, "", Deaf(), total_ns=2_000_000_000)
    assert (outcome.reason, outcome.code) == ("timeout", 124)
    assert outcome.counters["disk.large.reads"] < REQUESTS


def test_a_reset_of_the_disk_cuts_it_and_the_guest_goes_on(image: Path) -> None:
    outcome = run(image, RESET, Deaf())
    assert (outcome.reason, outcome.code) == ("poweroff", 0)
    assert outcome.counters["disk.large.reads"] < REQUESTS
    assert outcome.guest_errors == ()
