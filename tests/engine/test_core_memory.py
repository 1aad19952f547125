"""Kinds of guest memory, dirty logs, and windows that move: on the software core, and without any vCPU."""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
from dev_kit import VIRTIO, Bench, bench
from live_kit import REGION, SECONDS, WINDOW, Cell, Soft, machine
from rv64_priv_kit import RAM, RAM_SIZE, A, D, R, V, W, X, leaf

from vmrun._core import lib
from vmrun.core.machine import CoreMachine
from vmrun.core.memory import Region
from vmrun.devices.testing import Buffer, Driver, Memory, Queue, wait_for
from vmrun.errors import HostError

PAGE = 4096
Machines = Callable[..., AbstractContextManager[Soft]]
LOAD_ACCESS, STORE_ACCESS, FETCH_ACCESS = 5, 7, 1


@pytest.fixture(params=[0, 1], ids=["interpreted", "translated"])
def soft(request: pytest.FixtureRequest) -> Machines:
    """Makes machines whose harts interpret, or translate what they come to twice."""
    if request.param and lib.vmr_rv64_jit_probe():
        pytest.skip("this host has no translator, or allows it no memory")
    return partial(machine, threshold=request.param)


# ---- what a guest finds ----------------------------------------------------------------------------------------------


def test_a_guest_reads_and_runs_rom_and_its_writes_leave_to_the_bus(soft: Machines) -> None:
    cell = Cell()
    with soft() as made:
        rom = made.core.add_region(REGION, PAGE, "rom")
        made.core.claim(REGION, PAGE, cell)
        made.core.write_ram(REGION, (0x1234).to_bytes(8, "little") + (0x00008067).to_bytes(8, "little"))
        made.run(f"""
            li s1, {REGION}
            ld t0, 0(s1); sd t0, 0(s0)
            li t1, 99; sw t1, 4(s1); sd t1, 16(s1); sb t1, 1(s1)
            ld t0, 0(s1); sd t0, 8(s0)
            jalr ra, 8(s1)
        """)
        assert (made.out(0), made.out(1)) == (0x1234, 0x1234)
        assert cell.seen == [("write", 4, 4, 99), ("write", 16, 8, 99), ("write", 1, 1, 99)]
        assert rom.read(0, 8) == (0x1234).to_bytes(8, "little")
        assert made.trap().count == 0


def test_where_nobody_hears_a_write_to_rom_is_an_access_fault_and_so_is_an_atomic(soft: Machines) -> None:
    with soft() as made:
        made.core.add_region(REGION, PAGE, "rom")
        made.run(f"li s1, {REGION}; li t1, 1; sw t1, 8(s1)")
        assert (made.trap().count, made.trap().cause, made.trap().value) == (1, STORE_ACCESS, REGION + 8)
    with soft() as made:
        rom = made.core.add_region(REGION, PAGE, "rom")
        made.core.claim(REGION, PAGE, Cell())
        made.run(f"li s1, {REGION}; li t1, 1; lr.d t0, (s1); sc.d t0, t1, (s1); amoadd.d t0, t1, (s1)")
        assert (made.trap().count, made.trap().cause, made.trap().value) == (2, STORE_ACCESS, REGION)
        assert rom.read(0, 8) == bytes(8)


@pytest.mark.parametrize(("bits", "faults"), [(V | R | W | X, 1), (V | R | W | X | A | D, 0)])
def test_page_tables_in_rom_serve_while_no_bit_of_them_has_to_be_set(soft: Machines, bits: int, faults: int) -> None:
    with soft() as made:
        rom = made.core.add_region(REGION, PAGE, "rom")
        identity = [leaf(gpa << 30, V | R | W | X | A | D) for gpa in range(4)]  # 1 GiB each
        identity[3] = leaf(RAM, bits)
        rom.write(0, b"".join(entry.to_bytes(8, "little") for entry in identity))
        made.run(f"""
            li t0, {8 << 60 | REGION >> 12}; csrw satp, t0; sfence.vma
            li s1, {0xC000_0000 + 0x60_0000}; li t0, 7; sd t0, 0(s1)
        """)
        assert made.trap().count == faults
        assert faults == 0 or made.trap().cause == STORE_ACCESS
        assert rom.read(24, 8) == identity[3].to_bytes(8, "little")


