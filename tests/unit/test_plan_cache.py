"""The plan cache: it finds what was planned, without pydantic, and never anything stale."""

from __future__ import annotations

import ast
import gzip
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import x86_kit
from plan_kit import BASE, image, write

from vmrun.errors import ManifestError, PlanError, VmrunError
from vmrun.frozen import evolve
from vmrun.images.store import Store
from vmrun.plan import codec
from vmrun.plan.model import MachinePlan
from vmrun.planning import cache as plancache
from vmrun.planning import steps
from vmrun.planning.cache import LookedAt
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest

TEXT = (
    BASE.replace("[machine]", 'extends = ["base.toml"]\n[vars]\nword = "${env:VMRUN_TEST_WORD:-none}"\n[machine]')
    + 'initrd = { path = "initrd" }\ncmdline = ["word=${word}"]\n[disk.root]\npath = "disk.img"\n'
)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of manifests that were planned afresh."""
    fresh_ones: list[str] = []
    real = steps.make
    monkeypatch.setattr(steps, "make", lambda loaded, how: (fresh_ones.append(str(loaded.path)), real(loaded, how))[1])
    return fresh_ones


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VMRUN_TEST_WORD", raising=False)
    monkeypatch.setattr(plancache, "SETTLE_NS", 0)
    folder = tmp_path / "machine"
    folder.mkdir()
    (folder / "base.toml").write_text("manifest = 1\n[cpu]\ncount = 2\n")
    (folder / "initrd").write_bytes(b"070701")
    (folder / "disk.img").write_bytes(bytes(1024))
    return write(folder, TEXT)


def test_the_second_time_the_plan_is_found(machine: Path, made: list[str]) -> None:
    first = plan_manifest(machine)
    assert plan_manifest(machine) == first
    assert made == [str(machine)]


def test_more_ram_than_this_host_has_is_found_in_the_plan(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1 << 14, "SC_PAGE_SIZE": 4096}.__getitem__)
    with pytest.raises(ManifestError) as caught:
        plan_manifest(machine)
    (finding,) = caught.value.findings
    assert finding.code == "E109" and finding.span is not None
    assert "this host has 64 MiB" in finding.message
    assert plan_manifest(machine, How(anywhere=True)).ram[0].size > 64 << 20


def _later(path: Path, data: bytes) -> None:
    path.write_bytes(data)


CHANGES: dict[str, Callable[[Path], object]] = {
    "manifest": lambda m: m.write_text(TEXT.replace("128MiB", "129MiB")),
    "manifest, same size": lambda m: m.write_text(TEXT.replace("128MiB", "256MiB")),
    "manifest touched": lambda m: os.utime(m, (1, 1)),
    "manifest replaced": lambda m: (m.with_name("n").write_text(TEXT), m.with_name("n").replace(m)),
    "base": lambda m: (m.parent / "base.toml").write_text("manifest = 1\n[cpu]\ncount = 1\n"),
    "kernel": lambda m: (m.parent / "kernel").write_bytes(image(8192, 2 << 20)),
    "initrd": lambda m: (m.parent / "initrd").write_bytes(b"070701 longer"),
    "disk size": lambda m: (m.parent / "disk.img").write_bytes(bytes(2048)),
    "lock": lambda m: (m.parent / "vmrun.lock").write_text("version = 1\n"),
    "environment": lambda m: os.environ.update(VMRUN_TEST_WORD="changed"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_anything_makes_the_plan_anew(what: str, machine: Path, made: list[str]) -> None:
    plan_manifest(machine)
    try:
        CHANGES[what](machine)
        plan_manifest(machine)
    finally:
        os.environ.pop("VMRUN_TEST_WORD", None)
    assert len(made) == 2


@pytest.mark.parametrize("name", ["manifest", "kernel", "disk.img"])
def test_what_is_gone_is_missed(name: str, machine: Path, made: list[str]) -> None:
    plan_manifest(machine)
    (machine if name == "manifest" else machine.parent / name).unlink()
    with pytest.raises(VmrunError):
        plan_manifest(machine)


@pytest.mark.parametrize(
    "arguments",
    [{"sets": ("cpu.count=1",)}, {"accel": "soft"}, {"artifacts": False}, {"refresh": True}, {"anywhere": True}],
)
def test_other_arguments_are_another_plan(arguments: dict[str, object], machine: Path, made: list[str]) -> None:
    plan_manifest(machine)
    plan_manifest(machine, How(**arguments))  # type: ignore[arg-type]
    assert len(made) == 2


def test_a_plan_is_made_anew_where_that_is_asked_for(machine: Path, made: list[str]) -> None:
    plan_manifest(machine)
    plan_manifest(machine, cached=False)
    assert len(made) == 2


def test_what_the_guest_writes_to_a_disk_changes_no_plan(machine: Path, made: list[str]) -> None:
    plan_manifest(machine)
    (machine.parent / "disk.img").write_bytes(b"x" * 1024)
    plan_manifest(machine)
    assert len(made) == 1


def test_a_new_vmrun_makes_the_plan_anew(machine: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plan_manifest(machine)
    monkeypatch.setattr(plancache, "__version__", "999")
    plan_manifest(machine)
    assert len(made) == 2


def test_changed_code_makes_the_plan_anew(machine: Path, made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code = machine.parent / "code"
    code.mkdir()
    (code / "a.py").write_text("a")
    monkeypatch.setattr(plancache, "_PACKAGE", code)
    plan_manifest(machine)
    (code / "a.py").write_text("bb")
    plan_manifest(machine)
    assert len(made) == 2


def test_files_that_may_still_change_are_not_trusted(
    machine: Path, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plancache, "SETTLE_NS", 10**12)
    plan_manifest(machine)
    plan_manifest(machine)
    assert len(made) == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 1}', b"\xff", b"null"])
def test_a_damaged_entry_is_not_used(damage: bytes, machine: Path, made: list[str], tmp_path: Path) -> None:
    first = plan_manifest(machine)
    for entry in (tmp_path / "cache/vmrun/plans").iterdir():
        entry.write_bytes(damage)
    assert plan_manifest(machine) == first
    assert len(made) == 2


def test_entries_that_meet_in_one_file_are_told_apart(
    machine: Path, made: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(plancache, "_path", lambda key: tmp_path / "cache/one.json")
    one = plan_manifest(machine)
    other = plan_manifest(machine, How(sets=("cpu.count=1",)))
    assert (one.cpu.count, other.cpu.count) == (2, 1)


def test_a_cache_that_cannot_be_written_is_no_error(machine: Path, made: list[str], tmp_path: Path) -> None:
    cache = tmp_path / "cache/vmrun"
    cache.mkdir(parents=True)
    (cache / "plans").write_text("a file")
    plan_manifest(machine)
    plan_manifest(machine)
    assert len(made) == 2


def test_old_entries_go(machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(plancache, "KEEP", 2)
    for count in range(1, 6):
        plan_manifest(machine, How(sets=(f"cpu.count={count}",)))
    assert len(list((tmp_path / "cache/vmrun/plans").iterdir())) == 2


def loaded_by(*paths: Path) -> list[str]:
    """Return what one process after another loads to plan each of ``paths``, of what a plan in the cache needs not."""
    time.sleep(0.1)  # what the cache asks of files before it trusts them
    script = (
        "import sys; from vmrun.planning.how import How; from vmrun.planning.planner import plan_manifest;"
        "plan_manifest(sys.argv[1], How(anywhere=True));"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('pydantic', 'rich', 'tomli', 'tree_sitter')"
        " or m.startswith(('vmrun.schema', 'vmrun.devices', 'vmrun.boards', 'vmrun.planning.steps'))))"
    )
    return [
        subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True).stdout
        for path in paths
    ]


def test_a_hit_and_a_saved_plan_load_no_schema(machine: Path, tmp_path: Path) -> None:
    saved = tmp_path / "m.plan.json"
    saved.write_text(codec.to_json(plan_manifest(machine, cached=False)))
    loaded = loaded_by(machine, machine, saved)
    assert "pydantic" in loaded[0]
    assert loaded[1] == "[]\n"
    assert all(name.startswith("vmrun.boards") for name in ast.literal_eval(loaded[2])), "what checks a saved plan"


def unpacked_kernels() -> dict[str, tuple[str, bytes]]:
    """Boards and kernels of which the first plan makes another file, the kernel that is inside."""
    inside = x86_kit.vmlinux()
    packed = gzip.compress(inside) + struct.pack("<I", len(inside))
    return {
        "bzImage": ("microvm", x86_kit.bzimage(payload=packed)),
        "vmlinux": ("microvm", inside),
        "Image": ("riscv_virt", image()),
        "Image.gz": ("riscv_virt", gzip.compress(image())),
    }


@pytest.mark.parametrize("form", unpacked_kernels())
def test_the_first_plan_is_kept_though_it_unpacks_the_kernel(form: str, machine: Path) -> None:
    board, kernel = unpacked_kernels()[form]
    write(machine.parent, TEXT.replace("riscv_virt", board), kernel)
    first, second = loaded_by(machine, machine)
    assert "pydantic" in first
    assert second == "[]\n"


def test_what_this_run_wrote_itself_need_not_settle(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plancache, "SETTLE_NS", 10**12)
    plan = plan_manifest(machine, cached=False)
    store = Store()
    store.write_record("debian/one", {"a": 1})
    (record,) = store.written
    found = LookedAt((record,), (), {}, store.written)
    began_ns = time.time_ns()

    def kept(looked_at: LookedAt) -> bool:
        plancache.keep("key", plan, looked_at, began_ns)
        entry = plancache._path("key")
        there = entry.exists()
        entry.unlink(missing_ok=True)
        return there

    assert kept(found)
    assert not kept(evolve(found, written={})), "another run may have written it"
    assert not kept(evolve(found, lasting=False))
    Store().write_record("debian/one", {"a": 2})
    assert not kept(found), "another run has written it since"


# Saved plans.


@pytest.fixture
def saved(machine: Path, tmp_path: Path) -> Path:
    path = tmp_path / "m.plan.json"
    path.write_text(codec.to_json(plan_manifest(machine)))
    return path


def test_a_saved_plan_is_the_plan(saved: Path, machine: Path) -> None:
    assert plan_manifest(saved) == plan_manifest(machine)


@pytest.mark.parametrize("given", [{"sets": ("a=1",)}, {"profile": "x"}, {"accel": "soft"}, {"command": ("true",)}])
def test_a_saved_plan_takes_no_changes(given: dict[str, object], saved: Path) -> None:
    with pytest.raises(PlanError) as caught:
        plan_manifest(saved, How(**given))  # type: ignore[arg-type]
    assert caught.value.code == "E174"


@pytest.mark.parametrize(("key", "value", "code"), [("board", "q35", "E130"), ("cmdline", "x" * 2000, "E107")])
def test_a_saved_plan_is_checked(key: str, value: str, code: str, saved: Path) -> None:
    saved.write_text(json.dumps({**json.loads(saved.read_text()), key: value}))
    with pytest.raises(PlanError) as caught:
        plan_manifest(saved)
    assert caught.value.code == code


# Making plans.


def make(folder: Path, text: str, kernel: bytes | None = None) -> MachinePlan:
    return plan_manifest(write(folder, text, kernel), cached=False)


def test_errors_of_the_board_stand_in_the_manifest(machine: Path) -> None:
    machine.write_text(TEXT + "[cpu]\ncount = 9\n")
    with pytest.raises(ManifestError) as caught:
        plan_manifest(machine)
    (finding,) = caught.value.findings
    assert finding.code == "E106"
    assert finding.span is not None and finding.span.file == str(machine)


def test_a_missing_kernel_stands_in_the_manifest(machine: Path) -> None:
    (machine.parent / "kernel").unlink()
    with pytest.raises(VmrunError) as caught:
        plan_manifest(machine)
    (finding,) = caught.value.diagnostics()
    assert finding.code == "E201"
    assert finding.span is not None and finding.span.line == TEXT[: TEXT.index("kernel =")].count("\n") + 1


def test_a_command_needs_the_built_initramfs(machine: Path) -> None:
    with pytest.raises(ManifestError) as caught:
        plan_manifest(machine, How(command=("true",)))
    assert caught.value.code == "E175"


def test_stand_ins_take_the_place_of_artefacts(machine: Path) -> None:
    for name in ("kernel", "initrd"):
        (machine.parent / name).unlink()
    plan = plan_manifest(machine, How(artifacts=False))
    assert plan.assumed == ("kernel", "initrd")
    assert all(plan.blob(name) is not None for name in ("kernel", "initrd", "fdt"))


@pytest.mark.parametrize("pack", ["gzip", "xz"])
def test_a_compressed_kernel_is_unpacked_once(pack: str, machine: Path, tmp_path: Path) -> None:
    import lzma

    data = image()
    if pack == "gzip":
        stored = gzip.compress(data)
    else:
        body = lzma.compress(data)
        stored = struct.pack("<2s2x4sII8x32s", b"MZ", b"zimg", 64, len(body), b"xzkern").ljust(64, b"\0") + body
    (machine.parent / "kernel").write_bytes(stored)
    kernels = [plan_manifest(machine, cached=False).blob("kernel") for _ in range(2)]
    assert kernels[0] == kernels[1]
    assert kernels[0] is not None and kernels[0].path is not None
    assert Path(kernels[0].path).read_bytes() == data


def test_an_elf_has_a_blob_for_each_segment(machine: Path) -> None:
    from test_boot_kernels import elf

    where = 0x8020_0000
    (machine.parent / "kernel").write_bytes(
        elf([(where, where, b"a" * 8, 16), (where + 4096, where, b"b", 9)], entry=where)
    )
    plan = plan_manifest(machine)
    assert [b.name for b in plan.blobs] == ["kernel", "kernel.1", "initrd", "fdt"]
