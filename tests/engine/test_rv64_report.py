"""What the soft engine tells of its harts after a fault."""

from pathlib import Path

from vmrun.plan.model import PLAN_FORMAT, Blob, EntryPlan, MachinePlan, RamRegion, RiscvCpus, RunPlan
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan
from vmrun.rv64.engine import ENGINE

RAM = 0x8000_0000
EXTENSIONS = ("i", "m", "a", "f", "d", "c", "zicsr", "zifencei")


def plan(kernel: bytes = b"") -> MachinePlan:
    cpu = RiscvCpus("riscv64", 2, EXTENSIONS, "rv64imafdc", "sv39", 10_000_000)
    entry = EntryPlan(RAM + 0x100, (("a0", 0), ("a1", 0)))
    ram = (RamRegion(RAM, 1 << 20),)
    blobs = (Blob("kernel", RAM + 0x100, len(kernel), len(kernel), data=kernel),) if kernel else ()
    return MachinePlan(PLAN_FORMAT, "p", "riscv_virt", "soft", "why", cpu, ram, (), blobs, entry, "", RunPlan())


class Deaf:
    """An observer that is not there."""

    def phase(self, name: str, at_ns: int) -> None: ...

    def warn(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


def test_garbage_for_a_kernel_ends_with_255_and_the_place(tmp_path: Path) -> None:
    outcome = run_plan(plan(b"\xff" * 4096), ENGINE, Attachment(), Policy(results=tmp_path), Deaf())
    assert (outcome.reason, outcome.code) == ("fault", 255)
    told = "hart 0: the guest traps for ever at pc 0x0, its trap handler: cause 1 (instruction access fault), stval 0x0"
    assert outcome.detail == told
    assert outcome.report.startswith("hart 0: pc 0x0 ")


def test_the_report_says_where_each_hart_stands() -> None:
    with ENGINE.build(plan(), {}) as machine:
        first, second = machine.report().splitlines()
    assert first.startswith("hart 0: pc 0x80000100 ")
    assert second.startswith("hart 1: pc ")
    assert "satp 0x0" in first
