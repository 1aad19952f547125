"""Boot time of a manifest on the software core beside QEMU's TCG: same kernel, initramfs, command line and harts.

Both clocks start when the process is started. `init` is when vmrun's own init, in the guest, says so over the control
port; `off` is when the process has ended.

    python bench/boot.py [--runs N] [MANIFEST]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from pairs import ROOT, Sample, alternate, need, publish, ratios, spread  # first, for it says where patience lies

from patience import patience

FIGURES = ("init", "off", "cpu")
LIMIT_S = patience(120)


def timed(command: list[str], wait_for_init: Any, pass_fds: tuple[int, ...] = (), **streams: Any) -> Sample:
    """Run ``command``; return seconds to init, to its end, and of CPU. ``wait_for_init(process)`` returns at init."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.monotonic()
    seen: list[float] = []
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=pass_fds, **streams) as process:

        def watch() -> None:
            if wait_for_init(process):
                seen.append(time.monotonic() - start)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            status = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            sys.exit(f"bench: no end after {LIMIT_S:.0f} s: {shlex.join(command)}")
        end = time.monotonic() - start
        watcher.join(patience(5))
    if status or not seen:
        sys.exit(f"bench: status {status}, init {'seen' if seen else 'not seen'}: {shlex.join(command)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"init": seen[0], "off": end, "cpu": cpu}


def run_vmrun(manifest: Path) -> Sample:
    """Boot ``manifest`` as a user does; vmrun's plain status tells when init ran."""

    def init(process: subprocess.Popen[bytes]) -> bool:
        assert process.stderr is not None
        found = False
        for line in process.stderr:
            found = found or b" init" in line
            if found:
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        return found

    command = [sys.executable, "-m", "vmrun", "up", str(manifest), "--no-results", "--accel", "soft"]
    return timed(command, init, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def run_qemu(plan: dict[str, Any], scratch: Path) -> Sample:
    """Boot the plan's blobs on QEMU's riscv virt with the same devices."""
    ours, its = socket.socketpair()

    def init(process: subprocess.Popen[bytes]) -> bool:
        ours.settimeout(LIMIT_S)
        said = b""
        while b"init" not in said:
            piece = ours.recv(4096)
            if not piece:
                return False
            said += piece
        # The port stays drained: a guest that cannot write to it would wait.
        threading.Thread(target=drain, args=(ours,), daemon=True).start()
        return True

    blobs = {blob["name"]: blob for blob in plan["blobs"]}
    memory = sum(number(region["size"]) for region in plan["ram"]) >> 20
    disk = scratch / "disk.img"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    command = [
        need("qemu-system-riscv64", "qemu-system-misc"),
        *("-M", "virt", "-accel", "tcg", "-smp", str(plan["cpu"]["count"]), "-m", str(memory), "-display", "none"),
        *("-nic", "none", "-no-reboot", "-serial", "none", "-monitor", "none"),
        *("-kernel", blobs["kernel"]["path"], "-initrd", blobs["initrd"]["path"], "-append", plan["cmdline"]),
        *("-global", "virtio-mmio.force-legacy=false", "-device", "virtio-serial-device,max_ports=8"),
        *("-chardev", "null,id=console", "-device", "virtconsole,chardev=console"),
        *(
            "-chardev",
            f"socket,id=control,fd={its.fileno()}",
            "-device",
            "virtserialport,chardev=control,name=vmrun.control",
        ),
        *("-drive", f"if=none,id=disk,format=raw,file={disk}", "-device", "virtio-blk-device,drive=disk"),
        *("-device", "virtio-rng-device"),
    ]
    try:
        return timed(command, init, pass_fds=(its.fileno(),), stdout=subprocess.DEVNULL, stderr=None)
    finally:
        its.close()
        ours.close()


def drain(port: socket.socket) -> None:
    """Read ``port`` until it ends or is closed."""
    try:
        while port.recv(4096):
            pass
    except OSError:
        pass


def number(value: int | str) -> int:
    """Return an integer of the plan's JSON, which writes addresses in hexadecimal."""
    return value if isinstance(value, int) else int(value, 0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("manifest", nargs="?", type=Path, default=ROOT / "manifests" / "riscv-micro.toml")
    options.add_argument("--runs", type=int, default=5, help="counted pairs of runs (default 5)")
    arguments = options.parse_args()
    command = [sys.executable, "-m", "vmrun", "plan", str(arguments.manifest), "--json", "--set", "machine.accel=soft"]
    plan = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    os.environ.pop("VMRUN_DEBUG", None)
    with tempfile.TemporaryDirectory() as scratch:
        ours, peers = alternate(
            arguments.runs, lambda: run_vmrun(arguments.manifest), lambda: run_qemu(plan, Path(scratch))
        )
    rows, figures = [], {}
    for name in FIGURES:
        mine, theirs = spread([s[name] for s in ours]), spread([s[name] for s in peers])
        ratio = spread(ratios(ours, peers, name))
        figures[name] = {"vmrun_s": mine, "qemu_s": theirs, "ratio": ratio}
        rows.append([name, f"{mine['median']:.2f} s", f"{theirs['median']:.2f} s", f"{ratio['median']:.2f}"])
    title = f"{arguments.manifest.name}: process start to init, to the end, and CPU time"
    publish(title, ["", "vmrun soft", "QEMU TCG", "ratio"], rows, figures)


if __name__ == "__main__":
    main()
