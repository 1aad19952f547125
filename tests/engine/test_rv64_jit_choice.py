"""Who decides whether code is translated: the plan, the command line, the host; and what the user is told."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest
import rv64translator
from rv64asm import Asm

from vmrun import _core
from vmrun.cli.main import main
from vmrun.frozen import evolve
from vmrun.plan import codec
from vmrun.plan.model import PLAN_FORMAT, Blob, EntryPlan, MachinePlan, RamRegion, RiscvCpus, RunPlan
from vmrun.rv64.engine import ENGINE

RAM = 0x8000_0000
LOOP = """
    li   t0, 100000
loop: addi t0, t0, -1
    bnez t0, loop
    li   a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall
"""


def plan() -> MachinePlan:
    kernel = Asm().text(LOOP).assemble(RAM)
    return MachinePlan(
        *(PLAN_FORMAT, "p", "riscv_virt", "soft", "why"),
        RiscvCpus("riscv64", 1, ("i", "zicsr"), "rv64i", "sv39", 10_000_000),
        *((RamRegion(RAM, 1 << 20),), (), (Blob("kernel", RAM, len(kernel), len(kernel), data=kernel),)),
        *(EntryPlan(RAM, (("a0", 0), ("a1", 0))), "", RunPlan()),
    )


def blocks(made: MachinePlan) -> int:
    """How many translations a run of the plan makes."""
    with ENGINE.build(made, {}) as machine:
        left = _core.ffi.new("vmr_exit *")
        machine.start()
        assert _core.lib.vmr_vcpu_run(machine._vcpus[0], left) == 0
        assert left.kind == _core.lib.VMR_EXIT_SYSTEM
        return machine._vcpu_counters()["jit_blocks"]


def test_the_plan_decides() -> None:
    assert blocks(evolve(plan(), jit=False)) == 0
    if missing := rv64translator.missing_translator():
        pytest.skip(missing)
    assert blocks(plan()) > 0


def test_a_host_that_refuses_interprets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmrun.rv64.engine.lib", _Refusing(errno.EACCES))
    assert blocks(plan()) == 0


class _Refusing:
    """The core, on a host where probing for the translator ends with an error."""

    def __init__(self, error: int) -> None:
        self.vmr_rv64_jit_probe = lambda: -error

    def __getattr__(self, name: str) -> object:
        return getattr(_core.lib, name)


@pytest.mark.parametrize(("option", "translates"), [((), True), (("--no-jit",), False)])
def test_the_command_line_decides(option: tuple[str, ...], translates: bool, tmp_path: Path) -> None:
    """What is saved is the plan that would run."""
    saved, kept = tmp_path / "m.plan.json", tmp_path / "kept.plan.json"
    saved.write_text(codec.to_json(plan()))
    assert main(["up", str(saved), "--no-results", "-q", "--save-plan", str(kept), *option]) == 0
    assert codec.load(str(kept)).jit is translates


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (0, "code that runs often is translated"),
        (errno.ENOTSUP, "interpreted, for there is no translator to this host's processor"),
        (errno.EACCES, "interpreted, for this host allows no memory that is written and then run: Permission denied"),
    ],
)
def test_the_doctor_says_it(error: int, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmrun.cli import doctor

    monkeypatch.setattr("vmrun._core.lib", SimpleNamespace(vmr_rv64_jit_probe=lambda: -error))
    finding = doctor._soft()
    assert (finding.engine, finding.verdict) == ("soft", "full")
    assert told in finding.why
    assert bool(finding.remedy) == (error == errno.EACCES)
