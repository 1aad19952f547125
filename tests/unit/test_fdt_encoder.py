"""The FDT encoder against libfdt and dtc, and against garbage."""

from __future__ import annotations

import shutil
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patience import patience
from vmrun.frozen import evolve
from vmrun.tables.fdt import (
    Bytes,
    Cells,
    Cells64,
    Empty,
    FdtNode,
    Ref,
    Strings,
    Value,
    decode,
    encode,
    reservations,
    to_dts,
)

EXAMPLE = FdtNode(
    "",
    (
        ("#address-cells", Cells(2)),
        ("compatible", Strings("one,two", "three")),
        ("interrupt-parent", Cells(Ref("plic"))),
    ),
    (
        FdtNode(
            "plic@c000000",
            (("reg", Cells64(0xC000000, 0x600000)), ("interrupt-controller", Empty()), ("mac", Bytes(b"\x00\x01\x02"))),
            label="plic",
        ),
        FdtNode("user", (("regmap", Cells(Ref("plic"), 7, Ref("plic"))),), label="nobody-asks".replace("-", "_")),
    ),
)

names = st.text("abcXYZ019,._+-", min_size=1, max_size=31)
cells = st.integers(0, 2**32 - 1)
values = st.one_of(
    st.lists(cells, max_size=5).map(lambda v: Cells(*v)),
    st.lists(st.integers(0, 2**64 - 1), max_size=4).map(lambda v: Cells64(*v)),
    st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9), max_size=3).map(
        lambda v: Strings(*v)
    ),
    st.binary(max_size=20).map(Bytes),
    st.just(Empty()),
)
props = st.lists(st.tuples(names.filter(lambda n: n != "phandle"), values), max_size=5, unique_by=lambda p: p[0]).map(
    tuple
)
leaves = st.builds(FdtNode, names, props)
nodes = st.recursive(
    leaves,
    lambda below: st.builds(FdtNode, names, props, st.lists(below, max_size=4, unique_by=lambda n: n.name).map(tuple)),
    max_leaves=12,
)
trees = nodes.map(lambda node: evolve(node, name=""))


def raw(value: Value) -> bytes:
    return encode(FdtNode("", (("x", value),)))


def same(one: FdtNode, other: FdtNode) -> bool:
    return (
        one.name == other.name
        and [k for k, _ in one.props] == [k for k, _ in other.props]
        and all(raw(v) == raw(w) for (_, v), (_, w) in zip(one.props, other.props, strict=True))
        and len(one.children) == len(other.children)
        and all(same(a, b) for a, b in zip(one.children, other.children, strict=True))
    )


@given(trees)
def test_decode_gives_back_what_encode_took(tree: FdtNode) -> None:
    data = encode(tree)
    again = decode(data)
    assert same(tree, again)
    assert encode(again) == data


@settings(max_examples=60)
@given(trees, st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(1, 2**64 - 1)), max_size=3).map(tuple))
def test_libfdt_reads_the_same_tree(tree: FdtNode, reserved: tuple[tuple[int, int], ...]) -> None:
    libfdt = pytest.importorskip("libfdt", reason="needs pylibfdt")
    data = encode(tree, reserved)
    fdt = libfdt.FdtRo(data)
    assert reservations(data) == reserved
    assert fdt.num_mem_rsv() == len(reserved)
    assert [tuple(fdt.get_mem_rsv(n)[-2:]) for n in range(len(reserved))] == list(reserved)
    for path, node in tree.walk():
        at = fdt.path_offset(path)
        assert fdt.get_name(at) == node.name
        for name, value in node.props:
            assert bytes(fdt.getprop(at, name)) == raw_bytes(value)


def raw_bytes(value: Value) -> bytes:
    match value:
        case Cells(numbers):
            return b"".join(struct.pack(">I", n) for n in numbers)
        case Cells64(numbers):
            return b"".join(struct.pack(">Q", n) for n in numbers)
        case Strings(texts):
            return b"".join(t.encode() + b"\0" for t in texts)
        case Bytes(data):
            return data
    return b""


