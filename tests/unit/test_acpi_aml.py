"""AML from the builder: against iasl and acpiexec, byte for byte where the specification shows them, and refusals."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path as File

import acpi_tools
import pytest
from acpi_tools import run, same_but_for_the_maker, tool
from hypothesis import given, settings
from hypothesis import strategies as st

from patience import patience
from vmrun.tables.acpi import Ident, dsdt
from vmrun.tables.acpi_nodes import device, hardware_id, processor, routing, sleep_state
from vmrun.tables.aml import (
    Access,
    Arg,
    Bits,
    Buffer,
    BufferField,
    Call,
    Data,
    Device,
    Eisa,
    Field,
    If,
    Local,
    Method,
    Mutex,
    Name,
    Node,
    Offset,
    Package,
    Path,
    Region,
    Scope,
    Space,
    Update,
    Uuid,
    While,
    encode,
)
from vmrun.tables.aml_bytes import ONES, constant, eisa_id, name_string, package_length, uuid_bytes
from vmrun.tables.aml_ops import (
    acquire,
    bit_not,
    bit_xor,
    break_out,
    copy_object,
    decrement,
    dereference,
    equal,
    greater,
    increment,
    index,
    logical_or,
    multiply,
    returns,
    shift_right,
    size_of,
    sleep_ms,
    store,
    subtract,
)
from vmrun.tables.resources import (
    BusNumbers,
    Cache,
    Interrupt,
    IoPorts,
    Irq,
    Memory32Fixed,
    MemoryWindow,
    PortWindow,
    template,
)

integers = st.one_of(st.integers(0, ONES), st.sampled_from([0, 1, 2, 255, 256, 65535, 65536, 2**32 - 1, 2**32, ONES]))
segments = st.from_regex(r"\A[A-Z_][A-Z0-9_]{0,3}\Z")


def recompiled(nodes: tuple[Node, ...]) -> tuple[str, bytes, bytes]:
    """Return iasl's source for a table, the table, and what iasl makes of that source. Complaints are not looked at."""
    data = dsdt(nodes, Ident())
    with tempfile.TemporaryDirectory() as name:
        folder = File(name)
        (folder / "t.dat").write_bytes(data)
        run("iasl", "-d", "t.dat", cwd=folder)
        run("iasl", "-oa", "-p", "again", "t.dsl", cwd=folder)
        return (folder / "t.dsl").read_text(), data, (folder / "again.aml").read_bytes()


def survives(nodes: tuple[Node, ...]) -> str:
    source, data, again = recompiled(nodes)
    assert same_but_for_the_maker(data, again), source
    return source


def named(values: list[Data]) -> tuple[Node, ...]:
    return tuple(Name(f"N{number:03X}", value) for number, value in enumerate(values))


# Integers, strings, lengths, names.


@settings(max_examples=20, deadline=None)
@given(st.lists(integers, min_size=20, max_size=120))
def test_integers_go_through_iasl(values: list[int]) -> None:
    source = survives(named(list(values)))
    words = {"Zero": 0, "One": 1, "Ones": ONES}
    shown = [m[1] for m in re.finditer(r"Name \(N[0-9A-F]{3}, (\w+)\)", source)]
    assert [words[text] if text in words else int(text, 16) for text in shown] == values


# iasl's source has no escape for two of the 127: it prints them raw, and its own lexer refuses a lone CR or treats FF.
texts = st.text(st.characters(min_codepoint=1, max_codepoint=0x7E), max_size=40)


@settings(max_examples=20, deadline=None)
@given(st.lists(texts, min_size=10, max_size=60))
def test_strings_go_through_iasl(values: list[str]) -> None:
    survives(named(list(values)))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=90), min_size=10, max_size=40))
def test_buffers_go_through_iasl(values: list[bytes]) -> None:
    survives(named([Buffer(value) for value in values]))


values = st.recursive(
    st.one_of(integers, texts, st.binary(min_size=1, max_size=20).map(Buffer)),
    lambda below: st.lists(below, max_size=6).map(lambda items: Package(*items)),
    max_leaves=20,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(values, min_size=5, max_size=20))
def test_packages_go_through_iasl(items: list[Data]) -> None:
    survives(named(items))


