"""What tests, fuzzing and benches of devices need: a driver, and the other end of interrupts; no vCPU, no controller.

``RecordedLine`` and ``Recorder`` remember what a device does with its interrupt. ``Driver`` speaks virtio-mmio;
``Queue`` builds split rings (VIRTIO 1.2, section 2.7) in guest RAM and reads what the device gave back. Addresses and
sizes are bytes.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any

from vmrun._core import ffi, lib
from vmrun.core.line import CoreLine
from vmrun.core.machine import CoreMachine
from vmrun.frozen import frozen

NEXT = 1
WRITE = 2
INDIRECT = 4
PATIENCE_S = 20.0
"""How long a condition that other threads bring about may take before a test fails."""


def wait_for(condition: Callable[[], bool], what: str = "the condition") -> None:
    """Return once ``condition`` holds. Raise AssertionError if it does not within ``PATIENCE_S``."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"{what} did not come about")
        time.sleep(0.0005)


class RecordedLine:
    """A line for a device that Python serves: its ``level``, and how often it rose (``edges``)."""

    def __init__(self) -> None:
        self.level = 0
        self.edges = 0

    def raise_(self) -> None:
        """Set the level high."""
        self.edges += not self.level
        self.level = 1

    def lower(self) -> None:
        """Set the level low."""
        self.level = 0

    def pulse(self) -> None:
        """Let it rise and fall."""
        self.raise_()
        self.lower()


class Recorder:
    """The other end of ``pins`` lines, and of messages, in the C core: for a device that C serves."""

    def __init__(self, machine: CoreMachine, pins: int = 1) -> None:
        out = ffi.new("vmr_recorder **")
        machine.check(lib.vmr_recorder_new(machine.handle, pins, out), "recorder")
        self._handle = out[0]

    def line(self, pin: int = 0) -> CoreLine:
        """Return the line to a pin."""
        out = ffi.new("vmr_line *")
        if lib.vmr_recorder_line(self._handle, pin, out):
            raise IndexError(pin)
        return CoreLine(out[0])

    def _seen(self, pin: int) -> Any:
        seen = ffi.new("vmr_recorded *")
        if lib.vmr_recorder_get(self._handle, pin, seen):
            raise IndexError(pin)
        return seen

    def level(self, pin: int = 0) -> int:
        """Return the level of a pin."""
        return int(self._seen(pin).level)

    def edges(self, pin: int = 0) -> int:
        """Return how often a pin rose, and how many messages came there."""
        return int(self._seen(pin).edges)

    def ended(self, pin: int = 0) -> int:
        """Return how many ends of interrupt the line that a pin watches has told."""
        return int(self._seen(pin).ended)

    def watch(self, line: CoreLine, pin: int = 0) -> bool:
        """Count at ``pin`` the ends of interrupt that ``line`` tells; False where it tells none."""
        return bool(lib.vmr_recorder_watch(self._handle, pin, line.c) == 0)

    def end(self, pin: int = 0) -> None:
        """Tell who watches the line to a pin that its interrupt has ended."""
        lib.vmr_recorder_end(self._handle, pin)

    def messages(self, base: int) -> Any:
        """Return a place for messages (``vmr_msi``): those for vCPU n arrive at pin n."""
        out = ffi.new("vmr_msi *")
        lib.vmr_recorder_msi(self._handle, base, out)
        return out[0]

    def message(self, pin: int = 0) -> tuple[int, int] | None:
        """Return the address and data of the last message at a pin, None where none came."""
        address, data = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        found = lib.vmr_recorder_message(self._handle, pin, address, data) == 0
        return (int(address[0]), int(data[0])) if found else None


class Memory:
    """Hands out guest RAM, from ``base`` on, and never takes it back."""

    def __init__(self, machine: CoreMachine, base: int, size: int) -> None:
        self.machine = machine
        self._next = base
        self._end = base + size

    def take(self, size: int, align: int = 16) -> int:
        """Return the address of ``size`` bytes, aligned."""
        at = (self._next + align - 1) // align * align
        if at + size > self._end:
            raise MemoryError(f"the test's RAM ends at {self._end:#x}")
        self._next = at + size
        return at


