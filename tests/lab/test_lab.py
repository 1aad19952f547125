"""The lab as a test: `pytest -m lab`. VMRUN_LAB_ARCH names the architecture, VMRUN_LAB_RUNS the benchmark's runs."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from lab_host import Unable
from lab_run import lab


@pytest.fixture
def asked_for(request: pytest.FixtureRequest) -> None:
    if "lab" not in request.config.getoption("markexpr").split():
        pytest.skip("the lab takes minutes: `make lab`, or `pytest -m lab`")


@pytest.mark.lab
@pytest.mark.usefixtures("asked_for")
def test_the_lab_is_green(tmp_path: Path) -> None:
    arch = os.environ.get("VMRUN_LAB_ARCH", "x86_64")
    try:
        status = lab(arch, tmp_path, bench_runs=int(os.environ.get("VMRUN_LAB_RUNS", "1")))
    except Unable as why:
        pytest.skip(f"the lab of {arch} cannot run here: {why}")
    assert status == 0, (tmp_path / "console.log").read_bytes()[-4000:].decode(errors="replace")
    suites = list(ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testsuite"))
    assert sum(int(suite.get("tests", 0)) for suite in suites) > 0
    assert json.loads((tmp_path / "boot.json").read_text())["rows"]
