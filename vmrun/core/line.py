"""Interrupt lines of the C core as Python drives them, and as it hands them to devices that C serves."""

from __future__ import annotations

from typing import Any

from vmrun._core import ffi, lib


class CoreLine:
    """A line to a pin of a controller, or an input of a vCPU. ``c`` is its ``vmr_line``, good while its machine is."""

    def __init__(self, c: Any) -> None:
        self.c = c

    def raise_(self) -> None:
        """Set the level high. Any thread."""
        lib.vmr_line_raise(self.c)

    def lower(self) -> None:
        """Set the level low. Any thread."""
        lib.vmr_line_lower(self.c)

    def pulse(self) -> None:
        """Let it rise and fall: an edge. Any thread."""
        lib.vmr_line_pulse(self.c)


def nowhere() -> Any:
    """Return a ``vmr_line`` that leads nowhere."""
    return ffi.new("vmr_line *")[0]


def array(lines: list[CoreLine]) -> Any:
    """Return ``lines`` as a ``vmr_line[]``."""
    return ffi.new("vmr_line[]", [line.c for line in lines])
