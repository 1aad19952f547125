"""The registry of boards: a file of this package that ends in ``BOARD``; and all names that a manifest may use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from vmrun.boards.limits import LIMITS, limits_of
from vmrun.devices import registry as devices
from vmrun.engine.table import CARRIED

if TYPE_CHECKING:
    from vmrun.boards.board import Board
    from vmrun.schema.known import KindInfo, Known

NAMES = tuple(LIMITS)


def load(name: str) -> Board:
    """Return the board called ``name``. Raise PlanError E130 where there is none."""
    limits_of(name)
    board: Board = import_module(f"vmrun.boards.{name}").BOARD
    return board


class _Kinds(Mapping[str, "KindInfo"]):
    """The device kinds that a manifest may name. One that is asked for is imported, and all that are listed."""

    def __getitem__(self, kind: str) -> KindInfo:
        from vmrun.schema.known import KindInfo

        found = devices.load(kind) if kind in devices.kinds() else None
        if found is None or found.owner != "manifest":
            raise KeyError(kind)
        return KindInfo(found.doc, found.properties)

    def __iter__(self) -> Iterator[str]:
        return (kind for kind in devices.kinds() if devices.load(kind).owner == "manifest")

    def __len__(self) -> int:
        return sum(1 for _ in self)


def known() -> Known:
    """Return every name that a manifest may use, for the schema."""
    from vmrun.schema.known import Known

    return Known(NAMES, _Kinds(), CARRIED)
