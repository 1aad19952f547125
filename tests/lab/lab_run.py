"""The lab: builds an emulated host with KVM, runs this checkout's engine and guest tests and the boot benchmark in it.

    python tests/lab/lab_run.py [--arch x86_64] [--out DIR] [--bench-runs N] [--only STEP…] [--tests GLOB… ]

What it brings back lies in DIR: console.log, junit.xml, each step's log, boot.json and boot.txt.
Exit status: 0 all green, 1 something failed, 77 the lab cannot run on this machine (one line says why).
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lab_checkout import ROOT, Step, checkout
from lab_guests import guests
from lab_host import Disks, Unable, boot_files, need_tools, run
from lab_rootfs import Builder
from lab_table import HOSTS, L1_TESTS

from patience import VARIABLE, patience, slowness
from vmrun.errors import ArtifactError
from vmrun.images.cache import cache_root
from vmrun.images.store import Store

SKIPPED = 77
_BROUGHT = ("steps.json", "junit.xml", "again.xml", "again.txt", "boot.json", "boot.txt")
_TESTS_LIMIT_S = patience(900)
_BENCH_LIMIT_S = patience(120)
_RUN_LIMIT_S = patience(60)
_BOOT_LIMIT_S = patience(60)
_TOLD_LINES = 60
"""Of a failure: what a person sees of it without the results at hand, as in a CI's output."""


def lab(
    arch: str,
    out: Path,
    *,
    tests: Sequence[str] = L1_TESTS,
    only: Sequence[str] = (),
    bench_runs: int = 5,
    bench_vmms: Sequence[str] = (),
    command: str = "",
) -> int:
    """Build, boot and run the lab of ``arch``; return 0 where all steps passed, else 1. Raise Unable."""
    host = HOSTS[arch]
    need_tools(host)
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("*.log"), *(out / name for name in _BROUGHT)):
        old.unlink(missing_ok=True)
    folder = cache_root() / "lab"
    steps = [step for step in _steps(tests, bench_runs, bench_vmms) if not only or step.name in only]
    if command:
        steps = [Step("command", ("sh", "-c", command), _TESTS_LIMIT_S)]
    # Limits in the emulated host are written for one on the machine of all other limits: it inherits the measurement.
    told = ("env", f"{VARIABLE}={slowness():.2f}")
    steps = [Step(step.name, (*told, *step.argv), step.limit_s) for step in steps]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmrun-lab-") as name:
        scratch = Path(name)
        try:
            builder = Builder(folder, Store(folder / "store"))
            root = builder.rootfs(host)
            _say(f"root {root.stat().st_size >> 20} MiB", start)
            images = Disks(root, scratch / "checkout.squashfs", guests(host, folder))
            _say(f"guests {images.guests.stat().st_size >> 20} MiB", start)
            checkout(host, builder, steps, images.checkout)
            files = boot_files(host, folder, scratch)
        except ArtifactError as error:
            raise Unable(f"its Debian packages cannot be had: {error}") from None
        _say(f"built; booting {host.name} under {host.qemu}", start)
        limit = _BOOT_LIMIT_S + sum(step.limit_s for step in steps)
        boot = partial(run, host, files, images, out, cpus=2, memory_mib=3072, limit_s=limit)
        status = boot()
        if status is None:
            # TCG's vCPUs see patched code late now and then, and L1's kernel dies of an int3 that it had removed.
            print("lab: L1 died or hung: see console.first.log; once more", file=sys.stderr)
            (out / "console.log").rename(out / "console.first.log")
            status = boot()
    _say("ended", start)
    return _verdict(status, steps, out)


