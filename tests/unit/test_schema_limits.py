"""Manifests that are legal and odd: every limit has its place and its words, and no size makes the work explode."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from vmrun.errors import Diagnostic, ManifestError, Span
from vmrun.printable import LONGEST
from vmrun.schema.known import EXAMPLE_KNOWN
from vmrun.schema.load import LoadedManifest, load_manifest
from vmrun.schema.problems import MAX_FINDINGS
from vmrun.schema.spans import Places
from vmrun.schema.tree import MAX_VALUES
from vmrun.ui.diagnostics import Texts, full, plain
from vmrun.ui.reports import FORMATS, Checked
from vmrun.units import parse_size

BASE = """\
manifest = 1
[machine]
board = "riscv_virt"
[memory]
size = "256MiB"
[boot]
kernel = { path = "vmlinux" }
"""


def load(folder: Path, text: str, *sets: str) -> LoadedManifest:
    path = folder / "m.toml"
    path.write_text(text, encoding="utf-8")
    return load_manifest(path, known=EXAMPLE_KNOWN, sets=sets, env={})


def refused(folder: Path, text: str, *sets: str) -> tuple[Diagnostic, ...]:
    with pytest.raises(ManifestError) as caught:
        load(folder, text, *sets)
    return caught.value.findings


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("count = 0x" + "f" * 4000, 9, "64 bits"),
        ("count = " + "9" * 5000, 9, "64 bits"),
        ("count = 0o" + "7" * 5000, 9, "64 bits"),
        ("count = 9223372036854775808", 9, "64 bits"),
        ("count = -9223372036854775809", 9, "64 bits"),
        ("x = " + "[" * 40 + "]" * 40, 36, "32 levels"),
        ("x = " + "[" * 5000 + "]" * 5000, 37, "32 levels"),
        ("x = " + "{ a = " * 5000 + "1" + " }" * 5000, 197, "32 levels"),
        (".".join("a" * 3000) + " = 1", 1, "32 levels"),
        (".".join("a" * 40) + " = 1", 63, "32 levels"),
    ],
)
def test_a_value_beyond_a_limit_is_pointed_at(tmp_path: Path, line: str, column: int, words: str) -> None:
    (found,) = refused(tmp_path, f"{BASE}[cpu]\n{line}\n")
    assert found.code == "E006" and words in found.message
    assert found.span is not None and (found.span.line, found.span.column) == (9, column)


def test_a_number_beyond_a_limit_is_found_in_set(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, BASE, "cpu.count=0x" + "f" * 4000)
    assert found.code == "E006" and found.span is not None and found.span.file == "<--set>"


@pytest.mark.parametrize("number", ["9" * 5000, "1." + "9" * 5000, "1" + "0" * 64, "٣"])
def test_a_size_of_odd_digits_is_no_size(tmp_path: Path, number: str) -> None:
    (found,) = refused(tmp_path, BASE.replace("256MiB", f"{number}MiB"))
    assert found.code == "E011" and found.span is not None and found.span.line == 5
    with pytest.raises(ValueError, match=r"is no size"):
        parse_size(f"{number}MiB")


def test_a_name_of_digits_is_a_name(tmp_path: Path) -> None:
    (found,) = refused(tmp_path, BASE + '[disk.0]\nsize = "1MiB"\npth = 1\n')
    assert found.message == "unknown key `pth` in [disk.0]"
    found = refused(tmp_path, f"{BASE}[disk.{'1' * 5000}]\nsize = 1\n")[0]
    assert found.code == "E017"


def test_more_values_than_a_manifest_has(tmp_path: Path) -> None:
    keys = "".join(f"k{n} = 1\n" for n in range(MAX_VALUES))
    (found,) = refused(tmp_path, f"{BASE}[vars]\n{keys}")
    assert found.code == "E006" and found.span is not None and 16_000 < found.span.line < 16_400
    (tmp_path / "half.toml").write_text("manifest = 1\n[vars]\n" + "".join(f"k{n} = 1\n" for n in range(10_000)))
    both = 'manifest = 1\nextends = ["half.toml"]\n[vars]\n' + "".join(f"k{n} = 1\n" for n in range(10_000))
    (found,) = refused(tmp_path, both)
    assert found.code == "E006"


def test_files_that_extend_each_other_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(BASE)
    again = ", ".join(['"base.toml"'] * 300)
    (found,) = refused(tmp_path, f"manifest = 1\nextends = [{again}]\n")
    assert found.code == "E009" and found.span is not None and found.span.line == 2


def test_the_findings_end_and_say_so(tmp_path: Path) -> None:
    found = refused(tmp_path, BASE + "[cpu]\n" + "".join(f"coun{n} = 1\n" for n in range(1000)))
    assert len(found) == MAX_FINDINGS + 1
    assert {f.code for f in found[:-1]} == {"E014"} and found[-1].code == "E053"


def calls(work: Callable[[], object]) -> int:
    """Return how many functions ``work`` calls, Python's and C's."""
    count = 0

    def seen(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def profiles(count: int) -> str:
    return BASE + "".join(f'[profile.p{n}]\n"cpu.count" = 2\n' for n in range(count))


def wrong_profiles(count: int) -> str:
    return BASE + "".join(f'[profile.p{n}]\n"cpu.cout{n}" = 2\n' for n in range(count))


def unknown_keys(count: int) -> str:
    return BASE + "[cpu]\n" + "".join(f"coun{n} = 1\n" for n in range(count * 20))


def undefined_variables(count: int) -> str:
    return BASE + "[vars]\n" + "".join(f'v{n} = "${{w{n}}}"\n' for n in range(count * 20))


@pytest.mark.parametrize("text", [profiles, wrong_profiles, unknown_keys, undefined_variables])
def test_twice_the_manifest_is_at_most_twice_the_work(tmp_path: Path, text: Callable[[int], str]) -> None:
    def check(count: int) -> Callable[[], object]:
        def work() -> None:
            try:
                load(tmp_path, text(count))
            except ManifestError as error:
                plain([line for finding in error.findings for line in full(finding, Texts())])

        return work

    check(40)()  # what is imported or compiled once
    assert calls(check(80)) < 2.5 * calls(check(40))


def test_a_long_line_is_shown_around_its_caret() -> None:
    line = "é" * 400_000 + "here" + "ü" * 400_000
    finding = Diagnostic("E004", "not valid TOML", None, Span("x", 1, 400_001, 1, 400_005))

    def show() -> str:
        return plain(full(finding, Texts({"x": line})))

    shown = show()
    assert calls(show) < 50_000
    _, source, caret = shown.splitlines()[2:5]
    assert len(source) < 200 and source[4] == source[-1] == "…"
    assert source.index("here") == caret.index("^") and caret.count("^") == 4


def test_columns_are_characters_on_a_line_of_any_length() -> None:
    names = [f"k{n}" + "é日😀"[n % 3] * (n % 50) for n in range(400)]
    text = "x = { " + ", ".join(f'"{name}" = {n}' for n, name in enumerate(names)) + " }\n"
    found = Places("m.toml", text)
    for name in names:
        span = found.find(("x", name), "key")
        assert text[span.column - 1 : span.end_column - 1] == f'"{name}"'


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_is_bounded(tmp_path: Path, style: str) -> None:
    long = "k" * 200_000
    found = refused(tmp_path, f'{BASE}[cpu]\n{long} = 1\n[vars]\na = "${{{long}}}"\n[disk.{long}]\nsize = 1\n')
    text = FORMATS[style]([Checked("m.toml", found)], Texts())
    assert len(text) < 40 * LONGEST
    if style == "json":
        assert all(len(part) <= LONGEST + 1 for one in json.loads(text) for part in one["key"])


def test_a_quote_without_its_other_one_is_pointed_at(tmp_path: Path) -> None:
    text = BASE + """cmdline = ["quiet", 'foo="bar', 'x="y z"']\n"""
    (found,) = refused(tmp_path, text)
    assert found.code == "E052" and found.span is not None
    assert (found.span.line, found.span.column) == (8, 21)
    (found,) = refused(tmp_path, BASE, 'boot.cmdline=["a\\"b"]')
    assert found.code == "E052"
    assert load(tmp_path, BASE + """cmdline = 'foo="bar'\n""").manifest.boot.cmdline == 'foo="bar'


@pytest.mark.parametrize(
    "key", ["boot.cmdline", "name", "disk.a.serial", "boot.kernel.sha256", "memory.size", "run.command"]
)
@pytest.mark.parametrize("odd", ["a\udcff", "\x1b]0;x\x07"])
def test_bytes_that_are_no_text_are_refused_in_their_place(tmp_path: Path, key: str, odd: str) -> None:
    found = refused(tmp_path, BASE, f"{key}={odd}") if key != "boot.cmdline" or "\udcff" in odd else ()
    assert all(f.span is not None and f.code in ("E010", "E011", "E017", "E035", "E032", "E034") for f in found)
    plain([line for finding in found for line in full(finding, Texts())]).encode()


def test_a_pattern_that_python_may_read_otherwise_one_day(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    assert load(tmp_path, BASE + '[verdict]\nrequire = ["[[a]"]\n').manifest.verdict is not None
    assert not recwarn.list
