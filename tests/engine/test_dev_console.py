import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from dev_kit import VIRTIO, Bench, bench, read_all
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.devices.model import Wires
from vmrun.devices.testing import Buffer, ConsoleDriver, wait_for
from vmrun.devices.virtio.virtio_console import DEVICE, ports
from vmrun.errors import HostError
from vmrun.plan.model import DevicePlan, Interrupt

NAME = "virtio-console"
ADD, READY, CONSOLE, RESIZE, OPEN, TITLE = 1, 3, 4, 5, 6, 7


class Rig:
    """A console with a terminal (port 0) and two named ports: `in`, which is read from, and `out`, which hangs up."""

    def __init__(self, b: Bench, *, nonblocking: bool = True) -> None:
        self.bench = b
        self.handle = b.make("vmr_virtio_console_new", "vmr_virtio_console", VIRTIO, 0x1000, b.line.c, 3, 80, 25)
        self.keys_read, self.keys = b.pipe()
        self.screen, screen_write = b.pipe()
        os.set_blocking(screen_write, not nonblocking)
        in_read, self.into = b.pipe()
        self.out, out_write = b.pipe()
        self.port(0, b"", lib.VMR_PORT_CONSOLE, self.keys_read, screen_write)
        self.port(1, b"in", 0, in_read, -1)
        self.port(2, b"out", lib.VMR_PORT_HANGUP, -1, out_write)
        for fd in (screen_write, in_read, out_write):
            b.shut(fd)  # the device has its own
        self.driver = ConsoleDriver(b.machine, VIRTIO, b.memory)
        b.machine.start()

    def port(self, index: int, name: bytes, flags: int, in_fd: int, out_fd: int) -> None:
        self.bench.machine.check(lib.vmr_virtio_console_port(self.handle, index, name, flags, in_fd, out_fd), "port")

    def state(self, port: int) -> "ffi.CData":
        state = ffi.new("vmr_virtio_console_counters *")
        assert lib.vmr_virtio_console_get_counters(self.handle, port, state) == 0
        return state

    def open_all(self) -> None:
        self.driver.begin(3)
        for _ in range(3):
            self.driver.message()
        for port, messages in ((0, 3), (1, 2), (2, 2)):
            self.driver.control(port, READY, 1)
            for _ in range(messages):
                self.driver.message()
            self.driver.control(port, OPEN, 1)


@pytest.fixture
def rig() -> Iterator[Rig]:
    with bench() as b:
        yield Rig(b)


def test_ports_introduce_themselves(rig: Rig) -> None:
    driver = rig.driver
    driver.begin(3)
    assert [driver.message() for _ in range(3)] == [(i, ADD, 1, b"") for i in range(3)]
    driver.control(0, READY, 1)
    assert driver.message() == (0, CONSOLE, 1, b"")
    assert driver.message() == (0, RESIZE, 1, struct.pack("<HH", 80, 25))
    assert driver.message() == (0, OPEN, 1, b"")
    driver.control(1, READY, 1)
    assert driver.message() == (1, TITLE, 1, b"in")
    assert driver.message() == (1, OPEN, 1, b"")
    assert (driver.config(0, 2), driver.config(2, 2), driver.config(4, 4)) == (80, 25, 3)
    assert rig.bench.wrongs(NAME) == {}


def test_messages_wait_for_buffers(rig: Rig) -> None:
    driver = rig.driver
    driver.begin(3, buffers=1)
    assert driver.received(2)[:6] == struct.pack("<IH", 0, ADD)
    assert rig.bench.machine.drain()
    assert driver.queues[2].get() is None
    driver.give(2, 128)
    assert driver.received(2)[:6] == struct.pack("<IH", 1, ADD)
    driver.give(2, 7)
    assert driver.received(2) == b""
    assert rig.bench.wrongs(NAME) == {"control buffer too small for a message": 1}


def test_bytes_go_both_ways(rig: Rig) -> None:
    rig.open_all()
    rig.driver.send(0, b"hello")
    assert os.read(rig.screen, 100) == b"hello"
    rig.driver.give(0, 64)
    os.write(rig.keys, b"ls\n")
    assert rig.driver.received(0) == b"ls\n"
    assert (rig.state(0).rx_bytes, rig.state(0).tx_bytes) == (3, 5)


