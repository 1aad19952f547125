"""This checkout as L1 sees it: vmrun with a C core for its architecture, tests, bytecode, and the run's steps."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lab_rootfs import Builder, digest, squash
from lab_table import Host

ROOT = Path(__file__).resolve().parents[2]
_PARTS = ("vmrun", "tests", "bench", "manifests", "schema", "pyproject.toml")
_NOT_COPIED = shutil.ignore_patterns("__pycache__", "*.so", "_core.c", "*.o", ".vmrun", ".hypothesis", "*.c", "*.h")


@dataclass(frozen=True, slots=True)
class Step:
    """A command that L1 runs, and its limit in seconds."""

    name: str
    argv: tuple[str, ...]
    limit_s: float


def checkout(host: Host, builder: Builder, steps: Sequence[Step], target: Path) -> None:
    """Write the squashfs of this checkout for ``host`` to ``target``."""
    core = build_core(host, builder)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        for name in _PARTS:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, tree / name, ignore=_NOT_COPIED)
            else:
                shutil.copy(source, tree / name)
        shutil.copy(core, tree / "vmrun" / "_core.abi3.so")
        (tree / "lab-steps.json").write_text(json.dumps([asdict(step) for step in steps]))
        (tree / "lab-host").write_text(f"{host.name}\n")
        builder.compile(tree, ("vmrun", "tests/lab"))
        squash(tree, target)


def build_core(host: Host, builder: Builder) -> Path:
    """Return vmrun's C core for ``host``, compiled with its cross compiler unless these sources were before."""
    # The builder of the extension names its sources relative to the project's root, and picks those of one machine.
    os.chdir(ROOT)
    os.environ["_PYTHON_HOST_PLATFORM"] = f"linux-{host.triplet.partition('-')[0]}"
    from vmrun.core.build import make_ffi

    headers = builder.headers(host)
    with tempfile.TemporaryDirectory() as scratch:
        extension = make_ffi().distutils_extension(scratch, verbose=False)
        inputs = [*extension.sources, *extension.depends]
        sums = [hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in inputs]
        mark = digest(*sums, *extension.extra_compile_args, *extension.extra_link_args, host.compiler, headers)
        target = builder.folder / host.debian / f"core-{mark}.so"
        if not target.exists():
            for old in target.parent.glob("core-*.so"):
                old.unlink()
            folders = [*extension.include_dirs, str(headers / "python3.13"), str(headers)]
            command: list[str] = [
                *(host.compiler, "-shared", "-fPIC", "-g", *extension.extra_compile_args),
                *(f"-I{folder}" for folder in folders),
                *(*map(str, extension.sources), *extension.extra_link_args, "-o", f"{target}.part"),
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"lab: {host.compiler} failed for {host.name}:\n{done.stderr}")
            Path(f"{target}.part").rename(target)
    return target