class Flash:
    """A device of commands: 1 hides the memory, 2 shows it; while it is hidden each read finds 0x80."""

    def __init__(self) -> None:
        self.region: Region
        self.lock = threading.Lock()

    def read(self, offset: int, size: int) -> int:
        return 0x80

    def write(self, offset: int, size: int, value: int) -> None:
        with self.lock:
            self.region.trap(value == 1)


def test_a_flash_is_memory_until_it_is_told_to_answer_itself(soft: Machines) -> None:
    flash = Flash()
    with soft() as made:
        flash.region = made.core.add_region(REGION, 2 * PAGE, "flash")
        made.core.claim(REGION, 2 * PAGE, flash)
        flash.region.write(0, bytes([7, 0]))
        made.run(f"""
            li s1, {REGION}; li t1, 1; li t2, 2
            lbu t0, 0(s1); sd t0, 0(s0)
            sb t1, 0(s1); lbu t0, 0(s1); sd t0, 8(s0)
            sb t2, 0(s1); lbu t0, 0(s1); sd t0, 16(s0)
        """)
        assert [made.out(i) for i in range(3)] == [7, 0x80, 7]
        assert flash.region.read(0, 1) == b"\x07"
        flash.region.trap(True)
        with pytest.raises(HostError, match="is not RAM"):
            made.core.read_ram(REGION, 1)
        assert made.core.peek(REGION, 1) == 0x80
        assert flash.region.read(0, 1) == b"\x07"


def test_code_and_data_go_with_the_region_that_holds_them(soft: Machines) -> None:
    """A hart calls a function in a region and reads its data; other memory comes to that place under it."""
    with soft(harts=1) as made:
        here, there = made.core.add_region(REGION, PAGE), made.core.add_region(None, PAGE)
        for region, value in ((here, 11), (there, 22)):
            code = (value << 20 | 0x513).to_bytes(4, "little") + (0x00008067).to_bytes(4, "little")  # li a0, value; ret
            region.write(0, code)
            region.write(0x800, value.to_bytes(8, "little"))

        class Swap:
            def read(self, offset: int, size: int) -> int:
                return 0

            def write(self, offset: int, size: int, value: int) -> None:
                here.move(None)
                there.move(REGION)

        made.core.claim(WINDOW, 8, Swap())
        made.run(f"""
            li s1, {REGION}; li s2, {WINDOW}
            lr.d t2, (s1); jalr ra, 0(s1); ld t0, 0x7f8(s1); addi s3, s1, 0x7f8; ld t0, 8(s3)
            sd a0, 0(s0); sd t0, 8(s0); sw x0, 0(s2)
            jalr ra, 0(s1); ld t0, 8(s3); sd a0, 16(s0); sd t0, 24(s0)
        """)
        assert [made.out(i) for i in range(4)] == [11, 11, 22, 22]


def test_memory_that_went_is_no_longer_there_for_loads_stores_and_fetches(soft: Machines) -> None:
    with soft() as made:
        region = made.core.add_region(REGION, PAGE)
        region.write(0, (0x00008067).to_bytes(8, "little"))

        class Remover:
            def read(self, offset: int, size: int) -> int:
                region.remove()
                return 0

            def write(self, offset: int, size: int, value: int) -> None:
                raise AssertionError

        made.core.claim(WINDOW, 8, Remover())
        made.run(f"""
            li s1, {REGION}; li s2, {WINDOW}
            ld t0, 0(s1); sd t0, 8(s1); jalr ra, 0(s1)
            lw t0, 0(s2)
            ld t0, 0(s1); csrr t1, scause; sd t1, 0(s0)
            sd t0, 8(s1); csrr t1, scause; sd t1, 8(s0)
            la ra, back; la t1, hop; csrw stvec, t1
            jr s1
        .align 4
hop:        csrr t1, scause; sd t1, 16(s0)
back:       nop
        """)
        assert [made.out(i) for i in range(3)] == [LOAD_ACCESS, STORE_ACCESS, FETCH_ACCESS]


# ---- the host's side -------------------------------------------------------------------------------------------------


def test_shared_memory_is_a_descriptor_that_cannot_be_cut() -> None:
    with CoreMachine() as machine:
        private = machine.add_region(REGION, PAGE)
        shared = machine.add_region(REGION + PAGE, 2 * PAGE, shared=True)
        fd = shared.fd()
        assert private.fd() is None and fd is not None
        assert os.get_inheritable(fd) is False
        with mmap.mmap(fd, 2 * PAGE) as mapped:
            machine.write_ram(REGION + PAGE + 5, b"hello")
            assert mapped[5:10] == b"hello"
            mapped[PAGE : PAGE + 2] = b"hi"
            assert machine.read_ram(REGION + 2 * PAGE, 2) == b"hi"
        for size in (PAGE, 4 * PAGE):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        shared.remove()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)


