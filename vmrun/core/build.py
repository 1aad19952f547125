"""Builds ``vmrun._core``: every C file of the package, behind its ``*_api.h`` headers (cffi, API mode, abi3).

setuptools calls :data:`ffibuilder` through ``cffi_modules``; ``python -m vmrun.core.build`` is not a way to build.
"""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
_ARCH = sysconfig.get_platform().rpartition("-")[2]
"""The host architecture that is built for; _PYTHON_HOST_PLATFORM sets it where that is another machine."""
_KVM = Path("vmrun/kvm/core")
_JIT = Path("vmrun/rv64/core/jit")
_NO_JIT = Path("vmrun/rv64/core/jit_none")
"""What takes the translator's place on hosts for which it has no folder."""
_DROPPED = re.compile(r"^\s*#\s*(include\b.*|ifndef\b.*|endif\b.*|define\s+\w+\s*(/\*.*)?)$")
DIALECT = ("-std=gnu11", "-fms-extensions", "-Wno-microsoft-anon-tag", "-pthread", "-ffp-contract=off")
"""What the C is written in: a struct may have another's members (rv64/core/hart.h)."""
_FLAGS = [
    *(*DIALECT, "-O2", "-foptimize-sibling-calls", "-fno-strict-aliasing"),
    *("-Wall", "-Wextra", "-fvisibility=hidden"),
]


CALLED_BACK = ("vmr_python_expired",)
"""Functions of Python that C calls with one pointer: a timer of a device that Python serves."""


def folders() -> list[str]:
    """Return every folder with C in it, relative to the project's root, the core first.

    Those of KVM and of the translator are left out for every architecture but the host's, and wholly where the host's
    has none.
    """
    found = {header.relative_to(ROOT).parent for header in (ROOT / "vmrun").glob("**/*.[ch]")}
    for room in (_KVM, _JIT):
        found -= {folder for folder in found if folder.parent == room and folder.name != _ARCH}
        if room / _ARCH not in found:
            found.discard(room)
    if _JIT in found:
        found.remove(_NO_JIT)
    return [str(folder) for folder in sorted(found, key=lambda folder: (folder != Path("vmrun/core"), folder))]


_FOLDERS = folders()


def api_headers() -> list[Path]:
    """Return every header that Python reads, each after those that it uses: core_api.h, the core's others, the rest."""
    found = [h for folder in _FOLDERS for h in sorted((ROOT / folder).glob("*_api.h"))]
    return sorted(found, key=order)


def order(header: Path) -> tuple[bool, bool, str]:
    """Return the key that sorts headers so that each stands after those that it uses."""
    return header.parent != ROOT / "vmrun/core", header.name != "core_api.h", header.name


def declarations(header: Path) -> str:
    """Return ``header`` as cffi's cdef takes it: without includes and guards."""
    lines = header.read_text(encoding="utf-8").splitlines()
    return "\n".join("" if _DROPPED.match(line) else line for line in lines) + "\n"


def sources() -> list[str]:
    """Return every C file of the package, relative to the project's root (setuptools wants it so)."""
    return [str(c.relative_to(ROOT)) for folder in _FOLDERS for c in sorted((ROOT / folder).glob("*.c"))]


def make_ffi() -> FFI:
    """Return the cffi builder of ``vmrun._core``. ``VMRUN_CFLAGS`` (words) is appended: sanitizers, coverage, -O0."""
    ffi = FFI()
    headers = api_headers()
    for header in headers:
        ffi.cdef(declarations(header))
    for name in CALLED_BACK:
        ffi.cdef(f'extern "Python" void {name}(void *opaque);')
    extra = os.environ.get("VMRUN_CFLAGS", "").split()
    ffi.set_source(
        "vmrun._core",
        "\n".join(f'#include "{header.name}"' for header in headers),
        sources=sources(),
        include_dirs=[str(Path(folder)) for folder in _FOLDERS],
        depends=[str(h.relative_to(ROOT)) for folder in _FOLDERS for h in sorted((ROOT / folder).glob("*.h"))],
        extra_compile_args=[*_FLAGS, *extra],
        extra_link_args=["-pthread", *extra],
        libraries=[],
    )
    return ffi


ffibuilder = make_ffi()
