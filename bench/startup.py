"""What vmrun itself costs: CPU time of its commands as a multiple of a bare Python, and its memory beside guest RAM.

The guest of `up` is a few instructions long, so that the command's own work is what is measured. The second table is
wall time, by phase, from the process's start to the first KVM_RUN of a guest of the board `microvm`: with its plan in
the cache, with an empty cache of vmrun's own, and as after a boot, with vmrun's files out of the page cache. A host
whose KVM runs no Linux kernel is not asked whether it does.

    python bench/startup.py [--runs N]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

from pairs import ROOT, Sample, alternate, publish, ratios, spread  # first, for it says where patience lies

from patience import patience

RAM_KIB = 256 << 10
# SBI SRST, type shutdown: lui, addi a7; li a6, a0, a1; ecall; j .
POWEROFF = struct.pack("<7I", 0x535258B7, 0x35488893, 0x00000813, 0x00000513, 0x00000593, 0x00000073, 0x0000006F)
# mov al, 0xfe; out 0x64, al (the keyboard controller's reset); hlt; jmp to it
RESET = b"\xb0\xfe\xe6\x64\xf4\xeb\xfd"
RESET_AT = 16 << 20
FIRST_RUN = ("start", "plan", "check", "fetch", "build")
"""The phases before the first KVM_RUN."""
COLD_TARGET_MS, CACHED_AIM_MS = 120, 40
# The KVM of a development machine may be refused Linux, and runs this guest all the same.
ANY_KVM = """\
import sys, vmrun.kvm.outcome
vmrun.kvm.outcome.admit_linux = lambda standing, insists: ""
from vmrun.cli.main import main
sys.exit(main())
"""
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
    watchdog = threading.Timer(patience(120), process.kill)
    watchdog.start()
    peak = 0
    while process.poll() is None:
        peak = max(peak, own_memory_kib(process.pid))
        time.sleep(0.05)
    watchdog.cancel()
    if process.returncode:
        sys.exit(f"bench: status {process.returncode}: {' '.join(command)}")
    return peak / 1024


def resetting_kernel() -> bytes:
    """Return an ELF kernel that resets its machine at once."""
    head = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, RESET_AT, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 4096, RESET_AT, RESET_AT, len(RESET), len(RESET), 4096)
    return (head + segment).ljust(4096, b"\0") + RESET


def phases_of_a_start(cache: Path, folder: Path, *, empty: bool, evicted: bool = False) -> Sample:
    """Start the guest in ``folder`` with vmrun's cache in ``cache``; return milliseconds by phase, and their sum."""
    if empty:
        shutil.rmtree(cache, ignore_errors=True)
    if evicted:
        evict()
    shutil.rmtree(folder / ".vmrun", ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-c", ANY_KVM, "up", "reset.toml", "--no-reboot"],
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"bench: status {done.returncode}: {done.stderr}")
    (result,) = folder.glob(".vmrun/runs/*/result.json")
    taken: Sample = dict.fromkeys(FIRST_RUN, 0.0)
    for phase in json.loads(result.read_text())["phases"]:
        if phase["name"] in taken:
            taken[phase["name"]] += (phase["end_ns"] - phase["start_ns"]) / 1e6
    return taken | {"first KVM_RUN": sum(taken.values())}


def evict() -> None:
    """Drop what vmrun imports, its own files and its packages, from the page cache, as far as the host agrees."""
    for folder in (ROOT / "vmrun", Path(sysconfig.get_path("purelib"))):
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".pyc", ".so") and path.is_file():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def first_run(runs: int) -> None:
    """Print the table of wall times to the first KVM_RUN; without a KVM, why there is none."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        print("bench: SKIPPED the start to the first KVM_RUN: no /dev/kvm that may be opened", file=sys.stderr)
        return
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "reset.elf").write_bytes(resetting_kernel())
        (folder / "reset.toml").write_text(
            'manifest = 1\nname = "reset"\n[machine]\nboard = "microvm"\naccel = "kvm"\n[memory]\nsize = "256MiB"\n'
            '[boot]\nkernel = { path = "reset.elf" }\n'
        )
        time.sleep(0.1)  # a plan of files that have only just changed is not kept
        ways = {
            f"plan cached (aim {CACHED_AIM_MS} ms)": {"empty": False},
            f"own cache empty (under {COLD_TARGET_MS} ms)": {"empty": True},
            "plan cached, files not in the page cache": {"empty": False, "evicted": True},
        }
        for name, how in ways.items():
            phases_of_a_start(folder / "cache", folder, empty=False)
            samples = [phases_of_a_start(folder / "cache", folder, **how) for _ in range(runs)]
            figures[name] = {phase: spread([sample[phase] for sample in samples]) for phase in samples[0]}
            rows.append([name, *(f"{found['median']:.1f}" for found in figures[name].values())])
    publish("process start to first KVM_RUN, ms", ["", *FIRST_RUN, "sum"], rows, figures)


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
        figures["memory beside guest RAM"] = {"mib": peak, "target_mib": 80}
        rows.append(["memory beside guest RAM", f"{peak:.0f} MiB", "", "under 80 MiB"])
    first_run(arguments.runs)
    publish("vmrun's own cost", ["command", "CPU", "of bare Python", "target"], rows, figures)


if __name__ == "__main__":
    main()