def dtc(source: bytes, *, form: str) -> bytes:
    tool = shutil.which("dtc")
    if tool is None:
        pytest.skip("needs dtc (package device-tree-compiler)")
    to = {"dts": "dtb", "dtb": "dts"}[form]
    done = subprocess.run(
        [tool, "-q", "-q", "-I", form, "-O", to, "-"], input=source, capture_output=True, timeout=patience(30)
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@settings(max_examples=25, deadline=None)
@given(trees)
def test_dtc_compiles_the_source_to_the_same_tree(tree: FdtNode) -> None:
    assert same(decode(dtc(to_dts(tree).encode(), form="dts")), decode(encode(tree)))


def test_references_become_one_phandle() -> None:
    tree = decode(encode(EXAMPLE))
    assert tree.prop("interrupt-parent") == Cells(1)
    plic = tree.find("plic@c000000")
    assert plic is not None and [k for k, _ in plic.props].count("phandle") == 1
    assert plic.prop("phandle") == Cells(1)
    user = tree.find("user")
    assert user is not None and user.prop("regmap") == Cells(1, 7, 1)
    assert user.prop("phandle") is None, "nobody refers to it"


def test_dtc_resolves_the_references_alike() -> None:
    mine, theirs = decode(encode(EXAMPLE)), decode(dtc(to_dts(EXAMPLE).encode(), form="dts"))
    for tree in (mine, theirs):
        plic = tree.find("plic@c000000")
        assert plic is not None
        assert tree.prop("interrupt-parent") == plic.prop("phandle")


def test_an_explicit_phandle_is_kept_and_not_given_twice() -> None:
    tree = FdtNode(
        "",
        (("a", Cells(Ref("x"), Ref("y"))),),
        (FdtNode("x", (), label="x"), FdtNode("y", (("phandle", Cells(1)),), label="y")),
    )
    again = decode(encode(tree))
    assert again.prop("a") == Cells(2, 1)


def test_encoding_is_the_same_every_time() -> None:
    assert encode(EXAMPLE) == encode(EXAMPLE)


def test_the_readable_form_has_labels_and_references() -> None:
    text = to_dts(EXAMPLE)
    assert "plic: plic@c000000 {" in text
    assert "interrupt-parent = <&plic>;" in text
    assert 'compatible = "one,two", "three";' in text


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (FdtNode("x", ()), "root"),
        (FdtNode("", (), (FdtNode("", ()),)), "node name"),
        (FdtNode("", (), (FdtNode("a b", ()),)), "a b"),
        (FdtNode("", (), (FdtNode("n" * 32, ()),)), "1 to 31"),
        (FdtNode("", (), (FdtNode("a", ()), FdtNode("a", ()))), "twice"),
        (FdtNode("", (("p q", Empty()),)), "p q"),
        (FdtNode("", (("p" * 32, Empty()),)), "1 to 31"),
        (FdtNode("", (("p", Empty()), ("p", Empty()))), "twice"),
        (FdtNode("", (("p", Cells(1 << 32)),)), "32-bit"),
        (FdtNode("", (("p", Cells(-1)),)), "32-bit"),
        (FdtNode("", (("p", Cells64(1 << 64)),)), "64-bit"),
        (FdtNode("", (("p", Strings("a\0b")),)), "NUL"),
        (FdtNode("", (("p", Strings("\ud800")),)), "Unicode"),
        (FdtNode("", (("p", Cells(Ref("gone"))),)), "gone"),
        (FdtNode("", (), (FdtNode("a", (), label="l"), FdtNode("b", (), label="l"))), "taken by /a"),
        (FdtNode("", (), label="1x"), "label"),
        (FdtNode("", (("phandle", Cells(0)),)), "phandle"),
        (FdtNode("", (("phandle", Cells(1)),), (FdtNode("a", (("phandle", Cells(1)),)),)), "taken by /"),
    ],
)
def test_what_the_format_refuses_is_refused_in_words(tree: FdtNode, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        encode(tree)
    assert words in str(caught.value)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    node = FdtNode("leaf", ())
    for _ in range(5000):
        node = FdtNode("n", (), (node,))
    with pytest.raises(ValueError, match="levels"):
        encode(FdtNode("", (), (node,)))


@pytest.mark.parametrize("reserved", [((-1, 0),), ((0, 1 << 64),)])
def test_reservations_are_64_bit(reserved: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        encode(EXAMPLE, reserved)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_blob_is_a_tree_or_a_value_error(data: st.DataObject) -> None:
    blob = bytearray(encode(EXAMPLE))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(blob)))
    for blob_ in (bytes(blob), bytes(blob[:cut])):
        try:
            decode(blob_)
            reservations(blob_)
        except ValueError as error:
            assert str(error).startswith("devicetree")


def test_every_truncation_is_refused() -> None:
    blob = encode(EXAMPLE)
    for size in range(len(blob)):
        with pytest.raises(ValueError, match="devicetree"):
            decode(blob[:size])


def test_a_version_16_blob_has_no_structure_size() -> None:
    blob = bytearray(encode(EXAMPLE))
    struct.pack_into(">I", blob, 20, 16)
    struct.pack_into(">I", blob, 36, 0xFFFFFFFF)
    assert same(decode(bytes(blob)), decode(encode(EXAMPLE)))


def test_nodes_beyond_the_depth_bound_are_refused_when_read() -> None:
    body = struct.pack(">II", 1, 0) + b"".join(struct.pack(">I", 1) + b"n\0\0\0" for _ in range(3000))
    header = struct.pack(">10I", 0xD00DFEED, 56 + len(body), 56, 56 + len(body), 40, 17, 16, 0, 0, len(body))
    with pytest.raises(ValueError, match="levels"):
        decode(header + bytes(16) + body)
