"""The registry of boards: a file of this package that ends in ``BOARD``; and all names that a manifest may use."""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.boards.limits import LIMITS, limits_of

if TYPE_CHECKING:
    from vmrun.boards.board import Board
    from vmrun.schema.known import Known

NAMES = tuple(LIMITS)
ENGINES = ("soft", "kvm")
"""Engines that this release has."""
_OWN_TABLES = ("virtio-blk", "virtio-console")
"""Kinds that a manifest writes as tables of their own, [disk] and [console], rather than as [device]."""
_OWN_TRANSPORTS = ("virtio-mmio",)
_BOARDS_OWN = (
    "acpi-power",
    "aplic",
    "gicv2",
    "gicv2-cpu",
    "gicv3",
    "gicv3-its",
    "gicv3-redist",
    "i8042",
    "i8254",
    "imsic",
    "ioapic",
    "lapic",
    "pl011",
    "pl031",
    "pl061",
    "plic",
    "sifive-test",
    "uart16550",
)
"""Kinds that a board has or has not: a manifest can say nothing of them."""


def load(name: str) -> Board:
    """Return the board called ``name``. Raise PlanError E130 where there is none."""
    limits_of(name)
    board: Board = import_module(f"vmrun.boards.{name}").BOARD
    return board


def known() -> Known:
    """Return every name that a manifest may use, for the schema."""
    from vmrun.devices import registry
    from vmrun.schema.known import KindInfo, Known

    hidden = {*_OWN_TABLES, *_OWN_TRANSPORTS, *_BOARDS_OWN}
    types = [registry.load(kind) for kind in registry.kinds() if kind not in hidden]
    kinds = {device.kind: KindInfo(device.doc, device.properties) for device in types}
    return Known(NAMES, MappingProxyType(kinds), ENGINES)
