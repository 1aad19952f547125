"""Golden plans, devicetrees and ACPI tables of every example manifest: a change of a guest's hardware shows in review.

VMRUN_UPDATE_GOLDENS=1 writes them anew.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import dtschema
import pytest

from patience import patience
from vmrun.plan import codec, view
from vmrun.plan.model import MachinePlan
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest
from vmrun.tables import acpi
from vmrun.tables.fdt import decode, encode
from vmrun.tables.fdt_refs import with_references

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = Path(__file__).parent / "plans"
MANIFESTS = sorted(ROOT.glob("manifests/*.toml"))
UPDATE = os.environ.get("VMRUN_UPDATE_GOLDENS") == "1"

ALLOWED = {
    r"/: failed to match any schema with compatible: \['riscv-virtio'\]": (
        "the name of QEMU's machine, which guests and boot loaders look for; the kernel has no binding of it"
    ),
    r"/soc/test@100000: failed to match any schema with compatible: \['sifive,test1', 'sifive,test0', 'syscon'\]": (
        "QEMU's device; the kernel drives it through the syscon bindings and has none of its own"
    ),
    r"(cpu@\d \(riscv\): interrupt-controller|interrupt-controller \(riscv,cpu-intc\)|gpio@\w+ \(arm,pl061\)): "
    r"'#address-cells' does not match any of the regexes: .*": (
        "dtc before 1.7 (Debian 12) warns of an interrupt controller without it, and no reader minds it"
    ),
}


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def manifest(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def plan(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> MachinePlan:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    return plan_manifest(manifest, How(artifacts=False, anywhere=True))


@pytest.fixture
def with_fdt(plan: MachinePlan) -> MachinePlan:
    if plan.blob("fdt") is None:
        pytest.skip("this board describes itself by ACPI")
    return plan


@pytest.fixture
def with_acpi(plan: MachinePlan) -> MachinePlan:
    if plan.blob("rsdp") is None:
        pytest.skip("this board describes itself by a devicetree")
    return plan


def compare(path: Path, now: bytes) -> None:
    if UPDATE:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(now)
    assert path.exists(), f"no golden {path.name}: VMRUN_UPDATE_GOLDENS=1 writes it"
    assert path.read_bytes().decode("utf-8", "replace") == now.decode("utf-8", "replace"), (
        f"{path.name} differs: look at the change, then VMRUN_UPDATE_GOLDENS=1"
    )


def test_there_are_example_manifests() -> None:
    assert MANIFESTS


def test_the_plan_is_the_golden_one(manifest: Path, plan: MachinePlan) -> None:
    compare(GOLDENS / f"{manifest.stem}.json", codec.to_json(plan).replace(str(ROOT), "/vmrun").encode())


def test_the_devicetree_is_the_golden_one(manifest: Path, with_fdt: MachinePlan) -> None:
    compare(GOLDENS / f"{manifest.stem}.dts", view.dts(with_fdt).encode())
    compare(GOLDENS / f"{manifest.stem}.dtb", view.dtb(with_fdt))


def test_the_acpi_tables_are_the_golden_ones(manifest: Path, with_acpi: MachinePlan) -> None:
    compare(GOLDENS / f"{manifest.stem}.acpi", acpi.dump(view.acpi(with_acpi)).encode())


def test_no_golden_is_left_of_a_manifest_that_is_gone() -> None:
    assert {path.stem for path in GOLDENS.iterdir()} == {path.stem for path in MANIFESTS}


def test_a_saved_plan_reads_back_equal(plan: MachinePlan) -> None:
    assert codec.from_json(codec.to_json(plan)) == plan


def test_source_and_blob_are_one_tree(with_fdt: MachinePlan) -> None:
    data = view.dtb(with_fdt)
    assert encode(decode(data)) == data
    assert encode(with_references(decode(data))) == data


def test_dtc_prints_no_warning(with_fdt: MachinePlan) -> None:
    tool = shutil.which("dtc")
    if tool is None:
        pytest.skip("needs dtc (package device-tree-compiler)")
    for form, source in (("dtb", view.dtb(with_fdt)), ("dts", view.dts(with_fdt).encode())):
        to = {"dtb": "dts", "dts": "dtb"}[form]
        done = subprocess.run(
            [tool, "-I", form, "-O", to, "-"], input=source, capture_output=True, timeout=patience(30)
        )
        assert (done.returncode, done.stderr.decode()) == (0, "")


def test_libfdt_accepts_the_blob(with_fdt: MachinePlan) -> None:
    libfdt = pytest.importorskip("libfdt", reason="needs pylibfdt")
    fdt = libfdt.FdtRo(view.dtb(with_fdt))
    assert fdt.getprop(fdt.path_offset("/chosen"), "bootargs").as_str() == with_fdt.cmdline
    seen = {fdt.get_phandle(fdt.path_offset(path)) for path, _ in decode(view.dtb(with_fdt)).walk()} - {0}
    assert seen == set(range(1, len(seen) + 1)), "each phandle once"


@pytest.mark.slow
@pytest.mark.network
def test_dt_validate_has_nothing_to_say(with_fdt: MachinePlan, tmp_path: Path) -> None:
    try:
        schema = dtschema.schema()
    except dtschema.UnavailableError as error:
        pytest.skip(str(error))
    path = tmp_path / "machine.dtb"
    path.write_bytes(view.dtb(with_fdt))
    found = [
        line for line in dtschema.validate(path, schema) if not any(re.fullmatch(allowed, line) for allowed in ALLOWED)
    ]
    assert found == []
