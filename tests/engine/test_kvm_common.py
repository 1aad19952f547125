"""What the KVM engine does alike on every architecture: registers served by Python, a stop, a machine's whole life.

The code that runs is the architecture's own: `PAYLOADS` has one entry for each.
"""

from __future__ import annotations

import gc
import platform
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import kvm_arm_kit
import kvm_kit
import kvm_riscv_kit
import pytest
from kvm_lab import need_kvm
from rv64asm import assemble

from patience import patience
from vmrun._core import lib
from vmrun.kvm.vm import counters

WINDOW, REPORT, NOWHERE = 0x1000_0000, 0x1000_0010, 0x1800_0000
VALUE = 0x1122_3344_5566_7788
SIZES = (1, 2, 4, 8)


class Payload(Protocol):
    """The pieces of code, and a machine of one vCPU that runs them from a fixed place on."""

    end: bytes
    ended: int
    """What `run` returns once ``end`` was reached."""
    spin: bytes

    def lab(self) -> Any:
        """Return a context manager with a machine: ``core``, ``load``, ``run``, ``spawn``, ``vcpus``."""

    def write(self, size: int, address: int, value: int) -> bytes:
        """Return code that writes the low ``size`` bytes of ``value``."""

    def copy(self, size: int, source: int, target: int) -> bytes:
        """Return code that reads ``size`` bytes, without their sign, and writes them as 8."""


class X86:
    end, spin, ended = kvm_kit.HLT, kvm_kit.SPIN, lib.VMR_EXIT_HALT if hasattr(lib, "VMR_EXIT_HALT") else -1

    def lab(self) -> Any:
        return kvm_kit.lab("long", irqchip=None)

    def write(self, size: int, address: int, value: int) -> bytes:
        store = {1: b"\x88\x03", 2: b"\x66\x89\x03", 4: b"\x89\x03", 8: b"\x48\x89\x03"}[size]
        return b"\x48\xbb" + struct.pack("<Q", address) + b"\x48\xb8" + struct.pack("<Q", value) + store

    def copy(self, size: int, source: int, target: int) -> bytes:
        load = {1: b"\x0f\xb6\x03", 2: b"\x0f\xb7\x03", 4: b"\x8b\x03", 8: b"\x48\x8b\x03"}[size]
        to = b"\x48\xbb" + struct.pack("<Q", target)
        return b"\x48\xbb" + struct.pack("<Q", source) + load + to + b"\x48\x89\x03"


class Riscv:
    end, ended = assemble(kvm_riscv_kit.END), lib.VMR_EXIT_SYSTEM
    spin = assemble("here: j here")

    def lab(self) -> Any:
        return kvm_riscv_kit.lab()

    def write(self, size: int, address: int, value: int) -> bytes:
        store = {1: "sb", 2: "sh", 4: "sw", 8: "sd"}[size]
        return assemble(f"li t0, {address}\n li t1, {value}\n {store} t1, 0(t0)\n")

    def copy(self, size: int, source: int, target: int) -> bytes:
        load = {1: "lbu", 2: "lhu", 4: "lwu", 8: "ld"}[size]
        return assemble(f"li t0, {source}\n {load} t1, 0(t0)\n li t0, {target}\n sd t1, 0(t0)\n")


class Arm:
    end, spin, ended = kvm_arm_kit.END, kvm_arm_kit.SPIN, lib.VMR_EXIT_SYSTEM

    def lab(self) -> Any:
        return kvm_arm_kit.Lab()

    def write(self, size: int, address: int, value: int) -> bytes:
        return kvm_arm_kit.write(size, address, value)

    def copy(self, size: int, source: int, target: int) -> bytes:
        code = kvm_arm_kit.mov(10, source) + kvm_arm_kit.load(size, 11, 10)
        return code + kvm_arm_kit.mov(10, target) + kvm_arm_kit.store(8, 11, 10)