def test_input_comes_only_once_the_guest_has_opened_the_port(rig: Rig) -> None:
    rig.driver.begin(3)
    rig.driver.give(4, 64)
    os.write(rig.into, b"early")
    assert rig.bench.machine.drain()
    assert rig.driver.queues[4].get() is None
    rig.driver.control(1, OPEN, 1)
    assert rig.driver.received(4) == b"early"


def test_the_end_of_input_is_told_behind_its_last_byte(rig: Rig) -> None:
    rig.open_all()
    os.write(rig.into, b"last words")
    rig.bench.shut(rig.into)
    for size in (4, 64):
        rig.driver.give(4, size)
    assert rig.driver.received(4) == b"last"
    assert rig.driver.received(4) == b" words"
    rig.driver.give(4, 64)
    assert rig.driver.message() == (1, OPEN, 0, b"")
    assert rig.state(1).in_open == 0
    rig.driver.control(1, READY, 1)
    assert rig.driver.message() == (1, TITLE, 1, b"in")
    assert rig.driver.message() == (1, OPEN, 0, b"")


def test_a_terminal_has_no_end(rig: Rig) -> None:
    rig.open_all()
    rig.driver.give(0, 64)
    rig.bench.shut(rig.keys)
    wait_for(lambda: rig.state(0).in_open == 0)
    assert rig.bench.machine.drain()
    assert rig.driver.queues[2].get() is None
    rig.driver.send(0, b"still here")
    assert os.read(rig.screen, 100) == b"still here"


def test_a_closed_port_hangs_up_behind_its_last_byte(rig: Rig) -> None:
    rig.open_all()
    data = bytes(i % 251 for i in range(150_000))
    for at in range(0, len(data), 50_000):
        rig.driver.send(2, data[at : at + 50_000])
    rig.driver.control(2, OPEN, 0)
    assert rig.state(2).out_open == 1
    assert not rig.bench.machine.drain(20)
    assert read_all(rig.out, len(data) + 1) == data
    assert rig.bench.machine.drain()
    assert rig.state(2).out_open == 0
    rig.driver.send(2, b"to nobody")
    rig.driver.queues[6 + 1].wait()


def test_a_port_that_does_not_hang_up_may_be_closed_and_opened(rig: Rig) -> None:
    rig.open_all()
    for _ in range(3):
        rig.driver.control(0, OPEN, 0)
        rig.driver.control(0, OPEN, 1)
        rig.driver.send(0, b"again")
        assert os.read(rig.screen, 100) == b"again"


@pytest.mark.parametrize("nonblocking", [True, False])
def test_a_slow_reader_holds_the_guest_back_and_loses_nothing(nonblocking: bool) -> None:
    with bench() as b:
        rig = Rig(b, nonblocking=nonblocking)
        rig.open_all()
        data = bytes(i * 3 % 256 for i in range(400_000))
        for at in range(0, len(data), 40_000):
            rig.driver.send(0, data[at : at + 40_000])
        tx = rig.driver.queues[1]
        assert tx.used_index < 10
        assert read_all(rig.screen, len(data)) == data
        assert b.machine.drain()
        assert tx.used_index == 10 and rig.state(0).tx_bytes == len(data)
        assert rig.bench.level() == 1


def test_what_was_queued_without_a_notification_is_drained(rig: Rig) -> None:
    rig.open_all()
    rig.driver.queues[1].add([rig.driver.place(b"quiet")])
    assert rig.bench.machine.drain()
    assert os.read(rig.screen, 9) == b"quiet"


def test_input_fills_buffers_as_they_come(rig: Rig) -> None:
    rig.open_all()
    data = bytes(i % 256 for i in range(30_000))
    os.write(rig.keys, data)
    got = b""
    while len(got) < len(data):
        for _ in range(3):
            rig.driver.give(0, 700)
        for _ in range(3):
            if len(got) < len(data):
                got += rig.driver.received(0)
    assert got == data


def test_a_reader_that_went_away_does_not_stop_the_guest(rig: Rig) -> None:
    rig.open_all()
    rig.bench.shut(rig.screen)
    rig.driver.send(0, b"nobody hears")
    rig.driver.queues[1].wait()
    assert rig.state(0).out_errno != 0 and rig.bench.machine.drain()


