import errno
import os
import threading
from pathlib import Path

import pytest
from dev_kit import PLIC, RAM, RAM_SIZE, UART, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.errors import HostError

U64 = st.one_of(
    st.integers(0, 2**64 - 1), st.sampled_from([0, RAM - 1, RAM, RAM + RAM_SIZE - 1, RAM + RAM_SIZE, 2**64 - 1, 2**63])
)


class Cell:
    """A window served by Python that remembers."""

    def __init__(self) -> None:
        self.seen: list[tuple[object, ...]] = []

    def read(self, offset: int, size: int) -> int:
        self.seen.append(("read", offset, size))
        return 0x1122334455667788

    def write(self, offset: int, size: int, value: int) -> None:
        self.seen.append(("write", offset, size, value))


def test_ram_holds_what_was_written_and_refuses_what_is_outside() -> None:
    with CoreMachine() as machine:
        machine.add_ram(RAM, RAM_SIZE)
        machine.write_ram(RAM + RAM_SIZE - 4, b"last")
        assert machine.read_ram(RAM + RAM_SIZE - 4, 4) == b"last"
        assert machine.read_ram(RAM, 0) == b""
        for gpa, size in ((RAM - 1, 2), (RAM + RAM_SIZE - 1, 2), (0, 1), (2**64 - 1, 2)):
            with pytest.raises(HostError, match="is not RAM"):
                machine.write_ram(gpa, bytes(size))


@given(gpa=U64, size=st.one_of(st.integers(1, 64), st.just(RAM_SIZE)))
@settings(max_examples=200, deadline=None)
def test_no_address_or_length_escapes_ram(gpa: int, size: int) -> None:
    inside = gpa >= RAM and gpa + size <= RAM + RAM_SIZE
    buffer = ffi.new("char[]", size)
    assert lib.vmr_ram_read(_shared().handle, gpa, buffer, size) == (0 if inside else -errno.EFAULT)
    assert lib.vmr_ram_read(_shared().handle, gpa, buffer, 2**64 - 1) == -errno.EFAULT


_SHARED: list[CoreMachine] = []


def _shared() -> CoreMachine:
    if not _SHARED:
        _SHARED.append(CoreMachine())
        _SHARED[0].add_ram(RAM, RAM_SIZE)
    return _SHARED[0]


@pytest.mark.parametrize(
    ("base", "size", "text"),
    [
        (RAM, 0, "empty"),
        (RAM + 1, 4096, "unaligned"),
        (RAM, 4097, "unaligned"),
        (2**64 - 4096, 8192, "too large"),
        (RAM + 4096, 4096, "overlaps RAM"),
        (RAM - 4096, 8192, "overlaps RAM"),
        (0, 1 << 47, "too large"),
    ],
)
def test_ram_that_cannot_be_is_refused(base: int, size: int, text: str) -> None:
    with CoreMachine() as machine:
        if "overlaps" in text:
            machine.add_ram(RAM, RAM_SIZE)
        with pytest.raises(HostError, match=text) as caught:
            machine.add_ram(base, size)
        assert caught.value.code == "E351"


def test_ram_is_reserved_and_not_touched() -> None:
    with CoreMachine() as machine:
        before = _resident()
        machine.add_ram(RAM, 1 << 30)
        machine.write_ram(RAM + (512 << 20), b"x")
        assert _resident() - before < 16 << 20


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_a_file_is_loaded_and_a_short_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(bytes(range(256)) * 64)
    with CoreMachine() as machine, path.open("rb") as file:
        machine.add_ram(RAM, RAM_SIZE)
        machine.load_fd(RAM + 3, file.fileno(), 16, 1000)
        assert machine.read_ram(RAM + 3, 1000) == path.read_bytes()[16:1016]
        with pytest.raises(HostError, match="ends 1 bytes early"):
            machine.load_fd(RAM, file.fileno(), 0, 256 * 64 + 1)
        with pytest.raises(HostError, match="is not RAM"):
            machine.load_fd(RAM + RAM_SIZE - 1, file.fileno(), 0, 2)
        with pytest.raises(HostError, match="too large"):
            machine.load_fd(RAM, file.fileno(), 2**64 - 1, 2)
        with pytest.raises(HostError, match="Bad file"):
            machine.load_fd(RAM, 9999, 0, 1)


