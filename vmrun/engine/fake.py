"""A fake engine that plays a script instead of running a guest: for tests of all that stands around an engine.

A script is a list of steps, run by vCPU 0; what it does to descriptors is what a device would do. The table of engines
has it as ``fake``, which no manifest can name: ``--accel fake`` and `plan_manifest` can. A test puts its scripts into
`ENGINE` first.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from vmrun.engine.seam import Wires
from vmrun.errors import HostError
from vmrun.plan.model import MachinePlan
from vmrun.plan.offer import Offer


@dataclass(frozen=True, slots=True)
class FakeExit:
    """What a vCPU leaves with."""

    reason: str
    value: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """Write ``data`` to a stream of the guest, in pieces of ``chunk`` bytes (0: at once)."""

    stream: tuple[str, str]
    data: bytes
    chunk: int = 0


@dataclass(frozen=True, slots=True)
class Expect:
    """Read the stream until ``data`` has come, or its end where ``data`` is empty. FakeMachine.input is what came."""

    stream: tuple[str, str]
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Hang:
    """Run on until the machine is stopped."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Leave the run as vCPU ``index``, by default the one that plays the script."""

    exit: FakeExit
    index: int = 0


@dataclass(frozen=True, slots=True)
class Break:
    """Fail as an engine fails."""

    error: Exception


Step = Say | Expect | Hang | Leave | Break


class FakeMachine:
    """A machine without a guest. ``journal`` notes what was asked of it, in order."""

    def __init__(
        self,
        plan: MachinePlan,
        wires: Wires,
        script: Sequence[Step],
        report: str = "",
        released: bool = False,
        host_errors: Sequence[tuple[str, str, str, int, int]] = (),
        *,
        busy: bool = False,
    ) -> None:
        self.plan = plan
        self.journal: list[str] = []
        self.input = b""
        self._wires = wires
        self._script = tuple(script)
        self._report = report
        self._released = released
        self._host_errors = host_errors
        self._busy = busy
        self._trouble = os.eventfd(len(host_errors), os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._stopped = threading.Event()
        self._stop_read, self._stop_write = os.pipe()
        self._leaves: dict[int, FakeExit] = {}

    def __enter__(self) -> FakeMachine:
        self.journal.append("enter")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.journal.append("exit")
        os.close(self._stop_read)
        os.close(self._stop_write)
        os.close(self._trouble)

    @property
    def vcpu_count(self) -> int:
        """How many vCPUs the plan has."""
        return self.plan.cpu.count

    def start(self) -> None:
        """Note the start."""
        self.journal.append("start")

    def stop(self) -> None:
        """Let every vCPU return."""
        if not self._stopped.is_set():
            self._stopped.set()
            self.journal.append("stop")
            os.write(self._stop_write, b"s")

    def resize_console(self, columns: int, rows: int) -> None:
        """Note the size."""
        self.journal.append(f"resize {columns}x{rows}")

    def press_power(self) -> bool:
        """Note that there is none."""
        self.journal.append("power key")
        return False

    def run_vcpu(self, index: int) -> FakeExit:
        """Play the script on vCPU 0; the others wait for the end, or for their Leave."""
        if index == 0:
            for step in self._script:
                left = self._play(step)
                if left is not None:
                    return left
        self._stopped.wait()
        return self._leaves.get(index, FakeExit("stopped"))

    def _play(self, step: Step) -> FakeExit | None:
        match step:
            case Say(stream, data, chunk):
                self._say(self._wires[stream][1], data, chunk or len(data))
            case Expect(stream, data):
                self._expect(self._wires[stream][0], data)
            case Hang():
                self._stopped.wait()
                return FakeExit("stopped")
            case Leave(left, 0):
                return left
            case Leave(left, index):
                self._leaves[index] = left
            case Break(error):
                raise error
        return None

    def _say(self, fd: int, data: bytes, chunk: int) -> None:
        for at in range(0, len(data), chunk):
            piece = data[at : at + chunk]
            while piece and not self._stopped.is_set():
                select.select([self._stop_read], [fd], [])
                try:
                    piece = piece[os.write(fd, piece) :]
                except BlockingIOError:
                    continue

    def _expect(self, fd: int, data: bytes) -> None:
        while not self._stopped.is_set() and (not data or data not in self.input):
            ready = select.select([fd, self._stop_read], [], [])[0]
            if fd in ready:
                got = os.read(fd, 65536)
                if not got:
                    return
                self.input += got

    def settle(self, patience_ms: int) -> bool:
        """Return whether the machine is to settle at all."""
        if not self._busy:
            return True
        time.sleep(patience_ms / 1000)
        return False

    def halt(self, patience_ms: int) -> None:
        """Note it."""
        self.journal.append("halt")

    @property
    def trouble_fd(self) -> int:
        """An eventfd that is readable from the start where there are host errors."""
        return self._trouble

    def host_errors(self) -> Sequence[tuple[str, str, str, int, int]]:
        """Return what the engine was given."""
        return self._host_errors

    def vcpu_states(self) -> Sequence[Mapping[str, int]]:
        """Return a pc for each vCPU."""
        return [{"pc": 0x1000 + index} for index in range(self.vcpu_count)]

    def counters(self) -> Mapping[str, int]:
        """Return how many steps the script has."""
        return {"steps": len(self._script)}

    def report(self) -> str:
        """Return what the engine was given to tell."""
        return self._report

    def devices_released(self) -> bool:
        """Return what the engine was given to tell."""
        return self._released

    def guest_errors(self) -> Sequence[tuple[str, str, int]]:
        """Return one made-up mistake of the guest."""
        return [("fake", "scripted", 1)]


@dataclass
class FakeEngine:
    """Plays ``scripts``, one for each boot; ``machines`` are the ones built so far.

    ``report``, ``released`` and ``host_errors`` are what each tells; a ``busy`` one is never done.
    """

    scripts: Sequence[Sequence[Step]]
    name: str = "fake"
    machines: list[FakeMachine] = field(default_factory=list)
    on_build: Callable[[], None] = lambda: None
    report: str = ""
    released: bool = False
    host_errors: Sequence[tuple[str, str, str, int, int]] = ()
    busy: bool = False

    def build(self, plan: MachinePlan, wires: Wires) -> FakeMachine:
        """Return the machine of the next script. Raise HostError where none is left."""
        self.on_build()
        if len(self.machines) == len(self.scripts):
            raise HostError("the fake engine has no script for another boot")
        script = self.scripts[len(self.machines)]
        told = (self.report, self.released, self.host_errors)
        self.machines.append(FakeMachine(plan, wires, script, *told, busy=self.busy))
        return self.machines[-1]


ENGINE = FakeEngine(())


def nominal(arch: str, why: str) -> Offer:
    """Return an offer that a guest of any board can be planned with."""
    extensions, mmu, irqchips = _HARDWARE[arch]
    return Offer("fake", why, arch, extensions, 64, 10_000_000, mmu, irqchips, (4096,), msi_ids=255, nominal=True)


_HARDWARE: Mapping[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "riscv64": ((*"imafdc", "zicntr", "zicsr", "zifencei"), "sv48", ("plic", "aia")),
    "x86_64": ((), "", ()),
    "aarch64": (("pmu",), "", ("gicv3", "gicv2")),
}
"""Extensions, MMU and interrupt controllers by the guest's architecture."""
