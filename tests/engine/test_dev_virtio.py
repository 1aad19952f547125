"""The transport and the rings, through virtio-rng, the simplest device on them."""

import os
import struct
from collections.abc import Iterator

import pytest
from dev_kit import RAM, RAM_SIZE, VIRTIO, Bench, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import lib
from vmrun.devices.testing import INDIRECT, NEXT, WRITE, Buffer, Driver

NAME = "virtio-rng"


@pytest.fixture
def rig() -> Iterator[tuple[Bench, Driver]]:
    with bench() as b:
        yield b, attach(b)


def attach(b: Bench) -> Driver:
    source = b.keep(os.open("/dev/zero", os.O_RDONLY))
    b.make("vmr_virtio_rng_new", "vmr_virtio_rng", VIRTIO, 0x1000, b.line.c, source)
    b.machine.start()
    return Driver(b.machine, VIRTIO, b.memory)


def begin(driver: Driver, wanted: int | None = None, size: int = 16) -> None:
    driver.negotiate(wanted)
    driver.queue(0, size)
    driver.driver_ok()


V1 = 1 << 32


def test_identity(rig: tuple[Bench, Driver]) -> None:
    _, driver = rig
    assert driver.read("MAGIC").to_bytes(4, "little") == b"virt"
    assert driver.read("VERSION") == 2
    assert driver.read("DEVICE_ID") == 4
    assert driver.read("QUEUE_NUM_MAX") == 256
    driver.write("QUEUE_SEL", 1)
    assert driver.read("QUEUE_NUM_MAX") == 0
    assert driver.read("SHM_LEN_LOW") == driver.read("SHM_BASE_HIGH") == 0xFFFFFFFF
    assert driver.offered == 1 << 28 | 1 << 29 | V1
    driver.write("DEVICE_FEATURES_SEL", 2)
    assert driver.read("DEVICE_FEATURES") == 0


