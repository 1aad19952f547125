"""Random sequences of all user-level instructions: core against qemu-riscv64, all registers and memory compared."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from rv64asm import INSTRUCTIONS, decode
from rv64case import Case, Runner, compare, describe, program, shorten
from rv64gen import USER, cases
from rv64run import Program, missing_core, missing_tool, run_core, run_core_translated, run_qemu_system, run_qemu_user

ROUNDS = int(os.environ.get("VMRUN_ISA_ROUNDS", "1"))
_BATCH = 300
_QEMU = missing_tool("qemu-riscv64")
needs_core = pytest.mark.skipif(bool(_QEMU or missing_core()), reason=_QEMU or missing_core())


def check(seed: int, rounds: int, left: Runner, right: Runner, length: int, loops: int = 0) -> None:
    everything = list(cases(seed, rounds, length, loops))
    for first in range(0, len(everything), _BATCH):
        found = compare(everything[first : first + _BATCH], left, right, most=3)
        if found:
            reports = [describe(shorten(f, left, right)) for f in found]
            pytest.fail(f"seed {seed}: core (left) and QEMU (right) differ" + "".join(reports), pytrace=False)


def words(case: Case) -> list[int]:
    """The instructions of a case, in order of address."""
    code = b"".join(case.units)
    found = []
    at = 0
    while at < len(code):
        word = int.from_bytes(code[at : at + 4], "little")
        found.append(word)
        at += 4 if word & 3 == 3 else 2
    return found


def test_generator_reaches_every_instruction() -> None:
    seen: dict[str, int] = {}
    for case in cases(1, 3):
        for word in words(case):
            instruction = decode(word)
            assert instruction is not None
            seen[instruction[0].name] = seen.get(instruction[0].name, 0) + 1
    assert {i.name for i in USER} == set(seen)
    assert min(seen.values()) >= 3
    assert len(INSTRUCTIONS) - len(USER) == 10


@pytest.mark.parametrize("seed", range(4))
@needs_core
def test_short_sequences(seed: int) -> None:
    check(seed, 12 * ROUNDS, run_core, run_qemu_user, length=6)


@needs_core
def test_long_sequences() -> None:
    check(100, 10 * ROUNDS, run_core, run_qemu_user, length=40)


@pytest.mark.parametrize(("seed", "core"), [(200, run_core), (201, run_core), (202, run_core_translated)])
@needs_core
def test_loops(seed: int, core: Runner) -> None:
    """Code that runs several times, entered anywhere: pairs of instructions of every kind that share registers."""
    check(seed, 8 * ROUNDS, core, run_qemu_user, length=1, loops=5)


@pytest.mark.parametrize("seed", range(300, 302))
@needs_core
def test_translated(seed: int) -> None:
    """The same kind of sequences in U-mode, in 4 KiB pages whose A and D bits are still to be set."""
    check(seed, 10 * ROUNDS, run_core_translated, run_qemu_user, length=10, loops=1)


@pytest.mark.skipif(bool(_QEMU), reason=_QEMU)
def test_the_comparison_can_fail() -> None:
    """A runner that loses one instruction's effect is caught, and the report is that instruction alone."""
    victim = INSTRUCTIONS["mulhsu"]
    batch = [c for c in cases(5, 12, 6) if any(w & victim.mask == victim.match for w in words(c))]
    assert batch

    def without(made: Program) -> bytes:
        image = bytearray(made.image)
        for case in batch:
            for unit in case.units:
                for at in range(0, len(unit) - 3, 2):
                    word = int.from_bytes(unit[at : at + 4], "little")
                    if word & victim.mask == victim.match:
                        changed = bytearray(unit)
                        changed[at : at + 4] = (word & ~(7 << 12) | 3 << 12).to_bytes(4, "little")  # mulhu in its place
                        image = bytearray(bytes(image).replace(unit, bytes(changed)))
        return run_qemu_user(replace(made, image=bytes(image)))

    found = compare(batch, without, run_qemu_user)
    assert found
    report = describe(shorten(found[0], without, run_qemu_user))
    assert "mulhsu" in report
    assert report.count("0x") < 20, report


@pytest.mark.skipif(
    bool(_QEMU or missing_tool("qemu-system-riscv64")), reason=_QEMU or missing_tool("qemu-system-riscv64")
)
def test_both_qemus_agree() -> None:
    """The harness in S-mode and the one in U-mode run the same program alike."""
    batch = list(cases(6, 2))
    assert program(batch).size > 0
    assert not compare(batch, run_qemu_system, run_qemu_user)
