"""What a device says about itself, and what it is handed when it becomes real.

A device is one file of this package that ends in ``DEVICE = DeviceType(...)``: its needs, properties and registers,
its devicetree node, its AML and how it attaches to a live machine. The board places it; nobody else knows it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from vmrun.devices.registers import RegisterMap
from vmrun.errors import HostError
from vmrun.frozen import frozen
from vmrun.plan.model import DevicePlan, Interrupt
from vmrun.schema.known import Property
from vmrun.tables.fdt import Cells, Cells64, FdtNode, Value

if TYPE_CHECKING:
    from vmrun.core.line import CoreLine
    from vmrun.core.machine import CoreMachine
    from vmrun.core.state import State
    from vmrun.tables.aml import Node
    from vmrun.tables.resources import Interrupt as AmlInterrupt

__all__ = [
    "GIVERS",
    "Clock",
    "DeviceType",
    "Driver",
    "Fds",
    "FdtContext",
    "HostFailure",
    "Line",
    "Live",
    "Needs",
    "Nodes",
    "Property",
    "Props",
    "Timer",
    "Unconnected",
    "Wires",
    "in_kernel",
    "no_aml",
    "no_nodes",
    "set_line",
]

Props = tuple[tuple[str, Value], ...]
"""A node's properties, by name."""
Fds = tuple[int, int]
"""The descriptor that the guest's input is read from, and the one its output goes to; -1: not connected."""


@frozen
class Needs:
    """What a board must give.

    ``size`` and ``align`` of the window in bytes (or I/O ports), ``trigger`` of its interrupt (``level``, ``edge``) or
    None, and ``transport``: the kind whose window it uses, None where it has its own. ``space`` is ``pio`` for a device
    that is known on I/O ports alone; a manifest's one lies at its properties ``iobase`` and ``iosize``.
    """

    size: int
    align: int = 4096
    trigger: str | None = "level"
    transport: str | None = None
    space: str = "mmio"


@frozen
class Driver:
    """How Linux drives a device. ``module`` is its driver where that is built as one, ``symbols`` what a kernel's
    configuration must set for it, and ``found_by`` what it must set besides, by the table (``fdt``, ``acpi``,
    ``mptable``) that the kernel finds the device in."""

    module: str | None
    symbols: tuple[str, ...]
    found_by: Mapping[str, tuple[str, ...]] = MappingProxyType({})


def one_cell(line: Interrupt) -> tuple[int, ...]:
    """Return what a controller with ``#interrupt-cells`` 1, such as the PLIC, has to be told of a line: its number."""
    return (line.number,)


@frozen
class FdtContext:
    """What nodes refer to beyond the device: the labels of the harts' own interrupt controllers, in order, how the
    board's controller names a wired ``line`` in cells (its binding's ``#interrupt-cells``), the label of the bus's
    ``clock``, and all devices as ``placed``, for one that is described as part of another."""

    hart_intcs: tuple[str, ...] = ()
    line: Callable[[Interrupt], tuple[int, ...]] = one_cell
    clock: str = ""
    placed: tuple[DevicePlan, ...] = ()


@frozen
class Nodes:
    """A device's nodes: ``soc`` on the bus, ``root`` at the tree's root."""

    soc: tuple[FdtNode, ...]
    root: tuple[FdtNode, ...] = ()


