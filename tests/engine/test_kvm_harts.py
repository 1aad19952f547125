"""Harts on KVM: firmware calls and their console, harts that start and stop, interrupts by PLIC and AIA, the ISA."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kvm_kit import Bell
from kvm_lab import need_kvm
from kvm_riscv_kit import CODE, DATA, DBCN, END, HSM, RAM, RAM_SIZE, SRST, Lab, ended, lab, sbi

from patience import patience
from vmrun._core import lib
from vmrun.core.machine import CoreMachine
from vmrun.devices import registry
from vmrun.devices.model import Wires
from vmrun.errors import HostError
from vmrun.kvm import report
from vmrun.kvm.host import Kvm
from vmrun.kvm.riscv64 import aia
from vmrun.kvm.riscv64.offer import offer
from vmrun.kvm.riscv64.vm import RiscvVm
from vmrun.plan.model import DevicePlan, EntryPlan, RiscvCpus
from vmrun.plan.offer import Offer

WINDOW = 0x1000_0000
KEEP = f"li s0, {DATA}\n sd a0, 0(s0)\n sd a1, 8(s0)\n"
M64 = (1 << 64) - 1
NOT_SUPPORTED, INVALID = -2 & M64, -3 & M64


@pytest.fixture(autouse=True)
def _kvm() -> None:
    need_kvm("riscv64", "RISC-V")


@pytest.fixture
def offered() -> Offer:
    with Kvm() as kvm:
        return offer(kvm, "a test asks")


# ---- firmware --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "reason", "code"),
    [(0, 0, "POWEROFF"), (0, 1, "POWEROFF"), (1, 0, "COLD_REBOOT"), (2, 0, "COLD_REBOOT")],
)
def test_a_reset_says_what_and_why(kind: int, reason: int, code: str) -> None:
    with lab() as made:
        made.load(sbi(SRST, 0, kind, reason))
        assert ended(made) == (getattr(lib, f"VMR_SYSTEM_{code}"), reason)


@contextmanager
def console(made: Lab, typed: bytes = b"") -> Iterator[int]:
    """Connect the firmware's console; yield what its output can be read from."""
    (input_end, to_guest), (output, from_guest) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.write(to_guest, typed)
    made.vm.firmware_console(input_end, from_guest)
    try:
        yield output
    finally:
        made.vm.firmware_console(-1, -1)
        for fd in (input_end, to_guest, output, from_guest):
            os.close(fd)


def test_the_debug_console_writes_and_reads() -> None:
    calls = sbi(DBCN, 2, ord("A")) + sbi(DBCN, 0, 5, DATA + 0x100, 0) + sbi(DBCN, 1, 64, DATA + 0x200, 0)
    with lab() as made, console(made, b"typed") as output:
        made.load(calls + KEEP + END)
        made.core.write_ram(DATA + 0x100, b"hello")
        ended(made)
        assert os.read(output, 64) == b"Ahello"
        assert (made.data(0), made.data(8)) == (0, 5)
        assert made.core.read_ram(DATA + 0x200, 6) == b"typed\0"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ((DBCN, 0, 16, 0x1000, 0), INVALID),
        ((DBCN, 0, 1, RAM, 1), INVALID),
        ((DBCN, 1, 2, RAM + RAM_SIZE - 1, 0), INVALID),
        ((DBCN, 9), NOT_SUPPORTED),
        ((0x0900_0000, 0), NOT_SUPPORTED),
    ],
)
def test_calls_that_cannot_be_served(call: tuple[int, ...], error: int) -> None:
    with lab() as made:
        made.load(sbi(*call) + KEEP + END)
        ended(made)
        assert (made.data(0), made.data(8)) == (error, 0)
        assert bool(made.wrongs()) == (call[0] != DBCN)


