import errno
import fcntl
import os
import random
import resource
import struct
from pathlib import Path

import pytest
from dev_kit import RAM, RAM_SIZE, VIRTIO, Bench, bench
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.devices.model import HostFailure, Wires
from vmrun.devices.testing import BlockDriver, Buffer, Memory, wait_for
from vmrun.devices.virtio.virtio_blk import DEVICE
from vmrun.errors import HostError
from vmrun.plan.model import DevicePlan, Interrupt

OK, IOERR, UNSUPP = 0, 1, 2
NAME = "virtio-blk"
NO_MORE = {"host_errors": 0, "overlay_clusters": 0}


def pattern(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def plan(base: int = VIRTIO, **properties: str | int) -> DevicePlan:
    return DevicePlan("disk.root", "virtio-blk", base, 0x1000, Interrupt(7), "virtio-mmio", properties)


class Rig:
    def __init__(self, b: Bench, **properties: str | int) -> None:
        self.bench = b
        self.disk = DEVICE.realize(plan(**properties), b.machine, Wires(line=b.line))
        b.machine.start()
        self.driver = BlockDriver(b.machine, VIRTIO, b.memory)
        self.driver.begin()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(pattern(64 << 10))
    return path


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_what_the_image_holds_is_read(image: Path, mode: str) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode=mode, serial="VMRUN-1").driver
        assert driver.capacity == 128
        for sector, count in ((0, 1), (5, 16), (127, 1), (0, 128)):
            for indirect in (False, True):
                assert driver.read_sectors(sector, count, indirect=indirect) == (
                    OK,
                    image.read_bytes()[512 * sector : 512 * (sector + count)],
                )
        assert driver.request(lib.VMR_VIRTIO_BLK_T_GET_ID, room=20) == (OK, b"VMRUN-1".ljust(20, b"\0"))
        assert driver.request(lib.VMR_VIRTIO_BLK_T_FLUSH) == (OK, b"")
        assert b.wrongs(NAME) == {}


def test_rw_reaches_the_file_and_the_next_run(image: Path) -> None:
    data = pattern(4096, 2)
    with bench() as b:
        rig = Rig(b, path=str(image), mode="rw")
        assert rig.driver.write_sectors(9, data) == OK
        assert rig.driver.read_sectors(9, 8) == (OK, data)
        assert image.read_bytes()[9 * 512 : 17 * 512] == data
        assert rig.disk.counters() == {"reads": 1, "writes": 1, "flushes": 0, "errors": 0, **NO_MORE}
    with bench() as b:
        assert Rig(b, path=str(image), mode="ro").driver.read_sectors(9, 8) == (OK, data)


def test_an_overlay_shows_what_was_written_and_leaves_no_trace(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image.read_bytes()
    monkeypatch.setenv("TMPDIR", str(image.parent))
    image.chmod(0o400)
    with bench() as b:
        driver = Rig(b, path=str(image), mode="overlay").driver
        assert driver.write_sectors(3, b"x" * 512) == OK
        assert driver.read_sectors(0, 16) == (OK, before[:1536] + b"x" * 512 + before[2048:8192])
        assert list(image.parent.iterdir()) == [image]
    assert image.read_bytes() == before
    with bench() as b:
        assert Rig(b, path=str(image), mode="overlay").driver.read_sectors(3, 1) == (OK, before[1536:2048])


def test_a_read_only_disk_says_so_and_refuses(image: Path) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode="ro").driver
        assert driver.has(lib.VMR_VIRTIO_BLK_F_RO) and not driver.has(lib.VMR_VIRTIO_BLK_F_DISCARD)
        assert driver.write_sectors(0, bytes(512)) == IOERR
        assert driver.request(lib.VMR_VIRTIO_BLK_T_DISCARD, data=struct.pack("<QII", 0, 8, 0))[0] == UNSUPP
        assert b.wrongs(NAME) == {"write to a read-only disk": 1}


def test_a_scratch_disk_is_empty_and_writable() -> None:
    with bench() as b:
        driver = Rig(b, size=1 << 20).driver
        assert driver.capacity == 2048 and driver.read_sectors(2040, 8) == (OK, bytes(4096))
        assert driver.write_sectors(2047, b"z" * 512) == OK
        assert driver.read_sectors(2047, 1) == (OK, b"z" * 512)


