"""The registry of devices: a kind is a file of this package, ``goldfish-rtc`` in ``goldfish_rtc.py``."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module

import vmrun.devices
from vmrun.devices.model import DeviceType
from vmrun.errors import PlanError

_NOT_DEVICES = frozenset({"gic", "model", "primecell", "registers", "registry", "testing", "timer"})
_KIND = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@cache
def kinds() -> tuple[str, ...]:
    """Return every kind, sorted, without importing a device."""
    import pkgutil  # here, since a run from a saved plan never asks

    names = (m.name for m in pkgutil.iter_modules(vmrun.devices.__path__) if m.name not in _NOT_DEVICES and not m.ispkg)
    return tuple(sorted(name.replace("_", "-") for name in names))


def load(kind: str) -> DeviceType:
    """Return the device of ``kind``, importing its file alone. Raise PlanError E160 where there is none."""
    name = f"vmrun.devices.{kind.replace('-', '_')}"
    if _KIND.fullmatch(kind) and kind not in _NOT_DEVICES:
        try:
            found = getattr(import_module(name), "DEVICE", None)  # the folder of the C files has none
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            found = None
        if isinstance(found, DeviceType):
            return found
    raise PlanError(f"no device is called `{kind}`", code="E160", remedy=f"the kinds are {', '.join(kinds())}")
