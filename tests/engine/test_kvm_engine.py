"""A plan on the KVM engine, the CPU that its guest sees, what it tells after a fall, and the probe of this host."""

import json
import struct
from pathlib import Path

import pytest
from kvm_kit import HLT, LONG, PORT, TABLES, lab, mov_dx, need_kvm, page_tables

from vmrun._core import lib
from vmrun.cli.main import main
from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.kvm import probe
from vmrun.kvm.engine import ENGINE
from vmrun.kvm.host import Kvm
from vmrun.kvm.outcome import MicroGuest, Try
from vmrun.kvm.x86_64 import cpuid, microguest
from vmrun.kvm.x86_64.vm import X86Vm
from vmrun.plan import codec
from vmrun.plan.model import PLAN_FORMAT, Blob, EntryPlan, MachinePlan, RamRegion, RiscvCpus, RunPlan, X86Cpus
from vmrun.plan.topology import Topology
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan

CODE = 0x1000


@pytest.fixture(autouse=True)
def _kvm() -> None:
    need_kvm()


HOST_CPU = X86Cpus("x86_64", 1, "host", (), Topology())
ALONE = Topology()


def plan(code: bytes, cpu: X86Cpus = HOST_CPU, **registers: int) -> MachinePlan:
    blobs = tuple(
        Blob(name, gpa, len(data), len(data), data)
        for name, gpa, data in (("code", CODE, code), ("pt", TABLES, page_tables()))
    )
    entry = EntryPlan(CODE, (*LONG, ("rsp", 0x8000), *registers.items()))
    ram = (RamRegion(0, 4 << 20),)
    return MachinePlan(PLAN_FORMAT, "p", "microvm", "kvm", "why", cpu, ram, (), blobs, entry, "", RunPlan())


def test_a_plan_runs_and_tells_where_it_fell() -> None:
    with ENGINE.build(plan(b"\xdb\x2f" + HLT, rdi=0x1000_0000, r9=0x77), {}) as machine:
        assert machine.vcpu_count == 1
        machine.start()
        left = machine.run_vcpu(0)
        assert left.reason == "fault"
        assert "internal error 1" in left.detail
        assert "db 2f" in left.detail
        (where,) = machine.vcpu_states()
        assert (where["pc"], where["r9"]) == (CODE, 0x77)
        assert machine.counters()["runs"] >= 1
        assert "KVM_EXIT_INTERNAL_ERROR" in machine.report()


def test_a_triple_fault_shows_the_instruction() -> None:
    with ENGINE.build(plan(b"\x0f\x0b", **{"idt.limit": 0}), {}) as machine:
        machine.start()
        assert "triple fault" in machine.run_vcpu(0).detail


def test_a_stop_is_a_stop() -> None:
    with ENGINE.build(plan(b"\xeb\xfe"), {}) as machine:
        machine.start()
        machine.stop()
        assert machine.run_vcpu(0).reason == "stopped"
        assert machine.report() == ""


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"assumed": ("kernel",)}, "E310"),
        ({"cpu": RiscvCpus("riscv64", 1, (), "", "", 0)}, "E302"),
        ({"cpu": X86Cpus("x86_64", 1 << 20, "host", (), Topology(cores=1 << 20))}, "E326"),
        ({"cpu": X86Cpus("x86_64", 1, "host", ("+amx_tile",), Topology())}, "E327"),
        ({"cpu": X86Cpus("x86_64", 1, "host", ("-nosuch",), Topology())}, "E328"),
        ({"entry": EntryPlan(0, (("a0", 1),))}, "E310"),
        ({"blobs": (Blob("b", 1 << 40, 1, 1, b"x"),)}, "E350"),
    ],
)
def test_plans_that_cannot_be(change: dict[str, object], code: str) -> None:
    if code == "E327":
        with Kvm() as kvm:
            if "amx_tile" in cpuid.names(cpuid.supported(kvm)):
                pytest.skip("needs a host without AMX")
    with pytest.raises(HostError) as caught:
        ENGINE.build(evolve(plan(HLT), **change), {})  # type: ignore[arg-type]
    assert caught.value.code == code


