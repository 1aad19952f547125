"""What lies in RAM before the first instruction: a plan's own bytes, and randomness where the plan has room for it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vmrun.core.machine import CoreMachine
from vmrun.engine.blobs import PIECE, Loading, load_blob
from vmrun.plan.model import SEED_SIZE, Blob

DATA = bytes(range(1, 101))


def loaded(blob: Blob) -> bytes:
    with CoreMachine() as core:
        core.add_ram(0, 4096)
        load_blob(core, blob)
        return core.read_ram(blob.gpa, blob.size)


def test_bytes_lie_where_the_plan_has_them() -> None:
    assert loaded(Blob("x", 64, 100, 100, data=DATA)) == DATA


def test_each_load_has_a_seed_of_its_own_and_all_else_as_planned() -> None:
    blob = Blob("x", 64, 100, 100, data=DATA, seed=8)
    first, second = loaded(blob), loaded(blob)
    for found in (first, second):
        assert (found[:8], found[8 + SEED_SIZE :]) == (DATA[:8], DATA[8 + SEED_SIZE :])
        assert found[8 : 8 + SEED_SIZE] != DATA[8 : 8 + SEED_SIZE]
    assert first != second


class Slow(CoreMachine):
    """A machine whose RAM takes a piece when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[int] = []
        self.taken, self.go_on = threading.Event(), threading.Event()

    def load_fd(self, gpa: int, fd: int, offset: int, size: int, what: str = "memory") -> None:
        super().load_fd(gpa, fd, offset, size, what)
        self.pieces.append(size)
        self.taken.set()
        self.go_on.wait()


def test_a_file_is_copied_whole_in_pieces(tmp_path: Path) -> None:
    data = bytes(range(256)) * (2 * PIECE // 256) + b"end"
    (tmp_path / "file").write_bytes(b"head" + data)
    blob = Blob("x", 64, len(data), len(data), path=str(tmp_path / "file"), offset=4)
    with Slow() as core:
        core.add_ram(0, 4 * PIECE)
        core.go_on.set()
        with Loading(core, [blob]):
            pass
        assert core.read_ram(64, len(data)) == data
        assert core.pieces == [PIECE, PIECE, 3]


def test_copying_is_given_up_where_the_making_is_interrupted(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4 * PIECE))
    blob = Blob("x", 0, 4 * PIECE, 4 * PIECE, path=str(tmp_path / "file"))
    with Slow() as core:
        core.add_ram(0, 4 * PIECE)
        loading = Loading(core, [blob])
        with pytest.raises(KeyboardInterrupt), loading:
            core.taken.wait()
            threading.Timer(0.05, core.go_on.set).start()
            raise KeyboardInterrupt
        assert core.pieces == [PIECE]
