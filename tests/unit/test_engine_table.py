"""The table of engines: whoever names an engine reads it, and what it names is there."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import get_args

import pytest
from plan_kit import BASE, write

from vmrun.boards import registry
from vmrun.cli.main import main
from vmrun.engine import fake, table
from vmrun.engine.fake import FakeEngine, FakeExit, Hang, Leave
from vmrun.errors import HostError
from vmrun.kvm import probe
from vmrun.planning import engines
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest
from vmrun.schema.carried import FORMAT_ENGINES
from vmrun.schema.models import Machine, Scale

CARRIED = [row for row in table.ENGINES if not row.lacks]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def test_the_formats_names_are_the_tables() -> None:
    public = {row.name for row in table.ENGINES if row.public}
    assert public == set(FORMAT_ENGINES) == set(get_args(Machine.model_fields["accel"].annotation)) - {"auto"}
    assert {row.scale for row in table.ENGINES if row.scale} == set(Scale.model_fields) == public
    assert registry.known().accels == table.CARRIED


@pytest.mark.parametrize("row", CARRIED, ids=lambda row: row.name)
def test_an_engine_is_called_as_its_row(row: table.Row) -> None:
    assert row.engine().name == row.name
    for arch in row.guests:
        offer = row.offer("because", arch, anywhere=True)
        assert (offer.engine, offer.why, offer.arch) == (row.name, "because", arch)


def test_every_board_runs_on_an_engine_of_the_table() -> None:
    for name in registry.NAMES:
        arch = registry.load(name).arch
        for accel in ("auto", "fake"):
            offer, lasting = engines.offer_for(accel, arch, anywhere=True)
            row = table.find(offer.engine)
            assert row is not None and arch in row.guests and lasting


def test_a_plan_for_any_host_asks_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    monkeypatch.setattr(probe, "look", None)
    assert engines.offer_for("auto", "riscv64", anywhere=True)[0].engine == "soft"
    assert engines.offer_for("kvm", "riscv64", anywhere=True)[0].nominal
    assert engines.offer_for("auto", "aarch64", anywhere=True)[0].engine == "kvm"
    for accel, arch, code in (("qemu", "riscv64", "E301"), ("vax", "riscv64", "E301"), ("soft", "x86_64", "E302")):
        with pytest.raises(HostError) as caught:
            engines.offer_for(accel, arch, anywhere=True)
        assert caught.value.code == code


def test_the_doctor_looks_at_every_engine(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    said = capsys.readouterr().out
    assert all(f"{name}: " in said for name in table.CARRIED) and "fake" not in said


@pytest.mark.parametrize(
    ("left", "code"), [(FakeExit("poweroff"), 0), (FakeExit("exit", 7), 7), (FakeExit("reboot"), 0)]
)
def test_the_fake_engine_runs_a_manifest_from_the_command_line(
    left: FakeExit, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeEngine([[Leave(left)], [Leave(FakeExit("poweroff"))]])
    monkeypatch.setattr(fake, "ENGINE", engine)
    assert main(["up", "--accel", "fake", "--quiet", str(write(tmp_path))]) == code
    assert engine.machines and all(machine.plan.engine == "fake" for machine in engine.machines)


def test_a_timeout_has_the_factor_of_its_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts = '[run.timeouts]\ntotal = "10s"\nscale = { soft = 3, kvm = 2 }\n'
    path = write(tmp_path, BASE + timeouts)
    seconds = {
        accel: (plan_manifest(path, How(accel=accel, anywhere=True)).run.total_ns or 0) // 10**9
        for accel in ("soft", "kvm", "fake")
    }
    assert seconds == {"soft": 30, "kvm": 20, "fake": 10}
    monkeypatch.setattr(fake, "ENGINE", FakeEngine([[Hang()]]))
    path = write(tmp_path, BASE + timeouts.replace("10s", "10ms"))
    assert main(["up", "--accel", "fake", "--quiet", str(path)]) == 124