def test_every_package_length_near_a_boundary_goes_through_iasl() -> None:
    # One byte says up to 63, two up to 4095; the length counts itself and the buffer's size operand.
    sizes = [*range(50, 70), *range(4080, 4100)]
    survives(named([Buffer(bytes([size & 0xFF]) * size) for size in sizes]))


def test_acpiexec_reads_a_package_length_of_four_bytes() -> None:
    size = (1 << 20) + 7
    nodes = (Name("BIGB", Buffer(b"\x5a" * size)), Method("SIZE", (returns(size_of(Path("BIGB"))),)))
    assert f"[Integer] = {size:016X}" in evaluated(nodes, "evaluate \\SIZE")


@pytest.mark.parametrize(
    ("size", "counted", "expected"),
    [
        (0, True, "01"),
        (62, True, "3f"),
        (63, True, "4104"),
        (0xFFF - 2, True, "4fff"),
        (0xFFF - 1, True, "810001"),
        (0xFFFFF - 3, True, "8fffff"),
        (0xFFFFF - 2, True, "c1000001"),
        (0xFFFFFFF - 4, True, "cfffffff"),
        (63, False, "3f"),
        (64, False, "4004"),
        (0xFFF, False, "4fff"),
        (0xFFFFFFF, False, "cfffffff"),
    ],
)
def test_package_lengths_at_their_bounds(size: int, counted: bool, expected: str) -> None:
    assert package_length(size, counts_itself=counted).hex() == expected


@given(st.integers(0, 0xFFFFFFF - 4))
def test_a_package_length_says_its_content_and_itself(size: int) -> None:
    coded = package_length(size)
    lead, more = coded[0], coded[0] >> 6
    assert len(coded) == more + 1
    said = lead & 0x3F if not more else (lead & 0xF) | int.from_bytes(coded[1:], "little") << 4
    assert said == size + len(coded)
    assert more == 0 or size + more >= (1 << 6 if more == 1 else 1 << 4 + 8 * (more - 1)), "a shorter form would do"


@given(st.sampled_from(["", "\\", "^", "^^"]), st.lists(segments, min_size=1, max_size=6))
def test_names_are_segments_of_four(prefix: str, parts: list[str]) -> None:
    coded = name_string(prefix + ".".join(parts))
    lead = {1: b"", 2: b"\x2e"}.get(len(parts), b"\x2f" + bytes([len(parts)]))
    assert coded == prefix.encode() + lead + b"".join(part.encode().ljust(4, b"_") for part in parts)


@pytest.mark.parametrize(("text", "coded"), [("\\", b"\\\0"), ("^", b"^\0"), ("^^", b"^^\0")])
def test_a_name_of_no_segment_is_null(text: str, coded: bytes) -> None:
    assert name_string(text) == coded


# Section 19.6.37 and 19.6.142 show the forms; PNP0501 is what every x86 firmware has for its serial port.
def test_ids_have_the_bytes_of_the_specification() -> None:
    assert eisa_id("PNP0501") == 0x0105D041
    assert eisa_id("PNP0A08") == 0x080AD041
    order = "03020100-0504-0706-0809-0a0b0c0d0e0f"
    assert uuid_bytes(order) == bytes(range(16))


@settings(max_examples=10, deadline=None)
@given(st.lists(st.from_regex(r"\A[A-Z]{3}[0-9A-F]{3}[1-9A-F]\Z"), min_size=10, max_size=40))
def test_iasl_reads_the_same_eisa_ids(ids: list[str]) -> None:
    source = survives(tuple(device(f"D{number:03X}", text) for number, text in enumerate(ids)))
    assert re.findall(r'_HID, EisaId \("(\w+)"\)', source) == ids


# Whole bodies.


def test_a_device_has_these_bytes() -> None:
    node = device("COM1", "PNP0501", uid=1, crs=(IoPorts(0x3F8, 8), Irq(4)))
    expected = (
        "5b82 2b 434f4d31"  # Device (COM1), 43 bytes
        "08 5f484944 0c 41d00501"  # Name (_HID, EisaId ("PNP0501"))
        "08 5f554944 01"  # Name (_UID, One)
        "08 5f435253 11 10 0a0d"  # Name (_CRS, Buffer (13)
        "47 01 f803 f803 01 08"  # IO (Decode16, 0x3F8, 0x3F8, 1, 8)
        "22 1000"  # IRQNoFlags () {4}
        "79 00"  # end tag
    )
    assert encode((node,)).hex() == expected.replace(" ", "")


