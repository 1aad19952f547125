"""Runs in the lab's host (L1): the steps of a run one by one, each under its limit, the results kept after each.

    python3 steps.py STEPS.json RESULTS_DISK

The results are a tar archive from the disk's first byte on. A step's output goes to its log and to the console.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

WORK = Path("/lab/work")
RESULTS = WORK / "results"


def main() -> int:
    steps = json.loads(Path(sys.argv[1]).read_text())
    disk = Path(sys.argv[2])
    RESULTS.mkdir(parents=True)
    done = []
    for step in steps:
        print(f"LAB step {step['name']}", flush=True)
        start = time.monotonic()
        status = run(step["name"], step["argv"], step["limit_s"])
        done.append({"name": step["name"], "status": status, "seconds": round(time.monotonic() - start, 1)})
        print(f"LAB step {step['name']} ended: {status}, {done[-1]['seconds']} s", flush=True)
        (RESULTS / "steps.json").write_text(json.dumps(done))
        save(disk)
    return int(any(step["status"] != 0 for step in done))


def run(name: str, argv: list[str], limit_s: float) -> int | str:
    """Run one step in a session of its own; return its exit status, or `timeout`, at which the session is killed."""
    folder = WORK / name
    folder.mkdir()
    environment = os.environ | {
        "PYTHONPATH": "/lab/checkout",
        "XDG_CACHE_HOME": str(WORK / "cache"),
        "LAB_RESULTS": str(RESULTS),
        "CI": "1",
    }
    with subprocess.Popen(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        copier = threading.Thread(target=copy, args=(process, RESULTS / f"{name}.log"), daemon=True)
        copier.start()
        try:
            status: int | str = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            status = "timeout"
        end_session(process.pid)
        copier.join(5)
    return status


def copy(process: subprocess.Popen[bytes], path: Path) -> None:
    """Copy what the step says to ``path`` and to the console."""
    assert process.stdout is not None
    with path.open("wb") as log:
        while data := os.read(process.stdout.fileno(), 65536):
            log.write(data)
            log.flush()
            os.write(1, data)


def end_session(session: int) -> None:
    """Kill every process of ``session``, in whatever process group it is."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                of_session = os.getsid(int(entry.name)) == session
                if of_session:
                    os.kill(int(entry.name), signal.SIGKILL)
            except ProcessLookupError:
                continue


def save(disk: Path) -> None:
    """Write all results to ``disk``, from its first byte on."""
    with disk.open("r+b", buffering=0) as file, tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.add(RESULTS, arcname=".")
    os.sync()


if __name__ == "__main__":
    sys.exit(main())
