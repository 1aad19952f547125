"""vCPUs of arm64 on KVM: PSCI, interrupts through the kernel's GIC, features, and where a vCPU stands."""

from __future__ import annotations

import pytest
from kvm_arm_kit import (
    CODE,
    CPU_ON,
    DATA,
    END,
    RAM,
    SPIN,
    SYSTEM_OFF,
    SYSTEM_RESET,
    Lab,
    load,
    mov,
    mrs,
    msr,
    psci,
    store,
    system,
    words,
    write,
)
from kvm_kit import Bell
from kvm_lab import need_kvm

from patience import patience
from vmrun._core import lib
from vmrun.errors import HostError
from vmrun.kvm import report
from vmrun.kvm.aarch64 import gic
from vmrun.kvm.aarch64.offer import offer
from vmrun.kvm.aarch64.vm import build
from vmrun.kvm.host import Kvm
from vmrun.plan.model import PLAN_FORMAT, ArmCpus, DevicePlan, EntryPlan, MachinePlan, RamRegion, RunPlan
from vmrun.plan.offer import Offer
from vmrun.plan.topology import Topology

WINDOW = 0x0900_0000
DISTRIBUTOR, REDISTRIBUTORS, ITS = 0x0800_0000, 0x080A_0000, 0x0808_0000
LINE = 3
INTID = 32 + LINE


@pytest.fixture(autouse=True)
def _kvm() -> None:
    need_kvm("aarch64", "arm64")


@pytest.fixture
def offered() -> Offer:
    with Kvm() as kvm:
        return offer(kvm, "a test asks")


# ---- PSCI ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "code"), [(SYSTEM_OFF, "VMR_SYSTEM_POWEROFF"), (SYSTEM_RESET, "VMR_SYSTEM_COLD_REBOOT")]
)
def test_a_system_call_ends_the_machine_without_a_reason(function: int, code: str) -> None:
    with Lab() as made:
        made.load(psci(function))
        assert made.run() == lib.VMR_EXIT_SYSTEM
        assert (made.exits[0].code, made.exits[0].data) == (getattr(lib, code), 0)


def test_a_vcpu_is_started_by_another_and_knows_its_place() -> None:
    mpidr = system(3, 0, 0, 0, 5)
    second = mov(10, WINDOW) + store(8, 0, 10) + mrs(mpidr, 1) + mov(10, WINDOW + 8) + store(8, 1, 10) + SPIN
    with Lab(2) as made:
        started, starter = Bell(), Bell()
        made.core.claim(WINDOW, 16, started)
        made.core.claim(WINDOW + 0x100, 16, starter)
        made.core.write_ram(CODE + 0x800, second)
        made.load(psci(CPU_ON, 1, CODE + 0x800, 42) + mov(10, WINDOW + 0x100) + store(8, 0, 10) + SPIN)
        made.core.start()
        made.spawn(1)
        made.spawn(0)
        starter.wait(0)
        assert starter.heard == [(0, 8, 0)]  # PSCI's success
        started.wait(8)
        assert started.heard[0] == (0, 8, 42)  # the context, in x0
        assert started.heard[1][2] & 0xFF_00FF_FFFF == 1  # MPIDR's affinity


# ---- interrupts ------------------------------------------------------------------------------------------------------


def machine(count: int, devices: tuple[DevicePlan, ...], features: tuple[str, ...] = ()) -> MachinePlan:
    cpu = ArmCpus("aarch64", count, "host", features, Topology(cores=count))
    ram = (RamRegion(RAM, 4 << 20),)
    return MachinePlan(
        PLAN_FORMAT, "m", "virt", "kvm", "a test", cpu, ram, devices, (), EntryPlan(CODE, ()), "", RunPlan()
    )


V3 = (
    DevicePlan("gic", "gicv3", DISTRIBUTOR, 0x1_0000),
    DevicePlan("its", "gicv3-its", ITS, 0x2_0000),
    DevicePlan("gicr", "gicv3-redist", REDISTRIBUTORS, 0xF6_0000),
)
V2 = (
    DevicePlan("gic", "gicv2", DISTRIBUTOR, 0x1_0000),
    DevicePlan("gicc", "gicv2-cpu", DISTRIBUTOR + 0x1_0000, 0x1_0000),
)

