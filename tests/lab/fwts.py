"""The ACPI tables that vmrun makes, judged by fwts, the Firmware Test Suite: offline, no machine is booted.

    python tests/lab/fwts.py [--manifest M.toml] [--level high] [--out DIR]

fwts comes out of Debian's sid, unpacked beside this system and run by its own loader. What it is given and what it says
lies in DIR: acpidump.txt, results.log. Exit status: 0 no failure of the level or above, 1 there is one or fwts
did not judge, 77 fwts cannot be run on this machine (one line says why).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab_checkout import ROOT
from lab_host import Unable
from lab_packages import PackageSet, unpack
from lab_rootfs import digest
from lab_run import SKIPPED

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.frozen import frozen
from vmrun.images.cache import cache_root
from vmrun.images.store import Store

LEVELS = ("critical", "high", "medium", "low", "other")
"""fwts's levels of a failure, the worst first."""

_SUITE = "sid"
_PACKAGE = "fwts"
_OF_THIS_HOST = frozenset({"acpiinfo", "cstates", "hpet", "mcfg"})
"""Tests that look at the machine they run on: its kernel's version, /sys, the kernel's log, the memory map."""
_MUST_JUDGE = ("acpitables", "checksum", "fadt", "madt", "method", "rsdp", "xsdt")
"""Tests of what every set of tables has: one without a single pass has not looked."""
_LIMIT_S = patience(120)
_TEST = re.compile(r"(?m)^ ([a-z0-9_]+) ")
_COUNTS = re.compile(r"(?m)^([A-Za-z0-9_]+):? *\|([ \d]+)\|([ \d]+)\|([ \d]+)\|([ \d]+)\|([ \d]+)\|([ \d]+)\|$")
_SUMMARY = re.compile(r"(?m)^Test Failure Summary$")
_LEVEL = re.compile(r"^(Critical|High|Medium|Low|Other) failures: (\d+|NONE)$")


@frozen
class Counts:
    """What became of the checks of one test."""

    passed: int
    failed: int
    aborted: int
    warned: int
    skipped: int


@frozen
class Results:
    """A results log, read: failures as (level, what), the counts of each test, and their sum."""

    failures: tuple[tuple[str, str], ...]
    tests: dict[str, Counts]
    total: Counts


def read_results(text: str) -> Results:
    """Return what the results log ``text`` says. Raise ValueError where it is not whole or contradicts itself."""
    start = _SUMMARY.search(text)
    rows = {row[1]: Counts(*(int(n.strip() or 0) for n in row.groups()[1:6])) for row in _COUNTS.finditer(text)}
    total = rows.pop("Total", None)
    if start is None or total is None:
        raise ValueError("fwts's results have no summary: it did not come to its end")
    failures: list[tuple[str, str]] = []
    claimed = 0
    level = None
    for line in text[start.end() :].splitlines():
        if line.startswith("Test  "):
            break
        heading = _LEVEL.match(line)
        if heading is not None:
            level = heading[1].lower()
            claimed += 0 if heading[2] == "NONE" else int(heading[2])
        elif level is not None and line.startswith(" "):
            failures.append((level, line.strip()))
    # The summary names a failure once, however often the table counts it.
    if claimed != len(failures) or claimed > total.failed or bool(claimed) != bool(total.failed):
        raise ValueError(f"fwts counts {claimed} and {total.failed} failures and names {len(failures)}")
    return Results(tuple(failures), rows, total)


def verdict(results: Results, level: str) -> tuple[bool, list[str]]:
    """Return whether ``results`` pass at ``level``, and the lines that say so to a person."""
    lines = [f"{found}: {what}" for found, what in results.failures]
    idle = [name for name in _MUST_JUDGE if name not in results.tests or not results.tests[name].passed]
    lines += [f"the test {name} passed nothing: it did not look at the tables" for name in idle]
    aborted = [name for name, counts in results.tests.items() if counts.aborted]
    lines += [f"the test {name} was aborted" for name in aborted]
    counts = ", ".join(f"{sum(at == name for at, _ in results.failures)} {name}" for name in LEVELS)
    total = results.total
    lines.append(f"{total.passed} passed, failed: {counts}; {total.warned} warnings, {total.skipped} skipped")
    grave = LEVELS[: LEVELS.index(level) + 1]
    return not idle and not aborted and not any(at in grave for at, _ in results.failures), lines


