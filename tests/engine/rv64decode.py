"""Execute encodings one by one, in U-mode or S-mode under Sv39, and record the trap that each one ends in.

The encoding stands alone in a page full of ``c.ebreak``: what runs through or jumps within the page ends in a
breakpoint. All x registers point to the middle of three pages that can be read and written but not executed, so that
loads, stores and AMOs work and jumps through a register end in a fetch page fault. Only what loops on the spot must
be kept out.
"""

from __future__ import annotations

from collections.abc import Sequence

from rv64asm import X_NAMES, Asm
from rv64run import FINISH, PAYLOAD, Program

ILLEGAL = 2
ELSEWHERE = 0x80  # added to the cause where the pc of the trap is not the encoding's
SLOT_OFFSET = 0x800
SLOT_PAGE = 0x10_0000_0000
SCRATCH = 0x18_0000_0000 + 0x1800
_V, _R, _W, _X, _U, _AD = 1, 2, 4, 8, 16, 0xC0
_CONTEXT, _ROOT, _MIDDLE, _LEAF, _SLOT, _DATA, _TABLE = (PAYLOAD + n * 0x1000 for n in (1, 2, 3, 5, 7, 8, 11))


def _entry(address: int, flags: int) -> bytes:
    return (address >> 12 << 10 | flags).to_bytes(8, "little")


def _page_tables(user: bool) -> bytes:
    """Six pages: the root, two middle and two leaf tables, a spare one."""
    owner = _U if user else 0
    root = bytearray(4096)
    root[16:24] = _entry(0x8000_0000, _V | _R | _W | _X | _AD)  # the harness itself: 1 GiB, one to one
    out = [root]
    for number, (base, first, flags, count) in enumerate(
        ((SLOT_PAGE, _SLOT, _R | _X, 1), (SCRATCH & ~0x1FFF, _DATA, _R | _W, 3))
    ):
        index = base >> 30 & 511
        root[8 * index : 8 * index + 8] = _entry(_MIDDLE + 4096 * number, _V)
        middle, leaf = bytearray(4096), bytearray(4096)
        middle[0:8] = _entry(_LEAF + 4096 * number, _V)
        for page in range(count):
            leaf[8 * page : 8 * page + 8] = _entry(first + 4096 * page, flags | owner | _V | _AD)
        out[1 + number : 1 + number] = [middle]
        out.append(leaf)
    return b"".join(bytes(page) for page in out)


def program(words: Sequence[int], *, user: bool, float_state: int = 1, frm: int = 0) -> Program:
    """Build the run; its dump has one byte an encoding: the low six bits of scause, ELSEWHERE added.

    ``float_state`` is sstatus.FS (0 off) and ``frm`` the rounding mode while the encoding runs.
    """
    results = _TABLE + (4 * len(words) + 4095 & ~4095)
    asm = Asm()
    for name, value in {"context": _CONTEXT, "slot": _SLOT + SLOT_OFFSET, "slot_va": SLOT_PAGE + SLOT_OFFSET}.items():
        asm.equ(name, value)
    asm.text(f"""
        li   t0, {8 << 60 | _ROOT >> 12}
        csrw satp, t0
        sfence.vma
        la   t0, trap
        csrw stvec, t0
        li   t0, 7
        csrw scounteren, t0
        csrwi senvcfg, 0
        li   sp, context
        csrw sscratch, sp
        li   t0, {_TABLE}
        sd   t0, 0(sp)          # next encoding
        li   t0, {results}
        sd   t0, 8(sp)          # next result
    next:
        ld   t0, 0(sp)
        li   t1, {_TABLE + 4 * len(words)}
        beq  t0, t1, end
        lwu  t1, 0(t0)
        addi t0, t0, 4
        sd   t0, 0(sp)
        li   t0, slot
        andi t2, t1, 3
        addi t2, t2, -3
        beqz t2, long
        li   t2, 0x90020000     # c.ebreak behind it
        or   t1, t1, t2
    long: sw t1, 0(t0)
        fence.i
        li   t0, 0x6100         # FS, SPP
        csrc sstatus, t0
        li   t0, 0x6000
        csrs sstatus, t0
        li   t1, {frm << 5}
        fscsr t1
        csrc sstatus, t0
        li   t0, {float_state << 13 | (0 if user else 0x100)}
        csrs sstatus, t0
        li   t0, slot_va
        csrw sepc, t0
        li   x1, {SCRATCH}
    """)
    for n in range(2, 32):
        asm("c.mv", X_NAMES[n], "ra")
    asm.text(f"""
        sret
        .align 4
    trap:
        csrrw sp, sscratch, sp
        csrr t0, scause
        andi t0, t0, 63
        csrr t1, sepc
        li   t2, slot_va
        beq  t1, t2, here
        ori  t0, t0, {ELSEWHERE}
    here: ld t1, 8(sp)
        sb   t0, 0(t1)
        addi t1, t1, 1
        sd   t1, 8(sp)
        csrw sscratch, sp
        j    next
    end: csrw satp, zero
        sfence.vma
        {FINISH}
    """)
    image = asm.assemble(PAYLOAD).ljust(_ROOT - PAYLOAD, b"\0") + _page_tables(user)
    image = image.ljust(_SLOT - PAYLOAD, b"\0") + b"\x02\x90" * 2048
    image = image.ljust(_TABLE - PAYLOAD, b"\0") + b"".join(w.to_bytes(4, "little") for w in words)
    return Program(image, results, len(words))