def test_regions_move_hide_and_go_and_their_bytes_stay() -> None:
    with CoreMachine() as machine:
        machine.add_ram(RAM, RAM_SIZE)
        region = machine.add_region(None, PAGE)
        region.write(1, b"bytes")
        with pytest.raises(HostError, match="is not RAM"):
            machine.read_ram(REGION, 1)
        for at in (REGION, REGION + PAGE, REGION):
            region.move(at)
            assert machine.read_ram(at + 1, 5) == b"bytes"
        for wrong, text in ((RAM, "overlaps"), (RAM + RAM_SIZE - PAGE, "overlaps"), (REGION + 1, "unaligned")):
            with pytest.raises(HostError, match=text) as caught:
                region.move(wrong)
            assert caught.value.code == "E356"
        assert machine.read_ram(REGION + 1, 5) == b"bytes"
        region.move(None)
        assert region.read(1, 5) == b"bytes"
        with pytest.raises(HostError, match="not inside"):
            region.read(PAGE - 1, 2)
        with pytest.raises(HostError, match="not inside"):
            region.write(2**64 - 1, b"xy")
        with pytest.raises(HostError, match="only a flash"):
            region.trap(True)
        region.remove()
        with pytest.raises(HostError, match="more than 64"):
            for i in range(65):
                machine.add_region(REGION + i * PAGE, PAGE)


def test_three_hundred_regions_leave_nothing_behind() -> None:
    with CoreMachine() as machine:
        machine.start()

        def life() -> None:
            region = machine.add_region(REGION, 16 * PAGE, "flash", shared=True)
            region.start_log()
            region.write(0, b"x")
            region.trap(True)
            window = machine.claim(WINDOW, 16, Cell())
            window.remove()
            region.remove()

        life()
        before = _footprint()
        for _ in range(300):
            life()
        assert _footprint() == before


def _footprint() -> tuple[int, int]:
    maps = Path("/proc/self/maps").read_text().count("vmrun-memory")
    return len(list(Path("/proc/self/fd").iterdir())), maps


# ---- dirty logs ------------------------------------------------------------------------------------------------------


def test_a_log_tells_of_each_page_once() -> None:
    with CoreMachine() as machine:
        region = machine.add_region(REGION, 200 * PAGE)
        machine.write_ram(REGION, b"before")
        with pytest.raises(HostError, match="no dirty log"):
            region.take_log()
        region.start_log()
        with pytest.raises(HostError, match="already"):
            region.start_log()
        assert region.take_log() == []
        machine.write_ram(REGION + 70 * PAGE - 1, b"xy")
        region.write(199 * PAGE + 4095, b"z")
        assert region.take_log() == [69, 70, 199]
        assert region.take_log() == []
        region.move(REGION + 512 * PAGE)
        machine.write_ram(REGION + 512 * PAGE, b"x")
        region.move(None)
        region.write(PAGE, b"x")
        assert region.take_log() == [0, 1]
        region.stop_log()
        region.stop_log()
        region.start_log()
        assert region.take_log() == []


WRITER = """
        li   s2, {base}; li s3, 12345; li s5, {stride}
        li   s6, {pages}
again:  mul  s3, s3, s5; addi s3, s3, 77
        srli t0, s3, 20; remu t0, t0, s6; slli t0, t0, 12; add t0, t0, s2
        srli t1, s3, 40; andi t1, t1, 1016; add t0, t0, t1
        sd   s3, {offset}(t0)
        addi t2, t0, {offset}; amoadd.d t3, s3, (t2)
        sd   s3, {offset_odd}(t0)
        j    again
"""


