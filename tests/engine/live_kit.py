"""A machine of the software core behind the Python door: harts on threads, guest programs, windows that remember."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rv64_priv_kit import ALL, CODE, HANDLER, HEADER, OUT, POWEROFF, RAM, RAM_SIZE, TIMEBASE, Trap
from rv64asm import Asm

from patience import patience
from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine

SECONDS = patience(20)
REGION = 0x4000_0000
WINDOW = 0x1000_0000


class Cell:
    """A window served by Python that remembers, and answers 0x1122334455667788."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append(("read", offset, size))
        return 0x1122334455667788

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append(("write", offset, size, value))


class Soft:
    """A machine with RAM and harts; hart 0 starts at CODE with s0 at OUT, and s11 bytes are skipped after a trap."""

    def __init__(self, harts: int, threshold: int) -> None:
        self.core = CoreMachine()
        self.core.add_ram(RAM, RAM_SIZE)
        self.harts: list[Any] = []
        for _ in range(harts):
            cpu = ffi.new("vmr_vcpu **")
            self.core.check(lib.vmr_rv64_new(self.core.handle, ALL, TIMEBASE, 4 << 20, cpu), "hart")
            self.core.check(lib.vmr_rv64_jit(cpu[0], threshold, 4 << 20), "translator")
            self.harts.append(cpu[0])
        self.kinds: list[int] = [0] * harts
        self._threads: list[threading.Thread] = []

    def load(self, text: str) -> None:
        """Assemble ``text`` between the usual header and power-off, and put the boot hart before it."""
        code = Asm().text(f"{HEADER}; li s11, 4\n{text}\n{POWEROFF}\n{HANDLER}").assemble(CODE)
        self.core.write_ram(CODE, code)
        self.core.check(lib.vmr_rv64_boot(self.harts[0], CODE, 0), "hart")

    def start(self) -> None:
        """Run each hart on a thread; the first that ends by itself stops the others."""
        self.core.start()

        def body(index: int) -> None:
            self.kinds[index] = self.core.run_vcpu(self.harts[index], ffi.new("vmr_exit *"))
            self.core.stop()

        self._threads = [threading.Thread(target=body, args=(i,)) for i in range(len(self.harts))]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        guard = threading.Timer(SECONDS, self.core.stop)
        guard.start()
        for thread in self._threads:
            thread.join()
        guard.cancel()

    def run(self, text: str) -> None:
        """Run ``text`` to its power-off."""
        self.load(text)
        self.start()
        self.join()
        assert lib.VMR_EXIT_SYSTEM in self.kinds, self.kinds

    def out(self, index: int) -> int:
        """Return the result in the index-th 64-bit word of OUT."""
        return int.from_bytes(self.core.read_ram(OUT + 8 * index, 8), "little")

    def trap(self) -> Trap:
        return Trap(*(self.out(0x1E0 + i) for i in range(4)))


@contextmanager
def machine(harts: int = 1, threshold: int = 0) -> Iterator[Soft]:
    """Make a machine; ``threshold`` 0: no translator."""
    made = Soft(harts, threshold)
    try:
        yield made
    finally:
        made.core.stop()
        made.join()
        made.core.close()