@pytest.mark.parametrize("mode", ["ro", "overlay"])
@pytest.mark.parametrize("size", [1, 511, 513, 4095, 5000])
def test_an_odd_size_is_filled_up_with_zeroes(tmp_path: Path, mode: str, size: int) -> None:
    path = tmp_path / "odd"
    path.write_bytes(pattern(size))
    sectors = -(-size // 512)
    shown = pattern(size).ljust(512 * sectors, b"\0")
    with bench() as b:
        driver = Rig(b, path=str(path), mode=mode).driver
        assert driver.capacity == sectors
        assert driver.read_sectors(0, sectors) == (OK, shown)
        assert driver.read_sectors(sectors - 1, 1) == (OK, shown[-512:])
        if mode == "overlay":
            assert driver.write_sectors(sectors - 1, b"w" * 512) == OK
            assert driver.read_sectors(0, sectors) == (OK, shown[:-512] + b"w" * 512)


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "empty", "odd", "readonly"])
def test_a_disk_that_cannot_be_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    mode, code = "rw", "E352"
    if kind == "directory":
        path.mkdir()
        mode = "ro"
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_bytes(b"x" * {"empty": 0, "odd": 513, "readonly": 512}[kind])
        code = "E352" if kind == "readonly" else "E354"

    def refuse(path: str, flags: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    wires = Wires(open_file=refuse) if kind == "readonly" else Wires()
    with bench() as b:
        with pytest.raises(HostError) as caught:
            DEVICE.realize(plan(path=str(path), mode=mode), b.machine, wires)
        assert caught.value.code == code and caught.value.remedy
        assert "disk.root" in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_disk_that_is_written_is_nobody_elses(image: Path) -> None:
    with bench() as one, bench() as two:
        Rig(one, path=str(image), mode="rw")
        for mode in ("rw", "ro", "overlay"):
            with pytest.raises(HostError, match="in use by another run") as caught:
                DEVICE.realize(plan(path=str(image), mode=mode), two.machine, Wires())
            assert caught.value.code == "E353"
    with bench() as one, bench() as two:
        Rig(one, path=str(image), mode="overlay")
        Rig(two, path=str(image), mode="ro")
        with bench() as three, pytest.raises(HostError) as caught:
            DEVICE.realize(plan(path=str(image), mode="rw"), three.machine, Wires())
        assert caught.value.code == "E353"


def test_no_place_for_an_overlay(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vmrun.devices.virtio import virtio_blk

    monkeypatch.setattr(virtio_blk, "_scratch_folders", lambda: iter(["/proc"]))
    with bench() as b, pytest.raises(HostError) as caught:
        DEVICE.realize(plan(path=str(image)), b.machine, Wires())
    assert caught.value.code == "E355"


def test_requests_beyond_the_disk_fail_and_are_counted(image: Path) -> None:
    with bench() as b:
        rig = Rig(b, path=str(image), mode="rw")
        driver = rig.driver
        for sector, count in ((128, 1), (127, 2), (2**64 - 1, 1), (2**63, 2), (2**55, 1)):
            assert driver.read_sectors(sector, count)[0] == IOERR
            assert driver.write_sectors(sector, bytes(512 * count)) == IOERR
        assert driver.request(lib.VMR_VIRTIO_BLK_T_OUT, 0, b"short")[0] == IOERR
        assert driver.request(lib.VMR_VIRTIO_BLK_T_IN, 0, room=100)[0] == IOERR
        assert driver.request(99)[0] == UNSUPP
        assert rig.disk.counters()["errors"] == 12
        assert b.wrongs(NAME) == {
            "request beyond the end of the disk": 10,
            "request that is no whole number of sectors": 2,
            "request of an unknown type": 1,
        }
    assert image.read_bytes() == pattern(64 << 10)


def test_requests_without_header_or_status(image: Path) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode="rw").driver
        status = driver.room(1)
        for buffers in ([driver.place(b"short"), status], [status], [driver.place(bytes(16))], [driver.place(b"")]):
            driver.requests.add(buffers)
            driver.notify(driver.requests)
            driver.requests.wait()
        assert driver.contents(status) == b"\x01"
        assert b.wrongs(NAME) == {"request shorter than its header": 2, "request without room for its status": 2}


def test_framing_is_free(image: Path) -> None:
    """Header, data and status may be cut anywhere (2.7.4.1)."""
    with bench() as b:
        driver = Rig(b, path=str(image), mode="ro").driver
        header = driver.place(struct.pack("<IIQ", 0, 0, 2))
        room = driver.room(1025)
        cuts = [(0, 1), (1, 700), (701, 324)]
        driver.requests.add(
            [Buffer(header.gpa, 3), Buffer(header.gpa + 3, 13)]
            + [Buffer(room.gpa + at, size, writable=True) for at, size in cuts]
        )
        driver.notify(driver.requests)
        driver.requests.wait()
        assert driver.contents(room) == image.read_bytes()[1024:2048] + b"\0"


def test_a_file_that_shrinks_gives_errors_not_a_crash(image: Path) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode="ro").driver
        os.truncate(image, 4096)
        assert driver.read_sectors(0, 8)[0] == OK
        assert driver.read_sectors(8, 1)[0] == IOERR
        assert driver.read_sectors(4, 8)[0] == IOERR


