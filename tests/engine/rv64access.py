"""Write a page-table entry, make one access, record what came of it: thousands of times in one program.

The tables are laid out here; a test names the entry that it varies (``Slot``), the entry's content, the address, the
kind of access, the privilege and the bits of sstatus. Each record of the dump holds scause (bit 32 set: there was a
trap), stval, sepc relative to the access (0), the entry afterwards, and what a load returned.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from rv64asm import Asm
from rv64run import FINISH, PAYLOAD, RAM, Program

V, R, W, X, U, G, A, D = (1 << n for n in range(8))
SUM, MXR, USER = 1 << 18, 1 << 19, 1  # USER is no bit of sstatus that can be set: it asks for U-mode
TRAPPED = 1 << 32
BREAKPOINT = 3
PATTERN = b"\x02\x90"  # c.ebreak
_PAGE = 4096
_ROOT48, _ROOT39, _MIDDLE, _LEAF = (PAYLOAD + n * _PAGE for n in (2, 3, 4, 5))
_RECORDS = PAYLOAD + 0x8000
DATA = RAM + 0x100_0000  # 2 MiB-aligned; this page and the next hold PATTERN, the rest of them is zero
NOWHERE = 0x50_0000_0000  # no memory and no device there, neither here nor on QEMU's virt board
_ALIAS = 0x4000_0000  # U-mode reaches the harness's code this far above
_PTE_RAM = RAM >> 2
_MIDDLE_BASE = 0x2_4000_0000
LEAF_BASE = _MIDDLE_BASE + 0x20_0000


class Kind(IntEnum):
    """Ways to touch memory."""

    LOAD = 0
    STORE = 1
    FETCH = 2
    AMO = 3
    LR = 4


@dataclass(frozen=True, slots=True)
class Slot:
    """A page-table entry: where it stands, which addresses it maps, how large its page is."""

    name: str
    address: int
    base: int
    size: int


LEAF_4K = Slot("4 KiB", _LEAF + 8, LEAF_BASE + _PAGE, _PAGE)
LEAF_2M = Slot("2 MiB", _MIDDLE, _MIDDLE_BASE, 2 << 20)
LEAF_1G = Slot("1 GiB", _ROOT39 + 8 * 8, 0x2_0000_0000, 1 << 30)
LEAF_512G = Slot("512 GiB", _ROOT48 + 8, 0x80_0000_0000, 512 << 30)
TABLES_BELOW = {LEAF_2M: (_LEAF, 0), LEAF_1G: (_MIDDLE, 0x20_0000), LEAF_512G: (_ROOT39, 0x2_4020_0000)}
"""The next table that stands for a slot, and the offset under which it maps DATA, for U-mode and S-mode with SUM."""
NEXT_4K = Slot("4 KiB, the second one", _LEAF + 16, LEAF_BASE + 2 * _PAGE, _PAGE)


@dataclass(frozen=True, slots=True)
class Access:
    """One record of input: ``entry`` goes into ``slot``, then ``kind`` at ``address``; with USER in U-mode."""

    slot: Slot
    entry: int
    address: int
    kind: Kind
    status: int

    def __str__(self) -> str:
        flags = "".join(c if self.entry >> n & 1 else "-" for n, c in enumerate("VRWXUGAD"))
        status = "U" if self.status & USER else "S"
        status += "+SUM" * bool(self.status & SUM) + "+MXR" * bool(self.status & MXR)
        return f"{self.kind.name} {self.address:#x} in {status}, {self.slot.name} entry {self.entry:#018x} {flags}"


@dataclass(frozen=True, slots=True)
class Result:
    """One record of the dump. ``cause`` is None where nothing trapped; a fetch that succeeds ends in a breakpoint."""

    cause: int | None
    value: int
    pc: int
    entry: int
    loaded: int

    def __str__(self) -> str:
        if self.cause is None:
            return f"no trap, loaded {self.loaded:#x}, entry {self.entry:#018x}"
        return f"scause {self.cause}, stval {self.value:#x}, sepc {self.pc:+#x}, entry {self.entry:#018x}"


def entry(physical: int, flags: int) -> int:
    """A page-table entry for a physical address."""
    return physical >> 12 << 10 | flags


def _tables() -> bytes:
    every = V | R | W | X | A | D
    tables = {_ROOT48: bytearray(_PAGE), _ROOT39: bytearray(_PAGE), _MIDDLE: bytearray(_PAGE), _LEAF: bytearray(_PAGE)}

    def put(table: int, index: int, value: int) -> None:
        tables[table][8 * index : 8 * index + 8] = struct.pack("<Q", value)

    put(_ROOT48, 0, entry(_ROOT39, V))
    put(_ROOT39, 2, _PTE_RAM | every)
    put(_ROOT39, 3, _PTE_RAM | every | U)
    put(_ROOT39, 9, entry(_MIDDLE, V))
    put(_MIDDLE, 1, entry(_LEAF, V))
    put(_LEAF, 0, entry(DATA, every | U))
    return b"".join(bytes(t) for _, t in sorted(tables.items()))


_ACCESS = """
{p}0:   ld   a0, 0(a1)
        j    {p}done
{p}1:   sd   a2, 0(a1)
        j    {p}done
{p}2:   jr   a1
{p}3:   amoor.d a0, zero, (a1)
        j    {p}done
{p}4:   lr.d a0, (a1)
        j    {p}done
