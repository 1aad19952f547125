"""What a guest on the software core sees of its board: the listing that a guest of KVM is held to in the lab.

VMRUN_UPDATE_GOLDENS=1 writes it anew.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from conftest import Vmrun

sys.path.insert(0, str(Path(__file__).parents[1] / "lab"))

from riscv_hardware import COMMAND, GOLDEN, listing, manifest

pytestmark = [pytest.mark.guest, pytest.mark.network]


def test_the_hardware_is_the_golden_one(vmrun: Vmrun, tmp_path: Path) -> None:
    path = tmp_path / "hardware.toml"
    path.write_text(manifest("soft", "plic"))
    done = vmrun("run", path, "--", *COMMAND)
    assert done.returncode == 0, done.stderr
    now = listing(done.stdout.decode())
    if os.environ.get("VMRUN_UPDATE_GOLDENS") == "1":
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(now)
    assert now == GOLDEN.read_text()
