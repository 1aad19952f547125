"""The types that mypy has of the C core are those of its headers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import vmrun._core as core
from patience import patience

ROOT = Path(__file__).resolve().parents[2]


def test_the_stubs_are_what_the_headers_make_of_them() -> None:
    pytest.importorskip("pycparser")
    done = subprocess.run([sys.executable, ROOT / "tools" / "stubs", "--check"], timeout=patience(60), check=False)
    assert done.returncode == 0, "vmrun/_core.pyi is old: run tools/stubs"


def test_every_name_of_this_host_s_core_is_in_the_stubs() -> None:
    text = (ROOT / "vmrun" / "_core.pyi").read_text()
    names = [name for name in dir(core.lib) if name.lower().startswith("vmr_")]
    assert len(names) > 100
    assert [name for name in names if f" {name}:" not in text and f" {name}(" not in text] == []
