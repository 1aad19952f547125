"""What the tests of devices share: a machine with RAM and a PLIC, or an AIA, and the descriptors around it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.devices.testing import Memory

RAM = 0x8000_0000
RAM_SIZE = 16 << 20
PLIC = 0x0C00_0000
APLIC = 0x0D00_0000
IMSIC = 0x2800_0000
UART = 0x1000_0000
VIRTIO = 0x1000_1000
IRQ = 7


class Bench:
    """A machine under test. ``source`` reads a PLIC source's state."""

    def __init__(self) -> None:
        self.machine = CoreMachine()
        self.machine.add_ram(RAM, RAM_SIZE)
        self.memory = Memory(self.machine, RAM, RAM_SIZE)
        plic = ffi.new("vmr_plic **")
        self.machine.check(lib.vmr_plic_new(self.machine.handle, PLIC, 0x600000, 95, 2, plic), "plic")
        self.plic = plic[0]
        self._fds: list[int] = []

    def level(self, gsi: int = IRQ) -> int:
        state = ffi.new("vmr_plic_source *")
        assert lib.vmr_plic_get_source(self.plic, gsi, state) == 0
        return int(state.level)

    def pipe(self) -> tuple[int, int]:
        """Return a pipe's reading and writing end; they are closed with the bench unless the test closes them."""
        ends = os.pipe2(os.O_CLOEXEC)
        self._fds += ends
        return ends

    def keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def shut(self, fd: int) -> None:
        self._fds.remove(fd)
        os.close(fd)

    def make(self, function: str, kind: str, *arguments: Any) -> Any:
        """Call a device's constructor; return its handle. Raise HostError as it fails."""
        out = ffi.new(f"{kind} **")
        self.machine.check(getattr(lib, function)(self.machine.handle, *arguments, out), kind)
        return out[0]

    def wrongs(self, device: str) -> dict[str, int]:
        return {what: count for name, what, count in self.machine.guest_errors() if name == device}

    def close(self) -> None:
        self.machine.close()
        for fd in self._fds:
            os.close(fd)


class AiaBench:
    """A machine with an APLIC and as many interrupt files, each with the hart that it belongs to."""

    def __init__(self, files: int, sources: int, ids: int, size: int) -> None:
        self.machine = CoreMachine()
        handle, check = self.machine.handle, self.machine.check
        isa = lib.VMR_RV64_M | lib.VMR_RV64_A | lib.VMR_RV64_SSAIA
        for _ in range(files):
            check(lib.vmr_rv64_new(handle, isa, 10_000_000, 0, ffi.new("vmr_vcpu **")), "hart")
        check(lib.vmr_aplic_new(handle, APLIC, 0x4000, sources, ffi.new("vmr_aplic **")), "aplic")
        imsic = ffi.new("vmr_imsic **")
        check(lib.vmr_imsic_new(handle, IMSIC, size, files, ids, imsic), "imsic")
        self.imsic = imsic[0]

    def get(self, file: int, select: int) -> int:
        """Return an indirect register of an interrupt file."""
        value = ffi.new("uint64_t *")
        assert lib.vmr_imsic_get(self.imsic, file, select, value) == 0
        return int(value[0])

    def set(self, file: int, select: int, value: int, mask: int = 2**64 - 1) -> None:
        assert lib.vmr_imsic_set(self.imsic, file, select, value, mask) == 0

    def wrongs(self, device: str) -> dict[str, int]:
        return {what: count for name, what, count in self.machine.guest_errors() if name == device}


def aia_bench(files: int, sources: int, ids: int, size: int = 0) -> AiaBench:
    """Return a new one; its machine is the caller's to close. ``size`` of the IMSICs' window, where not as needed."""
    return AiaBench(files, sources, ids, size or files << 12)


@contextmanager
def bench() -> Iterator[Bench]:
    made = Bench()
    try:
        yield made
    finally:
        made.close()


def read_all(fd: int, size: int) -> bytes:
    """Read ``size`` bytes, or up to the end."""
    data = b""
    while len(data) < size:
        part = os.read(fd, size - len(data))
        if not part:
            break
        data += part
    return data
