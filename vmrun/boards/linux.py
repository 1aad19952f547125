"""How Linux drives the devices of boards: modules and configuration symbols, by device kind.

Source: Linux 6.12, drivers/virtio/Kconfig, drivers/block/Kconfig, drivers/char/Kconfig, drivers/char/hw_random/Kconfig,
drivers/tty/serial/8250/Kconfig, drivers/tty/serial/Kconfig.
"""

from __future__ import annotations

from collections.abc import Collection

from vmrun.frozen import frozen


@frozen
class Driver:
    """``module`` is the driver's name where it is built as one, ``symbols`` what must be set in the configuration."""

    module: str | None
    symbols: tuple[str, ...]


DRIVERS = {
    "virtio-mmio": Driver("virtio_mmio", ("CONFIG_VIRTIO_MMIO",)),
    "virtio-blk": Driver("virtio_blk", ("CONFIG_VIRTIO_BLK",)),
    "virtio-console": Driver("virtio_console", ("CONFIG_VIRTIO_CONSOLE",)),
    "virtio-rng": Driver("virtio_rng", ("CONFIG_HW_RANDOM_VIRTIO",)),
    "uart16550": Driver(None, ("CONFIG_SERIAL_8250_CONSOLE",)),
    "pl011": Driver(None, ("CONFIG_SERIAL_AMBA_PL011_CONSOLE",)),
}

FOUND_BY = {
    "fdt": {"uart16550": ("CONFIG_SERIAL_OF_PLATFORM",)},
    "rsdp": {"virtio-mmio": ("CONFIG_ACPI",)},
    "mp-table": {"virtio-mmio": ("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES",)},
}
"""The first of these blobs that a plan has is what the kernel finds devices by: what it needs for that, by kind."""


def symbols(kind: str, blobs: Collection[str]) -> tuple[str, ...]:
    """Return what a kernel that is handed ``blobs`` must have set to drive a device, or a transport, of ``kind``."""
    tables = next((FOUND_BY[name] for name in FOUND_BY if name in blobs), {})
    driver = DRIVERS.get(kind)
    return (driver.symbols if driver else ()) + tables.get(kind, ())


def setting(config: str, symbol: str) -> str | None:
    """Return the value of ``symbol`` in the text of a kernel's configuration file, None where it is not set."""
    _, found, rest = f"\n{config}".partition(f"\n{symbol}=")
    return rest.partition("\n")[0] if found else None
