"""Regions of guest memory that are more than RAM from start to end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmrun._core import ffi, lib

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_KINDS = {"ram": lib.VMR_REGION_RAM, "rom": lib.VMR_REGION_ROM, "flash": lib.VMR_REGION_FLASH}
_PAGE = 4096
_REMEDY = "end what lies there, or choose another place"


class Region:
    """A region of guest memory. ``CoreMachine.add_region`` makes it; addresses and sizes are bytes.

    Whatever it is told takes effect before the call returns: no vCPU uses what was before.
    """

    def __init__(self, machine: CoreMachine, base: int | None, size: int, kind: str, shared: bool) -> None:
        self._machine = machine
        self.size = size
        out = ffi.new("vmr_region **")
        at = lib.VMR_NOWHERE if base is None else base
        code = lib.vmr_region_add(machine.handle, at, size, _KINDS[kind], shared, out)
        machine.check(code, "memory", error="E351")
        self._handle: Any = out[0]

    def _check(self, code: int) -> None:
        self._machine.check(code, "memory", error="E356", remedy=_REMEDY)

    def move(self, base: int | None) -> None:
        """Put the region at ``base``, None: nowhere; its bytes stay. Raise HostError E356 where other memory is."""
        self._check(lib.vmr_region_move(self._handle, lib.VMR_NOWHERE if base is None else base))

    def trap(self, reads: bool) -> None:
        """Have a flash's reads leave to the bus as its writes do, or find memory again."""
        self._check(lib.vmr_region_trap(self._handle, reads))

    def remove(self) -> None:
        """Take the region away and free its memory, once no thread uses it: requests in flight are waited for."""
        self._check(lib.vmr_region_remove(self._handle))

    def fd(self) -> int | None:
        """Return the descriptor of shared memory, None for private. It lives as long as the region."""
        fd = int(lib.vmr_region_fd(self._handle))
        return None if fd < 0 else fd

    def read(self, offset: int, size: int) -> bytes:
        """Return ``size`` bytes, wherever the region is. Raise HostError where they are not all inside."""
        data = ffi.new("char[]", max(size, 1))
        self._check(lib.vmr_region_read(self._handle, offset, data, size))
        return bytes(ffi.buffer(data, size))

    def write(self, offset: int, data: bytes) -> None:
        """Copy ``data`` to ``offset``, wherever the region is. Raise HostError where that is not all inside."""
        self._check(lib.vmr_region_write(self._handle, offset, data, len(data)))

    # ---- the dirty log -----------------------------------------------------------------------------------------------

    def start_log(self) -> None:
        """Begin to note which pages are written. Raise HostError E356 where that is done already."""
        self._check(lib.vmr_dirty_start(self._handle))

    def stop_log(self) -> None:
        """End it."""
        self._check(lib.vmr_dirty_stop(self._handle))

    def take_log(self) -> list[int]:
        """Return the pages (of 4096 bytes, from 0) written since the last call, and forget them. Raise HostError."""
        words = (self.size // _PAGE + 63) // 64
        bits = ffi.new("uint64_t[]", words)
        self._check(lib.vmr_dirty_fetch(self._handle, bits, words))
        return [64 * i + n for i in range(words) if bits[i] for n in range(64) if bits[i] >> n & 1]