@pytest.mark.parametrize("mode", ["rw", "overlay"])
def test_discard_and_write_zeroes(image: Path, mode: str) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode=mode).driver
        if not driver.has(lib.VMR_VIRTIO_BLK_F_WRITE_ZEROES):
            pytest.skip("the file system under the test punches no holes")
        shown = bytearray(image.read_bytes())
        for sector, count, flags in ((3, 10, 0), (20, 30, 1), (8, 8, 1), (127, 1, 0)):
            data = struct.pack("<QII", sector, count, flags)
            assert driver.request(lib.VMR_VIRTIO_BLK_T_WRITE_ZEROES, data=data)[0] == OK
            shown[512 * sector : 512 * (sector + count)] = bytes(512 * count)
        assert driver.read_sectors(0, 128) == (OK, bytes(shown))
        two = struct.pack("<QIIQII", 64, 16, 0, 96, 8, 0)
        assert driver.request(lib.VMR_VIRTIO_BLK_T_DISCARD, data=two)[0] == OK
        shown[64 * 512 : 80 * 512] = bytes(16 * 512)
        shown[96 * 512 : 104 * 512] = bytes(8 * 512)
        assert driver.read_sectors(0, 128) == (OK, bytes(shown))
        for data, status in (
            (struct.pack("<QII", 0, 8, 2), UNSUPP),
            (struct.pack("<QII", 127, 2, 0), IOERR),
            (struct.pack("<QII", 2**64 - 8, 8, 0), IOERR),
            (struct.pack("<QII", 0, 2**32 - 1, 0), IOERR),
            (b"short", IOERR),
            (bytes(16 * 17), IOERR),
        ):
            assert driver.request(lib.VMR_VIRTIO_BLK_T_WRITE_ZEROES, data=data)[0] == status


