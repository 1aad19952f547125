"""How Linux drives the devices of a machine: the modules and configuration symbols that their declarations name."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from vmrun.devices import registry as devices

if TYPE_CHECKING:
    from vmrun.plan.model import DevicePlan

_TABLES = {"fdt": "fdt", "rsdp": "acpi", "mp-table": "mptable"}
"""The first of these blobs that a plan has is what the kernel finds devices by."""


def modules(placed: Iterable[DevicePlan]) -> tuple[str, ...]:
    """Return the modules that drive ``placed`` devices, transports first, then in order; each once."""
    found = list(placed)
    kinds = [*(device.transport for device in found if device.transport), *(device.kind for device in found)]
    drivers = (devices.load(kind).driver for kind in dict.fromkeys(kinds))
    return tuple(dict.fromkeys(driver.module for driver in drivers if driver is not None and driver.module))


def symbols(kind: str, blobs: Collection[str]) -> tuple[str, ...]:
    """Return what a kernel that is handed ``blobs`` must have set to drive a device, or a transport, of ``kind``."""
    driver = devices.load(kind).driver
    if driver is None:
        return ()
    tables = next((_TABLES[name] for name in _TABLES if name in blobs), "")
    return driver.symbols + driver.found_by.get(tables, ())


def setting(config: str, symbol: str) -> str | None:
    """Return the value of ``symbol`` in the text of a kernel's configuration file, None where it is not set."""
    _, found, rest = f"\n{config}".partition(f"\n{symbol}=")
    return rest.partition("\n")[0] if found else None