def test_windows_are_found_and_overlaps_refused() -> None:
    with CoreMachine() as machine:
        cells = [Cell() for _ in range(40)]
        order = sorted(range(40), key=lambda i: i * 7 % 40)
        for i in order:
            machine.claim(0x1000 + 0x20 * i, 0x10, cells[i])
        for i in range(40):
            assert machine.peek(0x1000 + 0x20 * i + 12, 4) == 0x55667788
            assert cells[i].seen == [("read", 12, 4)]
            assert machine.poke(0x1000 + 0x20 * i + 8, 8, 2**64 - 1)
            assert cells[i].seen[1:] == [("write", 8, 8, 2**64 - 1)]
            assert machine.peek(0x1010 + 0x20 * i, 1) is None
        for base, size in ((0x1008, 1), (0xFFF, 2), (0x1000, 0x1000), (0, 2**63), (0x1000, 0), (2**64 - 2, 4)):
            with pytest.raises(HostError, match=r"overlaps|empty or wraps"):
                machine.claim(base, size, Cell())


@pytest.mark.parametrize(
    ("gpa", "size"), [(0x100E, 4), (0x100F, 2), (0xFFF, 2), (0x1000, 3), (0x1000, 16), (2**64 - 1, 8)]
)
def test_an_access_that_is_not_inside_one_window_meets_nobody(gpa: int, size: int) -> None:
    with CoreMachine() as machine:
        cell = Cell()
        machine.claim(0x1000, 0x10, cell)
        machine.claim(0x1010, 0x10, cell)
        assert machine.peek(gpa, size) is None
        assert machine.poke(gpa, size, 1) is False
        assert cell.seen == []
        assert ("bus", "read where no device is", 1) in machine.guest_errors()
        assert ("bus", "write where no device is", 1) in machine.guest_errors()


def test_an_empty_bus_answers_nobody() -> None:
    with CoreMachine() as machine:
        assert machine.peek(0, 8) is None


def test_the_bus_repairs_widths_that_a_device_does_not_take() -> None:
    with bench() as b:
        b.make("vmr_plic_new", "vmr_plic", PLIC, 0x600000, 95, 1, ffi.new("vmr_line[1]"))
        at = PLIC + 4 * 10
        b.machine.poke(at, 8, 0x0000_0003_0000_0005)  # one wide write is two registers
        assert (b.machine.peek(at, 4), b.machine.peek(at + 4, 4)) == (5, 3)
        assert b.machine.peek(at, 8) == 0x0000_0003_0000_0005
        assert b.machine.peek(at + 4, 1) == 3 and b.machine.peek(at + 5, 1) == 0
        b.machine.poke(at, 2, 1)
        b.machine.poke(at + 2, 4, 1)
        assert b.machine.peek(at + 2, 4) == 0
        assert b.machine.peek(at, 4) == 5
        assert set(b.wrongs("bus")) == {
            "write narrower than the device register",
            "misaligned write of a device register",
            "misaligned read of a device register",
        }


def test_a_machine_that_has_started_takes_no_interrupt_controller() -> None:
    with CoreMachine() as machine:
        machine.start()
        one = ffi.new("vmr_line[1]")
        for call in (
            machine.start,
            lambda: machine.check(
                lib.vmr_plic_new(machine.handle, PLIC, 0x600000, 1, 1, one, ffi.new("vmr_plic **")), "p"
            ),
        ):
            with pytest.raises(HostError, match="started"):
                call()


def test_a_second_interrupt_controller_is_refused() -> None:
    with bench() as b:
        place = (0x600000, 1, 1, ffi.new("vmr_line[1]"))
        b.make("vmr_plic_new", "vmr_plic", PLIC, *place)
        with pytest.raises(HostError, match="has an interrupt controller already"):
            b.make("vmr_plic_new", "vmr_plic", PLIC + 0x1000000, *place)


