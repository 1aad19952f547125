"""The registry of devices: a kind is a file of a family's folder, ``goldfish-rtc`` in ``rtc/goldfish_rtc.py``.

A file whose name begins with ``_`` is shared by its family and is no device.
"""

from __future__ import annotations

import os
import re
from functools import cache
from importlib import import_module

import vmrun.devices
from vmrun.devices.model import DeviceType
from vmrun.errors import PlanError

_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@cache
def _families() -> tuple[tuple[str, str], ...]:
    """Return each family's name and folder, sorted."""
    folders = (entry for root in vmrun.devices.__path__ for entry in os.scandir(root))
    return tuple(sorted((e.name, e.path) for e in folders if e.is_dir() and not e.name.startswith(("_", "."))))


@cache
def kinds() -> tuple[str, ...]:
    """Return every kind, sorted, without importing a device."""
    names = (entry.name for _, folder in _families() for entry in os.scandir(folder))
    found = (name[:-3].replace("_", "-") for name in names if name.endswith(".py") and not name.startswith("_"))
    return tuple(sorted(found))


def load(kind: str) -> DeviceType:
    """Return the device of ``kind``, importing its file alone. Raise PlanError E160 where there is none."""
    if _KIND.fullmatch(kind):
        file = kind.replace("-", "_")
        for family, folder in _families():
            if os.path.exists(f"{folder}/{file}.py"):  # noqa: PTH110 - a run loads every device, and pathlib is slow
                device: DeviceType = import_module(f"vmrun.devices.{family}.{file}").DEVICE
                return device
    raise PlanError(f"no device is called `{kind}`", code="E160", remedy=f"the kinds are {', '.join(kinds())}")
