"""What `vmrun check` finds by opening what a manifest names: its plan, its disks, its kernel's drivers.

It goes the way of every plan (`vmrun.planning.steps`), offline and for any host, and collects: what is not in the cache
yet is taken for right. The kernel's configuration is a look of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.errors import Diagnostic
from vmrun.planning import steps
from vmrun.planning.how import How

if TYPE_CHECKING:
    from vmrun.plan.model import DevicePlan, MachinePlan
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Manifest


def findings(loaded: LoadedManifest, artifacts: bool = True) -> list[Diagnostic]:
    """Return what is wrong with the machine of a valid manifest; without ``artifacts`` no file is opened."""
    how = How(artifacts=artifacts, offline=True, stand_in=True, anywhere=True, collect=True)
    made = steps.make(loaded, how)
    kernel = made.artifacts.kernel if made.artifacts is not None else None
    if made.plan is None or kernel is None or kernel.config is None:
        return list(made.findings)
    return [*made.findings, *_drivers(loaded.manifest, made.plan, kernel.config.path)]


def _drivers(manifest: Manifest, plan: MachinePlan, config: Path) -> Iterator[Diagnostic]:
    """Yield what the kernel's configuration lacks for the devices that the manifest names."""
    from vmrun.boards.linux import setting, symbols
    from vmrun.devices import registry as devices

    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    blobs = [blob.name for blob in plan.blobs]
    for device in plan.devices:
        key = _named(manifest, device)
        if key is None:
            continue
        for kind in filter(None, (device.transport, device.kind)):
            driver = devices.load(kind).driver
            module = driver.module if driver is not None else None
            for symbol in symbols(kind, blobs):
                finding = _driver(manifest, device, module, symbol, setting(text, symbol))
                if finding is not None:
                    yield Diagnostic(*finding[:2], key, label=finding[2], help=finding[3], severity=finding[4])


def _named(manifest: Manifest, device: DevicePlan) -> tuple[str, ...] | None:
    """Return the table of the manifest that asks for the device, None for what the board has anyway."""
    from vmrun.boards.consoles import UART_ID

    table, _, name = device.id.partition(".")
    if name:
        return (table, name)
    if device.id == UART_ID:
        return next((("console", n) for n, c in manifest.console.items() if c.device == "serial"), None)
    return None


def _driver(
    manifest: Manifest, device: DevicePlan, module: str | None, symbol: str, value: str | None
) -> tuple[str, str, str, str, str] | None:
    """Return code, message, label, help and severity where the kernel does not drive the device by itself."""
    if value == "y":
        return None
    if value == "m" and module is not None:
        initrd = manifest.boot.initrd
        if initrd is not None and initrd.busybox:
            return None  # the built initramfs loads what the devices need
        return (
            "E151",
            f"the kernel drives `{device.id}` by the module {module}, which the initrd has to load",
            f"{symbol}=m",
            "build the initrd: write initrd = { busybox = true } in [boot]",
            "warning",
        )
    return (
        "E150",
        f"the kernel has no driver for `{device.id}`: {symbol} is not set in its configuration",
        f"needs {symbol}",
        "choose another device or another kernel",
        "error",
    )
