"""A new device is one file (with C, a source and a header beside it): everything else finds it by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rv64asm import Asm

from patience import patience

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(__file__).with_name("samples")
ENTRY = 0x8020_0000
BUS, IRQ = 0x0400_0000, 64
PENDING = 0x0C00_1000 + IRQ // 32 * 4
TEST = 0x0010_0000
GREETING = 77
PAYLOAD = f"""
        li   s0, {BUS}
        lw   t0, 0(s0)
        li   t1, {GREETING}
        bne  t0, t1, bad
        li   s1, {PENDING}
        lw   t0, 0(s1)
        andi t0, t0, {1 << IRQ % 32}
        bnez t0, bad
        sw   t1, 4(s0)
        lw   t0, 0(s1)
        andi t0, t0, {1 << IRQ % 32}
        beqz t0, bad
        li   t0, 0x5555
        j    end
bad:    li   t0, 0x63333
end:    li   s0, {TEST}
        sw   t0, 0(s0)
wait:   j    wait
"""
"""Reads the greeting, rings, sees the interrupt become pending at the PLIC, and powers off; or ends with 6."""
MANIFEST = """
manifest = 1
name = "m"
[machine]
board = "BOARD"
[memory]
size = "64MiB"
[boot]
kernel = { path = "kernel" }
PROTOCOL
[device.mine]
kind = "KIND"
greeting = 77
"""

Vmrun = Callable[..., "subprocess.CompletedProcess[str]"]


def house(folder: Path) -> Path:
    """Return a copy of the package without its builds, with room for one more device."""
    skipped = shutil.ignore_patterns("__pycache__", "*.so", "_core.c", "*.o")
    shutil.copytree(ROOT / "vmrun", folder / "vmrun", ignore=skipped)
    return folder


def python_device(folder: Path) -> tuple[Path, str]:
    """Drop in a device of Python alone; the core that is there serves it."""
    made = house(folder)
    import vmrun._core as core

    shutil.copy(str(core.__file__), made / "vmrun")
    shutil.copy(SAMPLES / "sample_latch.py", made / "vmrun/devices/power")
    return made, "sample-latch"


def c_device(folder: Path) -> tuple[Path, str]:
    """Drop in a device with C, and build the core of that tree."""
    made = house(folder)
    for name in ("sample_bell.py", "sample_bell.c", "sample_bell_api.h"):
        shutil.copy(SAMPLES / name, made / "vmrun/devices/power")
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, made)
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    env = os.environ | {"VMRUN_CFLAGS": "-O1"}
    done = subprocess.run(build, cwd=made, env=env, capture_output=True, text=True, timeout=patience(300))
    assert done.returncode == 0, done.stderr[-2000:]
    return made, "sample-bell"


@pytest.fixture(
    scope="module",
    params=[python_device, pytest.param(c_device, marks=pytest.mark.slow)],
    ids=["python", "c"],
)
def dropped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Vmrun, str]:
    """A way to call vmrun in the tree with the device, and the device's kind."""
    tree, kind = request.param(tmp_path_factory.mktemp("house"))

    def vmrun(*words: str) -> subprocess.CompletedProcess[str]:
        env = os.environ | {"PYTHONPATH": str(tree), "PYTHONSAFEPATH": "1", "NO_COLOR": "1"}
        line = [sys.executable, "-m", "vmrun", *words]
        return subprocess.run(line, cwd=tree, env=env, capture_output=True, text=True, timeout=patience(60))

    return vmrun, kind


def manifest(folder: Path, kind: str, board: str = "riscv_virt", *, change: tuple[str, str] = ("", "")) -> str:
    text = MANIFEST.replace("BOARD", board).replace("KIND", kind)
    text = text.replace("PROTOCOL", 'protocol = "flat"' if board == "riscv_virt" else "")
    path = folder / "m.toml"
    path.write_text(text.replace(*change) if change[0] else text)
    (folder / "kernel").write_bytes(Asm().text(PAYLOAD).assemble(ENTRY))
    return str(path)


def test_the_registries_have_it(dropped: tuple[Vmrun, str]) -> None:
    vmrun, kind = dropped
    listed = vmrun("devices").stdout
    assert f"{kind:<16} a greeting and a bell" in listed and "What it says." in listed
    schema = json.loads(vmrun("schema").stdout)
    assert kind in json.dumps(schema) and "What it says." in json.dumps(schema)


def test_mistakes_are_told_in_its_words(dropped: tuple[Vmrun, str], tmp_path: Path) -> None:
    vmrun, kind = dropped
    near = vmrun("check", "--no-artifacts", manifest(tmp_path, kind, change=(kind, kind.replace("p", "pp"))))
    assert near.returncode == 1 and f"did you mean `{kind}`?" in near.stdout
    wide = vmrun("check", "--no-artifacts", manifest(tmp_path, kind, change=("= 77", "= 1001")))
    assert wide.returncode == 1 and "greeting" in wide.stdout and "1000" in wide.stdout
    other = vmrun("check", "--no-artifacts", manifest(tmp_path, kind, change=("greeting", "greting")))
    assert other.returncode == 1 and "did you mean `greeting`?" in other.stdout


@pytest.mark.parametrize(("board", "number"), [("riscv_virt", IRQ), ("virt", 112)])
def test_plan_and_devicetree_have_it(dropped: tuple[Vmrun, str], board: str, number: int, tmp_path: Path) -> None:
    vmrun, kind = dropped
    path = manifest(tmp_path, kind, board)
    plan = json.loads(vmrun("plan", "--no-artifacts", "--json", path).stdout)
    (device,) = (d for d in plan["devices"] if d["id"] == "device.mine")
    assert device["kind"] == kind and device["interrupt"]["number"] == number
    tree = vmrun("plan", "--no-artifacts", "--dts", path).stdout
    assert f'compatible = "vmrun,{kind}"' in tree


def test_acpi_has_it(dropped: tuple[Vmrun, str], tmp_path: Path) -> None:
    vmrun, kind = dropped
    told = vmrun("plan", "--no-artifacts", "--acpi", str(tmp_path / "acpi"), manifest(tmp_path, kind, "microvm"))
    assert told.returncode == 0, told.stderr
    (dsdt,) = (tmp_path / "acpi").glob("*[dD][sS][dD][tT]*")
    assert b"VMRN000" in dsdt.read_bytes()


def test_a_guest_uses_it(dropped: tuple[Vmrun, str], tmp_path: Path) -> None:
    vmrun, kind = dropped
    done = vmrun("up", "--no-results", manifest(tmp_path, kind))
    assert done.returncode == 0, done.stderr
