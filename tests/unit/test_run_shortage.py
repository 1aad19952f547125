"""What the host has too little of is told by name, with what to do, and never as a bug."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from plan_kit import BASE, write
from run_plans import Recorder, make_plan

from vmrun.engine.fake import FakeEngine
from vmrun.errors import ArtifactError, HostError
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan
from vmrun.run.shortage import named

ROOT = Path(__file__).resolve().parents[2]


def caused(cause: BaseException) -> ArtifactError:
    error = ArtifactError("cannot use the cache")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.EMFILE, "Too many open files"), "E517"),
        (OSError(errno.ENFILE, "Too many open files in system"), "E517"),
        (caused(OSError(errno.EMFILE, "Too many open files")), "E517"),
        (MemoryError(), "E518"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "E518"),
        (RuntimeError("can't start new thread"), "E518"),
        (ImportError("_core.abi3.so: failed to map segment from shared object"), "E518"),
        (OSError(errno.ENOSPC, "No space left on device"), None),
        (RuntimeError("bug"), None),
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), None),
        (HostError("no RAM", code="E351", errno=errno.ENOMEM, remedy="set a smaller memory.size"), None),
        (HostError("uart0: duplicating fd 12", code="E350", errno=errno.EMFILE), "E517"),
        (HostError("uart0: out of memory", code="E350", errno=errno.ENOMEM), "E518"),
        (HostError("uart0: busy", code="E350", errno=errno.EBUSY), None),
    ],
)
def test_what_is_short(error: BaseException, code: str | None) -> None:
    found = named(error)
    assert (found and found.code) == code
    assert found is None or found.remedy


def test_a_run_that_meets_a_shortage_raises_it_by_name_and_leaves_a_result(tmp_path: Path) -> None:
    def build() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    engine = FakeEngine([[]], on_build=build)
    with pytest.raises(HostError, match="too many open files"):
        run_plan(make_plan(), engine, Attachment(), Policy(results=tmp_path), Recorder())
    assert "E517" in next(tmp_path.glob(".vmrun/runs/*/result.json")).read_text()


def up(folder: Path, before: str) -> subprocess.CompletedProcess[str]:
    path = write(folder, BASE)
    env = os.environ | {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache")}
    line = f'{before}; exec "{sys.executable}" -m vmrun up "{path}" --set run.timeouts.total="5s"'
    return subprocess.run(["sh", "-c", line], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


@pytest.mark.parametrize("limit", [8, 16, 20])
def test_few_descriptors(tmp_path: Path, limit: int) -> None:
    done = up(tmp_path, f"ulimit -n {limit}")
    assert done.returncode == 125
    assert "error[E517]" in done.stderr and "E500" not in done.stderr and "Traceback" not in done.stderr


def test_little_memory(tmp_path: Path) -> None:
    done = up(tmp_path, "ulimit -v 100000")
    assert done.returncode == 125
    assert "E500" not in done.stderr and "Traceback" not in done.stderr
    assert "error[E351]" in done.stderr or "error[E518]" in done.stderr


def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    done = up(tmp_path, f'mkdir "{tmp_path}/gone" && cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone"')
    assert done.returncode == 125
    assert "error[E519]" in done.stderr and "the working folder is gone" in done.stderr
