"""What a run leaves: ``.vmrun/runs/<id>/`` with console.log, result.json and machine.dtb or acpi/.

Runs are forgotten after a while: see `vmrun.run.history`.

result.json, version 3 (times in nanoseconds since the process started):

    result      3, the version of this shape (1 had no report, 2 no host_errors)
    id          the run's name, as the folder's
    name        the machine's name
    started     when, UTC, ISO 8601
    outcome     poweroff, reboot, exit, panic, timeout, stopped, signal, fault, triple-fault or engine-error; and where
                the command's status was due and never came: early-poweroff, early-reset, silent-reset or early-exit
    code        vmrun's exit code
    detail      one line on why
    value       the guest's own value: an exit code, or the number of the signal
    status      the command's status as init reported it, or null
    command     the command's words
    boots       how many times the machine was started
    engine      name, why
    host        arch, kernel, cpus
    vmrun       vmrun's version
    phases      name, start_ns, end_ns of each, in order
    vcpus       where each vCPU stood: registers by name, numbers as hexadecimal text
    stats       the engine's counters, by name
    guest_errors    what the guest did wrong: device, what, count
    host_errors     what the host refused a device: device, what it was doing, file, errno, error (its text), count
    report      what the engine tells of a fault, a line each: exit reason, registers, instruction; else empty
    tail        the end of the console, as text
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from vmrun import __version__
from vmrun.errors import PlanError
from vmrun.plan.model import MachinePlan
from vmrun.run.outcome import Outcome
from vmrun.run.trouble import reason

RESULT_FORMAT = 3
_DTB_BLOBS = ("dtb", "fdt")


def make_folder(root: Path) -> Path:
    """Create and return the folder of a new run under ``root``. Raise OSError where that cannot be."""
    runs = root / ".vmrun" / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (root / ".vmrun" / ".gitignore").open("x").write("*\n")
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    count = 0
    while True:
        folder = runs / (f"{stamp}-{os.getpid()}" + (f"-{count}" if count else ""))
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            count += 1


def write_dtb(folder: Path, plan: MachinePlan) -> None:
    """Write the plan's device tree to machine.dtb, if it has one."""
    for name in _DTB_BLOBS:
        blob = plan.blob(name)
        if blob is not None and blob.data is not None:
            (folder / "machine.dtb").write_bytes(blob.data)
            return


def write_acpi(folder: Path, plan: MachinePlan) -> None:
    """Write the plan's ACPI tables to acpi/, if it has them. After the run: nothing of it may delay the guest."""
    if plan.blob("rsdp") is None:
        return
    from vmrun.plan.view import acpi_files

    with contextlib.suppress(PlanError):  # the guest has had them: what a saved plan says is nobody's business now
        files = acpi_files(plan)
        (folder / "acpi").mkdir(exist_ok=True)
        for name, data in files:
            (folder / "acpi" / name).write_bytes(data)


def write_result(folder: Path, plan: MachinePlan, outcome: Outcome, started: float) -> None:
    """Write result.json at once: a reader finds all of it or nothing. ``started`` is a Unix time in seconds."""
    import json

    host = os.uname()
    result = {
        "result": RESULT_FORMAT,
        "id": folder.name,
        "name": plan.name,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "outcome": outcome.reason,
        "code": outcome.code,
        "detail": outcome.detail,
        "value": outcome.value,
        "status": outcome.status,
        "command": list(plan.run.command),
        "boots": outcome.boots,
        "engine": {"name": plan.engine, "why": plan.why},
        "host": {"arch": host.machine, "kernel": host.release, "cpus": len(os.sched_getaffinity(0))},
        "vmrun": __version__,
        "phases": [{"name": p.name, "start_ns": p.start_ns, "end_ns": p.end_ns} for p in outcome.phases],
        "vcpus": [{name: hex(value) for name, value in state.items()} for state in outcome.vcpus],
        "stats": dict(outcome.counters),
        "guest_errors": [{"device": g.device, "what": g.what, "count": g.times} for g in outcome.guest_errors],
        "host_errors": [
            {"device": h.device, "what": h.what, "file": h.file, "errno": h.errno, "error": reason(h), "count": h.times}
            for h in outcome.host_errors
        ],
        "report": outcome.report.splitlines(),
        "tail": outcome.tail.decode("utf-8", "replace"),
    }
    part = folder / "result.json.part"
    part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / "result.json")
