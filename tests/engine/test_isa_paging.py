"""Page walks and permissions under Sv39 and Sv48: the core against QEMU, and both against the rules of the manual."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rv64access import (
    BREAKPOINT,
    DATA,
    LEAF_1G,
    LEAF_2M,
    LEAF_4K,
    LEAF_512G,
    LEAF_BASE,
    MXR,
    NEXT_4K,
    NOWHERE,
    SUM,
    TABLES_BELOW,
    USER,
    A,
    Access,
    D,
    G,
    Kind,
    R,
    Result,
    Slot,
    U,
    V,
    W,
    X,
    entry,
    program,
    results,
)  # fmt: skip
from rv64run import RAM, missing_core, missing_tool, run_core, run_qemu_system

ROUNDS = int(os.environ.get("VMRUN_ISA_ROUNDS", "1"))
_QEMU = missing_tool("qemu-system-riscv64")
_MISSING = _QEMU or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)
SV39, SV48 = 8, 9
FETCH_FAULT, LOAD_FAULT, STORE_FAULT = 12, 13, 15
STORE_ACCESS_FAULT = 7
STATES = (0, SUM, MXR, SUM | MXR, USER, USER | MXR, USER | SUM)
FULL = V | R | W | X | A | D


def may_differ(access: Access, core: Result, qemu: Result) -> bool:
    """Where both are right, or QEMU is not.

    An AMO that may not write: QEMU has set A, as a speculative read may (volume II, 11.3.1).
    A leaf beyond memory: QEMU has set A but not D, since an AMO's read fails first there; for a store it sets both.
    A table beyond memory: QEMU reports a page fault; 11.3.2 step 2 says access fault.
    stval of a breakpoint: QEMU gives the address under which it first translated the page, the core that of the ebreak.
    """
    access_faults = {FETCH_FAULT: 1, LOAD_FAULT: 5, STORE_FAULT: STORE_ACCESS_FAULT}
    if access.entry & (V | R | W | X) == V and core.cause in access_faults.values():
        return qemu.cause is not None and replace(qemu, cause=access_faults.get(qemu.cause)) == core
    if access.kind == Kind.AMO and core.cause == STORE_FAULT:
        return replace(core, entry=core.entry | A) == qemu
    if access.kind == Kind.AMO and core.cause == STORE_ACCESS_FAULT:
        return replace(core, entry=core.entry & ~D) == qemu
    if core.cause == BREAKPOINT:
        return core.value == access.address and replace(qemu, value=core.value) == core
    return False


def compare(accesses: Sequence[Access], mode: int) -> list[Result]:
    made = program(accesses, mode)
    core, qemu = results(run_core(made)), results(run_qemu_system(made))
    wrong = [
        f"{a}\n    core: {one}\n    QEMU: {two}"
        for a, one, two in zip(accesses, core, qemu, strict=True)
        if one != two and not may_differ(a, one, two)
    ]
    assert not wrong, f"{len(wrong)} of {len(accesses)} accesses end differently:\n" + "\n".join(wrong[:12])
    return core


def target(slot: Slot) -> tuple[int, int]:
    """The physical base that a leaf in this slot maps, and the address under which DATA is then seen."""
    physical = DATA & -slot.size
    return physical, slot.base + DATA - physical


def expected(access: Access) -> int | None:
    """scause by the manual's algorithm (volume II, 11.3.2) for a leaf with these flags; None: the access succeeds."""
    flags = access.entry
    fault = {Kind.FETCH: FETCH_FAULT, Kind.LOAD: LOAD_FAULT, Kind.LR: LOAD_FAULT}.get(access.kind, STORE_FAULT)
    if not flags & V or (not flags & R and flags & W) or not flags & (R | X):
        return fault
    user = access.status & USER
    if user and not flags & U:
        return fault
    if not user and flags & U and (access.kind == Kind.FETCH or not access.status & SUM):
        return fault
    readable = flags & R or (flags & X and access.status & MXR)
    needed = {Kind.FETCH: flags & X, Kind.LOAD: readable, Kind.LR: readable, Kind.STORE: flags & W, Kind.AMO: flags & W}
    return None if needed[access.kind] else fault


def sweep(slot: Slot) -> list[Access]:
    physical, address = target(slot)
    return [Access(slot, entry(physical, flags), address + 0x108, kind, status)
            for flags in range(256) for kind in Kind for status in STATES]  # fmt: skip


@pytest.mark.parametrize(
    ("slot", "mode"),
    [
        (LEAF_4K, SV39),
        (LEAF_2M, SV39),
        (LEAF_1G, SV39),
        (LEAF_4K, SV48),
        (LEAF_2M, SV48),
        (LEAF_1G, SV48),
        (LEAF_512G, SV48),
    ],
    ids=lambda v: v.name if isinstance(v, Slot) else {SV39: "Sv39", SV48: "Sv48"}[v],
)
def test_every_flag_combination(slot: Slot, mode: int) -> None:
    """All flags x access x privilege x SUM x MXR: the trap, stval and the A and D bits afterwards."""
    accesses = sweep(slot)
    found = compare(accesses, mode)
    for access, result in zip(accesses, found, strict=True):
        pointer = access.entry & (V | R | W | X) == V
        if pointer and slot is not LEAF_4K:
            continue  # it points to a table, which the pattern in DATA is not
        cause = expected(access)
        if access.kind == Kind.FETCH and cause is None:
            cause = BREAKPOINT
        assert result.cause == cause, f"{access}: {result}"
        if cause in (None, BREAKPOINT):
            dirty = D if access.kind in (Kind.STORE, Kind.AMO) else 0
            assert result.entry == access.entry | A | dirty, f"{access}: {result}"
        else:
            assert result.entry == access.entry, f"{access}: {result}"
            assert result.value == access.address


