"""Plans and recorders that the tests of the run side share."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field

from vmrun.frozen import evolve
from vmrun.plan.model import DevicePlan, EntryPlan, MachinePlan, RiscvCpus, RunPlan

CONSOLE = ("console.main", "")
CONTROL = ("agent", "vmrun.control")
STDIN = ("agent", "vmrun.stdin")
STDOUT = ("agent", "vmrun.stdout")
STDERR = ("agent", "vmrun.stderr")


def make_plan(*, cpus: int = 1, **run: object) -> MachinePlan:
    """A plan with a console, and with the agent's ports where ``reports`` is set."""
    devices = [DevicePlan("console.main", "virtio-console", 0x1000_1000, 0x1000)]
    if run.get("reports"):
        ports = ("vmrun.control", "vmrun.stdin", "vmrun.stdout", "vmrun.stderr")
        devices.append(DevicePlan("agent", "virtio-console", 0x1000_2000, 0x1000, properties={"ports": ports}))
    return MachinePlan(
        format=1,
        name="fake",
        board="riscv_virt",
        engine="fake",
        why="a test",
        cpu=RiscvCpus("riscv64", cpus, ("i",), "rv64i", "sv39", 10_000_000),
        ram=(),
        devices=tuple(devices),
        blobs=(),
        entry=EntryPlan(0x8000_0000, ()),
        cmdline="",
        run=evolve(RunPlan(console="console.main"), **run),  # type: ignore[arg-type]
    )


@dataclass
class Recorder:
    """An observer that remembers."""

    phases: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def phase(self, name: str, at_ns: int) -> None:
        self.phases.append(name)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def note(self, text: str) -> None:
        self.notes.append(text)


class Capture:
    """The writing end of a pipe, and a thread that collects what goes in."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        self._data = bytearray()
        self._thread = threading.Thread(target=self._collect)
        self._thread.start()

    def _collect(self) -> None:
        while data := os.read(self._read, 65536):
            self._data += data

    def bytes(self) -> bytes:
        """Close the pipe and return everything."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._thread.join()
            os.close(self._read)
        return bytes(self._data)
