"""What lies in RAM before the first instruction: a plan's own bytes, and randomness where the plan has room for it."""

from vmrun.core.machine import CoreMachine
from vmrun.engine.blobs import load_blob
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
