"""The named checks: each finds its own fault in a plan that was good, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from plan_kit import BASE, planned

from vmrun.boards.limits import LIMITS
from vmrun.errors import Owner, PlanError
from vmrun.frozen import evolve
from vmrun.plan import checks
from vmrun.plan.allocate import Allocator, SlotRow
from vmrun.plan.model import Blob, DevicePlan, Interrupt, Json, MachinePlan, RamRegion

BOUNDS = LIMITS["riscv_virt"]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> MachinePlan:
    return planned(tmp_path_factory.mktemp("plan"), BASE + '[disk.root]\nsize = "1MiB"\n[console.main]\n')


def change(id_: str, **what: object) -> Callable[[MachinePlan], MachinePlan]:
    return lambda p: evolve(p, devices=tuple(evolve(d, **what) if d.id == id_ else d for d in p.devices))  # type: ignore[arg-type]


def blob(name_: str, **what: object) -> Callable[[MachinePlan], MachinePlan]:
    return lambda p: evolve(p, blobs=tuple(evolve(b, **what) if b.name == name_ else b for b in p.blobs))  # type: ignore[arg-type]


def test_a_board_plans_nothing_that_the_checks_find(plan: MachinePlan) -> None:
    assert checks.findings(plan, BOUNDS) == ()


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (change("disk.root", base=0x1000_0000), "E101", "`uart0` and `disk.root` overlap"),
        (change("disk.root", base=0x8000_0000), "E101", "RAM"),
        (change("disk.root", base=0x1000_1800), "E102", "aligned"),
        (change("disk.root", size=0), "E104", "window"),
        (change("disk.root", base=1 << 60), "E104", "window"),
        (change("disk.root", interrupt=Interrupt(10)), "E103", "`uart0` and `disk.root` share interrupt 10"),
        (change("disk.root", interrupt=Interrupt(0)), "E103", "1 to 95"),
        (change("disk.root", interrupt=Interrupt(96)), "E103", "1 to 95"),
        (change("disk.root", id="uart0"), "E104", "two devices"),
        (lambda p: evolve(p, ram=()), "E109", "no RAM"),
        (lambda p: evolve(p, ram=(RamRegion(0x8000_0800, 4096),)), "E102", "4096"),
        (lambda p: evolve(p, ram=(RamRegion(0x8000_0000, 1 << 57),)), "E109", "56 bits"),
        (lambda p: evolve(p, ram=(*p.ram, RamRegion(0x8400_0000, 4096))), "E101", "RAM"),
        (lambda p: evolve(p, cpu=evolve(p.cpu, count=9)), "E106", "1 to 8"),
        (lambda p: evolve(p, cpu=evolve(p.cpu, count=0)), "E106", "1 to 8"),
        (lambda p: evolve(p, cmdline="x" * 1024), "E107", "1024"),
        (blob("fdt", gpa=0x8000_0004), "E102", "8 bytes"),
        (blob("fdt", gpa=0x8000_0000 + (128 << 20)), "E105", "inside RAM"),
        (blob("fdt", gpa=0x8020_0000), "E101", "kernel"),
        (blob("fdt", size=1), "E105", "not 1"),
        (blob("kernel", reserve=1), "E105", "room of 1"),
        (blob("kernel", data=b"x"), "E105", "either data or a path"),
        (blob("fdt", name="kernel"), "E105", "two blobs"),
        (lambda p: evolve(p, entry=evolve(p.entry, pc=0x8000_0000)), "E105", "entry"),
        (lambda p: evolve(p, entry=evolve(p.entry, pc=p.entry.pc + 1)), "E105", "entry"),
        (lambda p: evolve(p, run=evolve(p.run, console="console.b")), "E104", "console.b"),
    ],
)
def test_each_fault_is_found_once(
    fault: Callable[[MachinePlan], MachinePlan], code: str, words: str, plan: MachinePlan
) -> None:
    found = checks.findings(fault(plan), BOUNDS)
    assert [e.code for e in found] == [code], [str(e) for e in found]
    assert words in str(found[0])
    with pytest.raises(PlanError):
        checks.require(fault(plan), BOUNDS)


def test_an_overlap_names_both_owners(plan: MachinePlan) -> None:
    (error,) = checks.findings(change("disk.root", base=0x1000_0000)(plan), BOUNDS)
    assert {owner.name for owner in error.owners} == {"uart0", "disk.root"}
    assert [label.key for label in error.diagnostics()[0].labels] == [None, ("disk", "root")]


def test_checks_have_names_and_build_on_earlier_ones() -> None:
    names = [name for name, _, _ in checks.CHECKS]
    assert len(set(names)) == len(names)
    for index, (_, _, needs) in enumerate(checks.CHECKS):
        assert set(needs) <= set(names[:index])


def test_a_collision_past_a_small_range_is_seen(plan: MachinePlan) -> None:
    inside = DevicePlan("small", "x", 0x0C10_0000, 0x1000)
    beyond = DevicePlan("beyond", "x", 0x0C50_0000, 0x1000)
    found = checks.findings(evolve(plan, devices=(*plan.devices, inside, beyond)), BOUNDS)
    assert [e.code for e in found] == ["E101", "E101"]


def test_stand_ins_need_no_file(plan: MachinePlan) -> None:
    assumed = evolve(plan, blobs=(Blob("kernel", 0x8020_0000, 8, 8), plan.blobs[-1]), assumed=("kernel",))
    assert checks.findings(assumed, BOUNDS) == ()


def test_the_allocator_gives_each_thing_once() -> None:
    allocator = Allocator(irqs=10)
    row = SlotRow(0x1000, 0x1000, 0x1000, 2, 9)
    first = allocator.slot(row, 0, "a", ("disk", "a"))
    assert (first.base, first.irq) == (0x1000, 9)
    with pytest.raises(PlanError, match="overlap"):
        allocator.claim(Owner("b", 0x1800, 8))
    with pytest.raises(PlanError, match="share interrupt 9"):
        allocator.interrupt(9, Owner("b", 0, 8))
    with pytest.raises(PlanError, match="1 to 10"):
        allocator.interrupt(11, Owner("b", 0, 8))
    with pytest.raises(PlanError, match="no slot"):
        allocator.slot(row, 2, "c", ("disk", "c"))


@pytest.mark.parametrize("value", ["x", -1, 1 << 32, None, True, (1,)])
def test_a_property_that_is_no_number_is_named(value: Json) -> None:
    device = DevicePlan("plic", "plic", 0, 0x1000, properties={"sources": value})
    with pytest.raises(PlanError) as caught:
        device.number("sources", 95)
    assert caught.value.code == "E104" and "`plic`" in caught.value.message and "`sources`" in caught.value.message


@pytest.mark.parametrize("value", ["stdin", 1, ("a", 1), None])
def test_a_property_that_is_no_array_of_names_is_named(value: Json) -> None:
    device = DevicePlan("console.a", "virtio-console", 0, 512, properties={"ports": value})
    with pytest.raises(PlanError) as caught:
        device.names("ports")
    assert caught.value.code == "E104"


def test_properties_that_are_not_there() -> None:
    device = DevicePlan("a", "plic", 0, 512)
    assert (device.number("sources", 95), device.names("ports")) == (95, ())
    with pytest.raises(PlanError):
        device.number("sources")
