"""The MP table, read by a reader of its own that does what Linux does (arch/x86/kernel/mpparse.c)."""

from __future__ import annotations

import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmrun.frozen import evolve
from vmrun.tables.mptable import Line, MpMachine, MpTable, encode

SMALL = MpMachine((0, 1), 2, (Line(4, 4), Line(16, 16, level=True, active_low=True)), signature=0x306C1, features=0x178)
SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}


def entries(table: MpTable) -> list[bytes]:
    """Follow the pointer and split the base table; everything that Linux looks at is asserted."""
    pointer = table.pointer
    assert len(pointer) == 16
    assert sum(pointer) & 0xFF == 0
    signature, at, paragraphs, revision, _, kind = struct.unpack_from("<4sIBBBB", pointer)
    assert (signature, at, paragraphs, revision, kind) == (b"_MP_", table.table_at, 1, 4, 0)
    data = table.table
    assert sum(data) & 0xFF == 0
    name, length, revision = struct.unpack_from("<4sHB", data)
    assert (name, length, revision) == (b"PCMP", len(data), 4)
    count, local = struct.unpack_from("<HI", data, 34)
    assert local == 0xFEE00000
    found, place = [], 44
    while place < len(data):
        size = SIZES[data[place]]
        found.append(data[place : place + size])
        place += size
    assert place == len(data)
    assert count == len(found)
    assert [entry[0] for entry in found] == sorted(entry[0] for entry in found)
    return found


def test_a_small_machine_has_these_bytes() -> None:
    table = encode(SMALL, table_at=0x9FC10)
    assert table.table[8:28] == b"VMRUN   VMRUN       "
    assert [entry.hex(" ") for entry in entries(table)] == [
        "00 00 14 03 c1 06 00 00 78 01 00 00 00 00 00 00 00 00 00 00",  # boot processor, enabled
        "00 01 14 01 c1 06 00 00 78 01 00 00 00 00 00 00 00 00 00 00",
        "01 00 49 53 41 20 20 20",  # bus 0, "ISA   "
        "02 02 11 01 00 00 c0 fe",
        "03 00 05 00 00 04 02 04",  # INT, active high and edge, bus 0 line 4, I/O APIC 2 pin 4
        "03 00 0f 00 00 10 02 10",  # active low and level
        "04 03 00 00 00 00 ff 00",  # ExtINT at LINT0 of all
        "04 01 00 00 00 00 ff 01",  # NMI at LINT1
    ]


@given(st.lists(st.integers(0, 254), min_size=2, max_size=255, unique=True), st.lists(st.integers(0, 255), unique=True))
def test_every_processor_and_line_is_there(ids: list[int], lines: list[int]) -> None:
    machine = MpMachine(tuple(ids[1:]), ids[0], tuple(Line(line, line) for line in lines))
    found = entries(encode(machine, table_at=0xF0010))
    assert [entry[1] for entry in found if entry[0] == 0] == ids[1:]
    assert [entry[3] for entry in found if entry[0] == 0] == [3] + [1] * (len(ids) - 2)
    assert [(entry[5], entry[7]) for entry in found if entry[0] == 3] == [(line, line) for line in lines]


@pytest.mark.parametrize(
    ("machine", "at", "words"),
    [
        (evolve(SMALL, apic_ids=()), 0x1000, "no processor"),
        (evolve(SMALL, apic_ids=(255,)), 0x1000, "0..254"),
        (evolve(SMALL, apic_ids=(0, 0)), 0x1000, "different"),
        (evolve(SMALL, io_apic_id=1), 0x1000, "different"),
        (SMALL, 0, "table at 0x0"),
        (SMALL, 1 << 32, "below 4 GiB"),
        (SMALL, 0x1002, "multiple of 4"),
        (evolve(SMALL, io_apic_address=0), 0x1000, "I/O APIC at 0x0"),
        (evolve(SMALL, features=1 << 32), 0x1000, "32-bit"),
        (evolve(SMALL, lines=(Line(256, 0),)), 0x1000, "0..255"),
        (evolve(SMALL, lines=(Line(4, 4), Line(4, 5))), 0x1000, "ISA interrupt given twice"),
        (evolve(SMALL, lines=(Line(4, 4), Line(5, 4))), 0x1000, "pin given twice"),
        (evolve(SMALL, oem="123456789"), 0x1000, "at most 8"),
        (evolve(SMALL, product="\n"), 0x1000, "printable"),
    ],
)
def test_what_the_table_cannot_say_is_refused_in_words(machine: MpMachine, at: int, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        encode(machine, table_at=at)