def test_the_legacy_console_leaves_a1_alone() -> None:
    put, get = "li a0, 88\n li a1, 77\n li a7, 1\n ecall\n", "li a7, 2\n ecall\n"
    with lab() as made, console(made, b"y") as output:
        made.load(put + get + KEEP + get + f"li s0, {DATA}\n sd a0, 16(s0)\n" + END)
        ended(made)
        if made.data(0) == NOT_SUPPORTED:
            pytest.skip("this host's KVM was built without the legacy calls (CONFIG_RISCV_SBI_V01)")
        assert os.read(output, 8) == b"X"
        assert (made.data(0), made.data(8), made.data(16)) == (ord("y"), 77, M64)


def test_without_a_console_bytes_go_nowhere() -> None:
    with lab() as made:
        made.load(sbi(DBCN, 0, 5, DATA, 0) + KEEP + END)
        ended(made)
        assert (made.data(0), made.data(8)) == (0, 5)


def test_a_hart_is_started_by_another() -> None:
    second = f"second: li s0, {WINDOW}\n sd a0, 0(s0)\n sd a1, 8(s0)\n" + END
    with lab(2) as made:
        ears = Bell()
        made.core.claim(WINDOW, 16, ears)
        made.load(
            "la s1, second\n" + sbi(HSM, 0, 1, 0, 42).replace("li a1, 0", "mv a1, s1") + "wait: j wait\n" + second
        )
        made.core.start()
        made.spawn(1)
        made.spawn(0)
        ears.wait(8)
        assert ears.heard == [(0, 8, 1), (8, 8, 42)]
        made.threads[0].join(patience(20))
        assert made.exits[1].kind == lib.VMR_EXIT_SYSTEM


# ---- interrupts ------------------------------------------------------------------------------------------------------

LINE = 3
READY = f"li s0, {WINDOW}\n sd zero, 0(s0)\n"
WAIT = "li t0, 512\n csrw sie, t0\n" + READY + "wait: wfi\n csrr t1, sip\n and t1, t1, t0\n beqz t1, wait\n"
"""Wait for the supervisor's external interrupt (bit 9), which is not taken: only the wfi ends."""


def raised(made: Lab, code: str) -> list[tuple[int, int, int]]:
    """Run ``code``, raise LINE once it is ready, and return what it said then."""
    ears = Bell()
    made.core.claim(WINDOW, 16, ears)
    made.load(code)
    made.core.start()
    thread = made.spawn()
    ears.wait(0)
    made.core.line(LINE).raise_()
    thread.join(patience(20))
    assert not thread.is_alive(), "the interrupt did not arrive"
    assert made.exits[0].kind == lib.VMR_EXIT_SYSTEM
    return ears.heard[1:]


def test_a_line_of_the_plic_reaches_its_hart() -> None:
    plic = 0x0C00_0000
    device = DevicePlan("plic", "plic", plic, 0x60_0000, properties={"sources": 95})
    priority_and_enable = ((4 * LINE, 1), (0x2000, 1 << LINE))
    enable = "".join(f"li t0, {plic + at}\n li t1, {value}\n sw t1, 0(t0)\n" for at, value in priority_and_enable)
    claim = f"li t0, {plic + 0x20_0004}\n lw t1, 0(t0)\n sd t1, 8(s0)\n"
    with lab() as made:
        registry.load("plic").realize(device, made.core, Wires(vcpu_lines=made.core.vcpu_lines))
        assert raised(made, enable + WAIT + claim + END) == [(8, 8, LINE)]


def test_a_line_of_the_aplic_becomes_a_message_to_its_hart(offered: Offer) -> None:
    if "aia" not in offered.irqchips:
        pytest.skip("this host has no AIA")
    aplic = DevicePlan("aplic", "aplic", 0x0D00_0000, 0x4000, properties={"sources": 96})
    imsic = DevicePlan("imsic", "imsic", 0x2800_0000, 0x1000, properties={"ids": offered.msi_ids})
    # Each register of the IMSIC: its number to siselect, its value to sireg.
    files = "".join(
        f"li t0, {number}\n csrw 0x150, t0\n li t0, {value}\n csrw 0x151, t0\n"
        for number, value in ((0x70, 1), (0x72, 0), (0xC0, 1 << LINE))  # eidelivery, eithreshold, eie0
    )
    words = ((0, 0x104), (4 * LINE, 6), (0x3000 + 4 * LINE, LINE), (0x1EDC, LINE))
    # domaincfg: on, messages; sourcecfg: level, high; target: identity LINE of hart 0; setienum.
    domain = "".join(f"li t0, {aplic.base + at}\n li t1, {value}\n sw t1, 0(t0)\n" for at, value in words)
    claim = "csrrw t1, 0x15c, zero\n srli t1, t1, 16\n sd t1, 8(s0)\n"  # stopei
    with lab() as made:
        aia.build(made.vm, 1, aplic, imsic)
        assert raised(made, files + domain + WAIT + claim + END) == [(8, 8, LINE)]


