"""The one Python door to a machine of the C core.

Codes become exceptions here and nowhere else. A machine is a context manager: leaving it frees memory, threads and
descriptors, after every vCPU thread has returned.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol

from vmrun._core import ffi, lib
from vmrun.core.line import CoreLine
from vmrun.errors import HostError


class MmioHandler(Protocol):
    """Serves a window from Python: cold registers only. Called from any vCPU's thread."""

    def read(self, offset: int, size: int) -> int:
        """Return the value at ``offset`` bytes into the window, ``size`` bytes wide."""

    def write(self, offset: int, size: int, value: int) -> None:
        """Take ``value``, ``size`` bytes wide, at ``offset``."""


class CoreMachine:
    """A machine: guest RAM, a bus, interrupt lines, devices, one I/O thread and vCPUs.

    ``handle`` is the ``vmr_machine *`` for the constructors of devices and vCPUs. Addresses and sizes are bytes.
    """

    def __init__(self) -> None:
        out = ffi.new("vmr_machine **")
        code = lib.vmr_machine_new(out)
        if code:
            raise HostError(f"a machine: {os.strerror(-code)}", code="E350", errno=-code, call="vmr_machine_new")
        self.handle: Any = out[0]
        self._windows: list[tuple[int, int, MmioHandler]] = []
        self._wrongs: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._closers: list[Callable[[], None]] = []

    def before_close(self, call: Callable[[], None]) -> None:
        """Call ``call`` before the machine is freed: a device served by Python ends its timers there."""
        self._closers.append(call)

    def close(self) -> None:
        """Free the machine: its threads end, ``rw`` disks are flushed. Idempotent; no vCPU may be running."""
        closers, self._closers = self._closers, []
        for call in closers:
            call()
        handle, self.handle = self.handle, None
        if handle is not None:
            lib.vmr_machine_free(handle)

    def __enter__(self) -> CoreMachine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def check(self, code: int, what: str, *, error: str = "E350", remedy: str | None = None) -> None:
        """Raise HostError with the core's text if ``code`` is negative. ``what`` names the device or resource."""
        if code < 0:
            text = ffi.string(lib.vmr_machine_error(self.handle)).decode("utf-8", "replace")
            raise HostError(f"{what}: {text or os.strerror(-code)}", code=error, errno=-code, remedy=remedy)

    # ---- memory ------------------------------------------------------------------------------------------------------

    def add_ram(self, base: int, size: int) -> None:
        """Reserve guest RAM, multiples of 4096 bytes. Raise HostError E351 where the host has not as much."""
        code = lib.vmr_ram_add(self.handle, base, size)
        self.check(code, "memory", error="E351", remedy="set a smaller memory.size")

    def write_ram(self, gpa: int, data: bytes) -> None:
        """Copy ``data`` to ``gpa``. Raise HostError where that is not all RAM."""
        self.check(lib.vmr_ram_write(self.handle, gpa, data, len(data)), "memory")

    def read_ram(self, gpa: int, size: int) -> bytes:
        """Return ``size`` bytes at ``gpa``. Raise HostError where that is not all RAM."""
        data = ffi.new("char[]", max(size, 1))
        self.check(lib.vmr_ram_read(self.handle, gpa, data, size), "memory")
        return bytes(ffi.buffer(data, size))

    def load_fd(self, gpa: int, fd: int, offset: int, size: int, what: str = "memory") -> None:
        """Read ``size`` bytes of an open file into RAM. Raise HostError where the file is shorter or a read fails."""
        self.check(lib.vmr_ram_load_fd(self.handle, gpa, fd, offset, size), what)

    # ---- bus ---------------------------------------------------------------------------------------------------------

    def claim(self, base: int, size: int, handler: MmioHandler) -> None:
        """Serve ``[base, base + size)`` from Python. Raise HostError where it overlaps another window."""
        self.check(lib.vmr_bus_claim(self.handle, base, size, len(self._windows)), "bus")
        self._windows.append((base, size, handler))

    def peek(self, gpa: int, size: int) -> int | None:
        """Read a register as a vCPU would, None where no device is. For tests and tools."""
        value = ffi.new("uint64_t *")
        outcome = lib.vmr_bus_peek(self.handle, gpa, size, value)
        if outcome == lib.VMR_BUS_PYTHON:
            return self._serve_read(gpa, size)
        return int(value[0]) if outcome == lib.VMR_BUS_DONE else None

    def poke(self, gpa: int, size: int, value: int) -> bool:
        """Write a register as a vCPU would; False where no device is. For tests and tools."""
        outcome = lib.vmr_bus_poke(self.handle, gpa, size, value)
        if outcome == lib.VMR_BUS_PYTHON:
            self._serve_write(gpa, size, value)
        return bool(outcome != lib.VMR_BUS_NONE)

    def _window(self, gpa: int) -> tuple[int, MmioHandler]:
        for base, size, handler in self._windows:
            if base <= gpa < base + size:
                return base, handler
        raise LookupError(f"no window at {gpa:#x}")

    def _serve_read(self, gpa: int, size: int) -> int:
        base, handler = self._window(gpa)
        return handler.read(gpa - base, size) & ((1 << 8 * size) - 1)

    def _serve_write(self, gpa: int, size: int, value: int) -> None:
        base, handler = self._window(gpa)
        handler.write(gpa - base, size, value)

    # ---- interrupts --------------------------------------------------------------------------------------------------

    def line(self, pin: int) -> CoreLine:
        """Return the line to ``pin`` of the machine's interrupt controller. Raise HostError where there is none."""
        out = ffi.new("vmr_line *")
        self.check(lib.vmr_irqchip_line(self.handle, pin, out), f"interrupt {pin}")
        return CoreLine(out[0])

    def vcpu_lines(self, input: int) -> list[CoreLine]:
        """Return the line to ``input`` of each vCPU, in order. Raise HostError where the vCPUs have none."""
        lines = [ffi.new("vmr_line *") for _ in range(self.vcpu_count)]
        for index, out in enumerate(lines):
            self.check(lib.vmr_vcpu_line(self.handle, index, input, out), f"vCPU {index}")
        return [CoreLine(out[0]) for out in lines]

    @property
    def messages(self) -> Any:
        """Where message-signalled interrupts go (``vmr_msi``), nowhere if nobody takes them yet."""
        out = ffi.new("vmr_msi *")
        lib.vmr_machine_msi(self.handle, out)
        return out[0]

    # ---- life --------------------------------------------------------------------------------------------------------

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs an engine has added so far."""
        return int(lib.vmr_vcpu_total(self.handle))

    def start(self) -> None:
        """Start the I/O thread; nothing can join the machine from here on. Raise HostError where the host refuses."""
        self.check(lib.vmr_machine_start(self.handle), "machine")

    def stop(self) -> None:
        """Make every vCPU return. Any thread, any time before the machine is closed, idempotent."""
        if self.handle is not None:
            lib.vmr_machine_stop(self.handle)

    def drain(self, timeout_ms: int = -1) -> bool:
        """Wait until all that the guest sent has reached the host; False where a reader did not read in time."""
        return bool(lib.vmr_machine_drain(self.handle, timeout_ms) == 0)

    def halt(self, patience_ms: int = -1) -> None:
        """Cut what the devices still do, and bring ``rw`` disks to stable storage, for so long at most. Idempotent."""
        lib.vmr_machine_halt(self.handle, patience_ms)

    @property
    def trouble_fd(self) -> int:
        """An eventfd of the machine's that is readable once a device has met a new failure of the host."""
        return int(lib.vmr_machine_trouble(self.handle))

    def run_vcpu(self, vcpu: Any, exit: Any) -> int:
        """Run ``vcpu`` (``vmr_vcpu *``) until it leaves for anything but a Python-served register; return VMR_EXIT_*.

        ``exit`` (``vmr_exit *``) holds the rest. The GIL is free meanwhile. Raise HostError where the engine fails.
        """
        while True:
            self.check(lib.vmr_vcpu_run(vcpu, exit), "vCPU")
            kind = int(exit.kind)
            if kind == lib.VMR_EXIT_MMIO_READ:
                exit.data = self._serve_read(exit.gpa, exit.size)
            elif kind == lib.VMR_EXIT_MMIO_WRITE:
                self._serve_write(exit.gpa, exit.size, exit.data)
            else:
                return kind

    # ---- what the guest did wrong ------------------------------------------------------------------------------------

    def guest_did_wrong(self, device: str, what: str) -> None:
        """Count something that the guest did wrong with a device served by Python. Any thread."""
        with self._lock:
            self._wrongs[device, what] = self._wrongs.get((device, what), 0) + 1

    def guest_errors(self) -> Sequence[tuple[str, str, int]]:
        """Return what the guest did wrong: device, what, how often."""
        found: list[tuple[str, str, int]] = []
        entry = ffi.new("vmr_guest_error *")
        while lib.vmr_guest_error_at(self.handle, len(found), entry) == 0:
            device, what = (ffi.string(text).decode() for text in (entry.device, entry.what))
            found.append((device, what, int(entry.count)))
        with self._lock:
            return found + [(*key, count) for key, count in self._wrongs.items()]