PAYLOADS: dict[str, Payload] = {"x86_64": X86(), "aarch64": Arm(), "riscv64": Riscv()}


@pytest.fixture
def payload() -> Payload:
    """Return this host's payload; a skip where there is none, or no KVM."""
    here = platform.machine()
    if here not in PAYLOADS:
        pytest.skip(f"there is no payload for {here}")
    need_kvm(here, here)
    return PAYLOADS[here]


@contextmanager
def listening(payload: Payload, code: bytes) -> Iterator[tuple[Any, kvm_kit.Ears]]:
    """Yield a machine before ``code`` with ears that answer VALUE to reads."""
    ears = kvm_kit.Ears(lambda offset, size: VALUE)
    with payload.lab() as made:
        made.core.claim(WINDOW, 0x20, ears)
        made.load(code)
        yield made, ears


@pytest.mark.parametrize("size", SIZES)
def test_writes_are_heard_in_their_width(payload: Payload, size: int) -> None:
    with listening(payload, payload.write(size, WINDOW + 8, VALUE) + payload.end) as (made, ears):
        assert made.run() == payload.ended
        assert ears.heard == [(8, size, VALUE & (1 << 8 * size) - 1)]
        counted = counters(made.vcpus)
        assert (counted["mmio"], counted["python"]) == (1, 1) and counted["runs"] >= 2


@pytest.mark.parametrize("size", SIZES)
def test_reads_find_what_is_answered(payload: Payload, size: int) -> None:
    with listening(payload, payload.copy(size, WINDOW, REPORT) + payload.end) as (made, ears):
        assert made.run() == payload.ended
        assert ears.asked == [(0, size)]
        assert ears.heard == [(0x10, 8, VALUE & (1 << 8 * size) - 1)]


def test_where_nothing_is_all_bits_are_set(payload: Payload) -> None:
    code = payload.copy(4, NOWHERE, REPORT) + payload.write(4, NOWHERE, 1) + payload.end
    with listening(payload, code) as (made, ears):
        assert made.run() == payload.ended
        assert ears.heard == [(0x10, 8, 0xFFFF_FFFF)]
        assert sum(count for device, _, count in made.core.guest_errors() if device == "bus") == 2


def test_an_order_of_accesses_is_kept(payload: Payload) -> None:
    code = b"".join(payload.write(1, WINDOW + index, index) for index in range(16))
    with listening(payload, code + payload.end) as (made, ears):
        assert made.run() == payload.ended
        assert ears.heard == [(index, 1, index) for index in range(16)]


def test_a_vcpu_that_spins_is_stopped(payload: Payload) -> None:
    started = threading.Event()
    with payload.lab() as made:
        ears = kvm_kit.Bell(lambda offset, value: started.set())
        made.core.claim(WINDOW, 0x20, ears)
        made.load(payload.write(1, WINDOW, 1) + payload.spin)
        made.core.start()
        thread = made.spawn()
        assert started.wait(patience(20))
        made.core.stop()
        thread.join(patience(20))
        assert not thread.is_alive()
        assert made.exits[0].kind == lib.VMR_EXIT_STOPPED


def test_a_stop_before_the_start_is_a_stop(payload: Payload) -> None:
    with payload.lab() as made:
        made.load(payload.spin)
        made.core.stop()
        assert made.run() == lib.VMR_EXIT_STOPPED


def test_machines_come_and_go_and_leave_nothing_behind(payload: Payload) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    def once(index: int) -> None:
        with listening(payload, payload.write(1, WINDOW, index & 255) + payload.end) as (made, ears):
            assert made.run() == payload.ended
            assert ears.heard == [(0, 1, index & 255)]

    once(0)
    gc.collect()  # objects of other tests, not collected yet, hold descriptors
    before = open_files(), threading.active_count()
    for index in range(50):
        once(index)
    assert (open_files(), threading.active_count()) == before
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if "kvm-vcpu" in line]