def test_features_are_refused_unless_offered_and_modern(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    assert driver.negotiate() == driver.offered
    assert driver.negotiate(V1) == V1
    assert driver.negotiate(0) == 0
    assert driver.negotiate(V1 | 1 << 5) == 0
    driver.driver_ok()
    assert not driver.status & lib.VMR_VIRTIO_STATUS_DRIVER_OK
    assert b.wrongs(NAME) == {"features that were not offered, or no VERSION_1": 2, "DRIVER_OK without FEATURES_OK": 1}


def test_a_buffer_comes_back_and_interrupts_until_acknowledged(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver, V1)
    queue = driver.queues[0]
    room = driver.room(64)
    b.machine.write_ram(room.gpa, b"\xaa" * 64)
    head = queue.add([room])
    assert b.level() == 0
    driver.notify(queue)
    assert queue.get() == (head, 64)
    assert driver.contents(room) == bytes(64)
    assert b.level() == 1 and driver.read("INTERRUPT_STATUS") == lib.VMR_VIRTIO_INT_VRING
    driver.write("INTERRUPT_ACK", 2)
    assert b.level() == 1
    driver.write("INTERRUPT_ACK", 1)
    assert b.level() == 0


def test_an_interrupt_can_be_declined(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver, V1)
    queue = driver.queues[0]
    queue.set_avail_flags(1)
    queue.add([driver.room(8)])
    driver.notify(queue)
    assert queue.get() is not None and b.level() == 0


def test_event_index_suppresses_interrupts_and_asks_for_notifications(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver)
    queue = driver.queues[0]
    queue.set_used_event(2)  # only the third
    for count in range(1, 5):
        queue.add([driver.room(8)])
        driver.notify(queue)
        assert queue.avail_event == count
        assert b.level() == (1 if count == 3 else 0)
        driver.write("INTERRUPT_ACK", 1)


def test_rings_wrap_and_chains_spread(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver, size=4)
    queue = driver.queues[0]
    rooms = [driver.room(100), driver.room(50)]
    table = [Buffer(rooms[0].gpa + 10 * i, 10, writable=True) for i in range(10)]
    for turn in range(70000 // 64):
        indirect = turn % 2 == 1
        head = queue.add(table if indirect else rooms, indirect=indirect)
        driver.notify(queue)
        assert queue.get() == (head, 100 if indirect else 150)
    assert not driver.needs_reset and b.wrongs(NAME) == {}


def test_used_index_wraps_at_65536(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver, V1, size=256)
    queue = driver.queues[0]
    room = driver.room(1)
    done = 0
    while done < 65536 + 300:
        heads = [queue.add([room]) for _ in range(256)]
        driver.notify(queue)
        for head in heads:
            assert queue.get() == (head, 1)
        done += 256
    assert b.wrongs(NAME) == {}


def test_reset_forgets_everything(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver)
    driver.queues[0].add([driver.room(8)])
    driver.notify(driver.queues[0])
    assert b.level() == 1
    driver.reset()
    assert (b.level(), driver.status, driver.read("INTERRUPT_STATUS"), driver.read("QUEUE_READY")) == (0, 0, 0, 0)
    begin(driver)
    driver.queues[0].add([driver.room(8)])
    driver.notify(driver.queues[0])
    assert driver.queues[0].get() is not None


def test_buffers_made_available_before_driver_ok_are_served_then(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    driver.negotiate()
    queue = driver.queue(0)
    queue.add([driver.room(8)])
    driver.notify(queue)
    assert queue.get() is None
    driver.driver_ok()
    assert queue.get() is not None
    assert b.wrongs(NAME) == {"notification before DRIVER_OK": 1}


def test_registers_out_of_order_are_counted(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver)
    driver.write("DRIVER_FEATURES", 0)
    driver.write("QUEUE_NUM", 8)
    driver.write("QUEUE_NOTIFY", 9)
    driver.write("STATUS", 1)
    driver.write("MAGIC", 1)
    driver.write("CONFIG", 1)
    driver.write("QUEUE_SEL", 5)
    driver.write("QUEUE_READY", 1)
    b.machine.poke(VIRTIO + 0x70, 1, 0)
    assert b.machine.peek(VIRTIO + 0x70, 2) == 0
    assert b.machine.peek(VIRTIO + 0x84, 4) == 0
    assert b.wrongs(NAME) == {
        "features changed after FEATURES_OK": 1,
        "queue changed while it is ready": 1,
        "notification of a queue that is not there": 1,
        "status bit cleared without a reset": 1,
        "write of a reserved or read-only register": 1,
        "write of a read-only configuration field": 1,
        "write to a queue that is not there": 1,
        "register write that is not 32 bits wide": 1,
        "register read that is not 32 bits wide": 1,
        "read of a reserved or write-only register": 1,
    }


@pytest.mark.parametrize(
    ("register", "value"),
    [
        ("QUEUE_NUM", 0),
        ("QUEUE_NUM", 3),
        ("QUEUE_NUM", 512),
        ("QUEUE_NUM", 65536 + 16),
        ("QUEUE_DESC_LOW", RAM + 8),
        ("QUEUE_DRIVER_LOW", RAM + 1),
        ("QUEUE_DEVICE_LOW", RAM + 2),
        ("QUEUE_DESC_HIGH", 0xFFFFFFFF),
        ("QUEUE_DEVICE_LOW", RAM + RAM_SIZE - 16),
    ],
)
def test_rings_that_cannot_be_ask_for_a_reset(rig: tuple[Bench, Driver], register: str, value: int) -> None:
    _, driver = rig
    driver.negotiate()
    queue = driver.queue(0)
    driver.write("QUEUE_READY", 0)
    driver.write(register, value)
    driver.write("QUEUE_READY", 1)
    assert driver.needs_reset and not driver.read("QUEUE_READY")
    driver.driver_ok()
    queue.add([driver.room(8)])
    driver.notify(queue)
    assert queue.get() is None
    driver.reset()
    begin(driver)
    driver.queues[0].add([driver.room(8)])
    driver.notify(driver.queues[0])
    assert driver.queues[0].get() is not None


def break_ring(driver: Driver, kind: str) -> None:
    queue = driver.queues[0]
    room = driver.room(64)
    put = queue.put_descriptor
    table = driver.memory.take(64)
    entry = struct.pack("<QIHH", room.gpa, 64, WRITE, 0)
    match kind:
        case "buffer outside RAM":
            put(0, RAM + RAM_SIZE - 8, 16, WRITE)
        case "buffer outside RAM, wrapping":
            put(0, 2**64 - 8, 16, WRITE)
        case "buffer outside RAM, long":
            put(0, RAM, 2**32 - 1, WRITE)
        case "next descriptor beyond the table":
            put(0, room.gpa, 64, WRITE | NEXT, 16)
        case "chain longer than the queue":
            put(0, room.gpa, 64, WRITE | NEXT, 1)
            put(1, room.gpa, 64, WRITE | NEXT, 0)
        case "chain longer than the queue, of empty buffers":
            put(0, room.gpa, 0, WRITE | NEXT, 0)
        case "readable buffer after a writable one":
            put(0, room.gpa, 64, WRITE | NEXT, 1)
            put(1, room.gpa, 64, 0)
        case "indirect table in an indirect table":
            driver.machine.write_ram(table, struct.pack("<QIHH", table, 16, INDIRECT, 0))
            put(0, table, 16, INDIRECT)
        case "indirect descriptor with a next one":
            driver.machine.write_ram(table, entry)
            put(0, table, 16, INDIRECT | NEXT, 1)
        case "indirect table of a broken size":
            put(0, table, 17, INDIRECT)
        case "indirect table of a broken size, 0":
            put(0, table, 0, INDIRECT)
        case "indirect table outside RAM":
            put(0, RAM + RAM_SIZE - 16, 32, INDIRECT)
        case "indirect table outside RAM, long":
            put(0, RAM, 0xFFFFFFF0, INDIRECT)
    queue.offer(0)


BROKEN = [
    "buffer outside RAM",
    "buffer outside RAM, wrapping",
    "buffer outside RAM, long",
    "next descriptor beyond the table",
    "chain longer than the queue",
    "chain longer than the queue, of empty buffers",
    "readable buffer after a writable one",
    "indirect table in an indirect table",
    "indirect descriptor with a next one",
    "indirect table of a broken size",
    "indirect table of a broken size, 0",
    "indirect table outside RAM",
    "indirect table outside RAM, long",
]


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_ring_is_counted_and_asks_for_a_reset(rig: tuple[Bench, Driver], kind: str) -> None:
    b, driver = rig
    begin(driver)
    break_ring(driver, kind)
    driver.notify(driver.queues[0])
    assert driver.needs_reset
    assert driver.read("INTERRUPT_STATUS") & lib.VMR_VIRTIO_INT_CONFIG and b.level() == 1
    assert b.wrongs(NAME) == {kind.split(",")[0]: 1}
    assert driver.queues[0].used_index == 0
    driver.notify(driver.queues[0])
    begin(driver)
    driver.queues[0].add([driver.room(8)])
    driver.notify(driver.queues[0])
    assert driver.queues[0].get() is not None


def test_a_head_or_an_index_out_of_range_breaks(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver)
    driver.queues[0].offer(16)
    driver.notify(driver.queues[0])
    assert driver.needs_reset
    begin(driver)
    b.machine.write_ram(driver.queues[0].avail + 2, struct.pack("<H", 17))
    driver.notify(driver.queues[0])
    assert driver.needs_reset
    assert b.wrongs(NAME) == {
        "head beyond the descriptor table": 1,
        "available index runs ahead of the queue": 1,
    }


def test_an_indirect_table_that_was_not_negotiated_breaks(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver, V1)
    driver.queues[0].add([driver.room(8)], indirect=True)
    driver.notify(driver.queues[0])
    assert driver.needs_reset and b.wrongs(NAME) == {"indirect table that was not negotiated": 1}


def test_the_longest_chain_works_and_a_longer_one_breaks(rig: tuple[Bench, Driver]) -> None:
    _, driver = rig
    begin(driver, size=256)
    queue = driver.queues[0]
    one = driver.room(4)
    queue.add([one] * 256, indirect=True)
    driver.notify(queue)
    assert queue.get() == (0, 1024)
    queue.add([one] * 257, indirect=True)
    driver.notify(queue)
    assert driver.needs_reset


def test_more_buffers_than_are_filled_at_once_all_come_back(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver, size=256)
    queue = driver.queues[0]
    for _ in range(3):
        for _ in range(256):
            queue.add([driver.room(1)])
        driver.notify(queue)
        for _ in range(256):
            queue.wait()
    assert b.machine.drain(10_000)


def test_a_readable_buffer_for_entropy_is_counted(rig: tuple[Bench, Driver]) -> None:
    b, driver = rig
    begin(driver)
    head = driver.queues[0].add([driver.place(b"give me")])
    driver.notify(driver.queues[0])
    assert driver.queues[0].get() == (head, 0)
    assert b.wrongs(NAME) == {"buffer without a writable part": 1}


def test_entropy_of_the_host_differs_from_itself() -> None:
    with bench() as b:
        b.make("vmr_virtio_rng_new", "vmr_virtio_rng", VIRTIO, 0x1000, b.line.c, -1)
        b.machine.start()
        driver = Driver(b.machine, VIRTIO, b.memory)
        begin(driver)
        rooms = [driver.room(64), driver.room(64), driver.room(100_000)]
        got = []
        for room in rooms:
            driver.queues[0].add([room])
            driver.notify(driver.queues[0])
            entry = driver.queues[0].get()
            assert entry is not None
            got.append((entry[1], driver.contents(room)))
        assert got[0][0] == 64 and got[0][1] != got[1][1] and len(set(got[0][1])) > 16
        assert got[2][0] == 4096


def test_a_source_that_ends_gives_nothing_and_a_file_repeats(tmp_path: "os.PathLike[str]") -> None:
    with bench() as b:
        source = b.keep(os.open(f"{tmp_path}/bytes", os.O_RDWR | os.O_CREAT))
        os.pwrite(source, b"0123456789", 0)
        b.make("vmr_virtio_rng_new", "vmr_virtio_rng", VIRTIO, 0x1000, b.line.c, source)
        b.machine.start()
        driver = Driver(b.machine, VIRTIO, b.memory)
        begin(driver)
        room = driver.room(8)
        written = []
        for _ in range(3):
            driver.queues[0].add([room])
            driver.notify(driver.queues[0])
            entry = driver.queues[0].get()
            assert entry is not None
            written.append((entry[1], driver.contents(room)[: entry[1]]))
        assert written == [(8, b"01234567"), (2, b"89"), (0, b"")]


ADDRESS = st.one_of(
    st.integers(RAM, RAM + 0x2000),
    st.sampled_from([0, RAM - 1, RAM + RAM_SIZE - 1, RAM + RAM_SIZE, 2**64 - 1, 2**64 - 16, RAM + 0x10]),
    st.integers(0, 2**64 - 1),
)
LENGTH = st.one_of(st.integers(0, 64), st.sampled_from([2**31, 2**32 - 1, RAM_SIZE, RAM_SIZE + 1]))
DESCRIPTOR = st.tuples(ADDRESS, LENGTH, st.integers(0, 7), st.integers(0, 20))


@given(
    table=st.lists(DESCRIPTOR, min_size=1, max_size=16),
    heads=st.lists(st.integers(0, 20), min_size=1, max_size=8),
    index=st.integers(0, 0xFFFF),
    wanted=st.sampled_from([V1, V1 | 1 << 28, V1 | 1 << 29, V1 | 1 << 28 | 1 << 29]),
)
@settings(max_examples=150, deadline=None)
def test_garbage_in_rings(table: list[tuple[int, int, int, int]], heads: list[int], index: int, wanted: int) -> None:
    with bench() as b:
        driver = attach(b)
        b.memory.take(0x1000)
        begin(driver, wanted)
        queue = driver.queues[0]
        for place, (gpa, size, flags, following) in enumerate(table):
            queue.put_descriptor(place, gpa, size, flags, following)
        for head in heads:
            queue.offer(head)
        driver.notify(queue)
        b.machine.write_ram(queue.avail + 2, struct.pack("<H", index))
        driver.notify(queue)
        assert driver.read("MAGIC") == lib.VMR_VIRTIO_MAGIC
        driver.reset()
        begin(driver)
        driver.queues[0].add([driver.room(8)])
        driver.notify(driver.queues[0])
        assert driver.queues[0].get() is not None


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.one_of(st.integers(0, 0x120), st.sampled_from(range(0, 0x104, 4))),
            st.sampled_from([1, 2, 4, 4, 4, 8]),
            st.one_of(ADDRESS, st.integers(0, 300)),
        ),
        max_size=60,
    )
)
@settings(max_examples=150, deadline=None)
def test_garbage_in_registers(accesses: list[tuple[bool, int, int, int]]) -> None:
    with bench() as b:
        driver = attach(b)
        for write, offset, size, value in accesses:
            if write:
                b.machine.poke(VIRTIO + offset, size, value & ((1 << 8 * size) - 1))
            else:
                b.machine.peek(VIRTIO + offset, size)
        driver.reset()
        begin(driver)
        assert driver.status == 0xF