@frozen
class Buffer:
    """One descriptor: ``size`` bytes at ``gpa``, which the device may write or else read."""

    gpa: int
    size: int
    writable: bool = False


class Queue:
    """A split virtqueue as its driver sees it."""

    def __init__(self, memory: Memory, number: int, size: int, *, event_idx: bool) -> None:
        self.number = number
        self.size = size
        self.machine = memory.machine
        self.memory = memory
        self.event_idx = event_idx
        self.desc = memory.take(16 * size)
        self.avail = memory.take(6 + 2 * size, 2)
        self.used = memory.take(6 + 8 * size, 4)
        self.made_available = 0
        self.seen_used = 0
        self._free = list(range(size))
        self._chains: dict[int, list[int]] = {}

    def put_descriptor(self, index: int, gpa: int, size: int, flags: int, following: int = 0) -> None:
        """Write one descriptor, right or wrong."""
        self.machine.write_ram(self.desc + 16 * index, struct.pack("<QIHH", gpa, size, flags, following))

    def add(self, buffers: Sequence[Buffer], *, indirect: bool = False) -> int:
        """Make a chain available, without notifying; return its head."""
        if indirect:
            table = self.memory.take(16 * len(buffers))
            self.machine.write_ram(table, _table(buffers))
            head = self._free.pop(0)
            self._chains[head] = [head]
            self.put_descriptor(head, table, 16 * len(buffers), INDIRECT)
        else:
            taken = [self._free.pop(0) for _ in buffers]
            head = taken[0]
            self._chains[head] = taken
            for place, (index, buffer) in enumerate(zip(taken, buffers, strict=True)):
                last = place == len(taken) - 1
                flags = (WRITE if buffer.writable else 0) | (0 if last else NEXT)
                self.put_descriptor(index, buffer.gpa, buffer.size, flags, 0 if last else taken[place + 1])
        self.offer(head)
        return head

    def offer(self, head: int) -> None:
        """Put ``head`` into the available ring, whatever it is."""
        self.machine.write_ram(self.avail + 4 + 2 * (self.made_available % self.size), struct.pack("<H", head))
        self.made_available = (self.made_available + 1) & 0xFFFF
        self.machine.write_ram(self.avail + 2, struct.pack("<H", self.made_available))

    def set_avail_flags(self, flags: int) -> None:
        """Set the available ring's flags: 1 asks for no interrupts, without EVENT_IDX."""
        self.machine.write_ram(self.avail, struct.pack("<H", flags))

    def set_used_event(self, index: int) -> None:
        """Ask for an interrupt when the used index passes ``index``, with EVENT_IDX."""
        self.machine.write_ram(self.avail + 4 + 2 * self.size, struct.pack("<H", index & 0xFFFF))

    @property
    def avail_event(self) -> int:
        """The available index for which the device wants a notification, with EVENT_IDX."""
        return int.from_bytes(self.machine.read_ram(self.used + 4 + 8 * self.size, 2), "little")

    @property
    def used_index(self) -> int:
        """How many chains came back, modulo 65536."""
        return int.from_bytes(self.machine.read_ram(self.used + 2, 2), "little")

    def get(self) -> tuple[int, int] | None:
        """Return the next chain that came back: its head, and the bytes written to it; None: there is none."""
        if self.used_index == self.seen_used:
            return None
        entry = self.machine.read_ram(self.used + 4 + 8 * (self.seen_used % self.size), 8)
        self.seen_used = (self.seen_used + 1) & 0xFFFF
        head, written = struct.unpack("<II", entry)
        self._free += self._chains.pop(head, [])
        return head, written

    def wait(self) -> tuple[int, int]:
        """Return the next chain that comes back. Raise AssertionError where none does."""
        found: list[tuple[int, int]] = []

        def came() -> bool:
            entry = self.get()
            if entry is not None:
                found.append(entry)
            return bool(found)

        wait_for(came, f"a used buffer of queue {self.number}")
        return found[0]


