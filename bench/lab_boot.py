"""Boot time of the same guest in vmrun and its peers, in the lab's host (L1): runs alternate, medians and ratios.

    python bench/lab_boot.py [--runs N] [--vmm NAME…] [--out DIR]

The clock starts when the VMM's process is started. `entry` is the first time KVM enters the guest (tracefs), `init` is
the first word of the guest's init on its console. At that word the VMM is stopped and looked at: CPU time, exits
(debugfs) and resident memory beside the guest's RAM. Then it goes on, and has to end by itself with status 0.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import mmap
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "lab"), str(ROOT / "tests")]

from guest_kit import cmdline, manifest, peer_argv, this_host  # noqa: E402

from patience import patience  # noqa: E402

RAM_MIB = 256
SWEPT = 3 * RAM_MIB << 20
LIMIT_S = patience(60)
MARK = b"INIT-OK"
OURS = "vmrun"
COMMAND = (sys.executable, "-c", "import sys; from vmrun.cli.main import main; sys.exit(main())")
"""What the installed command `vmrun` runs; `python -m` costs more."""
BY_GUEST = "vmrun, unpacked by the guest"
"""A bzImage that vmrun boots as it is, where it would unpack it once and boot the vmlinux inside."""
FIGURES = ("init_s", "entry_s", "guest_s", "cpu_s", "exits", "rss_mib")
TRACING = Path("/sys/kernel/tracing")
KVM_STATS = Path("/sys/kernel/debug/kvm")
Sample = dict[str, Any]


class Failed(Exception):
    """A run that did not do what it was started for."""


class FirstEntry:
    """The time at which KVM first enters a guest: one trace event, which the first exit turns off.

    The events are made once: the kernel patches its text for that. The trigger leaves kvm_entry registered, so that
    turning it on again for a run is a flag.
    """

    _EVENTS = TRACING / "events" / "kvm"
    _TRIGGER = "disable_event:kvm:kvm_entry"

    def __init__(self) -> None:
        (TRACING / "trace_clock").write_text("mono")
        (self._EVENTS / "kvm_exit" / "trigger").write_text(self._TRIGGER)

    def arm(self) -> None:
        """Forget what was seen, and look again."""
        (TRACING / "trace").write_text("")
        (self._EVENTS / "kvm_entry" / "enable").write_text("1")

    def seconds(self) -> float:
        """Return it on the monotonic clock."""
        found = re.search(r"(?m)\s(\d+\.\d+): kvm_entry", (TRACING / "trace").read_text())
        if found is None:
            raise Failed("KVM entered no guest")
        return float(found[1])


@cache
def first_entry() -> FirstEntry:
    """Return the one of this benchmark."""
    return FirstEntry()


def sweep() -> None:
    """Write over the memory that the last VMM gave back.

    TCG forgets what it translated from a page once that page is written, a tenth of a second for a guest's kernel;
    and a page of an emulated host costs most the first time. Neither is the next VMM's doing, nor like hardware.
    """
    with mmap.mmap(-1, SWEPT, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        for at in range(0, SWEPT, mmap.PAGESIZE):
            memory[at] = 1


def measure(argv: Sequence[str], folder: Path) -> Sample:
    """Run a VMM to its end in ``folder``; return the figures of its boot. Raise Failed."""
    errors = folder / "stderr"
    entry = first_entry()
    sweep()
    entry.arm()
    with errors.open("wb") as stderr:
        start = time.monotonic()
        process = subprocess.Popen(
            argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
        )
        limit = threading.Timer(LIMIT_S, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        try:
            sample = {"init_s": _until_mark(process) - start}
            os.kill(process.pid, signal.SIGSTOP)
            os.waitpid(process.pid, os.WUNTRACED)
            sample |= _look(process.pid)
            os.kill(process.pid, signal.SIGCONT)
            assert process.stdout is not None
            process.stdout.read()
            status = process.wait()
        except (Failed, ChildProcessError, FileNotFoundError, ProcessLookupError) as error:
            raise Failed(f"{error}: {_tail(errors)}") from None
        finally:
            limit.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        sample["end_s"] = time.monotonic() - start
    sample["entry_s"] = entry.seconds() - start
    sample["guest_s"] = sample["init_s"] - sample["entry_s"]
    if status:
        raise Failed(f"status {status} after init: {_tail(errors)}")
    return sample


def _until_mark(process: subprocess.Popen[bytes]) -> float:
    assert process.stdout is not None
    said = b""
    while MARK not in said:
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            raise Failed(f"the guest's init said nothing, its console ends with {said[-300:]!r}")
        said += data
    return time.monotonic()


def _look(pid: int) -> Sample:
    """Return what the stopped process has used: CPU seconds, exits by kind, MiB beside guest RAM."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    counters: dict[str, int] = {}
    for file in KVM_STATS.glob(f"{pid}-*/*"):
        if file.is_file() and _is_counter(file):
            counters[file.name] = counters.get(file.name, 0) + int(file.read_text())
    kinds = {name: count for name, count in counters.items() if count and "exit" in name}
    return {"cpu_s": cpu, "exits": counters["exits"], "kinds": kinds, "rss_mib": _rss_beside_ram(pid)}


