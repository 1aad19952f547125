"""vmrun boots stock Debian kernels under KVM: every kernel in every form, CPUs, memory sizes, and every way to end."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from guest_kit import VMRUN, Ended, manifest, run_vmm, this_host

from patience import patience

pytestmark = pytest.mark.lab_guest
HOST = this_host()
BOOTS = [(guest.tag, form) for guest in HOST.guests for form in guest.forms]
FIRST = BOOTS[0]
POWEROFF = ("lab_facts=1", "lab_end=poweroff")

HALTED = 0 if HOST.debian == "riscv64" else 124
"""A halted riscv64 kernel asks SBI for a shutdown; the others stop their CPUs, which looks like waiting."""

# Every pair of neighbours of the matrix once: the whole product says nothing more and takes ten times as long.
SIZES = [(1, 128), (2, 512), (4, 2048)]

# What the guest does, the outcome in result.json, vmrun's status.
ENDS = {
    "poweroff": (("lab_end=poweroff",), ("--no-reboot",), "poweroff", 0),
    "reboot": (("lab_end=reboot",), ("--no-reboot",), "reboot", 0),
    "panic": (("lab_end=panic",), (), "panic", 255),
}
X86_ENDS = {
    # An empty IDT and an exception: the CPU shuts down. Linux does it as the last resort of a reboot, and when asked.
    "triple fault": (("lab_end=reboot", "reboot=triple"), ("--no-reboot",), "triple-fault", 255),
    "keyboard controller": (("lab_end=reboot", "reboot=kbd"), ("--no-reboot",), "reboot", 0),
    "ACPI reset": (("lab_end=reboot", "reboot=acpi"), ("--no-reboot",), "reboot", 0),
}
ALL_ENDS = ENDS | X86_ENDS if HOST.name == "x86_64" else ENDS


def up(
    folder: Path, boot: tuple[str, str], words: Sequence[str], *options: str, cpus: int = 1, ram_mib: int = 256
) -> Ended:
    path = manifest(folder, *boot, words, cpus=cpus, ram_mib=ram_mib)
    return run_vmm([*VMRUN, "up", str(path), *options], folder)


def result(folder: Path) -> dict[str, object]:
    (found,) = folder.glob(".vmrun/runs/*/result.json")
    loaded: dict[str, object] = json.loads(found.read_text())
    return loaded


@pytest.mark.parametrize("boot", BOOTS, ids="-".join)
def test_a_kernel_boots(boot: tuple[str, str], tmp_path: Path) -> None:
    ended = up(tmp_path, boot, POWEROFF)
    assert ended.status == 0, ended
    assert "INIT-OK" in ended.out and "LAB-DONE" in ended.out, ended
    assert ended.facts["release"].startswith(f"{boot[0]}."), ended
    assert not ended.splats
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("cpus", "ram_mib"), SIZES)
def test_cpus_and_memory(cpus: int, ram_mib: int, tmp_path: Path) -> None:
    ended = up(tmp_path, FIRST, POWEROFF, cpus=cpus, ram_mib=ram_mib)
    assert ended.status == 0, ended
    assert ended.facts["cpus"] == str(cpus), ended
    assert ended.out.count("LAB ran=1 on cpu") == cpus
    # The kernel keeps for itself, or never sees, less than an eighth and 64 MiB.
    total = int(ended.facts["mem_kib"]) // 1024
    assert ram_mib * 7 // 8 - 64 < total <= ram_mib
    assert not ended.splats


@pytest.mark.parametrize("end", ALL_ENDS)
def test_every_end_is_told_apart(end: str, tmp_path: Path) -> None:
    words, options, outcome, status = ALL_ENDS[end]
    ended = up(tmp_path, FIRST, words, *options)
    assert "INIT-OK" in ended.out, ended
    assert (ended.status, result(tmp_path)["outcome"]) == (status, outcome), ended
    assert "Traceback" not in ended.err


def test_a_reboot_boots_again(tmp_path: Path) -> None:
    path = manifest(tmp_path, *FIRST, ("lab_end=reboot",))
    ended = run_vmm([*VMRUN, "up", str(path)], tmp_path, until=("INIT-OK", 2))
    assert ended.status == 128 + signal.SIGTERM, ended
    assert ended.out.count("INIT-OK") >= 2, ended


def test_a_halt(tmp_path: Path) -> None:
    path = manifest(tmp_path, *FIRST, ("lab_end=halt",), limit_s=round(patience(20)))
    ended = run_vmm([*VMRUN, "up", str(path)], tmp_path)
    assert ended.status == HALTED, ended
    assert "INIT-OK" in ended.out
