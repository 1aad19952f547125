"""fwts's words, understood; and, where Debian's mirror is at hand, that it finds the faults of planted tables."""

from __future__ import annotations

import re
from pathlib import Path

import fwts
import pytest
from lab_checkout import ROOT
from lab_host import Unable

from vmrun.tables import acpi

GOLDEN = ROOT / "tests" / "golden" / "plans" / "microvm.acpi"
FADT_REVISION_AT = 8
RSDP_REVISION_AT = 15

PASSING = "".join(f"{name:<15}|    3|     |     |     |    2|     |\n" for name in fwts._MUST_JUDGE)
RULE = "---------------+-----+-----+-----+-----+-----+-----+\n"


def log(high: str = "NONE", medium: str = "NONE", rows: str = PASSING, failed: str = "") -> str:
    """Return the end of a results log; ``high`` and ``medium`` are what follows the colon."""
    return (
        "FAILED [HIGH] FADTOne: Test 4, a sentence.\n\nTest Failure Summary\n" + "=" * 80 + "\n\n"
        f"Critical failures: NONE\n\nHigh failures: {high}\n\nMedium failures: {medium}\n\n"
        "Low failures: NONE\n\nOther failures: NONE\n\n"
        "Test           |Pass |Fail |Abort|Warn |Skip |Info |\n"
        f"{RULE}{rows}{RULE}Total:         |   21|{failed:>5}|     |    1|   14|    5|\n{RULE}"
    )


def test_a_log_without_failures() -> None:
    results = fwts.read_results(log())
    assert results.failures == ()
    assert results.total == fwts.Counts(21, 0, 0, 1, 14)
    assert results.tests["fadt"] == fwts.Counts(3, 0, 0, 0, 2)
    passed, lines = fwts.verdict(results, "high")
    assert passed
    assert lines == ["21 passed, failed: 0 critical, 0 high, 0 medium, 0 low, 0 other; 1 warnings, 14 skipped"]


@pytest.mark.parametrize(("level", "passed"), [("critical", True), ("high", False), ("low", False)])
def test_a_failure_counts_from_its_level_on(level: str, passed: bool) -> None:
    results = fwts.read_results(log(high="1\n fadt: a register of width 0.", failed="2"))
    assert results.failures == (("high", "fadt: a register of width 0."),)
    said, lines = fwts.verdict(results, level)
    assert said is passed
    assert lines[0] == "high: fadt: a register of width 0."


def test_a_lesser_failure_is_named_and_passes() -> None:
    results = fwts.read_results(log(medium="2\n madt: one.\n rsdp: two: three.", failed="2"))
    passed, lines = fwts.verdict(results, "high")
    assert passed
    assert lines[:2] == ["medium: madt: one.", "medium: rsdp: two: three."]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "FAILED [HIGH] x: Test 1, y\n",
        log()[: log().index("Total")],
        log().replace("Test Failure Summary", ""),
        log(failed="1"),
        log(high="1\n fadt: one."),
        log(high="2\n fadt: one.", failed="2"),
    ],
    ids=["empty", "broken off", "no total", "no summary", "unnamed", "uncounted", "one missing"],
)
def test_a_log_that_is_not_whole_is_no_pass(text: str) -> None:
    with pytest.raises(ValueError, match="fwts"):
        fwts.read_results(text)


@pytest.mark.parametrize(
    "rows",
    [
        PASSING.replace("fadt           |    3|", "fadt           |     |"),
        PASSING.replace("madt  ", "xxxx  "),
        PASSING + "mchi           |     |     |    1|     |     |     |\n",
    ],
    ids=["nothing passed", "not run", "aborted"],
)
def test_a_test_that_did_not_look_is_no_pass(rows: str) -> None:
    assert not fwts.verdict(fwts.read_results(log(rows=rows)), "critical")[0]


def test_without_root_a_namespace_gives_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("usr/lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert fwts.command(tmp_path)[0] == "unshare"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert fwts.command(tmp_path)[0] == str(tmp_path / "usr/lib64/ld-linux-x86-64.so.2")


def test_a_tree_without_a_loader(tmp_path: Path) -> None:
    with pytest.raises(Unable):
        fwts.command(tmp_path)


def test_the_dump_is_what_fwts_takes() -> None:
    """Names of four characters and addresses that differ: fwts leaves any other table out without a word."""
    headings = re.findall(r"(?m)^(\S.*) @ 0x([0-9A-F]{16})$", GOLDEN.read_text())
    assert [name for name, _ in headings] == ["RSDP", "XSDT", "FACP", "DSDT", "APIC"]
    assert len({address for _, address in headings}) == len(headings)


def planted(table: str, at: int, value: int) -> str:
    """Return the golden dump with one byte of ``table`` another, its checksums right."""
    parts = []
    for part in GOLDEN.read_text().strip().split("\n\n"):
        name, _, address = part.partition("\n")[0].partition(" @ ")
        data = bytearray.fromhex("".join(line[10:57] for line in part.splitlines()[1:]))
        if name == table:
            data[at] = value
            for sum_at, size in ((8, 20), (32, len(data))) if name == "RSDP" else ((9, len(data)),):
                data[sum_at] = 0
                data[sum_at] = acpi.checksum(data[:size])
        parts.append(acpi.PlacedTable(name, int(address, 16), bytes(data)))
    return acpi.dump(acpi.AcpiTables(parts[0], tuple(parts[1:])))


@pytest.mark.network
@pytest.mark.parametrize(
    ("table", "at", "value", "level"),
    [("FACP", FADT_REVISION_AT, 1, "high"), ("RSDP", RSDP_REVISION_AT, 9, "medium")],
)
def test_a_planted_fault_is_found(table: str, at: int, value: int, level: str, tmp_path: Path) -> None:
    dump = tmp_path / "acpidump.txt"
    dump.write_text(planted(table, at, value))
    try:
        results = fwts.judge(fwts.command(fwts.installed()), dump, tmp_path / "results.log")
    except Unable as why:
        pytest.skip(f"fwts cannot be run here: {why}")
    assert level in {found for found, _ in results.failures}
    assert not fwts.verdict(results, level)[0]
