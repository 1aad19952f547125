"""`vmrun up` and `vmrun run` from end to end, as a user calls them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import MICRO, TIMEOUT_S, Vmrun, vmrun_command, vmrun_env

pytestmark = [pytest.mark.guest, pytest.mark.network]


def result(folder: Path) -> dict[str, object]:
    (found,) = folder.glob(".vmrun/runs/*/result.json")
    loaded: dict[str, object] = json.loads(found.read_text())
    return loaded


def test_up_boots_the_example_and_ends_with_0(vmrun: Vmrun, tmp_path: Path) -> None:
    done = vmrun("up", MICRO)
    assert done.returncode == 0, done.stderr
    assert b"kernel   Linux 6." in done.stdout and b"rv64imafdc" in done.stdout
    assert b"virtio_blk" in done.stdout
    assert b"engine soft: a riscv64 guest on" in done.stderr
    told = result(tmp_path)
    assert (told["outcome"], told["code"], told["status"]) == ("poweroff", 0, 0)
    assert [p["name"] for p in told["phases"]][-4:] == ["kernel", "init", "command", "off"]  # type: ignore[attr-defined]
    (folder,) = tmp_path.glob(".vmrun/runs/*")
    assert (folder / "console.log").read_bytes() in done.stdout + done.stderr
    assert (folder / "machine.dtb").read_bytes()[:4] == b"\xd0\x0d\xfe\xed"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "exit 124"], 124),
        (["/proc/version"], 126),
        (["/no/such/command"], 127),
        (["sh", "-c", "kill -9 $$"], 137),
        (["sh", "-c", "echo c > /proc/sysrq-trigger"], 255),
        (["poweroff", "-f"], 255),
        (["reboot", "-f"], 255),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else None,
)
def test_the_status_of_a_command(vmrun: Vmrun, command: list[str], code: int) -> None:
    done = vmrun("run", MICRO, "--", *command)
    assert done.returncode == code, done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("command", "outcome"),
    [
        ("poweroff -f", "early-poweroff"),
        ("reboot -f", "early-reset"),
        ("echo b > /proc/sysrq-trigger", "silent-reset"),
        ("echo c > /proc/sysrq-trigger", "panic"),
    ],
)
def test_the_ends_of_a_guest_before_its_status_are_told_apart(
    vmrun: Vmrun, tmp_path: Path, command: str, outcome: str
) -> None:
    assert vmrun("run", MICRO, "--", "sh", "-c", f"{command}; sleep 60").returncode == 255
    assert result(tmp_path)["outcome"] == outcome


def test_a_panic_shows_the_last_lines(vmrun: Vmrun, tmp_path: Path) -> None:
    done = vmrun("run", MICRO, "--", "sh", "-c", "echo c > /proc/sysrq-trigger")
    assert b"Kernel panic - not syncing: sysrq triggered crash" in done.stderr
    assert result(tmp_path)["outcome"] == "panic"


def test_a_manifest_whose_command_panics(vmrun: Vmrun, manifest: Callable[[str], Path]) -> None:
    path = manifest('[run]\ncommand = ["/bin/sh", "-c", "echo c > /proc/sysrq-trigger"]\n')
    done = vmrun("up", path)
    assert done.returncode == 255
    assert b"Kernel panic" in done.stdout


def test_streams_are_binary_clean(vmrun: Vmrun) -> None:
    data = os.urandom(1 << 20)
    done = vmrun("run", MICRO, "--", "sh", "-c", "tee /dev/stderr | sha256sum >&2; cat /dev/null", input=data)
    assert done.returncode == 0, done.stderr[-500:]
    assert hashlib.sha256(data).hexdigest().encode() in done.stderr
    echoed = vmrun("run", MICRO, "--", "cat", input=data)
    assert echoed.stdout == data


def test_arguments_arrive_as_they_are(vmrun: Vmrun) -> None:
    words = ["a b", "", "'", '"', "$HOME", "\\n", "ü"]
    done = vmrun("run", MICRO, "--", "sh", "-c", 'for w in "$@"; do echo "[$w]"; done', "sh", *words)
    assert done.stdout.decode().splitlines() == [f"[{w}]" for w in words]


@pytest.mark.parametrize("harts", [1, 2, 4])
def test_harts(vmrun: Vmrun, harts: int) -> None:
    done = vmrun("run", MICRO, "--set", f"cpu.count={harts}", "--", "grep", "-c", "^processor", "/proc/cpuinfo")
    assert done.stdout == f"{harts}\n".encode(), done.stderr


@pytest.mark.parametrize("mode", ["ro", "overlay", "rw"])
def test_what_becomes_of_a_disk(vmrun: Vmrun, manifest: Callable[[str], Path], tmp_path: Path, mode: str) -> None:
    before = os.urandom(1 << 20)
    (tmp_path / "disk.img").write_bytes(before)
    path = manifest(f'[disk.data]\npath = "disk.img"\nmode = "{mode}"\n')
    write = "printf written | dd of=/dev/vda bs=1 seek=4096 conv=notrunc && dd if=/dev/vda bs=1 skip=4096 count=7"
    done = vmrun("run", path, "--", "sh", "-c", write)
    after = (tmp_path / "disk.img").read_bytes()
    if mode == "ro":
        assert done.returncode != 0
    else:
        assert (done.returncode, done.stdout) == (0, b"written")
    assert after == (before[:4096] + b"written" + before[4103:] if mode == "rw" else before)
    assert {p.name for p in tmp_path.iterdir()} == {"disk.img", "m.toml", ".vmrun"}


@pytest.mark.parametrize("mode", ["overlay", "rw"])
def test_sigterm_keeps_what_was_written(
    manifest: Callable[[str], Path], kernel: Path, tmp_path: Path, mode: str
) -> None:
    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    path = manifest(f'[disk.data]\npath = "disk.img"\nmode = "{mode}"\n')
    script = "printf written > /dev/vda; sync; echo done; while :; do sleep 1; done"
    process = subprocess.Popen(
        vmrun_command("run", path, "--", "sh", "-c", script),
        cwd=tmp_path, env=vmrun_env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"done\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 143
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert (tmp_path / "disk.img").read_bytes()[:7] == (b"written" if mode == "rw" else bytes(7))
    assert result(tmp_path)["outcome"] == "signal"


def test_a_disk_that_another_run_writes_is_locked(
    manifest: Callable[[str], Path], vmrun: Vmrun, tmp_path: Path
) -> None:
    import fcntl

    (tmp_path / "disk.img").write_bytes(bytes(1 << 20))
    path = manifest('[disk.data]\npath = "disk.img"\nmode = "rw"\n')
    with open(tmp_path / "disk.img", "r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = vmrun("run", path, "--", "true")
    assert done.returncode == 125
    assert b"disk.img" in done.stderr and b"Traceback" not in done.stderr


def test_a_reboot_boots_again(manifest: Callable[[str], Path], kernel: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        vmrun_command("up", manifest("")),
        cwd=tmp_path, env=vmrun_env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None

    unread = b""

    def until(words: bytes) -> None:
        nonlocal unread
        while words not in unread:
            read = process.stdout.read(4096)
            assert read, unread
            unread += read
        unread = unread.partition(words)[2]

    alarm = threading.Timer(TIMEOUT_S, process.kill)
    alarm.start()
    try:
        for command in (b"reboot -f\n", b"poweroff -f\n"):
            until(b"built-in shell")  # of this boot: the last one left a prompt behind
            until(b"~ # ")
            process.stdin.write(b"echo marker-$((6 * 7))\n")
            until(b"marker-42")
            process.stdin.write(command)
        _, told = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, told
    finally:
        alarm.cancel()
        process.kill()
        process.wait()
    assert b"reboots" in told
    assert result(tmp_path)["boots"] == 2


@pytest.fixture
def bare(vmrun: Vmrun, manifest: Callable[[str], Path], tmp_path: Path) -> Path:
    """A manifest whose kernel is a file: none of its modules are there, so it drives no virtio device."""
    path = manifest("")
    plan = json.loads(vmrun("plan", path, "--json").stdout)
    kernel = next(blob["path"] for blob in plan["blobs"] if blob["name"] == "kernel")
    text = path.read_text().replace('debian = "linux-image-riscv64", suite = "trixie"', f"path = {json.dumps(kernel)}")
    bare = tmp_path / "bare.toml"
    bare.write_text(text)
    return bare


@pytest.mark.parametrize("console", ["virtio", "serial"])
def test_a_kernel_without_virtio_has_its_command_on_the_serial_line(vmrun: Vmrun, bare: Path, console: str) -> None:
    data = os.urandom(20_000)
    script = 'sleep 1000 & echo "<4>in the middle" >/dev/kmsg; tee /dev/stderr; exit 7'
    done = vmrun(
        "run", bare, "--set", f'console.main.device="{console}"', "--", "sh", "-c", script, input=data
    )  # fmt: skip
    assert done.returncode == 7, done.stderr[-1000:]
    assert (done.stdout == data, data in done.stderr, b"no driver virtio_mmio" in done.stderr) == (True, True, True)


def test_a_kernel_without_virtio_has_its_shell_on_the_serial_line(vmrun: Vmrun, bare: Path) -> None:
    done = vmrun("up", bare, input=b"echo typed-$((40+2)) on $(tty)\npoweroff -f\n")
    assert b"typed-42 on /dev/ttyS0" in done.stdout and b"vmrun;" not in done.stdout
    assert done.returncode == 0, done.stderr


def test_input_that_comes_before_the_shell_is_kept(vmrun: Vmrun, manifest: Callable[[str], Path]) -> None:
    done = vmrun("up", manifest(""), input=b"echo typed-$((40+2))\npoweroff -f\n")
    assert (done.returncode, b"typed-42" in done.stdout) == (0, True), done.stderr


def test_a_timeout_is_124(vmrun: Vmrun, manifest: Callable[[str], Path], tmp_path: Path) -> None:
    path = manifest('[run]\ncommand = ["sleep", "1000"]\ntimeouts = { total = "6s" }\n')
    assert vmrun("up", path).returncode == 124
    assert result(tmp_path)["outcome"] == "timeout"


def test_a_saved_plan_runs_by_itself(vmrun: Vmrun, tmp_path: Path) -> None:
    saved = tmp_path / "m.plan.json"
    assert vmrun("run", MICRO, "--save-plan", saved, "--", "sh", "-c", "exit 7").returncode == 7
    done = vmrun("up", saved, "--no-results")
    assert done.returncode == 7, done.stderr
    plan = json.loads(saved.read_text())
    kernel = next(b for b in plan["blobs"] if b["name"] == "kernel")
    kernel["path"] = str(tmp_path / "gone")
    saved.write_text(json.dumps(plan))
    done = vmrun("up", saved)
    assert done.returncode == 125
    assert b"gone: No such file" in done.stderr and done.stderr.count(b"error") == 1


def test_a_plans_blob_that_changed_is_refused(vmrun: Vmrun, tmp_path: Path) -> None:
    saved = tmp_path / "m.plan.json"
    assert vmrun("run", MICRO, "--save-plan", saved, "--", "true").returncode == 0
    plan = json.loads(saved.read_text())
    initrd = next(b for b in plan["blobs"] if b["name"] == "initrd")
    copy = tmp_path / "initrd"
    copy.write_bytes(Path(initrd["path"]).read_bytes()[:-1] + b"x")
    initrd["path"] = str(copy)
    saved.write_text(json.dumps(plan))
    done = vmrun("up", saved)
    assert done.returncode == 125 and b"has changed since it was planned" in done.stderr
    copy.write_bytes(copy.read_bytes()[:1000])
    assert b"has changed since it was planned" in vmrun("up", saved).stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(kernel: Path, tmp_path: Path, closed: str) -> None:
    import shlex

    line = shlex.join(vmrun_command("run", MICRO, "--", "sh", "-c", "cat; echo out; echo err >&2; exit 5"))
    done = subprocess.run(["sh", "-c", f"{line} {closed}"], cwd=tmp_path, env=vmrun_env(), timeout=TIMEOUT_S)
    assert done.returncode == 5


def test_a_reader_that_leaves_ends_the_run(kernel: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        vmrun_command("run", MICRO, "--", "yes"), cwd=tmp_path, env=vmrun_env(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(TIMEOUT_S) == 141


def test_a_folder_that_cannot_be_written_is_a_warning(vmrun: Vmrun, tmp_path: Path) -> None:
    (tmp_path / ".vmrun").write_text("in the way")
    done = vmrun("run", MICRO, "--", "true")
    assert done.returncode == 0
    assert b"warning: no results are kept" in done.stderr


@pytest.mark.parametrize(("accel", "why"), [("kvm", b"E302"), ("qemu", b"this release")])
def test_an_engine_that_is_not_there(vmrun: Vmrun, accel: str, why: bytes) -> None:
    if accel == "kvm" and platform.machine() == "riscv64":
        pytest.skip("this host's KVM is of the guest's architecture")
    done = vmrun("run", MICRO, "--accel", accel, "--", "true")
    assert done.returncode == 125
    assert why in done.stderr and b"auto" in done.stderr


def test_a_kernel_spread_over_packages_boots_a_small_machine(vmrun: Vmrun, tmp_path: Path) -> None:
    path = tmp_path / "sid.toml"
    path.write_text(
        'manifest = 1\n[machine]\nboard = "riscv_virt"\n[memory]\nsize = "192MiB"\n[boot]\n'
        'kernel = { debian = "linux-image-riscv64", suite = "sid" }\nmodules = ["ext4"]\n'
        'initrd = { busybox = true }\ncmdline = ["panic=-1", "quiet"]\n[console.main]\ndevice = "virtio"\n'
    )
    done = vmrun("run", path, "--", "grep", "ext4", "/proc/filesystems")
    assert (done.returncode, done.stdout.split()) == (0, [b"ext4"]), done.stderr