def test_stop_is_idempotent_and_close_is_too() -> None:
    machine = CoreMachine()
    machine.start()
    threads = [threading.Thread(target=machine.stop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert machine.drain(0)
    machine.close()
    machine.close()
    machine.stop()


def test_guest_errors_count_from_many_threads_and_never_overflow() -> None:
    with CoreMachine() as machine:
        threads = [threading.Thread(target=lambda: [machine.peek(0, 1) for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        machine.guest_did_wrong("mine", "this")
        assert machine.guest_errors() == [("bus", "read where no device is", 2000), ("mine", "this", 1)]


def test_threads_of_a_machine_block_every_signal() -> None:
    with CoreMachine() as machine:
        machine.start()
        masks = {
            (task / "comm").read_text().strip(): next(
                line.split()[1] for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk")
            )
            for task in Path("/proc/self/task").iterdir()
        }
        assert int(masks["vmrun-io"], 16) & (1 << 1 | 1 << 14 | 1 << 12) == 1 << 1 | 1 << 14 | 1 << 12


def test_three_hundred_lives_leave_nothing_behind(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(1 << 16))
    _life(image)
    before = _footprint()
    for _ in range(300):
        _life(image)
    assert _footprint() == before


def _life(image: Path) -> None:
    with bench() as b:
        in_fd, out_fd = b.pipe()
        uart = b.make("vmr_uart16550_new", "vmr_uart16550", UART, 0x100, b.line.c, in_fd, out_fd)
        assert uart
        disk = b.keep(os.open(image, os.O_RDWR))
        overlay = b.keep(os.open(image.parent, os.O_TMPFILE | os.O_RDWR))
        b.make(
            "vmr_virtio_blk_new",
            "vmr_virtio_blk",
            UART + 0x1000,
            0x1000,
            b.line.c,
            disk,
            lib.VMR_DISK_OVERLAY,
            overlay,
            ffi.NULL,
        )
        console = b.make("vmr_virtio_console_new", "vmr_virtio_console", UART + 0x2000, 0x1000, b.line.c, 2, 80, 25)
        for port in (0, 1):
            assert lib.vmr_virtio_console_port(console, port, b"p", 0, in_fd, out_fd) == 0
        b.make("vmr_virtio_rng_new", "vmr_virtio_rng", UART + 0x3000, 0x1000, b.line.c, -1)
        b.machine.start()
        b.machine.stop()


def _footprint() -> tuple[int, int]:
    return _count("fd"), _count("task")


def _count(what: str) -> int:
    return len(list(Path("/proc/self", what).iterdir()))


def test_a_device_that_could_not_be_made_is_freed_with_its_machine() -> None:
    fds = _count("fd")
    with bench() as b:
        read, write = b.pipe()
        b.make("vmr_plic_new", "vmr_plic", PLIC, 0x600000, 95, 1, ffi.new("vmr_line[1]"))
        for _ in range(2):
            out = ffi.new("vmr_uart16550 **")
            code = lib.vmr_uart16550_new(b.machine.handle, PLIC, 0x100, b.line.c, read, write, out)
            assert code == -errno.EEXIST and out[0] == ffi.NULL
        with pytest.raises(HostError, match="8 bytes"):
            b.make("vmr_uart16550_new", "vmr_uart16550", UART, 4, b.line.c, -1, -1)
        with pytest.raises(HostError, match="Bad file"):
            b.make("vmr_uart16550_new", "vmr_uart16550", UART, 8, b.line.c, 9999, -1)
        with pytest.raises(HostError, match="duplicating"):
            b.make("vmr_virtio_rng_new", "vmr_virtio_rng", UART, 0x1000, b.line.c, 9999)
        with pytest.raises(HostError, match="too small"):
            b.make("vmr_virtio_rng_new", "vmr_virtio_rng", UART, 0x80, b.line.c, -1)
    assert _count("fd") == fds


def test_more_ram_than_the_host_has_is_refused() -> None:
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with CoreMachine() as machine, pytest.raises(HostError, match="this host has") as caught:
        machine.add_ram(0x8000_0000, host + 4096)
    assert caught.value.code == "E351"


def test_a_text_is_of_the_thread_that_failed() -> None:
    """Each thread reads its own failure, however many others fail between its call and its look."""
    with CoreMachine() as machine:
        machine.add_ram(RAM, RAM_SIZE)
        ready, looked = threading.Barrier(3), threading.Barrier(3)
        texts: dict[int, str] = {}

        def fail(index: int) -> None:
            assert lib.vmr_ram_read(machine.handle, index, ffi.new("char[1]"), 1) < 0
            ready.wait(60)
            for _ in range(50):
                assert lib.vmr_ram_read(machine.handle, index, ffi.new("char[1]"), 1) < 0
                texts[index] = ffi.string(lib.vmr_machine_error(machine.handle)).decode()
                assert f"{index:#x}" in texts[index]
            looked.wait(60)

        threads = [threading.Thread(target=fail, args=(0x1000 + n,)) for n in range(2)]
        for thread in threads:
            thread.start()
        ready.wait(60)
        looked.wait(60)
        for thread in threads:
            thread.join()
        assert sorted(texts) == [0x1000, 0x1001]
        assert ffi.string(lib.vmr_machine_error(machine.handle)) == b""  # this thread has not failed


def test_more_threads_than_slots_may_fail() -> None:
    with CoreMachine() as machine:

        def fail(index: int) -> None:
            assert lib.vmr_ram_read(machine.handle, index, ffi.new("char[1]"), 1) < 0

        for n in range(2 * lib.VMR_ERROR_THREADS):
            thread = threading.Thread(target=fail, args=(n,))
            thread.start()
            thread.join()
        with pytest.raises(HostError, match="0x77"):
            machine.read_ram(0x77, 1)
