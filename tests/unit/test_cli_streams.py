"""Standard output and error that are closed, full, gone, or cannot hold what is to be said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patience import patience

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = """\
manifest = 1
name = "m"
[machine]
board = "riscv_virt"
accel = "soft"
[memory]
size = "256MiB"
[boot]
kernel = { path = "vmlinux" }
[disk.a]
size = "1MiB"
"""


def vmrun(line: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of bash in which ``$V`` is vmrun."""
    (folder / "m.toml").write_text(MANIFEST, encoding="utf-8")
    (folder / "bad.toml").write_text(MANIFEST + "[cpu]\ncuont = 1\n", encoding="utf-8")
    given = os.environ | {"PYTHONPATH": str(ROOT), "V": f"{sys.executable} -m vmrun"} | env
    return subprocess.run(["bash", "-c", line], env=given, cwd=folder, capture_output=True, timeout=patience(120))


@pytest.mark.parametrize("closed", [">&-", ">/dev/full"])
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("plan --no-artifacts m.toml", 2),
        ("plan --no-artifacts --tree m.toml", 2),
        ("plan --no-artifacts --json m.toml", 2),
        ("check --no-artifacts bad.toml", 2),
        ("check --no-artifacts --output-format junit m.toml", 2),
        ("plan --help", 2),
        ("schema", 125),
        ("explain", 125),
        ("boards", 125),
        ("run --help", 125),
        ("--version", 125),
    ],
)
def test_output_that_goes_nowhere_is_one_error(tmp_path: Path, command: str, code: int, closed: str) -> None:
    done = vmrun(f"$V {command} {closed}", tmp_path)
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.decode().splitlines() if line.startswith("error")]
    assert len(errors) == 1 and errors[0].startswith("error[E520]: standard output cannot be written: ")
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
@pytest.mark.parametrize(
    ("command", "code"),
    [("check --no-artifacts m.toml", 0), ("check --no-artifacts bad.toml", 1), ("plan none.toml", 2), ("up", 125)],
)
def test_words_that_nobody_hears_change_no_status(tmp_path: Path, command: str, code: int, closed: str) -> None:
    done = vmrun(f"$V {command} {closed}", tmp_path)
    assert done.returncode == code
    assert b"checked" not in done.stdout and b"Traceback" not in done.stdout


@pytest.mark.parametrize("command", ["plan --no-artifacts m.toml", "schema", "check --no-artifacts bad.toml"])
def test_a_reader_that_left_is_no_error(tmp_path: Path, command: str) -> None:
    done = vmrun(f"(sleep 0.2; exec $V {command}) | exec <&-; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout.strip() in (b"141", b"1", b"0")
    assert b"Traceback" not in done.stderr and b"error[" not in done.stderr and b"ignored" not in done.stderr


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_signs_that_the_locale_lacks_are_replaced(tmp_path: Path, encoding: str) -> None:
    for command in ("run --help", "--help", "plan --no-artifacts --tree m.toml", "check --no-artifacts bad.toml"):
        done = vmrun(f"$V {command}", tmp_path, PYTHONIOENCODING=encoding)
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout.isascii() and b"Traceback" not in done.stderr
    usage = vmrun("$V run --help", tmp_path, PYTHONIOENCODING=encoding).stdout
    assert b"usage: vmrun run [options] M -- CMD..." in usage
    tree = vmrun("$V plan --no-artifacts --tree m.toml", tmp_path, PYTHONIOENCODING=encoding).stdout
    assert b"`- cmdline" in tree and b"|- bus" in tree


def test_a_saved_plan_is_utf8_in_every_locale(tmp_path: Path) -> None:
    folder = tmp_path / "größe"
    folder.mkdir()
    plans = [
        vmrun("$V plan --no-artifacts --json m.toml", folder, PYTHONIOENCODING=encoding).stdout
        for encoding in ("utf-8", "ascii")
    ]
    assert plans[0] == plans[1] and json.loads(plans[0])["name"] == "m"


def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"odd\xff\x1b[31m")
    folder.mkdir()
    for command in ('check --no-artifacts "$PWD/bad.toml"', 'plan --no-artifacts "$PWD/m.toml"'):
        done = vmrun(f"$V {command}", folder)
        assert done.returncode in (0, 1), done.stderr
        assert b"\x1b" not in done.stdout and b"\xff" not in done.stdout
    saved = vmrun('$V plan --no-artifacts --json "$PWD/m.toml" > p.json && $V plan --diff m.toml p.json', folder)
    assert b"E172" not in saved.stderr and b"Traceback" not in saved.stderr