class Deaf:
    """An observer that shows nothing."""

    def phase(self, name: str, at_ns: int) -> None: ...

    def warn(self, text: str) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.mark.parametrize(
    ("made", "reason", "told"),
    [
        # x87 at an address without RAM is beyond every KVM
        (
            plan(b"\x90\xdb\x2f" + HLT, rdi=0x1000_0000),
            "fault",
            ("17 (KVM_EXIT_INTERNAL_ERROR), suberror 1", "code db 2f"),
        ),
        (plan(b"\x90\x0f\x0b", **{"idt.limit": 0}), "triple-fault", ("8 (KVM_EXIT_SHUTDOWN)", "code 0f 0b")),
    ],
    ids=["internal error", "triple fault"],
)
def test_a_run_that_falls_over_ends_with_255_and_a_report(
    tmp_path: Path, made: MachinePlan, reason: str, told: tuple[str, ...]
) -> None:
    saved = tmp_path / "fall.json"
    saved.write_text(codec.to_json(made))
    outcome = run_plan(codec.load(str(saved)), ENGINE, Attachment(), Policy(results=tmp_path), Deaf())
    assert (outcome.reason, outcome.code) == (reason, 255)
    assert "exit reason" in outcome.report and told[0] in outcome.report
    # AMD's KVM has nothing more to tell of a triple fault.
    if "KVM on this processor has reset its registers" not in outcome.report:
        for words in (*told, f"rip {CODE + 1:016x}"):
            assert words in outcome.report
    else:
        assert "SHUTDOWN" in told[0] and " rip " not in outcome.report
    result = json.loads(next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text())
    assert result["report"] == outcome.report.splitlines()


def test_a_saved_plan_that_falls_over_tells_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    saved = tmp_path / "fall.json"
    saved.write_text(codec.to_json(plan(b"\x90\xdb\x2f" + HLT, rdi=0x1000_0000)))
    assert main(["up", str(saved)]) == 255
    lines = capfd.readouterr().err.splitlines()
    verdict = next(i for i, line in enumerate(lines) if "internal error 1" in line)
    assert "exit reason 17 (KVM_EXIT_INTERNAL_ERROR)" in lines[verdict + 1]
    assert any("rip 0000000000001001" in line for line in lines[verdict:])


# ---- the CPU ---------------------------------------------------------------------------------------------------------

# cpuid; then eax, ebx, ecx and edx to the port
SHOW = b"\x0f\xa2" + b"\x89\xd7" + mov_dx(PORT) + b"\xef\x89\xd8\xef\x89\xc8\xef\x89\xf8\xef" + HLT


def shown(changes: tuple[str, ...], function: int, index: int = 0, shape: Topology = ALONE) -> list[int]:
    with lab("long", irqchip=None) as made:
        made.load(SHOW, rax=function, rcx=index)
        rows = cpuid.rows(cpuid.build(made.vm.cpuid, changes, shape, 0))
        made.vm.check(lib.vmr_kvm_x86_set_cpuid(made.vcpus[0], rows, len(rows)), "vCPU")
        assert made.run() == lib.VMR_EXIT_HALT
        return [value for _, _, value in made.ears.heard]


def test_the_guest_sees_the_hypervisor_and_what_was_taken_away() -> None:
    assert struct.pack("<3I", *shown((), 0x40000000)[1:]) == b"KVMKVMKVM\0\0\0"
    assert shown((), 1)[2] >> 31 == 1
    assert shown((), 1)[2] >> 13 & 1 == 1
    assert shown(("-cx16",), 1)[2] >> 13 & 1 == 0


def test_the_guest_sees_the_topology() -> None:
    shape = Topology(2, 3, 2)
    assert shown((), 0xB, 0, shape)[:2] == [1, 2]
    assert shown((), 0xB, 1, shape)[:2] == [3, 6]


EMULATED = {"x2apic", "tsc_deadline_timer", "tsc_adjust", "umip", "hypervisor", "la57", "movbe", "rdpid", "nonstop_tsc"}
EMULATED |= {"arch_capabilities", "svm", "vmx", "cmp_legacy", "ht", "topoext", "pku", "lam", "pdcm", "arat"}


