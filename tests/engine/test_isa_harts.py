"""Several harts at once: AMO and LR/SC lose nothing, locks hold, and fences order what RVWMO says they order."""

from __future__ import annotations

import os
import struct

import pytest
from rv64asm import Asm
from rv64run import FINISH, PAYLOAD, RAM, Program, missing_core, run_core

_MISSING = missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)
_HSM = 0x48534D
_SHARED = RAM + 0x200_0000
_SYNC = _SHARED - 4096


def run(work: str, harts: int, size: int) -> bytes:
    """Run ``work`` on every hart at once (s0: hart, s1: shared memory, s2: harts) and return shared memory."""
    asm = Asm().text(f"""
        li   s3, 1
    start: li s4, {harts}
        beq  s3, s4, begin
        mv   a0, s3
        la   a1, begin
        li   a2, 0
        li   a7, {_HSM}
        li   a6, 0
        ecall
        bnez a0, failed
        li   a0, 0
        addi s3, s3, 1
        j    start
    failed: .word 0
    begin:
        mv   s0, a0
        li   s1, {_SHARED}
        li   s2, {harts}
        li   s5, {_SYNC}
        li   t0, 1
        amoadd.w.aqrl zero, t0, (s5)
    gather: lw t0, 0(s5)
        blt  t0, s2, gather
        {work}
        fence
        li   t0, 1
        addi s5, s5, 64
        amoadd.w.aqrl zero, t0, (s5)
        bnez s0, rest
    collect: lw t0, 0(s5)
        blt  t0, s2, collect
        {FINISH}
    rest: wfi
        j    rest
    """)
    return run_core(Program(asm.assemble(PAYLOAD), _SHARED, size), harts=harts)


@pytest.mark.parametrize("harts", [2, 4])
def test_nothing_is_lost(harts: int) -> None:
    rounds = 20_000
    dump = run(
        f"""
        li   s6, {rounds}
        li   t1, 1
    turn: amoadd.d zero, t1, (s1)
        addi t2, s1, 64
        amoadd.w t3, t1, (t2)
        addi t2, s1, 128
    again_w: lr.w t3, (t2)
        addi t3, t3, 1
        sc.w t4, t3, (t2)
        bnez t4, again_w
        addi t2, s1, 192
    again_d: lr.d.aq t3, (t2)
        addi t3, t3, 3
        sc.d.rl t4, t3, (t2)
        bnez t4, again_d
        addi t2, s1, 256
        sll  t3, t1, s0
        amoxor.d zero, t3, (t2)
        addi t2, s1, 264
        amomaxu.d zero, s6, (t2)
        addi t2, s1, 272
    take: amoswap.w.aq t3, t1, (t2)
        bnez t3, take
        ld   t3, 64(t2)
        addi t3, t3, 1
        sd   t3, 64(t2)
        amoswap.w.rl zero, zero, (t2)
        addi s6, s6, -1
        bnez s6, turn
        """,
        harts,
        512,
    )
    words = struct.unpack("<64Q", dump)
    total = harts * rounds
    assert words[0] == total, "amoadd.d"
    assert words[8] == total, "amoadd.w"
    assert words[16] == total, "lr.w, sc.w"
    assert words[24] == 3 * total, "lr.d, sc.d"
    assert words[32] == 0, "amoxor.d"
    assert words[33] == rounds, "amomaxu.d"
    assert words[42] == total, "a lock of amoswap"


@pytest.mark.skipif(
    (os.cpu_count() or 1) < 2, reason="needs two host CPUs: the harts wait for one another in every round"
)
def test_store_buffering_with_fences() -> None:
    """x = 1; fence; read y beside y = 1; fence; read x: not both may read zero."""
    count = 1_500
    dump = run(
        f"""
        li   s6, {count}
        li   s7, 128            # a round's x, and y in the next line
        li   s8, 0
        add  s9, s5, s7         # who is in which round
        addi t1, s1, 0
        addi t0, s1, 64
        addi t2, s1, 8
        addi s10, s9, 64
        beqz s0, turn
        addi t1, s1, 64
        addi t0, s1, 0
        addi t2, s1, 72
        addi s10, s9, 0
        addi s9, s9, 64
    turn: addi s8, s8, 1
        li   t3, 1
        sd   s8, 0(s9)
    meet: ld t4, 0(s10)
        blt  t4, s8, meet
        sd   t3, 0(t1)
        fence rw, rw
        ld   t4, 0(t0)
        sd   t4, 0(t2)
        add  t0, t0, s7
        add  t1, t1, s7
        add  t2, t2, s7
        bne  s8, s6, turn
        """,
        2,
        128 * count,
    )
    rounds = [(line[1], line[9]) for line in struct.iter_unpack("<16Q", dump)]
    both = sum(pair == (0, 0) for pair in rounds)
    assert any(pair != (1, 1) for pair in rounds), "the harts never met"
    assert not both, f"both read zero in {both} of {count} rounds"


def test_messages_arrive_whole() -> None:
    """A reader that sees the flag sees the data that was stored before it (fence w,w and fence r,r)."""
    dump = run(
        """
        li   s6, 50000
        li   s7, 0
        bnez s0, reader
    writer: addi s7, s7, 1
        sd   s7, 64(s1)
        fence w, w
        sd   s7, 0(s1)
        bne  s7, s6, writer
        j    both
    reader: ld t0, 0(s1)
        fence r, r
        ld   t1, 64(s1)
        bleu t0, t1, good
        li   t2, 1
        sd   t2, 128(s1)
    good: bne t0, s6, reader
    both:
        """,
        2,
        256,
    )
    assert struct.unpack_from("<Q", dump, 128)[0] == 0