def test_a_log_and_copies_of_its_pages_make_the_memory_that_two_harts_write(soft: Machines) -> None:
    """Fetch, copy what was reported, and again: a store that no fetch told of would be missing from the shadow."""
    pages = 64
    with soft(harts=2) as made:
        region = made.core.add_region(REGION, pages * PAGE)
        first = WRITER.format(base=REGION, stride=6364136223846793005, pages=pages, offset=0, offset_odd=5)
        second = WRITER.format(base=REGION, stride=2862933555777941757, pages=pages, offset=1024, offset_odd=1029)
        second = second.replace("again", "again2")
        made.load(
            f"li a7, 0x48534d; li a6, 0; li a0, 1; la a1, other; li a2, 0; ecall\n{first}\nother:\n{second}",
        )
        region.start_log()
        shadow = bytearray(region.read(0, pages * PAGE))
        made.start()
        told = [0]

        def enough() -> bool:
            told[0] += _copy(region, shadow)
            return told[0] >= 4_000

        wait_for(enough, "what the log tells")
        made.core.stop()
        made.join()
        _copy(region, shadow)
        assert bytes(shadow) == region.read(0, pages * PAGE)
        assert shadow.count(0) < len(shadow)


def _copy(region: Region, shadow: bytearray) -> int:
    found = region.take_log()
    for page in found:
        shadow[page * PAGE : (page + 1) * PAGE] = region.read(page * PAGE, PAGE)
    return len(found)


def test_a_log_knows_the_bits_that_the_page_walk_sets(soft: Machines) -> None:
    with soft() as made:
        region = made.core.add_region(REGION, 4 * PAGE)
        entries = [leaf(gpa << 30, V | R | W | X | A | D) for gpa in range(4)]
        entries[3] = leaf(RAM, V | R | W | X)
        region.write(2 * PAGE, b"".join(entry.to_bytes(8, "little") for entry in entries))
        region.start_log()
        made.run(f"""
            li t0, {8 << 60 | (REGION + 2 * PAGE) >> 12}; csrw satp, t0; sfence.vma
            li s1, 0xC0600000; ld t0, 0(s1)
        """)
        assert region.take_log() == [2]


def _make_rng(b: Bench) -> None:
    b.make("vmr_virtio_rng_new", "vmr_virtio_rng", VIRTIO, 0x1000, b.line.c, -1)


def _make_disk(b: Bench) -> None:
    image = b.keep(os.memfd_create("disk"))
    os.pwrite(image, os.urandom(64 * PAGE), 0)
    b.make("vmr_virtio_blk_new", "vmr_virtio_blk", VIRTIO, 0x1000, b.line.c, image, lib.VMR_DISK_RO, -1, b"serial")


def _use_rng(driver: Driver, queue: Queue) -> None:
    queue.add([driver.room(3 * PAGE), driver.room(100)])
    driver.notify(queue)
    queue.wait()


def _use_disk(driver: Driver, queue: Queue) -> None:
    for request, size in ((lib.VMR_VIRTIO_BLK_T_IN, 9 * PAGE), (lib.VMR_VIRTIO_BLK_T_GET_ID, 20)):
        queue.add([driver.place(struct.pack("<IIQ", request, 0, 8)), driver.room(size), driver.room(1)])
        driver.notify(queue)
        queue.wait()


DEVICES = pytest.mark.parametrize(("make", "use"), [(_make_rng, _use_rng), (_make_disk, _use_disk)])


@contextmanager
def in_region(make: Callable[[Bench], None]) -> Iterator[tuple[Bench, Region, Driver, Queue]]:
    """A device whose rings and buffers lie in a region of their own."""
    with bench() as b:
        region = b.machine.add_region(REGION, 64 * PAGE)
        make(b)
        b.machine.start()
        driver = Driver(b.machine, VIRTIO, Memory(b.machine, REGION + 3936, 63 * PAGE))
        driver.negotiate(1 << 32)  # no event index: its store would mark the page of the last entries
        queue = driver.queue(0, 8)
        assert (queue.used + 2) // PAGE < (queue.used + 4 + 8) // PAGE, "the index has another page than entries"
        driver.memory.take(2 * PAGE)  # so that nobody but the device writes there
        driver.driver_ok()
        yield b, region, driver, queue


@DEVICES
def test_a_log_knows_all_that_a_device_writes(
    make: Callable[[Bench], None], use: Callable[[Driver, Queue], None]
) -> None:
    with in_region(make) as (_, region, driver, queue):
        region.start_log()
        shadow = bytearray(region.read(0, 64 * PAGE))
        for _ in range(3):
            use(driver, queue)
            assert 0 < _copy(region, shadow) < 40
            assert bytes(shadow) == region.read(0, 64 * PAGE)


