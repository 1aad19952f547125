"""Runs of the real `vmrun` on the real Debian kernel. They need a mirror once, then the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from patience import patience

ROOT = Path(__file__).resolve().parents[2]
MICRO = ROOT / "manifests" / "riscv-micro.toml"
TIMEOUT_S = patience(120)

Vmrun = Callable[..., subprocess.CompletedProcess[bytes]]


def vmrun_command(*args: object) -> list[str]:
    return [sys.executable, "-m", "vmrun", *map(str, args)]


def vmrun_env() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "CI": "1"}


@pytest.fixture(scope="session")
def kernel() -> Path:
    """The example manifest, its artefacts fetched; a skip where neither a mirror nor the cache has them."""
    done = subprocess.run(
        vmrun_command("plan", MICRO, "--json"), env=vmrun_env(), capture_output=True, timeout=patience(600)
    )
    if done.returncode:
        pytest.skip(f"Debian's riscv64 kernel cannot be had: {done.stderr.decode().splitlines()[:1]}")
    return MICRO


@pytest.fixture
def vmrun(kernel: Path, tmp_path: Path) -> Vmrun:
    """Call vmrun in an empty folder, with nothing at its standard input."""

    def call(*args: object, **options: object) -> subprocess.CompletedProcess[bytes]:
        given: dict[str, object] = {"cwd": tmp_path, "env": vmrun_env(), "capture_output": True, "timeout": TIMEOUT_S}
        if "input" not in options:
            given["stdin"] = subprocess.DEVNULL
        if "stdout" in options:
            del given["capture_output"]
        return subprocess.run(vmrun_command(*args), **(given | options))  # type: ignore[call-overload,no-any-return]

    return call


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[[str], Path]:
    """Write a manifest that boots Debian's kernel without a command, plus ``more``."""

    def write(more: str) -> Path:
        path = tmp_path / "m.toml"
        path.write_text(
            'manifest = 1\nname = "t"\n[machine]\nboard = "riscv_virt"\n[cpu]\ncount = 1\n[memory]\nsize = "128MiB"\n'
            '[boot]\nkernel = { debian = "linux-image-riscv64", suite = "trixie" }\ninitrd = { busybox = true }\n'
            'cmdline = ["panic=-1", "quiet"]\n[console.main]\ndevice = "virtio"\n' + more
        )
        return path

    return write