def test_the_names_are_those_of_this_hosts_kernel() -> None:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")).split()
    with Kvm() as kvm:
        names = set(cpuid.names(cpuid.supported(kvm)))
    assert names - set(flags) - EMULATED == set()
    assert len(names) > 30


def test_sparse_apic_ids() -> None:
    from vmrun.core.machine import CoreMachine

    with CoreMachine() as core, Kvm() as kvm:
        core.add_ram(0, 1 << 20)
        made = X86Vm(core, kvm)
        assert len(made.add_vcpus(6, topology=Topology(2, 3, 1))) == 6


# ---- the probe -------------------------------------------------------------------------------------------------------


def test_the_micro_guest_reaches_a_verdict() -> None:
    with Kvm() as kvm:
        found = microguest.run(kvm)
    assert found.speed > 1000
    assert {one.name for one in found.tries} == {"x87", "xsave", "cmpxchg16b"}


def test_an_instruction_that_kvm_lacks_is_found() -> None:
    """x87 at an address without RAM is beyond every KVM, whatever this host's can do."""
    from vmrun.core.machine import CoreMachine

    code = b"\xbf\x00\x00\x10\x00" + b"\xdb\x2f" + HLT  # mov edi, 1 MiB; fld tbyte [rdi]
    with Kvm() as kvm, CoreMachine() as core:
        found = microguest._Guest(core, kvm).attempt("x87", code, None, "nothing")
    assert found.works is False
    assert "emulate" in found.why


def test_the_result_is_kept_for_this_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runs = []

    def run(kvm: Kvm) -> MicroGuest:
        runs.append(kvm)
        return MicroGuest(10**9, (Try("x87", True, "p"), Try("xsave", None, "p", "hidden")))

    monkeypatch.setattr(microguest, "run", run)
    first = probe.look()
    assert first.verdict == "full"
    assert probe.look() == first
    assert len(runs) == 1
    probe.look(fresh=True)
    assert len(runs) == 2
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(probe, "_BOOT_ID", boot)
    probe.look()
    assert len(runs) == 3
    (file,) = (tmp_path / "vmrun").iterdir()
    kept = json.loads(file.read_text())
    for nonsense in ("", "[]", "{}", '{"key": 1}', "\x00", json.dumps(kept | {"speed": "x"})):
        file.write_text(nonsense)
        assert probe.look() == first
    assert len(runs) == 9


def test_a_doubtful_result_is_kept_for_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the clock went back, as in another time namespace."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    speeds = iter((12_000_000, 12_000_000, 10**9))
    monkeypatch.setattr(microguest, "run", lambda kvm: MicroGuest(next(speeds), (Try("x87", True, "p"),)))
    now = [1000.0]
    monkeypatch.setattr(probe, "_uptime_s", lambda: now[0])
    verdicts = []
    for at in (1000.0, 1299.0, 900.0, 1199.0, 1201.0, 9e9):
        now[0] = at
        verdicts.append(probe.look().verdict)
    assert verdicts == ["slow"] * 4 + ["full"] * 2
    assert next(speeds, None) is None


def test_a_cache_that_cannot_be_written_costs_a_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmrun").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(microguest, "run", lambda kvm: MicroGuest(10**9, ()))
    assert probe.look().verdict == "full"


def test_the_doctor_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("kvm: ")
    assert any(line.startswith("soft: full") for line in lines)
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {engine["engine"] for engine in found["engines"]} == {"kvm", "soft"}
    assert found["capabilities"]["KVM_CAP_USER_MEMORY"] == 1
    assert {one["name"] for one in found["kernel_mode"]["tries"]} == {"x87", "xsave", "cmpxchg16b"}


def test_the_doctor_without_kvm(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    error = HostError("there is no /dev/kvm", code="E320", remedy="load it")
    monkeypatch.setattr(probe, "Kvm", lambda path: (_ for _ in ()).throw(error))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "kvm: none: there is no /dev/kvm" in out
    assert "kvm: remedy: load it" in out
