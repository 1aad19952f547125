"""Whether the harts that tests make translate: chosen for each test by conftest.py, heeded by the kits."""

from __future__ import annotations

from typing import Any

CODE_BYTES = 4 << 20
_threshold = 0


def missing_translator() -> str:
    """Return why this host cannot translate, or an empty text."""
    from vmrun._core import lib

    code = lib.vmr_rv64_jit_probe()
    return f"needs a host that the translator serves: error {-code}" if code else ""


def choose(threshold: int) -> None:
    """Let harts made from now on translate what ran ``threshold`` times; 0: interpret."""
    global _threshold
    _threshold = threshold


def equip(hart: Any, threshold: int | None = None, code_bytes: int = CODE_BYTES) -> int:
    """Give a new hart the translator, as chosen or as told; return what the core says."""
    from vmrun._core import lib

    return int(lib.vmr_rv64_jit(hart, _threshold if threshold is None else threshold, code_bytes))