def _is_counter(file: Path) -> bool:
    try:
        return file.read_text().strip().lstrip("-").isdecimal()
    except OSError:
        return False


def _rss_beside_ram(pid: int) -> float:
    """Return the resident MiB of all mappings but guest RAM: those that are at least half its size."""
    kib = 0
    for mapping in re.finditer(
        r"(?m)^Size:\s+(\d+) kB\n(?:.*\n)*?Rss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps").read_text()
    ):
        if int(mapping[1]) < RAM_MIB * 512:
            kib += int(mapping[2])
    return kib / 1024


def _tail(path: Path) -> str:
    return path.read_bytes()[-400:].decode(errors="replace").strip()


@cache
def our_manifest(form: str) -> Path:
    """Return the guest's manifest, written once: a user's stands still too, and its plan is in the cache."""
    return manifest(WORK, FIRST.tag, form, ("lab_end=poweroff",), ram_mib=RAM_MIB)


def run_ours(form: str, *options: str) -> Sample:
    """Boot the guest in vmrun; its own phases come from what the run left."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name).resolve()
        sample = measure([*COMMAND, "up", str(our_manifest(form)), *options], folder)
        (result,) = folder.glob(".vmrun/runs/*/result.json")
        phases = json.loads(result.read_text())["phases"]
        sample["phases"] = {phase["name"]: (phase["end_ns"] - phase["start_ns"]) / 1e9 for phase in phases}
        sample["interpreter_s"] = interpreter_s()
    return sample


def is_ours(vmm: str) -> bool:
    """Return whether ``vmm`` is vmrun, in whatever way it boots."""
    return vmm in (OURS, BY_GUEST)


def interpreter_s() -> float:
    """Return how long an interpreter takes that does nothing."""
    start = time.monotonic()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.monotonic() - start


def vmms(form: str, wanted: Sequence[str]) -> dict[str, Callable[[], Sample]]:
    """Return what there is to run for ``form``, by name."""

    def peer_run(argv: Sequence[str]) -> Callable[[], Sample]:
        def run() -> Sample:
            with tempfile.TemporaryDirectory(dir=".") as name:
                return measure(argv, Path(name))

        return run

    line = cmdline("lab_end=poweroff")
    found: dict[str, Callable[[], Sample]] = {OURS: lambda: run_ours(form)}
    if form == "bzImage":
        found[BY_GUEST] = lambda: run_ours(form, "--set", "boot.protocol=bzimage")
    for peer in HOST.peers:
        if form in peer.forms:
            found[peer.name] = peer_run(peer_argv(peer, FIRST.tag, form, line, ram_mib=RAM_MIB))
    return {name: run for name, run in found.items() if not wanted or name in wanted}


def alternate(form: str, runs: int, wanted: Sequence[str]) -> list[dict[str, Any]]:
    """Run every VMM once to warm up and then ``runs`` times in turn; return one row a VMM."""
    samples: dict[str, list[Sample]] = {}
    failures: dict[str, str] = {}
    candidates = vmms(form, wanted)
    for index in range(runs + 1):
        names = list(candidates)
        turn = index % len(names)
        for name in names[turn:] + names[:turn]:
            if name in failures:
                continue
            try:
                sample = _sample(candidates[name], f"{form} {name}")
            except Failed as error:
                failures[name] = str(error)
                print(f"bench: {form} {name} FAILED: {error}", flush=True)
                continue
            print(f"bench: {form} {name} {index or 'warm-up'}: {sample['init_s']:.2f} s", flush=True)
            if index:
                samples.setdefault(name, []).append(sample)
    return [_row(form, name, samples.get(name, []), failures.get(name)) for name in candidates]


def _sample(run: Callable[[], Sample], what: str) -> Sample:
    """Return what ``run`` measures; an emulated host fails a guest now and then, so once more where it does."""
    try:
        return run()
    except Failed as error:
        print(f"bench: {what} failed, once more: {error}", flush=True)
        return run()


def _row(form: str, name: str, runs: list[Sample], failure: str | None) -> dict[str, Any]:
    row: dict[str, Any] = {"kernel": FIRST.tag, "form": form, "vmm": name, "failure": failure, "runs": runs}
    for figure in (*FIGURES, *(("interpreter_s",) if is_ours(name) else ())):
        values = [run[figure] for run in runs]
        if values:
            row[figure] = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows for people: medians, extremes, and the ratio to the best peer of the same kernel form."""
    from rich.console import Console
    from rich.table import Table

    columns = (
        "kernel",
        "VMM",
        "init s (min-max)",
        "to entry s",
        "entry-init s",
        "CPU s",
        "exits",
        "RSS MiB",
        "init / best peer",
    )
    shown = Table(
        *columns, title=f"{HOST.name}: process start to init, {RAM_MIB} MiB, 1 vCPU, under TCG: compare, do not predict"
    )
    for row in rows:
        if "init_s" not in row:
            shown.add_row(f"{row['kernel']} {row['form']}", row["vmm"], "FAILED", *[""] * 6)
            continue
        peer = best_peer(rows, row["form"])
        middle = {figure: row[figure]["median"] for figure in FIGURES}
        spread = f"{middle['init_s']:.2f} ({row['init_s']['min']:.2f}-{row['init_s']['max']:.2f})"
        shown.add_row(
            *(
                f"{row['kernel']} {row['form']}",
                row["vmm"],
                spread,
                f"{middle['entry_s']:.2f}",
                f"{middle['guest_s']:.2f}",
            ),
            *(f"{middle['cpu_s']:.2f}", f"{middle['exits']:.0f}", f"{middle['rss_mib']:.1f}"),
            f"{middle['init_s'] / peer['init_s']:.2f}" if peer else "",
        )
    written = io.StringIO()
    Console(width=132, file=written).print(shown)
    text = written.getvalue()
    for row in rows:
        if is_ours(row["vmm"]) and "init_s" in row:
            text += _our_lines(row, best_peer(rows, row["form"]))
    return text


