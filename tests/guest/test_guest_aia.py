"""Debian's kernel with the AIA: APLIC and IMSICs deliver what the PLIC and the SBI do otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conftest import ROOT, Vmrun

pytestmark = [pytest.mark.guest, pytest.mark.network]

AIA = ROOT / "manifests" / "riscv-aia.toml"
LOOK = """set -e
dmesg | grep -E 'riscv-(imsic|aplic)'
grep -c _ssaia_ /proc/cpuinfo
dd if=/dev/urandom of=/data bs=1M count=4 2>/dev/null
dd if=/data of=/dev/vda conv=fsync 2>/dev/null
echo 3 > /proc/sys/vm/drop_caches
dd if=/dev/vda bs=1M count=4 2>/dev/null | cmp - /data
cat /proc/interrupts
"""


def counts(text: str, name: str) -> list[int]:
    """Return how often the interrupt whose line ends in ``name`` came, hart by hart."""
    (line,) = re.findall(rf"^ *\w+:((?: +\d+)+) .*\b{name}$", text, re.MULTILINE)
    return [int(number) for number in line.split()]


@pytest.mark.parametrize("harts", [1, 2, 4])
def test_debian_boots_with_an_aia(vmrun: Vmrun, harts: int, tmp_path: Path) -> None:
    done = vmrun("run", AIA, "--accel", "soft", "--set", f"cpu.count={harts}", "--", "sh", "-c", LOOK)
    text = done.stdout.decode()
    assert done.returncode == 0, (text, done.stderr)
    assert "providing IPIs using interrupt 1" in text
    assert f"total {254 * harts} interrupts available" in text
    assert "riscv-aplic d000000.interrupt-controller: 96 interrupts forwarded to MSI base" in text
    assert "APLIC-MSI-d000000.interrupt-controller" in text and "PLIC:" not in text.replace("APLIC", "")
    disk = counts(text, "virtio0") if "virtio0" in text else []
    assert len(disk) == harts and sum(disk) > 0
    if harts > 1:
        assert sum(counts(text, "Function call interrupts")) > 0
    (found,) = tmp_path.glob(".vmrun/runs/*/result.json")
    told = json.loads(found.read_text())
    assert told["outcome"] == "poweroff" and not told["guest_errors"]


def test_the_example_shows_who_delivers(vmrun: Vmrun) -> None:
    done = vmrun("up", AIA, "--accel", "soft")
    assert done.returncode == 0, done.stderr
    assert re.search(rb"APLIC-MSI-\S+ +1 Level .* virtio0", done.stdout)
