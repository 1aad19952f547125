"""The pipes between one machine and the run: which streams a plan has, and both ends of each."""

from __future__ import annotations

import contextlib
import os
from types import TracebackType

from vmrun.engine.seam import AGENT_PORTS, Wires
from vmrun.plan.model import DevicePlan, MachinePlan

Stream = tuple[str, str]
"""A device's id and the name of its port; ``""`` is the device's own console."""

FIRMWARE = "sbi"
"""The id that stands for the console of the engine's firmware calls (SBI DBCN), which is no device of the plan."""

_UART_KINDS = ("uart16550", "pl011")
_CONSOLE_KINDS = ("virtio-console", *_UART_KINDS)
_INPUTS = ("vmrun.stdin",)
_OUTPUTS = ("vmrun.control", "vmrun.stdout", "vmrun.stderr")


def ports(device: DevicePlan) -> tuple[str, ...]:
    """Return the names of the ports that a virtio-console has beside its console."""
    named = device.properties.get("ports", ())
    return tuple(str(name) for name in named) if isinstance(named, tuple) else ()


def consoles(plan: MachinePlan) -> tuple[str, ...]:
    """Return the ids of the devices that are a console, the run's main one first."""
    found = [d.id for d in plan.devices if d.kind in _CONSOLE_KINDS and d.id != agent(plan)]
    if plan.cpu.arch == "riscv64":
        found.append(FIRMWARE)
    return tuple(sorted(found, key=lambda id: id != plan.run.console))


def agent(plan: MachinePlan) -> str | None:
    """Return the id of the device that carries the ports of vmrun's own init, or None."""
    return next((d.id for d in plan.devices if set(AGENT_PORTS) & set(ports(d))), None)


class Wiring:
    """Pipes for every stream of a plan; a context manager that closes what is left open."""

    def __init__(self, plan: MachinePlan) -> None:
        self._host: dict[Stream, tuple[int, int]] = {}
        self._guest: dict[Stream, tuple[int, int]] = {}
        self._open: set[int] = set()
        try:
            uart = next((device.id for device in plan.devices if device.kind in _UART_KINDS), None)
            for id in consoles(plan):
                self._connect((id, ""), reads=uart is None or id != FIRMWARE, writes=True)
            if uart is not None and (FIRMWARE, "") in self._guest:
                self._share(FIRMWARE, uart)
            for device in plan.devices:
                for port in ports(device):
                    self._connect((device.id, port), reads=port not in _INPUTS, writes=port not in _OUTPUTS)
        except OSError:
            self.close()
            raise

    def _connect(self, stream: Stream, *, reads: bool, writes: bool) -> None:
        """Open the pipes of ``stream``: the host ``reads`` what the guest writes, and ``writes`` to it."""
        from_guest = self._pipe() if reads else (-1, -1)
        to_guest = self._pipe() if writes else (-1, -1)
        self._host[stream] = (from_guest[0], to_guest[1])
        self._guest[stream] = (to_guest[0], from_guest[1])

    def _share(self, id: str, other: str) -> None:
        """Let console ``id`` speak through the pipe of ``other``: what the guest says on both keeps its order.

        An early console hands over to the UART in the middle of a boot, and some guests speak on both by turns.
        """
        self._guest[id, ""] = (self._guest[id, ""][0], self._guest[other, ""][1])

    def _pipe(self) -> tuple[int, int]:
        ends = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._open.update(ends)
        return ends

    @property
    def wires(self) -> Wires:
        """Return the guest's ends, for the engine."""
        return dict(self._guest)

    def reads(self, stream: Stream) -> int | None:
        """Return the descriptor with what the guest writes, or None."""
        fd = self._host.get(stream, (-1, -1))[0]
        return fd if fd in self._open else None

    def writes(self, stream: Stream) -> int | None:
        """Return the descriptor that the guest reads from, or None."""
        fd = self._host.get(stream, (-1, -1))[1]
        return fd if fd in self._open else None

    def hang_up(self, stream: Stream) -> None:
        """Close the host's writing end: the guest meets the end of its input."""
        self._close(self._host.get(stream, (-1, -1))[1])

    def close_guest_ends(self) -> None:
        """Close what the machine had, once it is gone: the host's readers then meet the end."""
        for fds in self._guest.values():
            for fd in fds:
                self._close(fd)

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            with contextlib.suppress(OSError):
                os.close(fd)

    def close(self) -> None:
        """Close everything."""
        for fd in tuple(self._open):
            self._close(fd)

    def __enter__(self) -> Wiring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
