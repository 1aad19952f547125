"""Instructions a second of the software core beside QEMU's TCG, on the same bare guest (bench/guest/core.c).

The guest times its own loops, so neither program's start counts. QEMU has no true count of retired instructions without
-icount; both run the same binary on the same data, so vmrun's exact count stands for both.

    python bench/core.py [--runs N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from pairs import ROOT, Sample, alternate, need, publish, ratios, spread  # first, for it says where patience lies

from patience import patience

TIMEBASE_HZ = 10_000_000
ROUNDS = {"MIX_ROUNDS": 4000, "MEMORY_ROUNDS": 10, "FLOAT_ROUNDS": 2000}
GUEST = ROOT / "bench" / "guest"
LOOPS = ("mix", "memory", "float", "two")


def build(folder: Path) -> Path:
    """Compile the guest into a flat image."""
    compiler = need("riscv64-linux-gnu-gcc", "gcc-riscv64-linux-gnu")
    copy = need("riscv64-linux-gnu-objcopy", "binutils-riscv64-linux-gnu")
    elf, flat = folder / "core.elf", folder / "core.bin"
    subprocess.run(
        [
            *(compiler, "-O2", "-march=rv64gc", "-mabi=lp64d", "-mcmodel=medany", "-ffreestanding", "-fno-builtin"),
            *("-fno-pic", "-nostdlib", "-static", "-Wall", "-Wextra", "-Werror", "-Wl,--build-id=none"),
            *("-Wl,--no-warn-rwx-segments", *(f"-D{name}={value}" for name, value in ROUNDS.items())),
            *("-T", str(GUEST / "link.ld"), str(GUEST / "start.S"), str(GUEST / "core.c"), "-o", str(elf)),
        ],
        check=True,
    )
    subprocess.run([copy, "-O", "binary", str(elf), str(flat)], check=True)
    return flat


def parse(output: str, who: str) -> dict[str, tuple[int, int, int, int]]:
    """Return name -> (rounds, ticks, instructions, check) of the guest's report."""
    found = {}
    for line in output.splitlines():
        words = line.split()
        if len(words) == 6 and words[0] == "bench":
            found[words[1]] = tuple(int(word) for word in words[2:])
    if set(found) != set(LOOPS):
        sys.exit(f"bench: {who} did not finish its loops; it printed:\n{output}")
    return found


def run_vmrun(manifest: Path) -> str:
    command = [sys.executable, "-m", "vmrun", "up", str(manifest), "--no-results"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=patience(300), stdin=subprocess.DEVNULL
    ).stdout


def run_qemu(image: Path) -> str:
    qemu = need("qemu-system-riscv64", "qemu-system-misc")
    command = [
        qemu,
        *["-M", "virt", "-smp", "2", "-m", "256", "-nographic", "-no-reboot", "-nic", "none", "-accel", "tcg"],
        "-kernel",
        str(image),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=patience(300), stdin=subprocess.DEVNULL
    ).stdout


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=5, help="counted pairs of runs (default 5)")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        image = build(Path(scratch))
        manifest = Path(scratch) / "core.toml"
        manifest.write_text(
            'manifest = 1\nname = "core-bench"\n[machine]\nboard = "riscv_virt"\naccel = "soft"\n[cpu]\ncount = 2\n'
            f'[memory]\nsize = "256MiB"\n[boot]\nkernel = {{ path = "{image}" }}\n[console.main]\ndevice = "serial"\n'
        )
        counts: dict[str, int] = {}
        checks: dict[str, int] = {}

        def rates(output: str, who: str, exact: bool) -> Sample:
            sample: Sample = {}
            for name, (_, ticks, instructions, check) in parse(output, who).items():
                if checks.setdefault(name, check) != check:
                    sys.exit(f"bench: {who} computed {check} in loop {name}, not {checks[name]}")
                if exact:
                    # A hart counts its own: `two` waits for the other, its work is twice that of `mix`.
                    counts[name] = instructions if name != "two" else 2 * counts["mix"]
                sample[name] = counts[name] * TIMEBASE_HZ / ticks / 1e6
            return sample

        ours, peers = alternate(
            arguments.runs,
            lambda: rates(run_vmrun(manifest), "vmrun", exact=True),
            lambda: rates(run_qemu(image), "qemu", exact=False),
        )
    rows, figures = [], {}
    for name in LOOPS:
        mine, theirs, ratio = (
            spread([s[name] for s in ours]),
            spread([s[name] for s in peers]),
            spread(ratios(ours, peers, name)),
        )
        figures[name] = {"instructions": counts[name], "vmrun_mips": mine, "qemu_mips": theirs, "ratio": ratio}
        rows.append(
            [
                name,
                f"{counts[name] / 1e6:.0f} M",
                f"{mine['median']:.0f}",
                f"{theirs['median']:.0f}",
                f"{ratio['median']:.2f}",
            ]
        )
    scaling = spread([s["two"] / s["mix"] for s in ours])
    figures["two_harts_scale"] = scaling
    peer_scaling = spread([s["two"] / s["mix"] for s in peers])
    rows.append(["two / mix", "", f"{scaling['median']:.2f}", f"{peer_scaling['median']:.2f}", ""])
    columns = ["loop", "instructions", "vmrun soft", "QEMU TCG", "ratio"]
    publish("Million guest instructions a second", columns, rows, figures)


if __name__ == "__main__":
    main()
