"""The ACPI tables of whole machines: against ACPICA's tools, offsets by hand, placement, and the way back."""

from __future__ import annotations

import re
import struct
import tempfile
from itertools import pairwise
from pathlib import Path as File

import acpi_tools
import pytest
from acpi_tools import GED, microvm, q35, run, same_but_for_the_maker, through_iasl
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun.frozen import evolve
from vmrun.tables import acpi
from vmrun.tables.acpi_tables import (
    BootArch,
    Fadt,
    Fixed,
    IoApic,
    Madt,
    Mcfg,
    Override,
    PmHardware,
    Register,
    facs,
)
from vmrun.tables.aml import Name, Space

BASE, LIMIT = 0xE0000, 0x100000


def placed(machine: acpi.Machine) -> acpi.AcpiTables:
    return acpi.place(machine, base=BASE, limit=LIMIT)


def one(tables: acpi.AcpiTables, name: str) -> bytes:
    (found,) = [table.data for table in tables.all() if table.name == name]
    return found


@pytest.mark.parametrize("machine", [microvm(1, 0), microvm(4, 8), q35()], ids=["small", "microvm", "q35"])
def test_iasl_has_nothing_to_say_and_makes_the_same_bytes(machine: acpi.Machine, tmp_path: File) -> None:
    for table in placed(machine).tables:
        if table.name == "FACS":
            # It has no header that says what it is, and iasl takes it as well.
            run("iasl", "-d", written(tmp_path, "facs.dat", table.data), cwd=tmp_path)
            continue
        _, again = through_iasl(table.data, tmp_path)
        assert same_but_for_the_maker(table.data, again), table.name


