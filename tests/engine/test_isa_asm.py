"""The tests' assembler against GNU as, and against itself (encode, decode, disassemble, assemble again)."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from rv64asm import FIELDS, INSTRUCTIONS, Asm, AsmError, Instruction, assemble, decode, disassemble, li_parts

from patience import patience

MARCH = "rv64gc_zba_zbb_zbs_svinval_zicsr_zifencei_zihintpause"
GAS = "riscv64-linux-gnu-as"
OBJCOPY = "riscv64-linux-gnu-objcopy"


def random_values(instruction: Instruction, rng: random.Random) -> dict[str, int]:
    """Field values that the instruction takes."""
    values: dict[str, int] = {}
    for name in instruction.fields:
        if name in "supnz":
            kind, low, high = instruction.immediate() or ("u", 0, 0)
            bottom, top = (-(1 << high), (1 << high) - 1) if kind in "spn" else (0, (2 << high) - 1)
            value = rng.choice([bottom, top, rng.randint(bottom, top)]) >> low << low
            values[name] = value or (1 << low if kind in "nz" else 0)
        elif name == "rm":
            values[name] = rng.choice([0, 1, 2, 3, 4, 7])
        elif name in ("aq", "rl"):
            values[name] = rng.randint(0, 1)
        elif name in ("pred", "succ"):
            values[name] = rng.randint(1, 15)
        else:
            low = 8 if name.endswith("'") else 1 if name.endswith("+") else 0
            values[name] = rng.choice(
                [n for n in range(low, low + (1 << FIELDS[name]) - low % 8) if name != "rd*" or (n != 2 and n)]
            )
    return values


def corpus() -> list[tuple[Instruction, int]]:
    rng = random.Random(1)
    return [(i, i.encode(random_values(i, rng))) for i in INSTRUCTIONS.values() for _ in range(12)]


def test_round_trip() -> None:
    for instruction, word in corpus():
        found = decode(word)
        assert found is not None, f"{instruction.name} {word:#x}"
        assert found[0].encode(found[1]) == word
        again = assemble(disassemble(word))
        assert int.from_bytes(again, "little") == word, disassemble(word)


def test_li_makes_the_value() -> None:
    rng = random.Random(2)
    values = [1 << b for b in range(64)] + [(1 << b) - 1 for b in range(65)] + [rng.getrandbits(64) for _ in range(500)]
    for value in values + [-v & (1 << 64) - 1 for v in values]:
        made = 0
        for name, immediate in li_parts(value):
            made = {"lui": immediate << 12, "slli": made << (immediate & 63)}.get(name, made + immediate) & (
                1 << 64
            ) - 1
            if name in ("lui", "addiw"):
                made = (made & 0xFFFFFFFF) - ((made >> 31 & 1) << 32) & (1 << 64) - 1
        assert made == value


def test_labels_and_data() -> None:
    asm = Asm().text(
        """
        .equ  answer, 40 + 2
        start: j end          # forward
        .align 8
        here: .dword here, answer
        .byte 1, -1
        .align 2
        end:  bnez a0, start  # back
              la a1, here+8
        """
    )
    code = asm.assemble(0x1000)
    assert asm.address("here") == 0x1008
    assert code[8:24] == (0x1008).to_bytes(8, "little") + (42).to_bytes(8, "little")
    assert code[24:26] == b"\x01\xff"
    assert disassemble(int.from_bytes(code[:4], "little")) == "jal zero, pc+26"
    assert disassemble(int.from_bytes(code[26:30], "little")) == "bne a0, zero, pc-26"
    assert disassemble(int.from_bytes(code[34:38], "little")) == f"addi a1, a1, {0x1010 - 0x101E}"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("addi a0, a0, 2048", "does not fit"),
        ("addi a0, q0, 1", "no such register"),
        ("frobnicate a0", "no such instruction"),
        ("add.aq a0, a0, a0", "no such instruction"),
        ("beqz a0, nowhere", "neither a number nor a label"),
        ("c.addi a0, 0", "does not fit"),
        ("c.lui sp, 1", "cannot be 2"),
        ("c.lw t0, 0(a0)", "cannot be 5"),
        ("c.lw a1, 2(a0)", "does not fit"),
        ("lr.w a0, 4(a1)", "no offset"),
        ("x: nop\nx: nop", "twice"),
        ("add a0, a1", "operands expected"),
    ],
)
def test_refuses(source: str, text: str) -> None:
    with pytest.raises(AsmError, match=text):
        assemble(source)


@pytest.mark.skipif(not (shutil.which(GAS) and shutil.which(OBJCOPY)), reason="needs binutils-riscv64-linux-gnu")
def test_agrees_with_gnu_as(tmp_path: Path) -> None:
    lines, words = [], []
    for instruction, word in corpus():
        text = disassemble(word)
        if instruction.name in (
            "fcvt.d.s",
            "fcvt.d.w",
            "fcvt.d.wu",
        ):  # exact conversions: this assembler has a mode, GNU as none
            word &= ~(7 << 12)
            text = text.rpartition(",")[0]
        if instruction.name in ("c.lui", "lui", "auipc"):
            text = re.sub(r"-\d+$", lambda m: str(int(m[0]) & 0xFFFFF), text)
        lines.append(re.sub(r"pc([+-]\d+)", r". \1", text).replace("zero, csr", "zero, "))
        words.append(word.to_bytes(instruction.size, "little"))
    source, out, flat = tmp_path / "a.s", tmp_path / "a.o", tmp_path / "a.bin"
    source.write_text(".option norelax\n.option rvc\n" + "\n".join(_no_compression(lines)) + "\n")
    subprocess.run([GAS, f"-march={MARCH}", "-o", out, source], check=True, timeout=patience(60))
    subprocess.run([OBJCOPY, "-O", "binary", out, flat], check=True, timeout=patience(60))
    found = flat.read_bytes()
    at = 0
    for line, expected in zip(lines, words, strict=True):
        assert found[at : at + len(expected)] == expected, line
        at += len(expected)
    assert at == len(found)


def _no_compression(lines: list[str]) -> list[str]:
    """Only what is written with ``c.`` may come out compressed."""
    return [line if line.startswith("c.") else f".option norvc\n{line}\n.option rvc" for line in lines]