def test_a_reset_in_the_middle_of_a_buffer(rig: Rig) -> None:
    rig.open_all()
    for _ in range(4):
        rig.driver.send(0, bytes(60_000))
    rig.driver.reset()
    assert rig.bench.machine.drain(2000)
    os.set_blocking(rig.screen, False)
    while True:
        try:
            os.read(rig.screen, 1 << 20)
        except BlockingIOError:
            break
    rig.open_all()
    rig.driver.send(0, b"back")
    assert os.read(rig.screen, 100) == b"back"


def test_a_driver_without_ports_has_the_terminal() -> None:
    with bench() as b:
        rig = Rig(b)
        driver = rig.driver
        driver.negotiate(1 << 32)
        receive, transmit = driver.queue(0), driver.queue(1)
        room = driver.room(16)
        receive.add([room])
        driver.driver_ok()
        os.write(rig.keys, b"k")
        driver.notify(receive)
        assert receive.wait() == (0, 1) and driver.contents(room, 1) == b"k"
        transmit.add([driver.place(b"plain")])
        driver.notify(transmit)
        assert os.read(rig.screen, 10) == b"plain"


def test_a_new_size_is_told(rig: Rig) -> None:
    rig.open_all()
    generation = rig.driver.read("CONFIG_GENERATION")
    rig.bench.machine.check(lib.vmr_virtio_console_resize(rig.handle, 132, 50), "resize")
    assert rig.driver.message() == (0, RESIZE, 1, struct.pack("<HH", 132, 50))
    assert (rig.driver.config(0, 2), rig.driver.config(2, 2)) == (132, 50)
    assert rig.driver.read("CONFIG_GENERATION") != generation
    assert rig.driver.read("INTERRUPT_STATUS") & lib.VMR_VIRTIO_INT_CONFIG
    with pytest.raises(HostError):
        rig.bench.machine.check(lib.vmr_virtio_console_resize(rig.handle, 65536, 50), "resize")


def test_a_socket_serves_both_ways() -> None:
    with bench() as b:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            handle = b.make("vmr_virtio_console_new", "vmr_virtio_console", VIRTIO, 0x1000, b.line.c, 1, 0, 0)
            assert lib.vmr_virtio_console_port(handle, 0, b"s", 0, theirs.fileno(), theirs.fileno()) == 0
            b.machine.start()
            driver = ConsoleDriver(b.machine, VIRTIO, b.memory)
            driver.begin(1)
            driver.control(0, OPEN, 1)
            data = bytes(500_000)
            for at in range(0, len(data), 100_000):
                driver.send(0, data[at : at + 100_000])
            got = 0
            while got < len(data):
                got += len(ours.recv(1 << 20))
            driver.give(0, 64)
            ours.send(b"ping")
            assert driver.received(0) == b"ping"
            assert theirs.getblocking()


def test_control_messages_that_make_no_sense_are_counted(rig: Rig) -> None:
    rig.driver.begin(3)
    for port, event, value in ((9, READY, 1), (2**32 - 1, OPEN, 1), (0, READY, 0), (0, 99, 1), (0, 0, 0)):
        rig.driver.control(port, event, value)
    queue = rig.driver.queues[3]
    queue.add([rig.driver.place(b"tiny")])
    rig.driver.notify(queue)
    queue.wait()
    rig.driver.queues[0].add([rig.driver.place(b"not for reading")])
    rig.driver.control(0, OPEN, 1)
    os.write(rig.keys, b"x")
    rig.driver.queues[0].wait()
    assert rig.bench.wrongs(NAME) == {
        "control message about a port that is not there": 2,
        "the driver could not set up a port": 1,
        "control message of an unknown kind": 1,
        "the driver could not set up the device": 1,
        "control message that is too short": 1,
        "receive buffer without room": 1,
    }


def test_ports_are_wired_in_order_and_checked() -> None:
    with bench() as b:
        with pytest.raises(HostError, match="1 to 16 ports"):
            b.make("vmr_virtio_console_new", "vmr_virtio_console", VIRTIO, 0x1000, b.line.c, 17, 0, 0)
        handle = b.make("vmr_virtio_console_new", "vmr_virtio_console", VIRTIO, 0x1000, b.line.c, 2, 0, 0)
        for index, name in ((1, b"x"), (2, b"x"), (0, b"x" * 64)):
            assert lib.vmr_virtio_console_port(handle, index, name, 0, -1, -1) < 0
        assert lib.vmr_virtio_console_port(handle, 0, ffi.NULL, 0, -1, -1) == 0
        assert lib.vmr_virtio_console_port(handle, 0, ffi.NULL, 0, -1, -1) < 0