def test_imsics_of_several_harts_stand_side_by_side(offered: Offer) -> None:
    if "aia" not in offered.irqchips:
        pytest.skip("this host has no AIA")
    aplic = DevicePlan("aplic", "aplic", 0x0D00_0000, 0x4000, properties={"sources": 96})
    imsic = DevicePlan("imsic", "imsic", 0x2800_0000, 0x8000, properties={"ids": offered.msi_ids})
    for harts in (1, 2, 3, 8):
        with lab(harts) as made:
            aia.build(made.vm, harts, aplic, imsic)


# ---- the ISA, and where a hart stands --------------------------------------------------------------------------------

HANDLER = (
    f"la t0, trap\n csrw stvec, t0\n la t0, body\n jr t0\n trap: csrr a0, scause\n csrr a1, stval\n {KEEP} {END} body: "
)


def test_what_the_plan_does_not_have_traps(offered: Offer) -> None:
    extensions = tuple(name for name in offered.extensions if name not in ("f", "d"))
    cpu = RiscvCpus("riscv64", 1, extensions, "", offered.mmu, offered.timebase_hz)
    floats = "li t0, 0x6000\n csrs sstatus, t0\n fadd.d fa0, fa0, fa0\n li a0, 0\n" + KEEP + END
    found = {}
    for name, plan in (("all", None), ("without", cpu)):
        with lab(cpu=plan) as made:
            made.load(HANDLER + floats)
            ended(made)
            found[name] = made.data(0)
    assert found == {"all": 0, "without": 2}  # 2: an illegal instruction


def test_a_plan_with_less_than_a_host_lets_go_is_refused(offered: Offer) -> None:
    cpu = RiscvCpus("riscv64", 1, tuple(set(offered.extensions) - {"c"}), "", offered.mmu, offered.timebase_hz)
    with Kvm() as kvm, CoreMachine() as core:
        core.add_ram(RAM, 4096)
        with pytest.raises(HostError, match="`c`, which this host's KVM takes from no guest") as caught:
            RiscvVm(core, kvm).add_vcpus(1, cpu)
    assert caught.value.code == "E327"
    assert {"i", "m", "a", "c"} <= set(offered.fixed)


def test_an_access_that_kvm_cannot_carry_out_is_told_with_its_instruction() -> None:
    with lab() as made:
        made.load(f"li s0, {WINDOW}\n li a5, 7\n amoadd.w a4, a5, (s0)\n")
        assert made.run() == lib.VMR_EXIT_FAULT
        scene = made.vm.scene(0)
        assert (scene.pc, scene.registers["a5"], scene.isa) == (scene.registers["pc"], 7, "riscv64")
        assert scene.code == (0x00F4272F).to_bytes(4, "little")  # amoadd.w a4, a5, (s0)
        assert "access to a device" in report.summary(scene)
        assert {"satp", "scause", "sstatus"} <= set(made.vm.where(0))


@pytest.mark.parametrize("entry", [EntryPlan(CODE, (("a0", 1),)), EntryPlan(CODE, (("rax", 1),))])
def test_an_entry_that_cannot_be(entry: EntryPlan) -> None:
    with lab() as made:
        with pytest.raises(HostError) as caught:
            made.vm.enter(entry)
        assert caught.value.code == "E310"
