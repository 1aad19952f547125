"""Old runs are forgotten, the oldest first, and never one that is alive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_plans import Recorder, make_plan

from vmrun.engine.fake import FakeEngine, FakeExit, Leave
from vmrun.run import history
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan


def runs(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".vmrun" / "runs").iterdir())


def made(root: Path, count: int, size: int = 0) -> list[str]:
    """Leave ``count`` runs, the oldest first."""
    names = [f"20260101-0000{number:02}-{4000 - number}" for number in range(count)]
    for name in names:
        folder = root / ".vmrun" / "runs" / name
        (folder / "acpi").mkdir(parents=True)
        (folder / "console.log").write_bytes(bytes(size))
        (folder / "acpi" / "dsdt.aml").write_bytes(b"x")
    return names


def test_the_oldest_go_first(tmp_path: Path) -> None:
    names = made(tmp_path, 10)
    history.forget(tmp_path, keep=4)
    assert runs(tmp_path) == names[6:]


def test_the_size_is_bounded(tmp_path: Path) -> None:
    names = made(tmp_path, 6, size=1 << 20)
    history.forget(tmp_path, keep_bytes=3 << 20)
    assert runs(tmp_path) == names[4:]  # each is a little over a MiB


def test_a_run_that_is_alive_stays(tmp_path: Path) -> None:
    names = made(tmp_path, 5)
    folder = tmp_path / ".vmrun" / "runs" / names[1]
    script = "import sys; from pathlib import Path; from vmrun.run import history; "
    script += "fd = history.hold(Path(sys.argv[1])); print(fd, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    ) as alive:  # fmt: skip
        assert alive.stdout is not None and int(alive.stdout.readline()) > 2
        history.forget(tmp_path, keep=1)
        assert runs(tmp_path) == [names[1], names[4]]
        alive.kill()
    history.forget(tmp_path, keep=1)  # whatever its process was called, nobody holds it now
    assert runs(tmp_path) == [names[4]]


def test_what_is_no_run_stays(tmp_path: Path) -> None:
    names = made(tmp_path, 3)
    folder = tmp_path / ".vmrun" / "runs"
    (tmp_path / "elsewhere").mkdir()
    (folder / "20250101-000000-1").symlink_to(tmp_path / "elsewhere")
    (folder / "notes").mkdir()
    (folder / "20250101-000000-2").write_text("a file")
    history.forget(tmp_path, keep=1)
    assert runs(tmp_path) == ["20250101-000000-1", "20250101-000000-2", names[2], "notes"]


def test_thousands_are_forgotten_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "AT_ONCE", 3)
    names = made(tmp_path, 10)
    history.forget(tmp_path, keep=2)
    assert runs(tmp_path) == names[3:]


def test_a_run_forgets_old_ones_and_keeps_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = made(tmp_path, 5)
    forget = history.forget
    monkeypatch.setattr(history, "forget", lambda root: forget(root, keep=2))
    engine = FakeEngine([[Leave(FakeExit("poweroff"))]])
    outcome = run_plan(make_plan(), engine, Attachment(), Policy(results=tmp_path), Recorder())
    assert outcome.folder is not None and runs(tmp_path) == [names[4], Path(outcome.folder).name]


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    history.forget(tmp_path)
    assert not (tmp_path / ".vmrun").exists()