def _table(buffers: Sequence[Buffer]) -> bytes:
    last = len(buffers) - 1
    return b"".join(
        struct.pack("<QIHH", b.gpa, b.size, (WRITE if b.writable else 0) | (NEXT if i < last else 0), i + 1)
        for i, b in enumerate(buffers)
    )


class Driver:
    """A driver of the virtio device at ``base``; its rings and buffers come from ``memory``."""

    def __init__(self, machine: CoreMachine, base: int, memory: Memory) -> None:
        self.machine = machine
        self.base = base
        self.memory = memory
        self.features = 0
        self.queues: dict[int, Queue] = {}

    def read(self, register: str) -> int:
        """Return a register by the name of its constant."""
        value = self.machine.peek(self.base + getattr(lib, f"VMR_VIRTIO_MMIO_{register}"), 4)
        assert value is not None
        return value

    def write(self, register: str, value: int) -> None:
        """Write a register."""
        self.machine.poke(self.base + getattr(lib, f"VMR_VIRTIO_MMIO_{register}"), 4, value)

    def config(self, offset: int, size: int) -> int:
        """Return a little-endian field of the configuration, up to 4 bytes at a time."""
        value = 0
        for at in range(0, size, 4):
            part = self.machine.peek(self.base + lib.VMR_VIRTIO_MMIO_CONFIG + offset + at, min(size - at, 4))
            assert part is not None
            value |= part << 8 * at
        return value

    @property
    def offered(self) -> int:
        """The device's feature bits."""
        value = 0
        for half in (0, 1):
            self.write("DEVICE_FEATURES_SEL", half)
            value |= self.read("DEVICE_FEATURES") << 32 * half
        return value

    @property
    def status(self) -> int:
        """The device's status."""
        return self.read("STATUS")

    @property
    def needs_reset(self) -> bool:
        """True once the device has given up on its rings."""
        return bool(self.status & lib.VMR_VIRTIO_STATUS_NEEDS_RESET)

    def reset(self) -> None:
        """Reset the device."""
        self.write("STATUS", 0)
        self.queues.clear()

    def negotiate(self, wanted: int | None = None) -> int:
        """Take the feature bits ``wanted`` (None: every one offered), as section 3.1.1 has it; return those taken."""
        self.reset()
        self.write("STATUS", lib.VMR_VIRTIO_STATUS_ACKNOWLEDGE)
        self.write("STATUS", self.status | lib.VMR_VIRTIO_STATUS_DRIVER)
        self.features = self.offered if wanted is None else wanted
        for half in (0, 1):
            self.write("DRIVER_FEATURES_SEL", half)
            self.write("DRIVER_FEATURES", self.features >> 32 * half & 0xFFFFFFFF)
        self.write("STATUS", self.status | lib.VMR_VIRTIO_STATUS_FEATURES_OK)
        return self.features if self.status & lib.VMR_VIRTIO_STATUS_FEATURES_OK else 0

    def has(self, feature: int) -> bool:
        """Tell whether feature bit number ``feature`` was taken."""
        return bool(self.features >> feature & 1)

    def queue(self, number: int, size: int = 16) -> Queue:
        """Make queue ``number`` ready."""
        queue = Queue(self.memory, number, size, event_idx=self.has(lib.VMR_VIRTIO_F_EVENT_IDX))
        self.write("QUEUE_SEL", number)
        self.write("QUEUE_NUM", size)
        for name, gpa in (("DESC", queue.desc), ("DRIVER", queue.avail), ("DEVICE", queue.used)):
            self.write(f"QUEUE_{name}_LOW", gpa & 0xFFFFFFFF)
            self.write(f"QUEUE_{name}_HIGH", gpa >> 32)
        self.write("QUEUE_READY", 1)
        self.queues[number] = queue
        return queue

    def driver_ok(self) -> None:
        """Let the device work."""
        self.write("STATUS", self.status | lib.VMR_VIRTIO_STATUS_DRIVER_OK)

    def notify(self, queue: Queue) -> None:
        """Tell the device of new buffers."""
        self.write("QUEUE_NOTIFY", queue.number)

    def place(self, data: bytes) -> Buffer:
        """Put ``data`` into RAM for the device to read."""
        gpa = self.memory.take(max(len(data), 1))
        self.machine.write_ram(gpa, data)
        return Buffer(gpa, len(data))

    def room(self, size: int) -> Buffer:
        """Return RAM that the device may write."""
        return Buffer(self.memory.take(size), size, writable=True)

    def contents(self, buffer: Buffer, size: int | None = None) -> bytes:
        """Return what is in a buffer, or in its first ``size`` bytes."""
        return self.machine.read_ram(buffer.gpa, buffer.size if size is None else size)


