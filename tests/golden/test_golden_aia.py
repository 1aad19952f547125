"""The devicetree of riscv_virt with an AIA, which depends on the host: made for one that has it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import dtschema
import pytest
from test_golden_plans import ALLOWED, ROOT

from patience import patience
from vmrun.plan import view
from vmrun.plan.model import MachinePlan
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest
from vmrun.tables.fdt import decode


@pytest.fixture
def plan(tmp_path: Path) -> MachinePlan:
    text = (ROOT / "manifests" / "riscv-kvm.toml").read_text()
    path = tmp_path / "aia.toml"
    path.write_text(text.replace('accel = "kvm"', 'accel = "kvm"\nirqchip = "aia"', 1))
    made = plan_manifest(path, How(artifacts=False, anywhere=True))
    assert {"aplic", "imsic"} <= {device.kind for device in made.devices}
    return made


def test_dtc_prints_no_warning(plan: MachinePlan) -> None:
    tool = shutil.which("dtc")
    if tool is None:
        pytest.skip("needs dtc (package device-tree-compiler)")
    done = subprocess.run(
        [tool, "-I", "dtb", "-O", "dts", "-"], input=view.dtb(plan), capture_output=True, timeout=patience(30)
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")
    hart = decode(view.dtb(plan)).find("cpus/cpu@0")
    assert hart is not None and "ssaia" in hart.prop("riscv,isa-extensions").values  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.network
def test_dt_validate_has_nothing_to_say(plan: MachinePlan, tmp_path: Path) -> None:
    try:
        schema = dtschema.schema()
    except dtschema.UnavailableError as error:
        pytest.skip(str(error))
    path = tmp_path / "machine.dtb"
    path.write_bytes(view.dtb(plan))
    found = [line for line in dtschema.validate(path, schema) if not any(re.fullmatch(a, line) for a in ALLOWED)]
    assert found == []
