"""A guest of KVM sees the hardware that a guest of the software core sees: addresses, interrupts, triggers, names."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_kit import VMRUN, run_vmm, this_host
from riscv_hardware import COMMAND, GOLDEN, interrupts, listing, manifest, windows

pytestmark = pytest.mark.lab_guest
HOST = this_host()
if HOST.debian != "riscv64":
    pytest.skip("the software core runs riscv64 guests alone: nothing to compare with", allow_module_level=True)


def said(irqchip: str, folder: Path) -> str:
    path = folder / "hardware.toml"
    path.write_text(manifest("kvm", irqchip))
    ended = run_vmm([*VMRUN, "run", "--offline", str(path), "--", *COMMAND], folder)
    assert ended.status == 0, ended
    return ended.out


def test_with_a_plic_it_is_the_same_to_the_letter(tmp_path: Path) -> None:
    assert listing(said("plic", tmp_path)) == GOLDEN.read_text()


def test_with_an_aia_the_same_lines_reach_the_same_devices(tmp_path: Path) -> None:
    if HOST.name != "riscv64-aia":
        pytest.skip("this host has no AIA")
    ours, golden = said("aia", tmp_path), GOLDEN.read_text()
    assert [line for line in windows(ours) if "interrupt-controller" not in line] == windows(golden)
    devices = [line for line in golden.splitlines() if " PLIC " in line]
    through = [line for line in interrupts(ours) if "APLIC" in line]
    assert len(devices) == len(through) > 4
    numbered = [{(line.split()[-3], line.split()[-1]) for line in lines} for lines in (devices, through)]
    assert numbered[0] == numbered[1]
    assert all(line.split()[-2] == "Level" for line in through)
