"""What the tests of devices share: a machine with RAM and a recorder of interrupts, others with a PLIC or an AIA."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aia_kit import add_aia

from vmrun._core import ffi, lib
from vmrun.core.line import array
from vmrun.core.machine import CoreMachine
from vmrun.devices.testing import Memory, Recorder

RAM = 0x8000_0000
RAM_SIZE = 16 << 20
PLIC = 0x0C00_0000
UART = 0x1000_0000
VIRTIO = 0x1000_1000


class Bench:
    """A machine under test. ``line`` leads to ``recorder``, and there is no interrupt controller."""

    def __init__(self) -> None:
        self.machine = CoreMachine()
        self.machine.add_ram(RAM, RAM_SIZE)
        self.memory = Memory(self.machine, RAM, RAM_SIZE)
        self.recorder = Recorder(self.machine)
        self.line = self.recorder.line()
        self._fds: list[int] = []

    def level(self) -> int:
        return self.recorder.level()

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


class PlicBench:
    """A machine with a PLIC whose contexts drive the pins of a recorder."""

    def __init__(self, sources: int = 95, contexts: int = 2) -> None:
        self.machine = CoreMachine()
        self.outputs = Recorder(self.machine, contexts)
        out = ffi.new("vmr_plic **")
        lines = array([self.outputs.line(i) for i in range(contexts)])
        code = lib.vmr_plic_new(self.machine.handle, PLIC, 0x600000, sources, contexts, lines, out)
        self.machine.check(code, "plic")
        self.plic = out[0]

    def wrongs(self, device: str) -> dict[str, int]:
        return {what: count for name, what, count in self.machine.guest_errors() if name == device}


class AiaBench:
    """A machine with an APLIC and as many interrupt files, each with the hart that it belongs to."""

    def __init__(self, files: int, sources: int, ids: int, size: int) -> None:
        self.machine = CoreMachine()
        handle, check = self.machine.handle, self.machine.check
        isa = lib.VMR_RV64_M | lib.VMR_RV64_A | lib.VMR_RV64_SSAIA
        harts = [ffi.new("vmr_vcpu **") for _ in range(files)]
        for hart in harts:
            check(lib.vmr_rv64_new(handle, isa, 10_000_000, 0, hart), "hart")
        self.imsic = add_aia(handle, [hart[0] for hart in harts], sources, ids, size)

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
    return AiaBench(files, sources, ids, size)


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