def best_peer(rows: list[dict[str, Any]], form: str) -> dict[str, float]:
    """Return the medians of the peer that boots ``form`` fastest; empty where none did."""
    peers = [row for row in rows if row["form"] == form and not is_ours(row["vmm"]) and "init_s" in row]
    if not peers:
        return {}
    best = min(peers, key=lambda row: row["init_s"]["median"])
    return {figure: best[figure]["median"] for figure in FIGURES}


def _our_lines(row: dict[str, Any], peer: dict[str, float]) -> str:
    """Return what is said of vmrun alone: ratios to the best peer without the interpreter's start, and its phases."""
    init, guest, interpreter = (row[figure]["median"] for figure in ("init_s", "guest_s", "interpreter_s"))
    names = list(row["runs"][0]["phases"])
    phases = {name: statistics.median(run["phases"].get(name, 0) for run in row["runs"]) for name in names}
    text = f"{row['form']}, {row['vmm']}: "
    if peer:
        own, entered = (init - interpreter) / peer["init_s"], guest / peer["guest_s"]
        text += f"init / best peer {own:.2f} less {interpreter:.2f} s of a bare interpreter, from entry {entered:.2f}; "
    return text + ", ".join(f"{name} {seconds:.2f}" for name, seconds in phases.items()) + "\n"


HOST = this_host()
FIRST = HOST.guests[0]
WORK = Path.cwd()


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--runs", type=int, default=5, help="counted runs of each (default 5)")
    options.add_argument("--vmm", nargs="+", default=(), help="these VMMs alone")
    options.add_argument("--out", type=Path, default=Path(), help="where boot.json and boot.txt go")
    arguments = options.parse_args()
    rows = [row for form in FIRST.forms for row in alternate(form, arguments.runs, arguments.vmm)]
    (arguments.out / "boot.json").write_text(
        json.dumps({"host": HOST.name, "ram_mib": RAM_MIB, "rows": rows}, indent=1)
    )
    (arguments.out / "boot.txt").write_text(table(rows))
    return int(any(row["failure"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
