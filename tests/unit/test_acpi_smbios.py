"""SMBIOS against dmidecode, and against a reader of its own."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path as File

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patience import patience
from vmrun.frozen import evolve
from vmrun.tables.smbios import Smbios, SmbiosTables, encode

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL = Smbios(
    ram=((0, 640 * KIB), (MIB, 3 * GIB - MIB), (4 * GIB, 20 * GIB + 384 * KIB)),
    version="0.1",
    uuid="12345678-9abc-def0-1122-334455667788",
    serial="S-1",
    family="virtual",
    sockets=2,
    cores=300,
    threads=2,
    processor="Some CPU",
    processor_vendor="GenuineIntel",
    cpuid=0x178BFBFF_000306C1,
)


def structures(tables: SmbiosTables) -> list[tuple[int, int, bytes, list[bytes]]]:
    """Return (type, handle, body, texts), walking as Linux does (drivers/firmware/dmi_scan.c, dmi_decode_table)."""
    entry = tables.entry
    assert len(entry) == entry[6] == 24
    assert entry[:5] == b"_SM3_"
    assert sum(entry) & 0xFF == 0
    assert struct.unpack_from("<IQ", entry, 12) == (len(tables.table), tables.table_at)
    found, at, data = [], 0, tables.table
    while at < len(data):
        kind, length, handle = struct.unpack_from("<BBH", data, at)
        end = data.index(b"\0\0", at + length)
        texts = data[at + length : end].split(b"\0") if end > at + length else []
        found.append((kind, handle, data[at + 4 : at + length], texts))
        at = end + 2
    assert found[-1][0] == 127
    assert len({handle for _, handle, _, _ in found}) == len(found)
    return found


def dmidecode(tables: SmbiosTables, folder: File) -> str:
    found = shutil.which("dmidecode")
    if found is None:
        pytest.skip("needs dmidecode (package dmidecode)")
    # The form of --dump-bin: entry point first, structures at 0x20, as the entry point says.
    (folder / "dmi.bin").write_bytes(tables.entry.ljust(32, b"\0") + tables.table)
    done = subprocess.run(
        [found, "--from-dump", "dmi.bin"], cwd=folder, capture_output=True, text=True, timeout=patience(30), check=True
    )
    said = done.stdout + done.stderr
    for complaint in ("OUT OF SPEC", "bad index", "Wrong", "broken", "Invalid", "truncated"):
        assert complaint.lower() not in said.lower(), said
    return said


def test_dmidecode_reads_what_was_said(tmp_path: File) -> None:
    said = dmidecode(encode(SMALL, table_at=0x20), tmp_path)
    for line in (
        "SMBIOS 3.0.0 present.",
        "System is a virtual machine",
        "Manufacturer: vmrun",
        "Serial Number: S-1",
        "Family: virtual",
        "UUID: 12345678-9abc-def0-1122-334455667788",
        "ID: C1 06 03 00 FF FB 8B 17",
        "Version: Some CPU",
        "Core Count: 300",
        "Thread Count: 600",
        "Number Of Devices: 2",
        "Size: 16 GB",
        "Size: 7 GB",
        "Range Size: 640 kB",
        "Range Size: 3071 MB",
        "Status: No errors detected",
    ):
        assert line in said, line
    assert said.count("Processor Information") == 2


def test_dmidecode_finds_no_fault_with_the_least_and_the_most(tmp_path: File) -> None:
    said = dmidecode(encode(Smbios(ram=((0, 64 * KIB),)), table_at=0x20), tmp_path)
    assert "UUID: Not Settable" in said, "all zero: not there"
    assert "Size: 64 kB" in said
    huge = ((0, 3 * GIB), (4 * GIB, 4077 * GIB))
    said = dmidecode(encode(Smbios(ram=huge), table_at=0x20), tmp_path)
    assert "Maximum Capacity: 4080 GB" in said
    assert said.count("Size: 16 GB") == 255


@given(
    st.integers(1, 4096),
    st.integers(1, 4),
    st.integers(1, 64),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20),
)
def test_memory_and_processors_add_up(mib: int, sockets: int, cores: int, serial: str) -> None:
    tables = encode(Smbios(ram=((0, mib * MIB),), sockets=sockets, cores=cores, serial=serial), table_at=0xF0020)
    found = structures(tables)
    processors = [body for kind, _, body, _ in found if kind == 4]
    assert len(processors) == sockets
    assert all(body[0x23 - 4] == cores for body in processors)
    (mapped,) = [body for kind, _, body, _ in found if kind == 19]
    assert struct.unpack_from("<II", mapped) == (0, mib * KIB - 1)
    (array,) = [body for kind, _, body, _ in found if kind == 16]
    assert struct.unpack_from("<I", array, 3) == (mib * KIB,)
    system = next(texts for kind, _, _, texts in found if kind == 1)
    assert (serial.encode() in system) == bool(serial)


def test_lengths_are_those_of_the_specification() -> None:
    lengths = {kind: len(body) + 4 for kind, _, body, _ in structures(encode(SMALL, table_at=0xF0020))}
    assert lengths == {0: 24, 1: 27, 3: 22, 4: 48, 16: 23, 17: 40, 19: 31, 32: 11, 127: 4}


@pytest.mark.parametrize(
    ("machine", "at", "words"),
    [
        (evolve(SMALL, ram=()), 1, "no memory"),
        (evolve(SMALL, ram=((1, KIB),)), 1, "whole KiB"),
        (evolve(SMALL, ram=((0, 0),)), 1, "whole KiB"),
        (evolve(SMALL, ram=((0, 4081 * GIB),)), 1, "over 4080"),
        (evolve(SMALL, sockets=0), 1, "0 sockets"),
        (evolve(SMALL, cores=65535), 1, "65535 cores"),
        (evolve(SMALL, cores=65534, threads=2), 1, "131068 threads"),
        (evolve(SMALL, cpuid=1 << 64), 1, "64 bits"),
        (evolve(SMALL, uuid="12"), 1, "UUID `12`"),
        (evolve(SMALL, serial="a\0b"), 1, "printable"),
        (evolve(SMALL, vendor=""), 1, "at least one"),
        (evolve(SMALL, date="2026-01-01"), 1, "MM/DD/YYYY"),
        (SMALL, 0, "above 0"),
    ],
)
def test_what_smbios_cannot_say_is_refused_in_words(machine: Smbios, at: int, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        encode(machine, table_at=at)