def installed() -> Path:
    """Return the tree with fwts and all it needs, unpacked where its packages changed. Raise Unable."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise Unable(f"{tool} is missing")
    arch = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    folder = cache_root() / "lab"
    store = Store(folder / "store")
    try:
        with store.locked(f"lab {_PACKAGE}"):
            packages = PackageSet(store, _SUITE, arch, folder / arch / "debs")
            return _unpacked(packages, folder / arch)
    except ArtifactError as error:
        raise Unable(f"its Debian packages cannot be had: {error}") from None


def _unpacked(packages: PackageSet, folder: Path) -> Path:
    candidates = packages.closure((_PACKAGE,))
    target = folder / f"{_PACKAGE}-{digest(candidates)}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            tree = Path(scratch) / "tree"
            unpack(packages.fetch_all(candidates), tree)
            tree.rename(target)
        for old in folder.glob(f"{_PACKAGE}-*"):
            if old != target:
                shutil.rmtree(old)
    return target


def command(tree: Path) -> list[str]:
    """Return the command that runs the fwts of ``tree``, as root: some tests want its name, none its rights."""
    loader = min(tree.glob("usr/lib*/ld-linux*.so.*"), default=None)
    libc = min(tree.glob("usr/lib/*/libc.so.6"), default=None)
    if loader is None or libc is None:
        raise Unable(f"{tree} holds no loader or C library")
    libraries = f"{libc.parent / 'fwts'}:{libc.parent}"
    argv = [str(loader), "--library-path", libraries, str(tree / "usr/bin/fwts"), "-j", str(tree / "usr/share/fwts")]
    return argv if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", *argv]


def judge(fwts: Sequence[str], dump: Path, log: Path) -> Results:
    """Run all tests of tables on ``dump``, what they say to ``log``. Raise Unable, or ValueError as read_results."""
    listed = _run([*fwts, "--show-tests", "--acpitests"])
    tests = [name for name in _TEST.findall(listed.stdout) if name not in _OF_THIS_HOST]
    if not tests:
        raise Unable(f"fwts lists no tests: {(listed.stderr or listed.stdout).strip()[:200]}")
    log.unlink(missing_ok=True)
    # Its status is 1 where a test is skipped, too: the log says what it found.
    ended = _run([*fwts, "-q", f"--dumpfile={dump}", "-r", str(log), *tests])
    if not log.exists():
        raise ValueError(f"fwts wrote no results: {(ended.stderr or ended.stdout).strip()[:200]}")
    return read_results(log.read_text(errors="replace"))


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S
        )
    except FileNotFoundError:
        raise Unable(f"{argv[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"fwts did not end within {_LIMIT_S:.0f} s") from None


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--manifest", type=Path, default=ROOT / "manifests" / "microvm.toml")
    options.add_argument("--level", choices=LEVELS, default="high", help="the least failure that counts (default high)")
    options.add_argument("--out", type=Path, default=ROOT / ".vmrun" / "lab" / "fwts", help="where results go")
    arguments = options.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plan = [sys.executable, "-m", "vmrun", "plan", str(arguments.manifest), "--acpi", str(out), "--no-artifacts"]
    if subprocess.run(plan, env={**os.environ, "PYTHONPATH": str(ROOT)}).returncode:
        return 1
    try:
        results = judge(command(installed()), out / "acpidump.txt", out / "results.log")
    except Unable as why:
        print(f"fwts: SKIPPED: {why}", file=sys.stderr)
        return SKIPPED
    except ValueError as error:
        print(f"fwts: FAILED: {error}", file=sys.stderr)
        return 1
    passed, lines = verdict(results, arguments.level)
    for line in lines:
        print(f"fwts: {line}")
    print(f"fwts: {'passed' if passed else 'FAILED'}, see {out / 'results.log'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
