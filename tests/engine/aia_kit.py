"""An APLIC and IMSICs around the harts of a machine, wired as the engine wires them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmrun._core import ffi, lib

APLIC = 0x0D00_0000
IMSIC = 0x2800_0000
S_EXTERNAL = 9


def add_aia(machine: Any, harts: Sequence[Any], sources: int, ids: int, size: int = 0) -> Any:
    """Add both to a ``vmr_machine`` for its ``harts``; return the IMSICs. ``size`` of their window: 0 is as needed.

    Raise RuntimeError where the core refuses.
    """

    def check(code: int) -> None:
        if code:
            raise RuntimeError(ffi.string(lib.vmr_machine_error(machine)).decode())

    count = len(harts)
    outputs, imsic, messages = ffi.new("vmr_line[]", count), ffi.new("vmr_imsic **"), ffi.new("vmr_msi *")
    for index in range(count):
        check(lib.vmr_vcpu_line(machine, index, S_EXTERNAL, outputs + index))
    check(lib.vmr_imsic_new(machine, IMSIC, size or count << 12, count, ids, outputs, imsic))
    for hart in harts:
        check(lib.vmr_rv64_set_imsic(hart, imsic[0]))
    check(lib.vmr_machine_msi(machine, messages))
    check(lib.vmr_aplic_new(machine, APLIC, 0x4000, sources, messages[0], ffi.new("vmr_aplic **")))
    return imsic[0]