@pytest.mark.parametrize(
    ("properties", "wanted"),
    [
        ({}, (("", True),)),
        ({"ports": ("a", "b")}, (("a", False), ("b", False))),
        ({"ports": ("a",), "console": True}, (("", True), ("a", False))),
    ],
)
def test_ports_of_a_plan(properties: dict[str, object], wanted: object) -> None:
    assert ports(DevicePlan("c", "virtio-console", VIRTIO, 0x1000, None, None, properties)) == wanted  # type: ignore[arg-type]


def test_a_planned_console_is_wired_by_name() -> None:
    with bench() as b:
        out_read, out_write = b.pipe()
        device = DevicePlan(
            "agent", "virtio-console", VIRTIO, 0x1000, Interrupt(7), "virtio-mmio", {"ports": ("vmrun.control", "x")}
        )
        live = DEVICE.realize(device, b.machine, Wires(streams={("agent", "x"): (-1, out_write)}))
        b.machine.start()
        driver = ConsoleDriver(b.machine, VIRTIO, b.memory)
        driver.begin(2)
        driver.control(1, OPEN, 1)
        driver.send(1, b"status 0")
        assert os.read(out_read, 20) == b"status 0"
        assert live.counters() == {"vmrun.control.in": 0, "vmrun.control.out": 0, "x.in": 0, "x.out": 8}
        live.resize(80, 24)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 7), st.lists(st.tuples(st.binary(max_size=20), st.booleans()), min_size=1, max_size=4)
        ),
        max_size=20,
    )
)
@settings(max_examples=60, deadline=None)
def test_garbage_on_every_queue(chains: list[tuple[int, list[tuple[bytes, bool]]]]) -> None:
    with bench() as b:
        rig = Rig(b)
        rig.driver.begin(3, size=64)
        os.write(rig.keys, b"some input")
        os.write(rig.into, b"some input")
        for number, parts in chains:
            buffers = []
            for data, writable in parts:
                placed = rig.driver.place(data)
                buffers.append(Buffer(placed.gpa, placed.size, writable))
            queue = rig.driver.queues[number]
            queue.add(buffers)
            rig.driver.notify(queue)
        assert b.machine.drain()
        rig.driver.reset()
        rig.open_all()
        rig.driver.send(2, b"fine")
        assert os.read(rig.out, 1000).endswith(b"fine")


# ---- output without an end -------------------------------------------------------------------------------------------


class Drinker(threading.Thread):
    """Reads all that comes until the other side is closed, and counts it."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd
        self.count = 0

    def run(self) -> None:
        while data := os.read(self.fd, 1 << 20):
            self.count += len(data)


def speak_for_long(driver: ConsoleDriver, chains: int) -> None:
    """Offer 2 GB with each chain on port 0, and do not notify."""
    queue = driver.queues[1]
    words = driver.place(bytes(8 << 20))
    for _ in range(chains):
        queue.add([words] * 250, indirect=True)


def test_output_without_an_end_is_cut_at_the_end() -> None:
    with bench() as b:
        rig = Rig(b)
        rig.open_all()
        drinker = Drinker(rig.screen)
        drinker.start()
        speak_for_long(rig.driver, 8)
        b.machine.stop()
        rig.driver.notify(rig.driver.queues[1])
        assert b.machine.drain()
        assert b.wrongs(NAME) == {"output without an end": 1}
        b.machine.close()  # the writing end goes with it
        drinker.join()
    assert 1 << 20 < drinker.count <= 16 << 20


def test_one_port_that_speaks_for_long_does_not_keep_others_waiting() -> None:
    with bench() as b:
        rig = Rig(b)
        rig.open_all()
        drinker = Drinker(rig.screen)
        drinker.start()
        speak_for_long(rig.driver, 8)
        rig.driver.notify(rig.driver.queues[1])
        rig.driver.send(2, b"short")
        assert read_all(rig.out, 5) == b"short"
        rig.driver.control(0, READY, 1)
        assert rig.driver.queues[1].used_index < 8
        b.machine.stop()
        b.machine.close()
        drinker.join()
