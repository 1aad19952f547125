"""The command line by itself: verbs, exit codes, and every odd way out."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from patience import patience
from vmrun.cli import main as cli
from vmrun.errors import ArtifactError, Diagnostic, HostError, ManifestError, PlanError

ROOT = Path(__file__).resolve().parents[2]


def vmrun(*args: str, shell: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    import shlex

    line = f"{shlex.join([sys.executable, '-m', 'vmrun', *args])} {shell}"
    given = os.environ | {"PYTHONPATH": str(ROOT)} | (env or {})
    return subprocess.run(["sh", "-c", line], env=given, capture_output=True, text=True, timeout=patience(60))


def test_help_lists_every_verb_and_costs_nothing() -> None:
    done = vmrun("--help")
    assert done.returncode == 0
    assert all(f"  {verb} " in done.stdout for verb in cli.VERBS)
    assert vmrun().stdout == done.stdout
    script = "import sys; from vmrun.cli.main import main; main(['--help']); print(*sys.modules, file=sys.stderr)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    ).stderr.split()
    assert not {"argparse", "dataclasses", "typing", "vmrun.errors", "pydantic", "rich"} & set(loaded)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_its_module_and_its_help(verb: str) -> None:
    module = import_module(f"vmrun.cli.{verb}")
    assert callable(module.run)
    done = vmrun(verb, "--help")
    assert done.returncode == 0
    assert cli.VERBS[verb][:30] in " ".join(done.stdout.split())


def test_up_loads_neither_pydantic_nor_rich() -> None:
    """By reading the source: what `up` imports on the way to a saved plan stays free of both."""
    for name in ("launch", "up", "run"):
        tree = ast.parse((ROOT / "vmrun" / "cli" / f"{name}.py").read_text())
        tops = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
        names = " ".join(ast.unparse(n) for n in tops)
        assert "pydantic" not in names and "rich" not in names and "schema" not in names


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["upp"], 2, "did you mean `up`?"),
        (["--frobnicate"], 2, "no option"),
        (["up"], 125, "required: M"),
        (["run", "m.toml"], 125, "no command"),
        (["run", "m.toml", "--"], 125, "no command"),
        (["up", "--accel", "vax", "m.toml"], 125, "invalid choice"),
        (["up", "no/such/manifest.toml"], 125, "no/such/manifest.toml"),
        (["up", "no/such/plan.json"], 125, "plan.json"),
        (["up", "--escape", "ctrl-nonsense", "m.toml"], 125, "no escape key"),
        (["check"], 2, "required"),
        (["check", "no/such/manifest.toml"], 2, "no/such/manifest.toml"),
        (["plan", "no/such/manifest.toml"], 2, "no/such/manifest.toml"),
        (["explain", "E000"], 2, "E000"),
    ],
)
def test_wrong_arguments(args: list[str], code: int, words: str) -> None:
    done = vmrun(*args)
    assert done.returncode == code, done.stderr
    assert words in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "error", "code"),
    [
        ("up", ManifestError((Diagnostic("E014", "x"),)), 125),
        ("run", PlanError("x"), 125),
        ("check", ManifestError((Diagnostic("E014", "x"),)), 1),
        ("check", ManifestError((Diagnostic("E001", "x"),)), 2),
        ("plan", PlanError("x"), 1),
        ("plan", ArtifactError("x"), 2),
        ("lock", ArtifactError("x"), 2),
        ("plan", HostError("x"), 2),
    ],
)
def test_the_code_of_a_failure(verb: str, error: Exception, code: int) -> None:
    assert cli.failure_code(verb, error) == code  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (OSError(28, "No space left on device"), 125, "No space left"),  # of a file, not of standard output
        (ZeroDivisionError("a\nb"), 125, "error[E500]: ZeroDivisionError: a b (VMRUN_DEBUG=1 shows the traceback)"),
    ],
)
def test_what_nobody_foresaw(
    error: BaseException, code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object) -> int:
        raise error

    monkeypatch.delenv("VMRUN_DEBUG", raising=False)
    monkeypatch.setattr(cli, "_dispatch", fail)
    monkeypatch.setattr(cli, "drop", lambda stream: None)
    assert cli.main(["up"]) == code
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told and told.count("\n") == bool(words)
    if code == 125:
        monkeypatch.setenv("VMRUN_DEBUG", "1")
        cli.main(["up"])
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(shell: str) -> None:
    assert vmrun("--help", shell=shell).returncode == (125 if ">&-" in shell.split() else 0)
    done = vmrun("up", "no/such/manifest.toml", shell=shell)
    assert done.returncode == 125
    assert "Traceback" not in done.stderr


def test_a_closed_descriptor_never_becomes_another_file() -> None:
    script = (
        "import os, sys; from vmrun.cli.main import main; main(['--version']);"
        "print([os.readlink(f'/proc/self/fd/{fd}') for fd in (0, 1)], file=sys.stderr)"
    )
    done = subprocess.run(
        ["sh", "-c", f'{sys.executable} -c "$1" <&- >&-', "sh", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == "['/dev/null', '/dev/null']"


def test_a_full_disk_or_a_reader_that_left() -> None:
    for verb in ("schema", "boards", "explain"):
        full = vmrun(verb, shell=">/dev/full")
        assert full.returncode == 125
        assert "error[E520]: standard output cannot be written: No space left" in full.stderr
        assert "E500" not in full.stderr and "Exception ignored" not in full.stderr
    piped = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m vmrun schema | true; echo ${{PIPESTATUS[0]}}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert piped.stdout.strip() in ("0", "141")
    assert "Traceback" not in piped.stderr and "Exception ignored" not in piped.stderr


def test_init_writes_a_manifest_that_checks(tmp_path: Path) -> None:
    path = tmp_path / "my machine.toml"
    assert vmrun("init", str(path)).returncode == 0
    assert 'name = "my-machine"' in path.read_text()
    done = vmrun("check", "--no-artifacts", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    before = path.read_bytes()
    again = vmrun("init", str(path))
    assert again.returncode != 0 and "there already" in again.stderr
    assert path.read_bytes() == before
    assert vmrun("init", str(tmp_path / "x.toml"), "--name", "../x").returncode != 0
    assert vmrun("init", str(tmp_path / "no" / "x.toml")).returncode != 0