@DEVICES
def test_rings_are_followed_to_new_memory_and_missed_where_there_is_none(
    make: Callable[[Bench], None], use: Callable[[Driver, Queue], None]
) -> None:
    with in_region(make) as (b, region, driver, queue):
        use(driver, queue)
        copy = b.machine.add_region(None, 64 * PAGE)
        copy.write(0, region.read(0, 64 * PAGE))
        region.move(None)
        copy.move(REGION)
        region.remove()
        use(driver, queue)
        assert not driver.needs_reset
        queue.add([driver.room(16)])
        copy.remove()
        driver.notify(queue)
        wait_for(lambda: driver.needs_reset, "the device's surrender")
        assert {"queue whose rings are no longer in RAM"} == {
            what for device, what, _ in b.machine.guest_errors() if device.startswith("virtio")
        }


def test_rom_takes_nothing_from_a_device() -> None:
    with bench() as b:
        rom = b.machine.add_region(REGION, PAGE, "rom")
        _make_rng(b)
        b.machine.start()
        driver = Driver(b.machine, VIRTIO, b.memory)
        driver.negotiate()
        queue = driver.queue(0, 8)
        driver.driver_ok()
        queue.add([Buffer(REGION, 16, True)])
        driver.notify(queue)
        assert driver.needs_reset
        assert rom.read(0, PAGE) == bytes(PAGE)


def _taken(fd: int, into: bytearray) -> int:
    """Take what is there, and return how much came in all."""
    with suppress(BlockingIOError):
        into += os.read(fd, 16 * PAGE)
    return len(into)


def test_a_buffer_in_hand_follows_its_memory_or_goes_with_it() -> None:
    """A console whose reader does not read keeps the guest's buffer, while the memory under it is exchanged."""
    with bench() as b:
        region, other = b.machine.add_region(REGION, 64 * PAGE), b.machine.add_region(None, 64 * PAGE)
        read, write = b.pipe()
        console = b.make("vmr_virtio_console_new", "vmr_virtio_console", VIRTIO, 0x1000, b.line.c, 1, 80, 25)
        b.machine.check(lib.vmr_virtio_console_port(console, 0, b"", lib.VMR_PORT_CONSOLE, -1, write), "port")
        b.machine.start()
        driver = Driver(b.machine, VIRTIO, b.memory)
        driver.negotiate(1 << 32)
        queue = driver.queue(1, 8)
        driver.driver_ok()
        region.write(0, b"a" * 64 * PAGE)
        other.write(0, b"b" * 64 * PAGE)
        queue.add([Buffer(REGION, 64 * PAGE)])
        driver.notify(queue)
        region.move(None)
        other.move(REGION)
        region.remove()
        os.set_blocking(read, False)
        rest = bytearray()
        wait_for(lambda: _taken(read, rest) == 64 * PAGE, "the guest's output")
        assert len(rest) == 64 * PAGE and rest.startswith(b"a") and rest.endswith(b"b")
        assert rest.strip(b"a").strip(b"b") == b""
        queue.wait()
        queue.add([Buffer(REGION, 64 * PAGE)])
        driver.notify(queue)
        other.remove()
        wait_for(lambda: _taken(read, rest) > 64 * PAGE and driver.needs_reset, "the device's surrender")
        assert b.wrongs("virtio-console") == {"buffer that is no longer in RAM": 1}


# ---- windows ---------------------------------------------------------------------------------------------------------


def test_windows_move_and_go_while_the_machine_runs() -> None:
    with CoreMachine() as machine:
        machine.start()
        first, second = Cell(), Cell()
        window = machine.claim(WINDOW, 16, first)
        other = machine.claim(None, 16, second)
        assert machine.peek(WINDOW, 4) == 0x55667788
        with pytest.raises(HostError, match="overlaps") as caught:
            other.move(WINDOW + 8)
        assert caught.value.code == "E357"
        window.move(lib.VMR_PIO | 0x60)
        assert machine.peek(WINDOW, 4) is None
        assert machine.peek(lib.VMR_PIO | 0x62, 2) == 0x7788
        other.move(WINDOW + 8)
        assert machine.poke(WINDOW + 12, 4, 5)
        assert second.seen == [("write", 4, 4, 5)]
        assert first.seen == [("read", 0, 4), ("read", 2, 2)]
        window.remove()
        other.move(None)
        assert machine.peek(lib.VMR_PIO | 0x62, 2) is None
        assert machine.peek(WINDOW + 12, 2) is None