def test_fields_skip_what_is_not_named() -> None:
    field = Field("REGA", (Bits("AAAA", 4), Bits(None, 4), Offset(8), Bits("BB", 64)), Access.DWORD, True, Update.ZEROS)
    coded = encode((Region("REGA", Space.IO, 0x600, 0x10), field)).hex()
    assert coded == (
        "5b80" + b"REGA".hex() + "01" + "0b0006" + "0a10"
        "5b81" + "15" + b"REGA".hex() + "53"  # DWordAcc 3, Lock 0x10, WriteAsZeros 0x40
        + b"AAAA".hex() + "04" + "00" + "04" + "00" + "38" + b"BB__".hex() + "4004"
    )  # fmt: skip


def test_a_field_s_gaps_are_where_iasl_sees_them() -> None:
    widths = [1, 62, 63, 64, 4095, 4096]
    units = [unit for n, width in enumerate(widths) for unit in (Bits(f"F{n:03}", 1), Bits(None, width))]
    # Not byte for byte: iasl itself writes 63 and 4095 in a form one byte longer than it needs.
    source, _, _ = recompiled((Region("REGA", Space.MEMORY, 0xFEA00000, 0x1000), Field("REGA", (*units,))))
    assert "AnyAcc, NoLock, Preserve" in source
    assert [int(text) for text in re.findall(r"^ +,\s+(\d+)", source, re.MULTILINE)] == widths


