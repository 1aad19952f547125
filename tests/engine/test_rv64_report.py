"""What the soft engine tells of its harts after a fault."""

from vmrun.plan.model import PLAN_FORMAT, EntryPlan, MachinePlan, RamRegion, RiscvCpus, RunPlan
from vmrun.rv64.engine import ENGINE

RAM = 0x8000_0000
EXTENSIONS = ("i", "m", "a", "f", "d", "c", "zicsr", "zifencei")


def test_the_report_says_where_each_hart_stands() -> None:
    cpu = RiscvCpus("riscv64", 2, EXTENSIONS, "rv64imafdc", "sv39", 10_000_000)
    entry = EntryPlan(RAM + 0x100, (("a0", 0), ("a1", 0)))
    ram = (RamRegion(RAM, 1 << 20),)
    made = MachinePlan(PLAN_FORMAT, "p", "riscv_virt", "soft", "why", cpu, ram, (), (), entry, "", RunPlan())
    with ENGINE.build(made, {}) as machine:
        first, second = machine.report().splitlines()
    assert first.startswith("hart 0: pc 0x80000100 ")
    assert second.startswith("hart 1: pc ")
    assert "satp 0x0" in first