def no_nodes(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return nothing: no board with a devicetree has the device."""
    return Nodes(())


def no_aml(device: DevicePlan, number: int) -> tuple[Node, ...]:
    """Return nothing: the device stands in no namespace."""
    return ()


class Line(Protocol):
    """An interrupt line, driven by the one device that has it. Any thread, also with the device's lock held."""

    def raise_(self) -> None:
        """Set the level high."""

    def lower(self) -> None:
        """Set the level low."""

    def pulse(self) -> None:
        """Let it rise and fall: an edge."""


class Timer(Protocol):
    """One wait of a device. It calls on a thread of the machine's, also where it was cancelled too late: look again."""

    def arm(self, deadline_ns: int) -> None:
        """Wait anew, for a time of the clock; one that has passed is due at once. Any thread."""

    def cancel(self) -> None:
        """Wait no more. Any thread."""


class Clock(Protocol):
    """The time that a device lives in, real or virtual."""

    def now_ns(self) -> int:
        """Return nanoseconds since the machine started to run; they stand while it does."""

    def day_ns(self) -> int:
        """Return the time of day in nanoseconds since 1970: a base, and `now_ns`."""

    def timer(self, call: Callable[[], None]) -> Timer:
        """Return a new timer that is not armed; its machine has not started."""


class Unconnected:
    """A line that leads nowhere."""

    def raise_(self) -> None:
        """Do nothing."""

    def lower(self) -> None:
        """Do nothing."""

    def pulse(self) -> None:
        """Do nothing."""


def set_line(line: Line, level: bool) -> None:
    """Give ``line`` the ``level``."""
    if level:
        line.raise_()
    else:
        line.lower()


def _no_vcpus(input: int) -> list[CoreLine]:
    return []


def _no_power(kind: str, value: int) -> None:
    """Ignore what the guest asks for."""


@frozen
class Wires:
    """What a live device is given, so that a test can give it something else.

    ``line`` is its interrupt. An interrupt controller gets more: ``vcpu_lines(input)`` returns the line to that input
    of each vCPU, and ``messages`` is where it sends messages (``vmr_msi``; None: nowhere).
    ``streams`` maps (device id, port) to ``Fds``; port ``""`` is the device's own console. ``power(kind, value)``
    is told what the guest asks of its power switch: ``poweroff``, ``reboot`` or ``exit`` with a value.
    ``open_file(path, flags)`` opens a disk's image and returns the descriptor, ``entropy_fd`` (-1: the host's
    randomness) is where virtio-rng reads. ``clock`` is the device's time; None: the machine's own, by which devices
    live that C serves.
    """

    line: Line = Unconnected()
    vcpu_lines: Callable[[int], list[CoreLine]] = _no_vcpus
    messages: Any = None
    streams: Mapping[tuple[str, str], Fds] = MappingProxyType({})
    power: Callable[[str, int], None] = _no_power
    clock: Clock | None = None
    open_file: Callable[[str, int], int] = os.open
    entropy_fd: int = -1

    def stream(self, device: str, port: str = "") -> Fds:
        """Return the descriptors of a port, (-1, -1) where it is not connected."""
        return self.streams.get((device, port), (-1, -1))

    def c_line(self) -> Any:
        """Return the line for a device that C serves (``vmr_line``). Raise TypeError for a line that C cannot drive."""
        from vmrun.core.line import CoreLine, nowhere

        if isinstance(self.line, Unconnected):
            return nowhere()
        if not isinstance(self.line, CoreLine):
            raise TypeError(f"C cannot drive a {type(self.line).__name__}")
        return self.line.c


class Live(Protocol):
    """A device at work, as the run sees it."""

    def counters(self) -> Mapping[str, int]:
        """Return what the device counted, by name."""

    def save(self) -> State:
        """Return the device's state, while no vCPU runs. Raise HostError E370 where it cannot be saved."""

    def load(self, state: State) -> None:
        """Be what ``state`` says, and drive the line so. Raise HostError E370, with nothing changed, if it is none."""


@frozen
class HostFailure:
    """What the host refused a device: ``what`` it was doing, to which ``file``, the ``errno``, and how often so far."""

    what: str
    file: str
    errno: int
    count: int


class InKernel:
    """A device that KVM serves in the kernel. It counts nothing, and its state is KVM's."""

    def __init__(self, id: str) -> None:
        self._id = id

    def counters(self) -> Mapping[str, int]:
        """Return nothing."""
        return {}

    def save(self) -> State:
        """Raise HostError E370."""
        raise HostError(f"{self._id}: the kernel keeps its state", code="E370")

    def load(self, state: State) -> None:
        """Raise HostError E370."""
        raise HostError(f"{self._id}: the kernel keeps its state", code="E370")


def in_kernel(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Attach nothing: KVM serves the device in the kernel, the engine has made it, and no access comes out."""
    return InKernel(device.id)


@frozen
class DeviceType:
    """A kind of device. ``kind`` is its name in manifests and plans, ``doc`` one line for a reader.

    ``owner`` says who has it: ``manifest``, which names it in ``[device.NAME]`` and gets the board's own where the
    board has one; ``table``, a manifest's table of another name, such as ``[disk.NAME]``; or ``board``, of which a
    manifest can say nothing. ``boards`` are those that it can be on, all where there are none. ``driver`` is Linux's,
    None where it needs none that could be missing.
    ``properties`` are those that ``[device.NAME]`` may set; the board may hand others in. ``fdt`` builds its nodes,
    ``realize`` attaches it to a machine that has not started and raises HostError where the host refuses. ``gives``
    says what others are handed once it is there: ``messages``, ``lines`` or nothing (see `GIVERS`).
    """

    kind: str
    doc: str
    needs: Needs
    realize: Callable[[DevicePlan, CoreMachine, Wires], Live]
    fdt: Callable[[DevicePlan, FdtContext], Nodes] = no_nodes
    aml: Callable[[DevicePlan, int], tuple[Node, ...]] = no_aml
    compatible: tuple[str, ...] = ()
    properties: Mapping[str, Property] = MappingProxyType({})
    registers: RegisterMap | None = None
    owner: str = "manifest"
    boards: tuple[str, ...] = ()
    driver: Driver | None = None
    gives: str = ""


GIVERS = ("messages", "lines", "")
"""What a device gives to others, in the order in which devices are made."""


def reg(device: DevicePlan) -> tuple[str, Cells64]:
    """Return the ``reg`` property of a device on the bus, with two cells for each number."""
    return ("reg", Cells64(device.base, device.size))


def interrupts(device: DevicePlan, context: FdtContext) -> tuple[tuple[str, Cells], ...]:
    """Return the ``interrupts`` property under the board's controller, or nothing."""
    return (("interrupts", Cells(*context.line(device.interrupt))),) if device.interrupt else ()


def aml_interrupt(device: DevicePlan) -> tuple[AmlInterrupt, ...]:
    """Return the descriptor of the device's interrupt as a global system interrupt, or nothing."""
    from vmrun.tables.resources import Interrupt

    line = device.interrupt
    return (Interrupt(line.number, edge=line.trigger == "edge"),) if line else ()


def label_of(device: DevicePlan) -> str:
    """Return the label of the device's node: its id with what a label cannot hold made ``_``."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in device.id)