"""


def program(accesses: Sequence[Access], mode: int) -> Program:
    """Build the run under satp.MODE ``mode`` (8 Sv39, 9 Sv48)."""
    results = _RECORDS + (40 * len(accesses) + 4095 & ~4095)
    root = _ROOT48 if mode == 9 else _ROOT39
    asm = Asm().text(f"""
        la   t0, trap
        csrw stvec, t0
        li   t0, {mode << 60 | root >> 12}
        csrw satp, t0
        sfence.vma
        li   s0, {_RECORDS}
        li   s1, {results}
        li   s2, {len(accesses)}
        li   a2, {int.from_bytes(PATTERN * 4, "little")}
        li   s5, {SUM | MXR | 0x100}
        li   s6, {_ALIAS}
        la   s7, s_done
    loop:
        ld   s3, 0(s0)              # the entry's address
        ld   t0, 8(s0)
        sd   t0, 0(s3)
        sfence.vma
        fence.i                     # an earlier access may have stored what this one executes
        ld   a1, 16(s0)
        ld   t1, 24(s0)             # kind
        ld   t2, 32(s0)             # status
        li   a0, 0
        csrc sstatus, s5
        andi t3, t2, -2
        csrs sstatus, t3
        la   t4, kinds
        sh3add t4, t1, t4
        andi t2, t2, {USER}
        bnez t2, user
        ld   t4, 0(t4)
        mv   s8, t4
        jr   t4
    user:
        ld   t4, 40(t4)
        add  t4, t4, s6
        mv   s8, t4
        csrw sepc, t4
        sret
        {_ACCESS.format(p="s_")}
        {_ACCESS.format(p="u_")}
    u_done:
        ebreak
    s_done:
        sd   zero, 0(s1)
        sd   zero, 8(s1)
        sd   zero, 16(s1)
    after:
        ld   t0, 0(s3)
        sd   t0, 24(s1)
        sd   a0, 32(s1)
        addi s0, s0, 40
        addi s1, s1, 40
        addi s2, s2, -1
        bnez s2, loop
        csrw satp, zero
        sfence.vma
        {FINISH}
        .align 4
    trap:
        csrr t0, scause
        csrr t1, sepc
        la   t3, u_done
        add  t3, t3, s6
        beq  t1, t3, s_done         # U-mode came through
        li   t3, {TRAPPED}
        or   t0, t0, t3
        sd   t0, 0(s1)
        csrr t0, stval
        sd   t0, 8(s1)
        sub  t1, t1, s8
        ld   t2, 24(s0)
        addi t2, t2, -{Kind.FETCH}
        bnez t2, pc
        add  t1, t1, s8
        sub  t1, t1, a1             # a fetch faults at its target
    pc: sd   t1, 16(s1)
        j    after
        .align 8
    kinds:
        .dword {", ".join(f"s_{k.value}" for k in Kind)}, {", ".join(f"u_{k.value}" for k in Kind)}
    """)
    image = asm.assemble(PAYLOAD)
    if len(image) > _ROOT48 - PAYLOAD:
        raise ValueError("the harness has outgrown its pages")
    image = image.ljust(_ROOT48 - PAYLOAD, b"\0") + _tables()
    image = image.ljust(_RECORDS - PAYLOAD, b"\0")
    image += b"".join(struct.pack("<5Q", a.slot.address, a.entry, a.address, a.kind, a.status) for a in accesses)
    image = image.ljust(DATA - PAYLOAD, b"\0") + PATTERN * _PAGE
    if results + 40 * len(accesses) > DATA:
        raise ValueError("too many accesses for one program")
    return Program(image, results, 40 * len(accesses))


def results(dump: bytes) -> list[Result]:
    """Read the dump."""
    found = []
    for cause, value, pc, pte, loaded in struct.iter_unpack("<5Q", dump):
        relative = pc - (pc >> 63 << 64)
        found.append(Result(cause & ~TRAPPED if cause & TRAPPED else None, value, relative, pte, loaded))
    return found
