"""The verbs check, schema and explain, as a user calls them: output, and exit codes 0 clean, 1 findings, 2 blind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from patience import patience
from vmrun.cli.main import main

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "check"
MINIMAL = """\
manifest = 1
[machine]
board = "riscv_virt"
[memory]
size = "256MiB"
[boot]
kernel = { path = "vmlinux" }
"""


@pytest.fixture
def clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("clean.toml").write_text(MINIMAL + "[profile.two]\ncpu.count = 2\n", encoding="utf-8")
    return "clean.toml"


def check(*arguments: str) -> int:
    return main(["check", "--no-artifacts", *arguments])


def test_clean_is_0_and_silent_on_stdout(clean: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(clean) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "checked 1 manifest: no error\n")


def test_findings_are_1_and_on_stdout(clean: str, capsys: pytest.CaptureFixture[str]) -> None:
    bad = str(GOLDEN / "typo-of-required.toml")
    assert check(clean, bad) == 1
    out, err = capsys.readouterr()
    assert out.count("error[E014]") == 3
    assert err == "checked 2 manifests: 3 errors\n"


def test_unreadable_is_2_whatever_else_is_found(clean: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("none.toml") == 2
    assert check(clean, "none.toml", str(GOLDEN / "missing.toml")) == 2
    assert check(".") == 2
    assert "cannot read .: is a directory" in capsys.readouterr().out


def test_warnings_alone_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(str(GOLDEN / "warnings.toml")) == 0
    out, err = capsys.readouterr()
    assert out.count("warning[E051]") == 3
    assert err == "checked 1 manifest: no error and 3 warnings\n"


def test_set_and_profile(clean: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(clean, "--set", "cpu.count=3", "--profile", "two") == 0
    assert check(clean, "--profile", "three") == 1
    assert "profiles are two" in capsys.readouterr().out
    assert check(clean, "--set", "memory.size=-1MiB") == 1
    assert capsys.readouterr().out == (
        "error[E012]: `size` in [memory]: `-1MiB` is a negative size\n"
        " --> <--set>:1:13\n"
        "  |\n"
        "1 | memory.size=-1MiB\n"
        "  |             ^^^^^ must be more than 0\n"
    )


@pytest.mark.parametrize("style", ["full", "concise", "json", "github", "sarif", "junit"])
def test_every_format_of_every_bad_manifest(style: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--output-format", style, *map(str, sorted(GOLDEN.glob("*.toml")))) == 1
    out, err = capsys.readouterr()
    assert "E014" in out
    assert ("checked" in err) == (style in ("full", "concise"))


@pytest.mark.parametrize(("style", "text"), [("json", "[]\n"), ("github", ""), ("concise", "")])
def test_clean_in_a_format(clean: str, style: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("--output-format", style, clean) == 0
    assert capsys.readouterr().out == text


def test_schema_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "vmrun manifest"


def test_explain(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "e014"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("E014: unknown key\n\n")
    assert "did you mean `path`?" in out
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "E014  unknown key" in lines
    assert lines == sorted(lines)


@pytest.mark.parametrize("code", ["E0144", "X\x1b[31m"])
def test_explain_of_an_unknown_code_is_one_line(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", code]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert ("E014" in err.split(";")[1]) == (code == "E0144")


def test_a_clean_check_loads_nothing_that_only_errors_need(clean: str) -> None:
    program = (
        "import sys\nfrom vmrun.cli.main import main\n"
        f"assert main(['check', '--no-artifacts', {clean!r}]) == 0\n"
        "print(*sorted({'rich', 'tree_sitter', 'difflib', 'vmrun.ui', 'vmrun.images.debian'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=patience(60),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "\n"