@pytest.mark.parametrize("mode", [SV39, SV48], ids=["Sv39", "Sv48"])
def test_reserved_bits_and_misaligned_superpages(mode: int) -> None:
    accesses = []
    for slot in (LEAF_4K, LEAF_2M, LEAF_1G) + ((LEAF_512G,) if mode == SV48 else ()):
        physical, address = target(slot)
        for kind in Kind:
            for status in (0, USER):
                owner = U if status else 0
                plain = entry(physical, FULL | owner)
                accesses += [Access(slot, plain | 1 << bit, address + 8, kind, status) for bit in range(54, 64)]
                accesses += [Access(slot, plain | rsw << 8, address + 8, kind, status) for rsw in (1, 2, 3)]
                accesses += [Access(slot, plain | 1 << bit, address + 8, kind, status)
                             for bit in range(10, 10 + (slot.size.bit_length() - 13))]  # fmt: skip
                pointer = entry(DATA, V)
                accesses += [
                    Access(slot, pointer | extra, address + 8, kind, status)
                    for extra in (0, A, D, U, G, A | D | U, 1 << 61, 1 << 63)
                ]
    compare(accesses, mode)


@pytest.mark.parametrize("mode", [SV39, SV48], ids=["Sv39", "Sv48"])
def test_flags_of_an_entry_that_points_to_a_table(mode: int) -> None:
    """A, D, U and the reserved bits must be clear in it; G and RSW are free."""
    accesses = []
    bits = [0, *(1 << bit for bit in (4, 5, 6, 7, 8, 9, *range(54, 64)))]
    for slot, (table, offset) in TABLES_BELOW.items():
        if slot is LEAF_512G and mode == SV39:
            continue
        for extra in bits:
            for kind, status in ((Kind.LOAD, USER), (Kind.STORE, USER), (Kind.FETCH, USER), (Kind.AMO, SUM)):
                accesses.append(Access(slot, entry(table, V) | extra, slot.base + offset + 0x80, kind, status))
    for access, result in zip(accesses, compare(accesses, mode), strict=True):
        free = access.entry & (U | A | D | 0x3FF << 54) == 0
        assert (result.cause in (None, BREAKPOINT)) == free, f"{access}: {result}"


@pytest.mark.parametrize("mode", [SV39, SV48], ids=["Sv39", "Sv48"])
def test_addresses_that_are_not_canonical(mode: int) -> None:
    top = 38 if mode == SV39 else 47
    places = [1 << bit for bit in range(top, 64)] + [(1 << 64) - (1 << bit) for bit in range(top - 2, 64)]
    places += [LEAF_4K.base | 1 << bit for bit in range(top, 64)] + [LEAF_4K.base | -1 << (top + 1) & (1 << 64) - 1]
    valid = entry(DATA, FULL)
    compare(
        [Access(LEAF_4K, valid | (U if s else 0), p, kind, s) for p in places for kind in Kind for s in (0, USER)], mode
    )


def test_no_memory_behind_the_entry() -> None:
    """Leaves and tables beyond memory end in access faults, not page faults."""
    accesses = []
    for kind in Kind:
        for status in (0, USER):
            flags = FULL | (U if status else 0)
            for where in (NOWHERE, RAM + (64 << 20), 1 << 55, (1 << 56) - 4096):
                accesses.append(Access(LEAF_4K, entry(where, flags), LEAF_4K.base, kind, status))
                accesses.append(Access(LEAF_4K, entry(where, flags & ~(A | D)), LEAF_4K.base, kind, status))
                accesses.append(Access(LEAF_2M, entry(where, V), LEAF_2M.base, kind, status))
    compare(accesses, SV39)


def test_accesses_across_two_pages() -> None:
    """The first page is there, the second one varies: stval names the part that faults."""
    accesses = []
    for offset in (0, 1, 2, 4, 7):
        for flags in (0, V | R, V | R | W, V | R | W | X, FULL, FULL & ~W, FULL & ~A, FULL & ~D):
            for kind in (Kind.LOAD, Kind.STORE):
                accesses.append(Access(LEAF_4K, entry(DATA, flags | U), LEAF_BASE + 4096 - offset, kind, USER))
                accesses.append(Access(LEAF_4K, entry(DATA, flags | U), LEAF_BASE + 4096 - offset, kind, SUM))
    accesses.append(Access(LEAF_4K, entry(DATA, FULL | U), LEAF_BASE + 4096 - 2, Kind.FETCH, USER))
    compare(accesses, SV39)


def test_random_entries() -> None:
    """Any 64 bits in an entry."""
    rng = random.Random(30)
    accesses = []
    for _ in range(4000 * ROUNDS):
        slot = rng.choice([LEAF_4K, LEAF_4K, LEAF_2M, LEAF_1G, NEXT_4K])
        physical, address = target(slot)
        value = entry(physical, rng.getrandbits(10))
        value ^= rng.choice([0, 0, 0, 1 << rng.randint(54, 63), 1 << rng.randint(10, 20)])
        accesses.append(
            Access(slot, value, address + 8 * rng.randint(0, 500), rng.choice(list(Kind)), rng.choice(STATES))
        )
    compare(accesses, SV39)
