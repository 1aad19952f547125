"""Debian's stock kernel on a plan of the board microvm, by QEMU's machine without KVM: tables and boot protocols."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import x86_qemu

from vmrun.errors import ArtifactError
from vmrun.plan.model import MachinePlan
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest

pytestmark = [pytest.mark.guest, pytest.mark.network, pytest.mark.slow]

MANIFEST = Path(__file__).resolve().parents[2] / "manifests" / "microvm.toml"
# QEMU's translator offers no clock that the kernel trusts without being told its frequency.
QUIET = 'boot.cmdline=["panic=-1", "quiet", "tsc_early_khz=1000000"]'


@pytest.fixture(autouse=True)
def qemu() -> None:
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("needs qemu-system-x86_64 (package qemu-system-x86)")


def planned(*sets: str) -> MachinePlan:
    try:
        return plan_manifest(MANIFEST, How(sets=(QUIET, *sets), anywhere=True))
    except ArtifactError as error:
        pytest.skip(f"Debian's amd64 kernel cannot be had: {error}")


def devices(folder: Path) -> list[str]:
    """The manifest's disk and entropy source, in the slots where the plan has them."""
    disk = folder / "scratch"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    return [
        *("-global", "virtio-mmio.force-legacy=false"),
        *("-drive", f"if=none,id=scratch,format=raw,file={disk}"),
        *("-device", "virtio-blk-device,drive=scratch,serial=scratch,bus=virtio-mmio-bus.0"),
        *("-device", "virtio-rng-device,bus=virtio-mmio-bus.2"),
    ]


@pytest.mark.parametrize("protocol", ["elf", "bzimage", "pvh"])
def test_the_kernel_finds_the_machine(protocol: str, tmp_path: Path) -> None:
    plan = planned(f"boot.protocol={protocol}", "cpu.count=4")
    status, said = x86_qemu.run(plan, tmp_path, *devices(tmp_path))
    assert [f"apicid {n}" in said for n in range(5)] == [True] * 4 + [False], said
    assert "virtio0 device 0x0002 driver virtio_blk" in said and "virtio1 device 0x0004 driver virtio_rng" in said, said
    assert "disk     vda 131072 sectors, serial scratch" in said and "vmrun: exit 0" in said
    assert status == 0, "powered off by ACPI's sleep register"
    assert "rror" not in said and "ACPI Warning" not in said, said


def test_a_panic_resets_the_machine(tmp_path: Path) -> None:
    plan = planned('run.command=["/bin/sh", "-c", "echo c >/proc/sysrq-trigger"]', "cpu.count=1")
    status, said = x86_qemu.run(plan, tmp_path, "-action", "reboot=shutdown")
    assert status == 0 and "Kernel panic" in said, said


def test_ram_beyond_the_hole_is_used(tmp_path: Path) -> None:
    command = 'run.command=["/bin/sh", "-c", "grep MemTotal /proc/meminfo"]'
    plan = planned('memory.size="3200MiB"', command, "cpu.count=1")
    status, said = x86_qemu.run(plan, tmp_path)
    total = next(int(line.split()[1]) for line in said.splitlines() if line.startswith("MemTotal"))
    assert status == 0 and 3_000_000 < total < 3_276_800


@pytest.mark.parametrize("asked", [False, True])
def test_a_kernel_without_kvms_clock_reads_the_cmos(asked: bool, tmp_path: Path) -> None:
    """ACPI tells of the clock where the manifest has it; the time of day is read at its ports in any case."""
    command = 'run.command=["/bin/sh", "-c", "date +day-%F; ls -d /sys/class/rtc/rtc0"]'
    plan = planned(command, "cpu.count=1", *(["device.clock.kind=cmos-rtc"] if asked else []))
    _, said = x86_qemu.run(plan, tmp_path, "-rtc", "base=2020-05-17T12:00:00")
    assert "day-2020-05-17" in said, said
    assert ("\n/sys/class/rtc/rtc0" in said) == asked, said