def written(folder: File, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return name


def acpiexec(machine: acpi.Machine, folder: File, *commands: str) -> str:
    names = [written(folder, name, data) for name, data in acpi.file_names(placed(machine))]
    loaded = [name for name in names if name not in ("rsdp.dat", "xsdt.dat", "facs.dat")]
    said = run("acpiexec", "-b", ";".join((*commands, "quit")), *loaded, cwd=folder)
    assert "1 ACPI AML tables successfully acquired and loaded" in said
    # Of the versions seen, some count objects of their own debugger as not given back.
    assert "Error" not in re.sub(r"ACPI Error: .* Outstanding cache allocations", "", said), said
    return said


def test_acpiexec_evaluates_the_namespace_of_a_microvm(tmp_path: File) -> None:
    said = acpiexec(
        microvm(2, 3), tmp_path, "namespace", "evaluate \\_S5", "evaluate \\_SB.VR02._CRS", "resources \\_SB.VR02",
        "evaluate \\_SB.C001._UID", "evaluate \\_SB.GED0._EVT 9",
    )  # fmt: skip
    assert said.count('"LNRO0005"') == 3
    assert "[SystemMemory] Addr 00000000FEA00000 Len 0004" in said
    assert re.search(r"_S5 returned.*\n.*Contains 4 Elements:\n\s+\[Integer\] = 0000000000000005", said)
    assert re.search(r"Address : FEB00400\s+Address Length : 00000200", said)
    assert re.search(r"Triggering : Level\s+Polarity : ActiveHigh\s+Sharing : Exclusive", said)
    assert "Dword00 : 00000012" in said, "interrupt 18"


def test_acpiexec_runs_the_host_bridge_of_a_q35(tmp_path: File) -> None:
    guid = "5B 4D DB 33 F7 1F 1C 40 96 57 74 41 C0 3D D7 66"
    said = acpiexec(
        q35(),
        tmp_path,
        "evaluate \\_SB.PCI0.TOTL",
        f"evaluate \\_SB.PCI0._OSC ({guid}) 1 3 (00 00 00 00 1F 00 00 00 1F 00 00 00)",
        f"evaluate \\_SB.PCI0._OSC ({guid[3:]} 00) 1 3 (00 00 00 00 1F 00 00 00 1F 00 00 00)",
        "evaluate \\_SB.PCI0._STA",
        "resources \\_SB.PCI0",
    )
    assert "[Integer] = 0000000000000013" in said, "CNTR (3, 1) counts to 3 and adds 16"
    assert "0000: 10 00 00 00 1F 00 00 00 1D 00 00 00" in said, "_OSC masks what it does not grant"
    assert "0000: 04 00 00 00 1F 00 00 00 1F 00 00 00" in said, "_OSC does not know the other UUID"
    assert "Address Maximum : 0000004FFFFFFFFF" in said


def test_acpixtract_reads_the_dump_back(tmp_path: File) -> None:
    for machine in (microvm(), q35()):
        tables = placed(machine)
        written(tmp_path, "dump.txt", acpi.dump(tables).encode())
        run("acpixtract", "-a", "dump.txt", cwd=tmp_path)
        for name, data in acpi.file_names(tables):
            assert (tmp_path / name).read_bytes() == data, name


# Headers, checksums, placement.


def test_every_table_and_the_root_pointer_sum_to_zero() -> None:
    for machine in (microvm(), q35()):
        tables = placed(machine)
        for table in tables.tables:
            if table.name != "FACS":
                assert sum(table.data) & 0xFF == 0, table.name
                assert struct.unpack_from("<I", table.data, 4) == (len(table.data),)
        root = tables.rsdp.data
        assert sum(root[:20]) & 0xFF == 0
        assert sum(root) & 0xFF == 0


@given(st.binary(max_size=300), st.integers(0, 255), st.from_regex(r"\A[A-Z0-9]{4}\Z"))
def test_a_table_reads_back_as_it_was_written(body: bytes, revision: int, signature: str) -> None:
    ident = acpi.Ident("AB CD", "TABLE", 7, "MK", 9)
    data = acpi.table(signature, revision, body, ident)
    assert sum(data) & 0xFF == 0
    assert data[36:] == body
    assert acpi.read_header(data) == acpi.Header(signature, len(data), revision, "AB CD", "TABLE", 7, "MK", 9)


def test_the_header_has_these_bytes() -> None:
    data = acpi.table("SSDT", 2, b"", acpi.Ident())
    assert data.hex(" ", 4) == (
        "53534454 24000000 02a7564d 52554e20 564d5255 4e202020 01000000 564d524e 01000000"
    )  # fmt: skip


def test_tables_lie_apart_aligned_and_in_their_range() -> None:
    for machine in (microvm(), q35()):
        for tables in (placed(machine), acpi.place(machine, base=0x9FC00 + 3, limit=LIMIT, rsdp_at=0xF0000)):
            spans = sorted((table.gpa, table.gpa + len(table.data), table.name) for table in tables.all())
            for (_, end, _), (start, _, _) in pairwise(spans):
                assert end <= start
            for start, end, name in spans:
                assert start % (64 if name == "FACS" else 16) == 0
                assert end <= LIMIT


def test_the_image_holds_every_table_at_its_address() -> None:
    tables = acpi.place(q35(), base=BASE, limit=LIMIT, rsdp_at=0xF0000)
    image = tables.image()
    for table in tables.tables:
        at = table.gpa - image.gpa
        assert image.data[at : at + len(table.data)] == table.data


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"base": BASE, "limit": BASE + 700}, "over 0xe02bc"),
        ({"base": 0, "limit": LIMIT}, "above 0"),
        ({"base": 1 << 32, "limit": (1 << 32) + 1}, "within 4 GiB"),
        ({"base": BASE, "limit": LIMIT, "rsdp_at": 0xF0008}, "multiple of 16"),
        ({"base": BASE, "limit": LIMIT, "rsdp_at": BASE}, "overlaps DSDT"),
    ],
)
def test_places_that_cannot_be_are_refused_in_words(arguments: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        acpi.place(microvm(), **arguments)  # type: ignore[arg-type]


# FADT.


def test_a_hardware_reduced_fadt_has_these_fields() -> None:
    tables = placed(microvm())
    fadt = one(tables, "FACP")
    (dsdt_at,) = [table.gpa for table in tables.tables if table.name == "DSDT"]
    assert len(fadt) == 276
    assert (fadt[8], fadt[131]) == (6, 5), "revision 6.5"
    (flags,) = struct.unpack_from("<I", fadt, 112)
    assert flags == 1 << 0 | 1 << 10 | 1 << 12 | 1 << 20
    assert struct.unpack_from("<H", fadt, 109) == (1 << 1 | 1 << 2,)
    assert fadt[116:129] == struct.pack("<BBBBQB", 0, 8, 0, 1, GED + 0x302, 0x42)
    assert fadt[244:268] == struct.pack("<BBBBQ", 0, 8, 0, 1, GED + 0x300) + struct.pack(
        "<BBBBQ", 0, 8, 0, 1, GED + 0x301
    )
    assert struct.unpack_from("<IIQQ", fadt, 36)[:2] == (0, 0), "no FACS, no 32-bit DSDT"
    assert struct.unpack_from("<QQ", fadt, 132) == (0, dsdt_at)
    assert fadt[268:] == b"vmrun\0\0\0"
    # What hardware-reduced machines leave alone must be zero (section 5.2.9 and fwts's fadt test).
    assert not any(fadt[45:109])
    assert not any(fadt[148:244])


def test_a_full_fadt_says_each_port_twice_and_alike() -> None:
    tables = placed(q35())
    fadt = one(tables, "FACP")
    (facs_at,) = [table.gpa for table in tables.tables if table.name == "FACS"]
    assert struct.unpack_from("<I", fadt, 36) == (facs_at,)
    for at, length_at, generic_at, port, size in (
        (56, 88, 148, 0x600, 4),
        (64, 89, 172, 0x604, 2),
        (76, 91, 208, 0x608, 4),
        (80, 92, 220, 0x620, 16),
    ):
        assert struct.unpack_from("<I", fadt, at) == (port,)
        assert fadt[length_at] == size
        space, bits, offset, _, address = struct.unpack_from("<BBBBQ", fadt, generic_at)
        assert (space, bits, offset, address) == (1, size * 8, 0, port)
    assert struct.unpack_from("<HIBB", fadt, 46) == (9, 0xB2, 2, 3)
    assert fadt[108] == 0x32
    assert struct.unpack_from("<I", fadt, 112)[0] & (1 << 20) == 0
    assert one(tables, "FACS") == facs()
    assert facs()[:8] == b"FACS" + struct.pack("<I", 64)
    assert facs()[32] == 2


hardware = PmHardware(9, 0x600, 0x604, 0x608, 0x620, 16)
sleep = Register(Space.MEMORY, 0xFEA00000)


@pytest.mark.parametrize(
    ("fadt", "words"),
    [
        (Fadt(flags=Fixed.HARDWARE_REDUCED), "follow"),
        (Fadt(flags=Fixed.RESET_REGISTER), "follow"),
        (Fadt(profile=9), "profile 9"),
        (Fadt(hypervisor=b"123456789"), "8 bytes"),
        (Fadt(sleep_control=sleep), "together"),
        (Fadt(hardware=hardware, sleep_control=sleep, sleep_status=sleep), "hardware-reduced"),
        (Fadt(century=0x32), "century"),
        (Fadt(reset_value=1), "no reset register"),
        (Fadt(hardware=hardware, reset=sleep, reset_value=256), "reset value"),
        (Fadt(hardware=evolve(hardware, gpe0_length=3)), "3 bytes"),
        (Fadt(hardware=evolve(hardware, acpi_enable=1)), "no SMI"),
        (Fadt(hardware=evolve(hardware, sci=1 << 16)), "SCI"),
        (Fadt(hardware=evolve(hardware, pm1_event=0)), "PM1 event"),
        (Fadt(hardware=evolve(hardware, timer=0xFFFD)), "PM timer"),
        (Fadt(reset=Register(Space.MEMORY, 1 << 64)), "0x10000000000000000"),
        (Fadt(reset=Register(Space.MEMORY, 1, access=3)), "3 bytes"),
    ],
)
def test_a_fadt_that_contradicts_itself_is_refused_in_words(fadt: Fadt, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        fadt.encode(BASE, BASE)


# MADT, MCFG.


def entries(madt: bytes) -> list[bytes]:
    found, at = [], 44
    while at < len(madt):
        found.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    assert at == len(madt)
    return found


def test_a_madt_has_an_entry_of_each_kind() -> None:
    madt = one(placed(q35()), "APIC")
    assert madt[8] == 6, "the revision that belongs to a FADT of 6.5"
    assert struct.unpack_from("<II", madt, 36) == (0xFEE00000, 1)
    assert [entry.hex() for entry in entries(madt)] == [
        "0008000001000000",  # UID 0, APIC 0, enabled
        "0008010101000000",
        "0910" + "0000" + "ff000000" + "01000000" + "02000000",  # 255 means all in a local APIC entry
        "0910" + "0000" + "2c010000" + "01000000" + "03000000",
        "010c" + "0000" + "0000c0fe" + "00000000",
        "010c" + "0100" + "0000c1fe" + "18000000",
        "020a" + "0000" + "02000000" + "0500",  # ISA 0 at 2, edge, active high
        "0406" + "ff" + "0000" + "01",
        "0a0c" + "0000" + "ffffffff" + "01" + "000000",
    ]


def test_an_override_says_polarity_and_trigger() -> None:
    assert Override(9, 9, level=True).encode()[-2:] == b"\x0d\0"
    assert Override(9, 9, level=True, active_low=True).encode()[-2:] == b"\x0f\0"


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40, unique=True))
def test_iasl_sees_every_processor(ids: list[int]) -> None:
    with tempfile.TemporaryDirectory() as name:
        madt = acpi.table("APIC", Madt.REVISION, Madt(tuple(ids), (IoApic(0, 0xFEC00000),)).encode(), acpi.Ident())
        source, _ = through_iasl(madt, File(name))
    seen = [int(text, 16) for text in re.findall(r"(?:Local Apic ID|Processor x2Apic ID) : ([0-9A-F]+)", source)]
    assert seen == ids
    assert source.count("Processor Enabled : 1") == len(ids)