def _steps(tests: Sequence[str], bench_runs: int, bench_vmms: Sequence[str]) -> list[Step]:
    # In the order given: a file that two globs name is run where it comes first.
    found = {glob: sorted(ROOT.glob(glob)) for glob in tests}
    files = list(dict.fromkeys(path for paths in found.values() for path in paths))
    for glob, paths in found.items():
        if not paths:
            print(f"lab: SKIPPED {glob}: no such file in this checkout", file=sys.stderr)
    here = [f"/lab/checkout/{path.relative_to(ROOT)}" for path in files]
    pytest = ("python3", "/lab/checkout/tests/lab/l1/pytest_twice.py", "/lab/work/results/junit.xml")
    where = ("-c", "/lab/checkout/pyproject.toml", "--rootdir", "/lab/checkout")
    options = ("-q", "-n", "2", "--dist", "load", "-p", "no:cacheprovider", "--durations=10")
    bench: tuple[str, ...] = ("python3", "/lab/checkout/bench/lab_boot.py", "--runs", str(bench_runs))
    if bench_vmms:
        bench += ("--vmm", *bench_vmms)
    return [
        Step("tests", (*pytest, *where, *options, *here), _TESTS_LIMIT_S),
        Step("bench", (*bench, "--out", "/lab/work/results"), _BENCH_LIMIT_S + bench_runs * 6 * _RUN_LIMIT_S),
    ]


def _verdict(status: int | None, steps: Sequence[Step], out: Path) -> int:
    """Say what became of the run; a pass needs every step's own word."""
    record = out / "steps.json"
    done = {step["name"]: step["status"] for step in json.loads(record.read_text())} if record.exists() else {}
    if status is None:
        print("lab: the host gave no status: it hung or died, see console.log", file=sys.stderr)
        print(_tail(out / "console.log"), file=sys.stderr)
    for step in steps:
        print(f"lab: {step.name}: {_word(done.get(step.name))}")
        if done.get(step.name, 0) != 0:
            print(_tail(out / f"{step.name}.log"))
    junit = out / "junit.xml"
    if junit.exists():
        _tell(ElementTree.parse(junit).getroot())
    again = out / "again.txt"
    if again.exists():
        for test in again.read_text().splitlines():
            print(f"lab: FAILED ONCE, passed when run again: {test}")
    table = out / "boot.txt"
    if table.exists():
        print(table.read_text())
    return 0 if status == 0 and all(done.get(step.name) == 0 for step in steps) else 1


def _tell(junit: ElementTree.Element) -> None:
    """Print each failed test with the end of what it said, and the counts."""
    for case in junit.iter("testcase"):
        for kind in ("failure", "error"):
            for found in case.iter(kind):
                said = "\n".join((found.text or found.get("message", "")).splitlines()[-_TOLD_LINES:])
                print(f"lab: FAILED {case.get('classname')}::{case.get('name')}\n{said}")
    for suite in junit.iter("testsuite"):
        counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
        print("lab: " + ", ".join(f"{count} {key}" for key, count in counts.items()))


def _tail(log: Path) -> str:
    """Return the last lines of ``log``, empty where there is none."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_TOLD_LINES:])


def _word(status: int | str | None) -> str:
    return "passed" if status == 0 else "not reached" if status is None else f"FAILED ({status})"


def _say(what: str, start: float) -> None:
    print(f"lab: {time.monotonic() - start:6.1f} s  {what}", flush=True)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--arch", choices=HOSTS, default="x86_64")
    options.add_argument("--out", type=Path, help="where results go (default .vmrun/lab/ARCH)")
    options.add_argument("--bench-runs", type=int, default=5, help="counted runs of each VMM and kernel (default 5)")
    options.add_argument("--bench-vmm", nargs="+", default=(), help="measure these VMMs alone")
    options.add_argument("--only", nargs="+", choices=("tests", "bench"), default=(), help="run these steps alone")
    options.add_argument(
        "--run", default="", metavar="COMMAND", help="run this shell command in the host, nothing else"
    )
    options.add_argument("--tests", nargs="+", default=L1_TESTS, metavar="GLOB", help="which tests, from the root")
    arguments = options.parse_args()
    # QEMU goes with this process: an exit by exception ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    out = arguments.out or ROOT / ".vmrun" / "lab" / arguments.arch
    try:
        return lab(
            arguments.arch,
            out.resolve(),
            tests=arguments.tests,
            only=arguments.only,
            bench_runs=arguments.bench_runs,
            bench_vmms=arguments.bench_vmm,
            command=arguments.run,
        )
    except Unable as why:
        print(f"lab: SKIPPED {arguments.arch}: {why}", file=sys.stderr)
        return SKIPPED


if __name__ == "__main__":
    sys.exit(main())
