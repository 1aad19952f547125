"""The bus and memory change while vCPUs run."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from rv64asm import Asm

from patience import patience
from vmrun.core.build import DIALECT, folders

ROOT = Path(__file__).resolve().parents[2]
CODE = 0x8020_0000
WINDOWS = [0x1000_0000 + 0x1000 * i for i in range(3)]
REGIONS = [0x4000_0000 + 0x10_0000 * i for i in range(3)]
FLASH = 0x6000_0000
ROUNDS = 10_000


def program(loop: str) -> bytes:
    """Return code with which both harts of core_live.c do ``loop`` for ever; s1 is 64 times the hart's number."""
    return (
        Asm()
        .text(f"""
        la t0, trap; csrw stvec, t0
        bnez a0, other
        li a7, 0x48534d; li a6, 0; li a0, 1; la a1, second; li a2, 0; ecall
        li a0, 0
        j other
second: la t0, trap; csrw stvec, t0
other:  slli s1, a0, 6
        li s11, 0
loop:   {loop}
        addi s11, s11, 1
        j loop
bad:    li a7, 0x53525354; li a6, 0; li a0, 0; li a1, 0; ecall
        .align 4
trap:   csrr t5, scause
        li t6, 1
        beq t5, t6, fetch
        csrr t5, sepc
        addi t5, t5, 4
        csrw sepc, t5
        sret
fetch:  csrw sepc, ra
        sret
        """)
        .assemble(CODE)
    )


def hammer() -> str:
    """Return accesses to all there may be: each finds what is right, or nothing and traps."""
    windows = "\n".join(
        f"li s2, {base}; li t0, 0x1234567; mv t1, t0; lwu t0, 0(s2); bne t0, t1, bad; sw t0, 4(s2)" for base in WINDOWS
    )
    regions = "\n".join(
        f"""li s2, {base}; add s3, s2, s1; li t0, 0x7654321; mv t1, t0; ld t0, 0x700(s2); bne t0, t1, bad
            ld t2, 0(s3); addi t2, t2, 1; sd t2, 0(s3)
            li t3, {base + 0x800}; amoadd.d t4, t0, (t3)
            li t3, {base + 0x1000}; jalr ra, 0(t3)"""
        for base in REGIONS
    )
    return f"{windows}\n{regions}\nli s2, {FLASH}; lwu t0, 0(s2); sw t0, 0(s2)"


@cache
def build(folder: Path, sanitizer: str) -> Path:
    """Compile core_live.c and the core with a sanitizer into ``folder``; skip where the compiler has none."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is missing")
    program = folder / f"core_live-{sanitizer}"
    rooms = [room for room in (ROOT / folder for folder in folders()) if "kvm" not in room.parts]
    sources = [str(source) for room in rooms for source in sorted(room.glob("*.c"))]
    flags = [*DIALECT, "-g", "-O1", f"-fsanitize={sanitizer}"]
    includes = [f"-I{room}" for room in rooms]
    source = str(Path(__file__).with_name("core_live.c"))
    done = subprocess.run(
        [compiler, *flags, *includes, source, *sources, "-o", str(program)],
        capture_output=True,
        text=True,
        timeout=patience(300),
    )
    if done.returncode and "cannot find" in done.stderr:
        pytest.skip(f"the compiler has no library for -fsanitize={sanitizer}")
    assert done.returncode == 0, done.stderr
    return program


def run(built: Path, loop: str, rounds: int) -> dict[str, int]:
    """Run core_live.c; return its counts. Fail where it ends otherwise, or not."""
    code = built.with_suffix(".code")
    code.write_bytes(program(loop))
    ours = {name: text for name, text in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        [*_without_randomization(), str(built), str(code), str(rounds), "1"],
        capture_output=True,
        text=True,
        timeout=patience(120),
        env={**ours, "TSAN_OPTIONS": "halt_on_error=1", "ASAN_OPTIONS": "detect_leaks=0"},
    )
    if "unexpected memory mapping" in done.stderr or "personality" in done.stderr:
        pytest.skip("the host's address layout is none that the sanitizer can do with")
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]
    words = done.stdout.split()
    return dict(zip(words[::2], map(int, words[1::2]), strict=True))


def _without_randomization() -> list[str]:
    """The thread sanitizer knows fewer address layouts than newer kernels make."""
    setarch = shutil.which("setarch")
    return [] if setarch is None else [setarch, "-R"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("core_live")


@pytest.mark.slow
@pytest.mark.parametrize("sanitizer", ["thread", "address"])
def test_windows_and_regions_change_under_two_harts(folder: Path, sanitizer: str) -> None:
    counts = run(build(folder, sanitizer), hammer(), ROUNDS)
    assert all(counts.values()), counts


@pytest.mark.slow
def test_harts_that_do_nothing_let_every_change_by(folder: Path) -> None:
    """No access asks the harts for anything, so that each change waits for what it asked for itself."""
    counts = run(build(folder, "address"), "nop", ROUNDS // 10)
    assert counts["hart0"] and counts["hart1"] and not counts["toggles"]