def test_a_window_is_removed_when_the_last_access_has_left_it(soft: Machines) -> None:
    entered, leave = threading.Event(), threading.Event()
    order: list[str] = []

    class Slow:
        def read(self, offset: int, size: int) -> int:
            entered.set()
            leave.wait(SECONDS)
            order.append("read")
            return 1

        def write(self, offset: int, size: int, value: int) -> None:
            raise AssertionError

    with soft() as made:
        window = made.core.claim(WINDOW, 16, Slow())
        made.load(f"li s1, {WINDOW}; lw t0, 0(s1); sd t0, 0(s0)")
        made.start()
        assert entered.wait(SECONDS)

        def remove() -> None:
            window.remove()
            order.append("removed")

        remover = threading.Thread(target=remove)
        remover.start()
        wait_for(lambda: _is_free(made.core, WINDOW), "the window's end")
        assert order == [] and remover.is_alive()
        leave.set()
        remover.join()
        made.join()
        assert order == ["read", "removed"] and made.out(0) == 1


def _is_free(machine: CoreMachine, gpa: int) -> bool:
    try:
        machine.claim(gpa, 16, Cell())
    except HostError:
        return False
    return True


def test_an_access_that_left_before_its_window_went_finds_nobody() -> None:
    from types import SimpleNamespace

    cell = Cell()
    with CoreMachine() as machine:
        machine.claim(WINDOW, 16, cell).remove()
        left = SimpleNamespace(kind=lib.VMR_EXIT_MMIO_READ, window=0, offset=0, size=4, data=0)
        with machine._windows.server() as server:
            server.serve(left)
        assert left.data == 2**32 - 1 and cell.seen == []


def _narrow(machine: CoreMachine, low: int, high: int) -> Callable[..., list[tuple[object, ...]]]:
    cell = Cell()
    machine.claim(WINDOW, 16, cell, min_width=low, max_width=high)

    def access(offset: int, size: int, value: int | None = None) -> list[tuple[object, ...]]:
        cell.seen.clear()
        if value is not None:
            machine.poke(WINDOW + offset, size, value)
            return list(cell.seen)
        return [("=", machine.peek(WINDOW + offset, size)), *cell.seen]

    return access


def test_python_sees_the_widths_it_asked_for() -> None:
    with CoreMachine() as machine:
        access = _narrow(machine, 4, 4)
        assert access(0, 8) == [("=", 0x5566778855667788), ("read", 0, 4), ("read", 4, 4)]
        assert access(6, 2) == [("=", 0x5566), ("read", 4, 4)]
        assert access(7, 1) == [("=", 0x55), ("read", 4, 4)]
        assert access(2, 4) == [("=", 0)]
        assert access(8, 8, 0x0000_0003_0000_0005) == [("write", 8, 4, 5), ("write", 12, 4, 3)]
        assert access(8, 2, 1) == access(9, 4, 1) == []
        assert {what for _, what, _ in machine.guest_errors()} == {
            "misaligned read of a device register",
            "misaligned write of a device register",
            "write narrower than the device register",
        }
    with CoreMachine() as machine:
        access = _narrow(machine, 1, 1)
        assert access(4, 4) == [("=", 0x88888888), *(("read", 4 + i, 1) for i in range(4))]
        assert access(0, 8, 0x0807060504030201) == [("write", i, 1, i + 1) for i in range(8)]
    with CoreMachine() as machine:
        with pytest.raises(HostError, match="no device takes"):
            machine.claim(WINDOW, 16, Cell(), min_width=3, max_width=4)
        with pytest.raises(HostError, match="no device takes"):
            machine.claim(WINDOW, 16, Cell(), min_width=8, max_width=4)


def test_a_hart_that_left_for_python_comes_back_until_its_access_is_whole(soft: Machines) -> None:
    cell = Cell()
    with soft() as made:
        made.core.claim(WINDOW, 16, cell, min_width=4, max_width=4)
        made.run(f"""
            li s1, {WINDOW}; ld t0, 0(s1); sd t0, 0(s0)
            lbu t0, 5(s1); sd t0, 8(s0); lh t0, 2(s1); sd t0, 16(s0)
            li t0, {0x0000_0003_0000_0005}; sd t0, 8(s1); sh t0, 8(s1)
        """)
        assert [made.out(i) for i in range(3)] == [0x5566778855667788, 0x77, 0x5566]
        reads = [("read", at, 4) for at in (0, 4, 4, 0)]
        assert cell.seen == [*reads, ("write", 8, 4, 5), ("write", 12, 4, 3)]
        assert ("bus", "write narrower than the device register", 1) in made.core.guest_errors()
