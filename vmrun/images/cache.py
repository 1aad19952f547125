"""Where the cache lies, apart from what is in it: who looks for a plan there needs no more."""

from __future__ import annotations

import os
from pathlib import Path

from vmrun.errors import ArtifactError


def cache_root() -> Path:
    """Return the cache's folder: ``$XDG_CACHE_HOME/vmrun``, or ``~/.cache/vmrun`` (XDG base directory spec 0.8)."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "vmrun"
    except RuntimeError:
        raise ArtifactError(
            "this user has no home folder for the cache", code="E210", remedy="name a folder in XDG_CACHE_HOME"
        ) from None