def everything() -> tuple[Node, ...]:
    """Each statement and operator that the big tables do not have already."""
    body: tuple[Node, ...] = (
        subtract(Arg(0), 1, Local(0)),
        multiply(Local(0), 3, Local(1)),
        shift_right(Local(1), 1, Local(1)),
        bit_xor(Local(0), Local(1), Local(2)),
        bit_not(Local(2), Local(2)),
        copy_object(Package(1, 2, 3), Local(3)),
        index(Local(3), 1, Local(4)),
        While(greater(Local(0), 0), (decrement(Local(0)), If(equal(Local(0), 5), (break_out(),)), sleep_ms(1))),
        BufferField("BYTF", Path("BUFF"), 1, 8),
        BufferField("QWRF", Path("BUFF"), 8, 64),
        increment(Path("BYTF")),
        If(logical_or(equal(acquire(Path("MTX0"), 100), 0), equal(Path("QWRF"), 0)), (store(1, Path("BYTF")),)),
        returns(dereference(Local(4))),
    )
    return (
        Name("BUFF", Buffer(b"\1\2\3", 16)),
        Name("UUID", Uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
        Mutex("MTX0", 3),
        Method("MAIN", body, args=1, serialized=True, sync_level=2),
        Scope("\\_SB", (Device("DEV0", (Name("_ADR", 0x10000), Name("_CID", Package(Eisa("PNP0A03"), "LNRO0005")))),)),
        Scope("\\_SB.DEV0", (Name("SUB0", Package(Path("\\BUFF"))), Method("CALL", (returns(Call("^^^MAIN", 7)),)))),
    )


def test_every_operator_goes_through_iasl() -> None:
    source = survives(everything())
    assert "Method (MAIN, 1, Serialized, 2)" in source
    assert "ToUUID" in source or "33db4d5b" in source.lower() or "0x5B, 0x4D, 0xDB" in source


def evaluated(nodes: tuple[Node, ...], *commands: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        folder = File(name)
        (folder / "dsdt.dat").write_bytes(dsdt(nodes, Ident()))
        script = ";".join((*commands, "quit"))
        said = subprocess.run(
            [tool("acpiexec"), "-b", script, "dsdt.dat"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=patience(60),
        )
        assert said.returncode == 0
        return said.stdout


def test_acpiexec_computes_what_the_methods_say() -> None:
    said = evaluated(everything(), "evaluate \\_SB.DEV0.CALL", "evaluate \\BUFF")
    assert "ACPI: 1 ACPI AML tables successfully acquired and loaded" in said
    assert re.search(r"Evaluation of \\_SB.DEV0.CALL returned.*\n\s+\[Integer\] = 0000000000000002\n", said), said
    assert "0000: 01 01 03 00" in said, "the method wrote a byte of the buffer, 64 bits of it being zero"


@settings(max_examples=8, deadline=None)
@given(st.lists(integers, min_size=1, max_size=12))
def test_acpiexec_evaluates_the_same_integers(numbers: list[int]) -> None:
    nodes = named(list(numbers))
    said = evaluated(nodes, *(f"evaluate \\N{number:03X}" for number in range(len(numbers))))
    assert [int(text, 16) for text in re.findall(r"\[Integer\] = ([0-9A-F]{16})", said)] == numbers


# Resources.


def test_descriptors_have_the_bytes_of_the_specification() -> None:
    assert template().data.hex() == "7900"
    assert Memory32Fixed(0xFEB00000, 512).encode().hex() == "86 0900 01 0000b0fe 00020000".replace(" ", "")
    assert Memory32Fixed(0, 1, writable=False).encode()[3] == 0
    assert Interrupt(16).encode().hex() == "89 0600 01 01 10000000".replace(" ", "")
    assert Interrupt(5, 6, edge=True, active_low=True, shared=True, wake=True).encode()[3:5] == b"\x1f\x02"
    window = MemoryWindow(0xC0000000, 0x1000, cache=Cache.PREFETCHABLE, writable=False, consumer=True).encode()
    assert window.hex() == "87 1700 00 0d 06 00000000 000000c0 ff0f00c0 00000000 00100000".replace(" ", "")


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_resources_go_through_iasl(data: st.DataObject) -> None:
    def span(bits: int) -> tuple[int, int]:
        low = data.draw(st.integers(0, (1 << bits) - 2))
        return low, data.draw(st.integers(1, min((1 << bits) - low, (1 << bits) - 1)))

    io = data.draw(st.integers(0, 0xFF00))
    flags = data.draw(st.tuples(*[st.booleans()] * 4))
    some = template(
        Memory32Fixed(*span(32)),
        IoPorts(io, data.draw(st.integers(1, 255)), align=1),
        Irq(data.draw(st.integers(0, 15))),
        Interrupt(
            *data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9, unique=True)),
            edge=flags[0],
            active_low=flags[1],
            shared=flags[2],
            wake=flags[3],
        ),
        BusNumbers(*span(16)),
        PortWindow(*span(16)),
        PortWindow(*span(32), bits=32),
        MemoryWindow(*span(32), cache=data.draw(st.sampled_from(Cache))),
        MemoryWindow(*span(64), bits=64, writable=data.draw(st.booleans()), consumer=True),
    )
    source = survives((Name("_CRS", some),))
    assert source.count("ResourceTemplate ()") == 1
    assert source.count("WordBusNumber (") == 1
    assert source.count("QWordMemory (") == 1


# Refusals.


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (Name("1ABC", 0), "1ABC"),
        (Name("abcd", 0), "abcd"),
        (Name("ABCDE", 0), "ABCDE"),
        (Name("", 0), "``"),
        (Name("A..B", 0), "A..B"),
        (Name("A\\B", 0), "A\\B"),
        (Name("NUMB", -1), "not in 0..2**64-1"),
        (Name("NUMB", 1 << 64), "not in 0..2**64-1"),
        (Name("NUMB", True), "not in 0..2**64-1"),
        (Name("TEXT", "a\0b"), "NUL"),
        (Name("TEXT", "\xe9"), "ASCII"),
        (Name("EISA", Eisa("PNP05")), "PNP05"),
        (Name("EISA", Eisa("pnp0501")), "pnp0501"),
        (Name("UUID", Uuid("x")), "UUID `x`"),
        (Name("BUFF", Buffer(b"abc", 2)), "3 bytes in a size of 2"),
        (Name("PACK", Package(*range(256))), "at most 255"),
        (store(1, Arg(7)), "0..6"),
        (store(1, Local(8)), "0..7"),
        (store(1, Path("X" * 5)), "XXXXX"),
        (store(1, Path(".".join(["A"] * 256))), "at most 255"),
        (Name("PATH", Path("X")), "no constant"),  # type: ignore[arg-type]
        (Name("PACK", Package(Arg(0))), "no constant"),  # type: ignore[arg-type]
        (Name("^TOP", 0), "above the root"),
        (Scope("\\_SB", (Scope("^^", (Name("A", 0),)),)), "above the root"),
        (Device("DEV0", (Name("_UID", 0),)), "neither _HID nor _ADR"),
        (Method("METH", (), args=8), "0..7"),
        (Method("METH", (), sync_level=16), "0..15"),
        (Method("METH", (If(1, (Name("X", 0),)),)), "must be serialized"),
        (Method("METH", (Name("X", 0), Name("X", 1)), serialized=True), "\\METH.X___: declared twice"),
        (Mutex("MUTX", 16), "0..15"),
        (Scope("\\_SB", (Name("X", 0), Name("X___", 0))), "\\_SB_.X___: declared twice"),
        (Field("REGN", (Bits("A", 9), Offset(1))), "lies before bit 9"),
        (Field("REGN", (Bits("A", 0),)), "0 bits wide"),
        (Field("REGN", (Bits("A.B", 1),)), "A.B"),
        (Field("REGN", (Bits(None, 1 << 28),)), "over"),
        (BufferField("B", Arg(0), 0, 12), "12 bits"),
        (acquire(Path("M"), 1 << 16), "0..65535"),
        (Call("M", *range(8)), "0..7"),
    ],
)
def test_what_aml_cannot_say_is_refused_in_words(node: Node, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        encode((node,))


def test_names_of_two_branches_may_be_the_same() -> None:
    encode((If(1, (Name("X", 0),), (Name("X", 1),)), Name("Y", 0)))
    with pytest.raises(ValueError, match="declared twice"):
        encode((If(1, (Name("X", 0),), (Name("X", 1),)), Name("X", 0)))


def test_a_field_of_two_devices_may_have_one_name_each() -> None:
    def one(name: str) -> Device:
        return device(name, "PNP0C02", more=(Region("REGA", Space.IO, 0, 1), Field("REGA", (Bits("BITA", 8),))))

    encode((one("DEV0"), one("DEV1")))
    with pytest.raises(ValueError, match="DEV0: declared twice"):
        encode((one("DEV0"), one("DEV0")))


def test_a_package_beyond_28_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="268435455"):
        package_length(1 << 28)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Memory32Fixed(1 << 32, 1).encode(), "within 32 bits"),
        (lambda: Memory32Fixed(0xFFFFFFFF, 2).encode(), "within 32 bits"),
        (lambda: Memory32Fixed(0, 0).encode(), "1 byte or more"),
        (lambda: IoPorts(0xFFFF, 2).encode(), "within 16 bits"),
        (lambda: IoPorts(8, 256).encode(), "out of range"),
        (lambda: IoPorts(8, 1, high=7).encode(), "out of range"),
        (lambda: Irq(16).encode(), "0..15"),
        (lambda: Interrupt().encode(), "1 to 255"),
        (lambda: Interrupt(1 << 32).encode(), "32 bits"),
        (lambda: MemoryWindow(0, 1, bits=16).encode(), "one of 32, 64"),
        (lambda: MemoryWindow(0, 1 << 32).encode(), "within 32 bits"),
        (lambda: PortWindow(0, 1, offset=1 << 16).encode(), "offset"),
        (lambda: BusNumbers(0, 1, bits=32).encode(), "one of 16"),
        (lambda: hardware_id("PNP05010"[:6]), "PNP050"),
        (lambda: hardware_id("lnro0005"), "lnro0005"),
        (lambda: processor(4096), "0..4095"),
        (lambda: sleep_state(6, 0), "S6"),
        (lambda: sleep_state(5, 8), "type 8"),
        (lambda: routing([(32, 0, 0, 0)]), "device 32"),
        (lambda: constant(-1), "2**64-1"),
    ],
)
def test_what_a_resource_or_helper_cannot_say_is_refused_in_words(make: object, words: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_the_same_tree_makes_the_same_bytes() -> None:
    assert encode(acpi_tools.q35_nodes()) == encode(acpi_tools.q35_nodes())