_SRE, _PMR, _GROUP1, _IAR1 = (
    system(3, 0, 12, 12, 5),
    system(3, 0, 4, 6, 0),
    system(3, 0, 12, 12, 7),
    system(3, 0, 12, 12, 0),
)
V3_READY = (
    msr(_SRE, 1)
    + msr(_PMR, 0xFF)
    + msr(_GROUP1, 1)
    + write(4, DISTRIBUTOR, 0x12)  # GICD_CTLR: affinity routing, group 1
    + write(4, DISTRIBUTOR + 0x84, 1 << LINE)  # IGROUPR1
    + write(8, DISTRIBUTOR + 0x6000 + 8 * INTID, 0)  # IROUTER: CPU 0
    + write(4, DISTRIBUTOR + 0x104, 1 << LINE)  # ISENABLER1
)
V2_READY = (
    write(4, DISTRIBUTOR, 1)
    + write(1, DISTRIBUTOR + 0x800 + INTID, 1)  # ITARGETSR: CPU 0
    + write(4, DISTRIBUTOR + 0x104, 1 << LINE)
    + write(4, DISTRIBUTOR + 0x1_0004, 0xFF)  # GICC_PMR
    + write(4, DISTRIBUTOR + 0x1_0000, 1)  # GICC_CTLR
)
SAY_READY = mov(10, WINDOW) + store(8, 10, 10)
# The interrupt stays masked in PSTATE: the controller is asked until it has one. 1023 is none.
V3_TAKE = mrs(_IAR1, 1) + words(0xF10FFC3F, 0x54FFFFC0) + store(8, 1, 10)  # subs xzr, x1, 1023; b.eq back
V2_TAKE = mov(12, DISTRIBUTOR + 0x1_000C) + load(4, 1, 12) + words(0xF10FFC3F, 0x54FFFFC0) + store(8, 1, 10)


@pytest.mark.parametrize(
    ("kind", "devices", "code"),
    [("gicv3", V3, V3_READY + SAY_READY + V3_TAKE), ("gicv2", V2, V2_READY + SAY_READY + V2_TAKE)],
)
def test_a_line_reaches_the_vcpu(kind: str, devices: tuple[DevicePlan, ...], code: bytes, offered: Offer) -> None:
    if kind not in offered.irqchips:
        pytest.skip(f"this host has no {kind}")

    class Controlled(Lab):
        def make(self, kvm: Kvm, vcpus: int) -> object:
            return build(self.core, kvm, machine(vcpus, devices))

    with Controlled() as made:
        bell = Bell()
        made.core.claim(WINDOW, 16, bell)
        made.load(code + END)
        made.core.start()
        thread = made.spawn()
        bell.wait(0)
        made.core.line(LINE).raise_()
        thread.join(patience(20))
        assert not thread.is_alive(), "the interrupt did not arrive"
        assert [value for _, _, value in bell.heard] == [WINDOW, INTID]


@pytest.mark.parametrize("count", [1, 2, 9, 64])
def test_a_gicv3_carries_as_many_vcpus_as_there_are(count: int, offered: Offer) -> None:
    if "gicv3" not in offered.irqchips:
        pytest.skip("this host has no gicv3")
    features = ("pmu",) if "pmu" in offered.extensions else ()

    class Controlled(Lab):
        def make(self, kvm: Kvm, vcpus: int) -> object:
            return build(self.core, kvm, machine(vcpus, V3, features))

    with Controlled(count) as made:
        assert len(made.vcpus) == count


def test_a_plan_without_a_controller_is_refused() -> None:
    with Kvm() as kvm, Lab() as made, pytest.raises(HostError, match="0 interrupt controllers") as caught:
        gic.add(made.vm, machine(1, ()), 256)
        kvm.close()
    assert caught.value.code == "E310"


# ---- features, and where a vCPU stands -------------------------------------------------------------------------------


def test_a_feature_that_was_not_asked_for_is_not_there(offered: Offer) -> None:
    if "sve" not in offered.extensions:
        pytest.skip("this host has no sve")
    pfr0 = system(3, 0, 0, 4, 0)
    found = {}
    for features in ((), ("sve",)):
        with Lab(features=features) as made:
            made.load(mrs(pfr0, 1) + mov(10, DATA) + store(8, 1, 10) + END)
            assert made.run() == lib.VMR_EXIT_SYSTEM
            found[features] = int.from_bytes(made.core.read_ram(DATA, 8), "little") >> 32 & 0xF
    assert found == {(): 0, ("sve",): 1}


def test_the_offer_is_what_a_vcpu_says(offered: Offer) -> None:
    assert offered.irqchips and 4096 in offered.granules and offered.arch == "aarch64"


def test_an_access_that_kvm_cannot_carry_out_is_told_with_its_instruction() -> None:
    with Lab() as made:
        made.load(mov(10, WINDOW) + words(0xA9000D42))  # stp x2, x3, [x10]
        assert made.run() == lib.VMR_EXIT_FAULT
        scene = made.vm.scene(0)
        assert (scene.pc, scene.code, scene.isa) == (CODE + 16, words(0xA9000D42), "aarch64")
        assert "access to a device" in report.summary(scene)
        assert {"esr_el1", "ttbr1_el1", "x10"} <= set(made.vm.where(0))


@pytest.mark.parametrize("register", ["rax", "ttbr0_el1"])
def test_an_entry_names_registers_that_there_are(register: str) -> None:
    with Lab() as made, pytest.raises(HostError, match=f"no register `{register}`") as caught:
        made.vm.enter(EntryPlan(CODE, ((register, 1),)))
    assert caught.value.code == "E310"
