"""The one Python door to a machine of the C core.

Codes become exceptions here and nowhere else. A machine is a context manager: leaving it frees memory, threads and
descriptors, after every vCPU thread has returned.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from vmrun._core import ffi, lib
from vmrun.core.clock import CoreClock
from vmrun.core.line import CoreLine
from vmrun.core.memory import Region
from vmrun.core.state import State, pack, unpack
from vmrun.core.windows import MmioHandler, Server, Window, Windows
from vmrun.errors import HostError

__all__ = ["CoreMachine", "MmioHandler"]

_ELSEWHERE = "end what lies there, or choose another place"


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
        self._windows = Windows(self.handle, lambda code: self.check(code, "bus", error="E357", remedy=_ELSEWHERE))
        self._wrongs: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self.clock = CoreClock(self)

    def close(self) -> None:
        """Free the machine: its threads end, ``rw`` disks are flushed. Idempotent; no vCPU may be running."""
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

    def add_region(self, base: int | None, size: int, kind: str = "ram", *, shared: bool = False) -> Region:
        """Return new guest memory, multiples of 4096 bytes; ``base`` None: nowhere yet. While vCPUs run, too.

        ``kind``: ``ram``; ``rom``, whose writes by the guest leave to the bus; ``flash``, which is as ``rom`` or, on
        demand, no memory at all. ``shared``: other processes can map it. Raise HostError E351.
        """
        return Region(self, base, size, kind, shared)

    def write_ram(self, gpa: int, data: bytes) -> None:
        """Copy ``data`` to ``gpa``. Raise HostError where that is not all memory that the guest sees, ROM included."""
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

    def claim(
        self, base: int | None, size: int, handler: MmioHandler, *, min_width: int = 1, max_width: int = 0
    ) -> Window:
        """Serve ``[base, base + size)`` from Python; ``base`` None: nowhere yet. While vCPUs run, too.

        The handler sees naturally aligned accesses of ``min_width`` to ``max_width`` bytes: the bus makes a wide one
        into several, cuts a narrow read out of a wider one, and drops and counts a narrow write and what is
        misaligned. ``max_width`` 0: accesses come as the guest made them. Raise HostError
        E357 where it overlaps another window.
        """
        return self._windows.claim(base, size, handler, min_width, max_width)

    def peek(self, gpa: int, size: int) -> int | None:
        """Read a register as a vCPU would, None where no device is. For tests and tools."""
        access = self._access(gpa, size, 0, 0)
        return None if access is None else int(access.value)

    def poke(self, gpa: int, size: int, value: int) -> bool:
        """Write a register as a vCPU would; False where no device is. For tests and tools."""
        return self._access(gpa, size, 1, value) is not None

    def _access(self, gpa: int, size: int, write: int, value: int) -> Any:
        access = ffi.new("vmr_bus_access *", {"gpa": gpa, "size": size, "write": write, "value": value})
        outcome = lib.vmr_bus_begin(self.handle, access)
        if outcome == lib.VMR_BUS_PYTHON:
            exit, done = ffi.new("vmr_exit *"), 0
            with self._windows.server() as server:
                while not done:
                    lib.vmr_bus_ask(access, exit)
                    server.serve(exit)
                    done = lib.vmr_bus_take(access, exit)
        return None if outcome == lib.VMR_BUS_NONE else access

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
        """Start the I/O thread; no vCPU can join from here on. Raise HostError where the host refuses."""
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
        with self._windows.server() as server:
            return self._run_vcpu(vcpu, exit, server)

    def _run_vcpu(self, vcpu: Any, exit: Any, server: Server) -> int:
        while True:
            code = lib.vmr_vcpu_run(vcpu, exit)
            if code:
                self.check(code, "vCPU")
            kind = int(exit.kind)
            if kind != lib.VMR_EXIT_MMIO_READ and kind != lib.VMR_EXIT_MMIO_WRITE:
                return kind
            server.serve(exit)

    # ---- state -------------------------------------------------------------------------------------------------------

    def save_state(self, object: Any, what: str) -> State:
        """Return the state of a device, controller or hart in C; no vCPU runs. Raise HostError E370 if it has none."""
        size = lib.vmr_state_save(self.handle, object, ffi.NULL, 0)
        self.check(size, what, error="E370")
        data = ffi.new("uint8_t[]", size)
        self.check(lib.vmr_state_save(self.handle, object, data, size), what, error="E370")
        return unpack(bytes(ffi.buffer(data, size)))

    def load_state(self, object: Any, state: State, what: str) -> None:
        """Let it be what ``state`` says. Raise HostError E370, with nothing changed, where that is no state of it."""
        try:
            data = pack(state)
        except (OverflowError, struct.error) as error:
            raise HostError(f"{what}: no state that can be loaded: {error}", code="E370") from None
        self.check(lib.vmr_state_load(self.handle, object, data, len(data)), what, error="E370")

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