@given(
    size=st.integers(1, 40_000),
    steps=st.lists(
        st.tuples(st.sampled_from(["write", "zero", "discard", "read"]), st.integers(0, 79), st.integers(1, 24)),
        max_size=25,
    ),
)
@settings(max_examples=60, deadline=None)
def test_an_overlay_is_a_disk(
    tmp_path_factory: pytest.TempPathFactory, size: int, steps: list[tuple[str, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("overlay") / "base"
    path.write_bytes(pattern(size))
    sectors = -(-size // 512)
    shown = bytearray(pattern(size).ljust(512 * sectors, b"\0"))
    with bench() as b:
        driver = Rig(b, path=str(path), mode="overlay").driver
        for turn, (what, sector, count) in enumerate(steps):
            sector %= sectors
            count = min(count, sectors - sector)
            where = slice(512 * sector, 512 * (sector + count))
            if what == "write":
                shown[where] = pattern(512 * count, turn)
                assert driver.write_sectors(sector, bytes(shown[where])) == OK
            elif what == "zero":
                data = struct.pack("<QII", sector, count, turn % 2)
                if driver.request(lib.VMR_VIRTIO_BLK_T_WRITE_ZEROES, data=data)[0] == OK:
                    shown[where] = bytes(512 * count)
            elif what == "discard":
                if driver.request(lib.VMR_VIRTIO_BLK_T_DISCARD, data=struct.pack("<QII", sector, count, 0))[0] == OK:
                    shown[where] = driver.read_sectors(sector, count)[1]  # anything may be there, but it stays
            else:
                assert driver.read_sectors(sector, count) == (OK, bytes(shown[where]))
        assert driver.read_sectors(0, sectors) == (OK, bytes(shown))
    assert path.read_bytes() == pattern(size)


def test_many_requests_in_flight_and_a_reset_among_them(image: Path) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode="rw").driver
        for _ in range(50):
            for _ in range(5):
                header = driver.place(struct.pack("<IIQ", 0, 0, 1))
                driver.requests.add([header, driver.room(512), driver.room(1)])
            driver.notify(driver.requests)
            driver.begin()
        assert driver.read_sectors(0, 1) == (OK, image.read_bytes()[:512])
        for _ in range(5):
            driver.requests.add([driver.place(struct.pack("<IIQ", 0, 0, 1)), driver.room(512), driver.room(1)])
        driver.notify(driver.requests)
        assert b.machine.drain()
        assert driver.requests.used_index == 6
        wait_for(lambda: b.level() == 1)


def test_what_was_queued_without_a_notification_is_drained(image: Path) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode="rw").driver
        header = driver.place(struct.pack("<IIQ", lib.VMR_VIRTIO_BLK_T_OUT, 0, 7))
        driver.requests.add([header, driver.place(b"q" * 512), driver.room(1)])
        b.machine.stop()
        assert b.machine.drain(10_000)
    assert image.read_bytes()[7 * 512 : 8 * 512] == b"q" * 512


def test_a_queue_can_be_taken_away_and_given_back(image: Path) -> None:
    with bench() as b:
        driver = Rig(b, path=str(image), mode="rw").driver
        driver.write("QUEUE_SEL", 0)
        driver.write("QUEUE_READY", 0)
        assert driver.read("QUEUE_READY") == 0
        driver.requests = driver.queue(0)
        assert driver.read_sectors(1, 1) == (OK, image.read_bytes()[512:1024])


def test_bad_arguments_are_refused(image: Path) -> None:
    with bench() as b, image.open("rb") as file:
        for mode, overlay, serial in (
            (7, -1, ffi.NULL),
            (2, -1, ffi.NULL),
            (0, file.fileno(), ffi.NULL),
            (0, -1, b"x" * 21),
        ):
            with pytest.raises(HostError):
                b.make(
                    "vmr_virtio_blk_new",
                    "vmr_virtio_blk",
                    VIRTIO,
                    0x1000,
                    b.line.c,
                    file.fileno(),
                    mode,
                    overlay,
                    serial,
                )
        with pytest.raises(HostError, match="Bad file"):
            b.make("vmr_virtio_blk_new", "vmr_virtio_blk", VIRTIO, 0x1000, b.line.c, 9999, 0, -1, ffi.NULL)


# ---- requests without an end -----------------------------------------------------------------------------------------


def ask_for_much(rig: Rig, requests: int) -> int:
    """Ask for 2 GB with each request; return where they are read to, once the first one is under way."""
    size = 8 << 20
    room = rig.driver.room(size)
    for at in (room.gpa, room.gpa + size - 1):
        rig.bench.machine.write_ram(at, b"?")
    for _ in range(requests):
        header = rig.driver.place(struct.pack("<IIQ", lib.VMR_VIRTIO_BLK_T_IN, 0, 0))
        rig.driver.requests.add([header, *[room] * 250, rig.driver.room(1)], indirect=True)
    rig.driver.notify(rig.driver.requests)
    wait_for(lambda: rig.bench.machine.read_ram(room.gpa, 1) != b"?", "the first byte")
    return room.gpa


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 3 << 30)
    return path


@pytest.mark.parametrize("mode", ["ro", "rw", "overlay"])
def test_the_end_cuts_requests_of_any_size_and_number(large: Path, mode: str) -> None:
    with bench() as b:
        rig = Rig(b, path=str(large), mode=mode)
        rig.driver.begin(size=256)
        ask_for_much(rig, 200)
        b.machine.stop()
        assert not b.machine.drain(0)
        done = rig.driver.requests.used_index
        b.machine.halt(0)
        assert rig.driver.requests.used_index - done <= 1  # one may have ended between the two
        assert rig.driver.requests.used_index < 200
        assert rig.disk.counters()["reads"] == rig.driver.requests.used_index  # what was cut is not answered
        assert b.machine.drain(0)


def test_a_reset_cuts_what_is_under_way(large: Path) -> None:
    with bench() as b:
        rig = Rig(b, path=str(large), mode="ro")
        answered = []
        for _ in range(5):
            before = rig.disk.counters()["reads"]
            rig.driver.begin(size=256)
            ask_for_much(rig, 1)
            rig.driver.reset()
            answered.append(rig.disk.counters()["reads"] - before)
            b.memory = Memory(b.machine, RAM, RAM_SIZE)
            rig.driver.memory = b.memory
        assert 0 in answered  # one may have ended on its own
        rig.driver.begin()
        assert rig.driver.read_sectors(0, 1) == (OK, bytes(512))


def test_what_was_answered_stays_when_the_rest_is_cut(large: Path) -> None:
    data = pattern(4096, 3)
    with bench() as b:
        rig = Rig(b, path=str(large), mode="rw")
        rig.driver.begin(size=256)
        assert rig.driver.write_sectors(8, data) == OK
        assert rig.driver.request(lib.VMR_VIRTIO_BLK_T_FLUSH)[0] == OK
        assert rig.driver.write_sectors(24, data) == OK
        ask_for_much(rig, 10)
        b.machine.halt(0)
        assert rig.disk.host_failures() == []
    with large.open("rb") as file:
        held = file.read(64 * 512)
    assert held[8 * 512 : 16 * 512] == data == held[24 * 512 : 32 * 512]


# ---- a host that fails -----------------------------------------------------------------------------------------------


def is_told(b: Bench) -> bool:
    try:
        return os.eventfd_read(b.machine.trouble_fd) > 0
    except BlockingIOError:
        return False


def test_a_file_that_shrinks_is_told_once_and_counted(image: Path) -> None:
    with bench() as b:
        rig = Rig(b, path=str(image), mode="ro")
        assert not is_told(b)
        os.truncate(image, 4096)
        for _ in range(3):
            assert rig.driver.read_sectors(8, 1)[0] == IOERR
            assert is_told(b) == (rig.disk.counters()["host_errors"] == 1)
        assert rig.disk.host_failures() == [HostFailure("reading", str(image), errno.ENODATA, 3)]
        assert (rig.disk.counters()["errors"], rig.disk.counters()["host_errors"]) == (3, 3)
        assert b.wrongs(NAME) == {}


def test_a_host_that_refuses_writes_is_told(image: Path) -> None:
    """A sealed memory file stands for the disk: it is opened for writing and takes none."""
    fd = os.memfd_create("disk", os.MFD_ALLOW_SEALING)
    os.write(fd, bytes(8192))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    wires = Wires(open_file=lambda path, flags: fd)
    with bench() as b:
        disk = DEVICE.realize(plan(path=str(image), mode="rw"), b.machine, wires)
        b.machine.start()
        driver = BlockDriver(b.machine, VIRTIO, b.memory)
        driver.begin()
        assert driver.write_sectors(0, bytes(512)) == IOERR
        assert driver.write_sectors(99, bytes(512)) == IOERR  # the guest's own mistake
        assert is_told(b)
        assert disk.host_failures() == [HostFailure("writing", str(image), errno.EPERM, 1)]
        assert disk.counters()["errors"] == 2


def test_an_overlay_without_room_is_told_as_the_overlay(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(image.parent))
    with bench() as b:
        rig = Rig(b, path=str(image), mode="overlay")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, hard))  # Python ignores SIGXFSZ, as vmrun does
        try:
            assert rig.driver.write_sectors(0, bytes(512)) == OK
            assert rig.driver.write_sectors(64, bytes(4096)) == IOERR
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        told = HostFailure("writing", f"its overlay in {image.parent}", errno.EFBIG, 1)
        assert rig.disk.host_failures() == [told]
        assert rig.driver.read_sectors(64, 8) == (OK, image.read_bytes()[64 * 512 : 72 * 512])


def test_a_last_flush_that_takes_too_long_is_told(large: Path) -> None:
    size = 8 << 20
    with bench() as b:
        rig = Rig(b, path=str(large), mode="rw")
        zeroes = rig.driver.place(bytes(size))
        for n in range(9):
            header = rig.driver.place(struct.pack("<IIQ", lib.VMR_VIRTIO_BLK_T_OUT, 0, n * size // 512))
            rig.driver.requests.add([header, zeroes, rig.driver.room(1)])
            rig.driver.notify(rig.driver.requests)
            rig.driver.requests.wait()
        b.machine.halt(0)
        assert is_told(b)
        assert rig.disk.host_failures() == [HostFailure("the last flush of", str(large), errno.ETIMEDOUT, 1)]
    with bench() as b:
        rig = Rig(b, path=str(large), mode="rw")
        assert rig.driver.write_sectors(0, bytes(512)) == OK
        b.machine.halt(0)  # a little is flushed whatever the bound
        assert rig.disk.host_failures() == []
