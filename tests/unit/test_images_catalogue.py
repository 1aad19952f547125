"""Every code that the artefacts raise is explained, and no explanation is left over."""

from __future__ import annotations

import re
from pathlib import Path

import tomli

import vmrun

ROOT = Path(vmrun.__file__).parent


def test_codes_and_catalogue_agree() -> None:
    files = [*(ROOT / "images").glob("*.py"), ROOT / "planning" / "artifacts.py"]
    raised = {code for file in files for code in re.findall(r'code="(E2\d\d)"', file.read_text())}
    explained = tomli.loads((ROOT / "catalogue" / "artifacts.toml").read_text())
    assert raised == set(explained)
    assert all(entry["title"] and entry["text"].strip() for entry in explained.values())
