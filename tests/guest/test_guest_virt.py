"""Debian's stock kernel on a plan of the board virt, by QEMU's machine without KVM: QEMU's devices, the plan's tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from said import said

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.plan import view
from vmrun.plan.model import MachinePlan
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest

pytestmark = [pytest.mark.guest, pytest.mark.network, pytest.mark.slow]

MANIFEST = Path(__file__).resolve().parents[2] / "manifests" / "virt.toml"
LOOK = """
cat /proc/interrupts /proc/iomem
grep -H . /sys/devices/system/cpu/cpu*/topology/thread_siblings_list
grep -H . /sys/devices/system/cpu/cpu*/topology/package_cpus_list
echo "clock $(cat /sys/class/rtc/rtc0/name), $(cat /sys/block/vda/serial)"
dmesg | grep -E 'GIC|ITS|psci|PMU|GPIO|rror|arning' || true
"""


@pytest.fixture(autouse=True)
def qemu() -> None:
    if shutil.which("qemu-system-aarch64") is None:
        pytest.skip("needs qemu-system-aarch64 (package qemu-system-arm)")


def planned(*sets: str) -> MachinePlan:
    try:
        return plan_manifest(MANIFEST, How(sets=sets, command=("/bin/sh", "-c", LOOK), anywhere=True))
    except ArtifactError as error:
        pytest.skip(f"Debian's arm64 kernel cannot be had: {error}")


def run(plan: MachinePlan, version: int, folder: Path) -> tuple[int, str]:
    """Return QEMU's status and what the guest printed. QEMU puts kernel and initrd where it likes, and says so."""
    tree, disk = folder / "dtb", folder / "scratch"
    tree.write_bytes(view.dtb(plan))
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    kernel, initrd = plan.blob("kernel"), plan.blob("initrd")
    assert kernel is not None and kernel.path is not None and initrd is not None and initrd.path is not None
    command = ["qemu-system-aarch64", "-accel", "tcg,thread=multi", "-M", f"virt,gic-version={version}"]
    command += ["-cpu", "max,pauth-impdef=on", "-smp", str(plan.cpu.count), "-m", str(plan.ram[0].size >> 20)]
    command += ["-nodefaults", "-no-user-config", "-nic", "none", "-display", "none", "-serial", "stdio", "-no-reboot"]
    command += ["-kernel", kernel.path, "-initrd", initrd.path, "-dtb", str(tree), "-append", plan.cmdline]
    command += ["-global", "virtio-mmio.force-legacy=false", "-drive", f"if=none,id=scratch,format=raw,file={disk}"]
    command += ["-device", "virtio-blk-device,drive=scratch,serial=scratch,bus=virtio-mmio-bus.0"]
    command += ["-device", "virtio-rng-device,bus=virtio-mmio-bus.2"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience(180))
    return done.returncode, said(done)


@pytest.mark.parametrize("version", [3, 2])
def test_the_kernel_finds_the_machine(version: int, tmp_path: Path) -> None:
    plan = planned(f"machine.irqchip=gicv{version}", "cpu.count=8", "cpu.sockets=2", "cpu.cores=2", "cpu.threads=2")
    status, said = run(plan, version, tmp_path)
    lines = [line.split() for line in said.splitlines()]
    wired = {" ".join(line[-3:]) for line in lines if "Level" in line or "Edge" in line}
    assert {"33 Level uart-pl011", "34 Level rtc-pl031", "48 Edge virtio0", "50 Edge virtio1"} <= wired, said
    assert {"27 Level arch_timer", "23 Level arm-pmu"} <= wired, said
    for window in ("09000000-09000fff : 9000000.serial", "09010000-09010fff : rtc-pl031", "0a000400-0a0005ff"):
        assert window in said, said
    for cpu, siblings, package in ((0, "0-1", "0-3"), (3, "2-3", "0-3"), (6, "6-7", "4-7")):
        assert f"cpu{cpu}/topology/thread_siblings_list:{siblings}" in said, said
        assert f"cpu{cpu}/topology/package_cpus_list:{package}" in said, said
    assert "clock rtc-pl031 9010000.rtc, scratch" in said and "vmrun: exit 0" in said, said
    assert "psci: PSCIv1" in said and "PL061 GPIO chip registered" in said, said
    assert ("ITS [mem 0x08080000-0x0809ffff]" in said) == (version == 3), said
    assert status == 0 and "reboot: Power down" in said, "powered off by PSCI"
    assert "arning" not in said and "rror" not in said, said