apic = IoApic(0, 0xFEC00000)


@pytest.mark.parametrize(
    ("madt", "words"),
    [
        (Madt((), (apic,)), "no processor"),
        (Madt((1, 1), (apic,)), "APIC id stands twice"),
        (Madt((1 << 32,), (apic,)), "32 bits"),
        (Madt((0,), (apic, apic)), "I/O APIC id stands twice"),
        (Madt((0,), (apic, IoApic(1, 0xFEC10000))), "interrupt base stands twice"),
        (Madt((0,), (IoApic(256, 0),)), "8 bits"),
        (Madt((0,), (IoApic(0, 1 << 32),)), "32 bits"),
        (Madt((0,), (apic,), (Override(0, 2), Override(0, 3))), "overridden ISA interrupt stands twice"),
        (Madt((0,), (apic,), (Override(16, 2),)), "4 bits"),
        (Madt((0,), (apic,), nmi_lint=2), "not 0 or 1"),
    ],
)
def test_a_madt_that_cannot_be_is_refused_in_words(madt: Madt, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        madt.encode()


def test_an_mcfg_has_these_bytes() -> None:
    assert (
        Mcfg(0xB0000000, last_bus=63).encode().hex() == "00" * 8 + "000000b000000000" + "0000" + "00" + "3f" + "00" * 4
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (Mcfg(0xB0000001), "1 MiB"),
        (Mcfg(0xB0000000, 5, 4), "buses 5 to 4"),
        (Mcfg(0xB0000000, last_bus=256), "8 bits"),
    ],
)
def test_other_tables_that_cannot_be_are_refused_in_words(table: Mcfg, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table.encode()


@pytest.mark.parametrize(
    ("ident", "words"),
    [
        (acpi.Ident(oem="1234567"), "at most 6"),
        (acpi.Ident(table="123456789"), "at most 8"),
        (acpi.Ident(creator="é"), "printable"),
        (acpi.Ident(revision=-1), "revision"),
    ],
)
def test_idents_beyond_their_fields_are_refused(ident: acpi.Ident, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        acpi.table("DSDT", 2, b"", ident)


def test_a_signature_of_wrong_form_is_refused() -> None:
    with pytest.raises(ValueError, match="dsdt"):
        acpi.table("dsdt", 2, b"", acpi.Ident())


# The way back.


def runs(tables: acpi.AcpiTables) -> list[tuple[int, bytes]]:
    return [(table.gpa, table.data) for table in tables.all()]


def test_walking_from_the_root_pointer_finds_every_table() -> None:
    for machine in (microvm(), q35()):
        tables = acpi.place(machine, base=0x9FC00, limit=LIMIT, rsdp_at=0xF0000)
        image = tables.image()
        memory = acpi.memory_of([(image.gpa, image.data), (tables.rsdp.gpa, tables.rsdp.data)])
        found = acpi.walk(memory, tables.rsdp.gpa)
        assert found.rsdp == tables.rsdp
        assert set(found.tables) == set(tables.tables)


def test_files_have_names_of_their_own() -> None:
    tables = placed(q35())
    twice = evolve(tables, tables=(*tables.tables, tables.tables[-1]))
    assert [name for name, _ in acpi.file_names(twice)] == [
        "rsdp.dat", "facs.dat", "dsdt.dat", "facp.dat", "apic.dat", "mcfg.dat", "xsdt.dat", "xsdt2.dat",
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_table_is_found_out(data: st.DataObject) -> None:
    tables = placed(microvm(1, 1))
    which = data.draw(st.integers(0, len(tables.all()) - 1))
    damaged = bytearray(tables.all()[which].data)
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] ^= data.draw(st.integers(1, 255))
    memory = [(t.gpa, bytes(damaged) if n == which else t.data) for n, t in enumerate(tables.all())]
    with pytest.raises(ValueError, match="ACPI"):
        acpi.walk(acpi.memory_of(memory), tables.rsdp.gpa)


@given(st.binary(max_size=80))
def test_garbage_is_no_table(data: bytes) -> None:
    with pytest.raises(ValueError, match="ACPI"):
        acpi.read_header(data)
    with pytest.raises(ValueError, match="ACPI"):
        acpi.walk(acpi.memory_of([(0, data)]), 0)


def test_every_truncation_is_found_out() -> None:
    data = placed(microvm(1, 0)).tables[0].data
    for size in range(len(data)):
        with pytest.raises(ValueError, match="ACPI"):
            acpi.read_header(data[:size])


def test_the_same_machine_makes_the_same_bytes() -> None:
    assert placed(q35()) == placed(q35())


def test_boot_flags_are_those_of_the_specification() -> None:
    # Section 5.2.9.3, table 5.11, and Linux include/acpi/actbl.h.
    assert [int(flag) for flag in BootArch] == [1, 2, 4, 8, 16, 32]
    assert (Fixed.HARDWARE_REDUCED, Fixed.RESET_REGISTER, Fixed.HEADLESS) == (0x100000, 0x400, 0x1000)


def test_the_oracle_notices_a_complaint(tmp_path: File) -> None:
    """A table that iasl warns of must fail the helper that the others rely on."""
    bad = acpi.dsdt((Name("XXXX", 1),), acpi.Ident())
    with pytest.raises(AssertionError):
        acpi_tools.through_iasl(bad, tmp_path)
