"""Looks at this host's KVM by trying it, not by names. The micro-guest's result is kept until the next boot.

One that may be the doing of a busy host is kept for some minutes alone.
"""

from __future__ import annotations

import json
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmrun.errors import HostError, VmrunError
from vmrun.images.cache import cache_root
from vmrun.kvm.arch import part
from vmrun.kvm.host import DEVICE, Kvm
from vmrun.kvm.outcome import MicroGuest, Standing, Try

_FORMAT = 2
_DOUBTFUL_S = 300
"""How long a result is kept that another look might not find."""
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def look(path: str = DEVICE, *, fresh: bool = False) -> Standing:
    """Return what KVM can do here: opened and asked each time; the micro-guest runs once a boot, or if ``fresh``,
    or where its last result was not `MicroGuest.lasting` and is old.
    """
    arch = platform.machine()
    try:
        with Kvm(path) as kvm:
            answers = tuple(kvm.capabilities.items())
            try:
                kvm.require()
                return Standing(arch, None, answers, _guest(kvm, fresh=fresh))
            except HostError as error:
                return Standing(arch, error, answers)
    except HostError as error:
        return Standing(arch, error)


def _guest(kvm: Kvm, *, fresh: bool) -> MicroGuest:
    file, key = _cache(kvm)
    found = None if fresh or file is None else _remembered(file, key)
    if found is None:
        found = part("microguest").run(kvm)
        if file is not None:
            _remember(file, key, found)
    return found


# ---- the cache -------------------------------------------------------------------------------------------------------


def _cache(kvm: Kvm) -> tuple[Path | None, dict[str, Any]]:
    """Return the cache's file, and what must be the same for it to hold."""
    try:
        file: Path | None = cache_root() / "kvm-probe.json"
        boot = _BOOT_ID.read_text("ascii").strip()
    except (VmrunError, OSError):
        return None, {}
    modules = sorted(path.name for path in Path("/sys/module").glob("kvm*"))
    return file, {"format": _FORMAT, "boot": boot, "modules": modules, "capabilities": list(kvm.capabilities.values())}


def _uptime_s() -> float:
    """Return the seconds since the boot that the key names, time asleep among them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _remembered(file: Path, key: dict[str, Any]) -> MicroGuest | None:
    """Return what ``file`` holds for ``key``; None where it holds something else, or nonsense."""
    try:
        kept = json.loads(file.read_text("utf-8"))
        if kept["key"] != key:
            return None
        tries = tuple(Try(str(n), None if w is None else bool(w), str(p), str(y)) for n, w, p, y in kept["tries"])
        found = MicroGuest(int(kept["speed"]), tries, int(kept["pace"]))
        return found if found.lasting or 0 <= _uptime_s() - float(kept["at"]) < _DOUBTFUL_S else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(file: Path, key: dict[str, Any], guest: MicroGuest) -> None:
    """Keep the result; without a place for it the next look tries again."""
    tries = [(one.name, one.works, one.purpose, one.why) for one in guest.tries]
    found = {"speed": guest.speed, "pace": guest.pace, "tries": tries}
    text = json.dumps({"key": key, "at": _uptime_s(), **found})
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(text, "utf-8")
        draft.replace(file)
