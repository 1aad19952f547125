"""Which encodings are legal and how each ends: all 16-bit ones, a dense grid of 32-bit ones; core against QEMU."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest
import rv64decode
from rv64asm import CSRS, decode, disassemble
from rv64decode import ILLEGAL
from rv64run import missing_core, missing_tool, run_core, run_qemu_system

ROUNDS = int(os.environ.get("VMRUN_ISA_ROUNDS", "1"))
_MISSING = missing_tool("qemu-system-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

OP_IMM, OP_IMM_32, OP, OP_32, AMO, OP_FP, MISC_MEM, SYSTEM = 0x13, 0x1B, 0x33, 0x3B, 0x2F, 0x53, 0x0F, 0x73
FMA = (0x43, 0x47, 0x4B, 0x4F)
LOADS_AND_STORES = (0x03, 0x07, 0x23, 0x27)
ECALL = 0x73
WFI = 0x10500073


def loops(word: int) -> bool:
    """A jump onto the encoding itself: it would never end."""
    found = decode(word)
    if found is None:
        return False
    instruction, values = found
    return values.get("p") in range(instruction.size)


def may_differ(word: int, core: int, qemu: int) -> bool:
    """SC without a reservation: the core checks the address as for a store, QEMU fails at once. Both are right.

    Volume I, 13.2: for memory protection, an SC that fails may be treated like a store. And in U-mode QEMU executes
    SFENCE.W.INVAL and SFENCE.INVAL.IR, which volume II (Svinval) makes illegal there, as it does SINVAL.VMA.
    """
    went_on = 3 | rv64decode.ELSEWHERE
    if word in (0x18000073, 0x18100073):
        return (core, qemu) == (ILLEGAL, went_on)
    return disassemble(word).startswith("sc.") and (core, qemu) == (15, went_on)


def compare(words: Sequence[int], **how: object) -> None:
    """Step the encodings on both sides."""
    words = [w for w in words if not loops(w)]
    made = rv64decode.program(words, **how)  # type: ignore[arg-type]
    one, other = run_core(made), run_qemu_system(made)
    assert len(set(one)) > 1
    wrong = [
        f"{word:08x} {disassemble(word)}: core {a:#04x}, QEMU {b:#04x}"
        for word, a, b in zip(words, one, other, strict=True)
        if a != b and not may_differ(word, a, b)
    ]
    assert not wrong, (
        f"{len(wrong)} of {len(words)} encodings end differently (2 illegal, 3 breakpoint):\n" + "\n".join(wrong[:20])
    )


SHORT = [w for w in range(1 << 16) if w & 3 != 3]


@pytest.mark.parametrize("user", [True, False], ids=["U", "S"])
def test_every_16_bit_encoding(user: bool) -> None:
    compare(SHORT, user=user)


@pytest.mark.parametrize("how", [{"float_state": 0}, {"frm": 5}, {"frm": 7}], ids=["FS off", "frm 5", "frm 7"])
def test_16_bit_encodings_with_float_restricted(how: dict[str, int]) -> None:
    """With FS off, C.FLD and its like trap; a reserved frm touches none of the compressed encodings."""
    compare([w for w in SHORT if w >> 13 & 3 == 1], user=True, **how)


def grid(opcode: int, rng: random.Random, rs2: Sequence[int]) -> list[int]:
    """All of funct3 and funct7 with these rs2, and rd, rs1 from the corners."""
    return [
        funct7 << 25 | source << 20 | rng.choice([0, 10, 31]) << 15 | funct3 << 12 | rng.choice([0, 10]) << 7 | opcode
        for funct7 in range(128) for funct3 in range(8) for source in rs2
    ]  # fmt: skip


@pytest.mark.parametrize("opcode", [OP_IMM, OP_IMM_32, OP_FP], ids=["OP-IMM", "OP-IMM-32", "OP-FP"])
def test_dense_opcodes(opcode: int) -> None:
    """rs2 selects the operation here, so all of its values are tried."""
    compare(grid(opcode, random.Random(20), range(32)), user=True)


@pytest.mark.parametrize("opcode", [OP, OP_32, AMO, *FMA])
def test_register_opcodes(opcode: int) -> None:
    compare(grid(opcode, random.Random(21), (0, 1, 2, 31)), user=True)


@pytest.mark.parametrize("how", [{"float_state": 0}, {"frm": 5}, {"frm": 7}], ids=["FS off", "frm 5", "frm 7"])
def test_float_encodings_restricted(how: dict[str, int]) -> None:
    rng = random.Random(22)
    words = grid(OP_FP, rng, (0, 1, 2, 3))
    for opcode in (*FMA, 0x07, 0x27):
        words += rng.sample(grid(opcode, rng, (0, 1)), 300)
    words += [csr << 20 | rs1 << 15 | funct3 << 12 | 0x73 for csr in (1, 2, 3) for rs1 in (0, 1) for funct3 in range(8)]
    compare(words, user=True, **how)


def test_memory_and_other_opcodes() -> None:
    """Every opcode there is, reserved and custom ones included, with random other bits."""
    rng = random.Random(23)
    words = []
    for opcode in range(3, 128, 4):
        dense = opcode in (*LOADS_AND_STORES, MISC_MEM)
        for _ in range((2000 if dense else 600) * ROUNDS):
            word = rng.getrandbits(25) << 7 | opcode
            if word != ECALL:
                words.append(word)
    words += grid(MISC_MEM, rng, range(0, 32, 3))
    compare(words, user=True)


def test_any_32_bits() -> None:
    rng = random.Random(24)
    compare([rng.getrandbits(30) << 2 | 3 for _ in range(20000 * ROUNDS)], user=True)


SUPERVISOR_CSRS = range(0x100, 0x200)


def _system_words(user: bool) -> list[int]:
    """SYSTEM encodings without those that stop the hart or overwrite what the harness stands on."""
    words = []
    for immediate in range(4096):
        for rs1, rd in ((0, 0), (0, 10), (5, 0), (31, 31)):
            word = immediate << 20 | rs1 << 15 | rd << 7 | SYSTEM
            if user or word not in (ECALL, WFI):
                words.append(word)
            for funct3 in (1, 2, 3, 4, 5, 6, 7):
                writes = funct3 in (1, 5) or rs1
                if user or not writes or immediate not in SUPERVISOR_CSRS:
                    words.append(word | funct3 << 12)
    return words


@pytest.mark.parametrize("user", [True, False], ids=["U", "S"])
def test_system_encodings(user: bool) -> None:
    """All CSR numbers read and written, and every other SYSTEM encoding."""
    compare(_system_words(user), user=user)


def test_the_core_follows_the_table() -> None:
    """In these opcodes exactly what the table of the manual's instructions lists is legal."""
    rng = random.Random(25)
    words = [w for opcode in (OP_FP, AMO, OP, OP_32) for w in rng.sample(grid(opcode, rng, range(32)), 4000)]
    result = run_core(rv64decode.program(words, user=False))
    for word, cause in zip(words, result, strict=True):
        found = decode(word)
        legal = found is not None and found[1].get("rm", 0) not in (5, 6)
        assert (cause != ILLEGAL) == legal, f"{word:08x} {disassemble(word)}: {cause:#x}"


def test_supervisor_csrs_of_the_table_exist() -> None:
    of_aia = ("siselect", "sireg", "stopei")  # there with an IMSIC: test_rv64_aia.py, test_isa_aia.py
    names = [n for n in CSRS if 0x100 <= CSRS[n] < 0x200 and n not in of_aia]
    words = [CSRS[n] << 20 | 2 << 12 | 10 << 7 | SYSTEM for n in names]
    for name, cause in zip(names, run_core(rv64decode.program([*words, 0], user=False)), strict=False):
        assert cause != ILLEGAL, name