class BlockDriver(Driver):
    """A driver of virtio-blk."""

    def begin(self, wanted: int | None = None, size: int = 16) -> None:
        """Set the device up."""
        self.negotiate(wanted)
        self.requests = self.queue(0, size)
        self.driver_ok()

    @property
    def capacity(self) -> int:
        """The disk's sectors of 512 bytes."""
        return self.config(0, 8)

    def request(
        self, kind: int, sector: int = 0, data: bytes = b"", room: int = 0, *, indirect: bool = False
    ) -> tuple[int, bytes]:
        """Make one request and wait for it; return its status, and what it read."""
        header = self.place(struct.pack("<IIQ", kind, 0, sector))
        read = [self.room(room)] if room else []
        status = self.room(1)
        self.machine.write_ram(status.gpa, b"\xff")
        self.requests.add([header, *([self.place(data)] if data else []), *read, status], indirect=indirect)
        self.notify(self.requests)
        self.requests.wait()
        return self.contents(status)[0], self.contents(read[0]) if read else b""

    def read_sectors(self, sector: int, count: int, *, indirect: bool = False) -> tuple[int, bytes]:
        """Read sectors."""
        return self.request(lib.VMR_VIRTIO_BLK_T_IN, sector, room=512 * count, indirect=indirect)

    def write_sectors(self, sector: int, data: bytes, *, indirect: bool = False) -> int:
        """Write whole sectors; return the status."""
        return self.request(lib.VMR_VIRTIO_BLK_T_OUT, sector, data, indirect=indirect)[0]


class ConsoleDriver(Driver):
    """A driver of virtio-console with the multiport feature."""

    def begin(self, ports: int, wanted: int | None = None, buffers: int = 8, size: int = 16) -> None:
        """Set the device up, with ``buffers`` control buffers, and say that the driver is ready."""
        self.negotiate(wanted)
        for number in range(2 * ports + 2):
            self.queue(number, size)
        self._incoming: dict[int, dict[int, Buffer]] = {}
        self.driver_ok()
        for _ in range(buffers):
            self.give(2, 128)
        self.control(0, lib.VMR_VIRTIO_CONSOLE_DEVICE_READY, 1)

    def give(self, number: int, size: int) -> None:
        """Give the device a buffer to fill on a receive queue."""
        buffer = self.room(size)
        self._incoming.setdefault(number, {})[self.queues[number].add([buffer])] = buffer
        self.notify(self.queues[number])

    def control(self, port: int, event: int, value: int) -> None:
        """Send a control message and wait until the device has read it."""
        queue = self.queues[3]
        queue.add([self.place(struct.pack("<IHH", port, event, value))])
        self.notify(queue)
        queue.wait()

    def message(self) -> tuple[int, int, int, bytes]:
        """Return the device's next control message: port, event, value, what follows; give a new buffer."""
        data = self.received(2)
        self.give(2, 128)
        return *struct.unpack("<IHH", data[:8]), data[8:]

    def received(self, number: int) -> bytes:
        """Return what the device puts into its next buffer of a receive queue."""
        head, written = self.queues[number].wait()
        return self.contents(self._incoming[number].pop(head), written)

    def rx(self, port: int) -> int:
        """Return the number of a port's receive queue."""
        return 2 * port + 2 if port else 0

    def send(self, port: int, data: bytes) -> None:
        """Hand the device bytes of a port, and do not wait."""
        queue = self.queues[self.rx(port) + 1]
        while queue.get() is not None:
            pass
        queue.add([self.place(data)])
        self.notify(queue)
