"""What vmrun itself costs: CPU time of its commands as a multiple of a bare Python, and its memory beside guest RAM.

The guest of `up` is seven instructions long, so that the command's own work is what is measured.

    python bench/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import os
import resource
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pairs import ROOT, Sample, alternate, publish, ratios, spread

RAM_KIB = 256 << 10
# SBI SRST, type shutdown: lui, addi a7; li a6, a0, a1; ecall; j .
POWEROFF = struct.pack("<7I", 0x535258B7, 0x35488893, 0x00000813, 0x00000513, 0x00000593, 0x00000073, 0x0000006F)
TARGETS = {"--help": 4, "up, cached plan": 6, "up, saved plan": 6, "check": 18}


def cpu(command: list[str]) -> Sample:
    """Return the CPU seconds of ``command``."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"bench: status {done.returncode}: {' '.join(command)}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


def own_memory_kib(pid: int) -> int:
    """Return the resident KiB of ``pid`` in all mappings but guest RAM, the one of its size; 0 once it has ended."""
    total, size, guest = 0, 0, False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if line.startswith("Size:"):
            size = int(line.split()[1])
            guest = size == RAM_KIB
        elif line.startswith("Rss:") and not guest:
            total += int(line.split()[1])
    return total


def peak_memory_mib(manifest: Path) -> float:
    """Boot ``manifest`` and return the most memory that vmrun held beside guest RAM, in MiB, looked at every 50 ms."""
    command = [sys.executable, "-m", "vmrun", "up", str(manifest), "--no-results"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    peak = 0
    while process.poll() is None:
        peak = max(peak, own_memory_kib(process.pid))
        time.sleep(0.05)
    watchdog.cancel()
    if process.returncode:
        sys.exit(f"bench: status {process.returncode}: {' '.join(command)}")
    return peak / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=9, help="counted pairs of runs (default 9)")
    arguments = options.parse_args()
    vmrun, riscv_micro = [sys.executable, "-m", "vmrun"], ROOT / "manifests" / "riscv-micro.toml"
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        Path("off.bin").write_bytes(POWEROFF)
        manifest = Path("off.toml")
        manifest.write_text(
            'manifest = 1\nname = "off"\n[machine]\nboard = "riscv_virt"\n[memory]\nsize = "256MiB"\n'
            '[boot]\nkernel = { path = "off.bin" }\n'
        )
        saved = subprocess.run([*vmrun, "plan", str(manifest), "--json"], check=True, capture_output=True).stdout
        Path("off.plan.json").write_bytes(saved)
        copies = [f"copy{index}.toml" for index in range(20)]
        for copy in copies:
            Path(copy).write_bytes(manifest.read_bytes())
        commands = {
            "--help": [*vmrun, "--help"],
            "up, cached plan": [*vmrun, "up", str(manifest), "--no-results"],
            "up, saved plan": [*vmrun, "up", "off.plan.json", "--no-results"],
            "check": [*vmrun, "check", str(manifest)],
            "check of 21": [*vmrun, "check", str(manifest), *copies],
        }
        ours: dict[str, list[Sample]] = {}
        for name, command in commands.items():
            ours[name], bare = alternate(
                arguments.runs, lambda command=command: cpu(command), lambda: cpu([sys.executable, "-c", "pass"])
            )
            mine, ratio = spread([s["cpu"] * 1000 for s in ours[name]]), spread(ratios(ours[name], bare, "cpu"))
            figures[name] = {"cpu_ms": mine, "times_bare_python": ratio, "target": TARGETS.get(name)}
            target = f"under {TARGETS[name]}" if name in TARGETS else ""
            rows.append([name, f"{mine['median']:.0f} ms", f"{ratio['median']:.1f} x", target])
        each = [
            (b["cpu"] - a["cpu"]) * 1000 / len(copies) for a, b in zip(ours["check"], ours["check of 21"], strict=True)
        ]
        figures["each further manifest"] = {"cpu_ms": spread(each), "target_ms": 5}
        rows.append(["each further manifest", f"{spread(each)['median']:.1f} ms", "", "under 5 ms"])
        peak = peak_memory_mib(riscv_micro)
        figures["memory beside guest RAM"] = {"mib": peak, "target_mib": 60}
        rows.append(["memory beside guest RAM", f"{peak:.0f} MiB", "", "under 60 MiB"])
    publish("vmrun's own cost", ["command", "CPU", "of bare Python", "target"], rows, figures)


if __name__ == "__main__":
    main()
