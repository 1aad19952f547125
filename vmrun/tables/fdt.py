"""Flattened devicetree: a tree of values in, a DTB (version 17) out, and back; and devicetree source for readers.

Source: Devicetree Specification v0.4, chapters 2 (names, property values), 5 (the flattened form) and 6 (source).
A node that others refer to carries a ``label``; references are ``Ref(label)`` inside ``Cells``. ``encode`` gives each
labelled node that is referred to one phandle, counted from 1 in tree order, so that equal trees make equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vmrun.frozen import frozen

MAGIC = 0xD00DFEED
VERSION = 17
LAST_COMPATIBLE = 16
MAX_DEPTH = 64
"""Nodes below each other, root included: Linux's own bound (drivers/of/fdt.c FDT_MAX_DEPTH)."""

_BEGIN_NODE, _END_NODE, _PROP, _NOP, _END = 1, 2, 3, 4, 9
_HEADER = struct.Struct(">10I")
_RESERVATION = struct.Struct(">QQ")
_NAME_MAX = 31
# Sets rather than regular expressions: this module is loaded for every saved plan, and compiling those takes longer.
_ALPHANUMERIC = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_NODE_CHARS = _ALPHANUMERIC | set(",._+-")
_PROP_CHARS = _NODE_CHARS | set("?#*")
_LABEL_CHARS = _ALPHANUMERIC | {"_"}
_TEXT_BYTES = bytes(range(0x20, 0x7F)) + b"\0"


@frozen
class Ref:
    """A phandle: the number of the node labelled ``label``, one cell."""

    label: str


@frozen
class Cells:
    """32-bit big-endian cells; each an int in 0..2**32-1, or a ``Ref``."""

    values: tuple[int | Ref, ...]

    def __init__(self, *values: int | Ref) -> None:
        object.__setattr__(self, "values", values)


@frozen
class Cells64:
    """64-bit big-endian numbers, two cells each: addresses and sizes under two address and size cells."""

    values: tuple[int, ...]

    def __init__(self, *values: int) -> None:
        object.__setattr__(self, "values", values)


@frozen
class Strings:
    """One or more strings without NUL, each ended by one in the blob."""

    values: tuple[str, ...]

    def __init__(self, *values: str) -> None:
        object.__setattr__(self, "values", values)


@frozen
class Bytes:
    """Bytes as they are."""

    value: bytes


@frozen
class Empty:
    """A property without a value: true by its presence."""


Value = Cells | Cells64 | Strings | Bytes | Empty


@frozen
class FdtNode:
    """A node: ``name`` is ``node-name`` or ``node-name@unit-address``, empty for the root alone.

    ``label`` is what ``Ref`` names; labels are unique in a tree. Nothing is checked until ``encode`` or ``to_dts``.
    """

    name: str
    props: tuple[tuple[str, Value], ...]
    children: tuple[FdtNode, ...] = ()
    label: str | None = None

    def prop(self, name: str) -> Value | None:
        """Return the property called ``name``, or None."""
        return next((value for key, value in self.props if key == name), None)

    def find(self, path: str) -> FdtNode | None:
        """Return the node at ``path`` below this one (``"soc/serial@10000000"``; ``"/"`` is this node), or None."""
        node: FdtNode = self
        for part in path.split("/"):
            if part:
                below = next((c for c in node.children if c.name == part), None)
                if below is None:
                    return None
                node = below
        return node

    def walk(self, path: str = "") -> Iterator[tuple[str, FdtNode]]:
        """Yield every node with its path, this one first, in tree order."""
        yield path or "/", self
        for child in self.children:
            yield from child.walk(f"{path}/{child.name}")


def encode(root: FdtNode, reservations: tuple[tuple[int, int], ...] = ()) -> bytes:
    """Return the tree as a DTB. ``reservations`` are (address, size) in bytes, each of 64 bits.

    Raise ValueError, naming the node and the property, for a name, label, reference or number that the format refuses.
    """
    phandles = _check(root)
    body = bytearray()
    strings = _StringBlock()
    _encode_node(root, phandles, body, strings)
    body += struct.pack(">I", _END)
    reserved = bytearray()
    for address, size in (*reservations, (0, 0)):
        if not (0 <= address < 1 << 64 and 0 <= size < 1 << 64):
            raise ValueError(f"reservation {address:#x}, {size:#x}: not two 64-bit numbers")
        reserved += _RESERVATION.pack(address, size)
    at_struct = _HEADER.size + len(reserved)
    at_strings = at_struct + len(body)
    total = at_strings + len(strings.data)
    header = _HEADER.pack(
        MAGIC, total, at_struct, at_strings, _HEADER.size, VERSION, LAST_COMPATIBLE, 0, len(strings.data), len(body)
    )
    return bytes(header + reserved + body + strings.data)


class _StringBlock:
    """Property names, each once, in the order of their first use."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._offsets: dict[str, int] = {}

    def offset(self, name: str) -> int:
        if name not in self._offsets:
            self._offsets[name] = len(self.data)
            self.data += name.encode("ascii") + b"\0"
        return self._offsets[name]


def _check(root: FdtNode) -> dict[str, int]:
    """Refuse what cannot be encoded; return the phandle of every label that is referred to."""
    if root.name:
        raise ValueError(f"the root's name is empty, not `{root.name}`")
    labels: dict[str, str] = {}
    refs: dict[str, str] = {}
    given: dict[int, str] = {}
    explicit: dict[str, int] = {}
    for path, node, depth in _walk_depth(root):
        if depth >= MAX_DEPTH:
            raise ValueError(f"{path}: more than {MAX_DEPTH} levels of nodes")
        _check_node(path, node, root=depth == 0)
        if node.label is not None:
            if node.label in labels:
                raise ValueError(f"{path}: label `{node.label}` is taken by {labels[node.label]}")
            labels[node.label] = path
        for name, value in node.props:
            if isinstance(value, Cells):
                for cell in value.values:
                    if isinstance(cell, Ref):
                        refs.setdefault(cell.label, f"{path}: `{name}`")
        number = _explicit_phandle(path, node)
        if number is not None:
            if number in given:
                raise ValueError(f"{path}: phandle {number} is taken by {given[number]}")
            given[number] = path
            if node.label is not None:
                explicit[node.label] = number
    for label, where in refs.items():
        if label not in labels:
            raise ValueError(f"{where} refers to `{label}`, and no node has this label")
    return _allot(labels, refs, explicit, set(given))


def _walk_depth(root: FdtNode) -> Iterator[tuple[str, FdtNode, int]]:
    """Yield (path, node, depth) in tree order without recursion, so that depth can be refused rather than overflow."""
    stack = [("/", root, 0)]
    while stack:
        path, node, depth = stack.pop()
        yield path, node, depth
        if depth < MAX_DEPTH:
            prefix = path.rstrip("/")
            stack.extend((f"{prefix}/{c.name}", c, depth + 1) for c in reversed(node.children))


def _is_node_name(name: str, longest: int) -> bool:
    """Say whether ``name`` is ``node-name`` of at most ``longest`` characters, with ``@unit-address`` or without."""
    plain, at, address = name.partition("@")
    return 0 < len(plain) <= longest and bool(address) == bool(at) and _NODE_CHARS.issuperset(plain + address)


def _is_prop_name(name: str, longest: int) -> bool:
    return 0 < len(name) <= longest and _PROP_CHARS.issuperset(name)


def _check_node(path: str, node: FdtNode, *, root: bool) -> None:
    if not root and not _is_node_name(node.name, _NAME_MAX):
        raise ValueError(f"{path}: `{node.name}` is no node name (1 to 31 of 0-9 A-Z a-z , . _ + -, @unit-address)")
    if node.label is not None and (not _LABEL_CHARS.issuperset(node.label) or node.label[:1] in "0123456789"):
        raise ValueError(f"{path}: `{node.label}` is no label")
    seen: set[str] = set()
    for name, _ in node.props:
        if not _is_prop_name(name, _NAME_MAX):
            raise ValueError(f"{path}: `{name}` is no property name (1 to 31 of 0-9 A-Z a-z , . _ + ? # * -)")
        if name in seen:
            raise ValueError(f"{path}: property `{name}` stands twice")
        seen.add(name)
    below: set[str] = set()
    for child in node.children:
        if child.name in below:
            raise ValueError(f"{path}: child `{child.name}` stands twice")
        below.add(child.name)


def _explicit_phandle(path: str, node: FdtNode) -> int | None:
    value = node.prop("phandle")
    if value is None:
        return None
    if isinstance(value, Cells) and len(value.values) == 1:
        number = value.values[0]
        if isinstance(number, int) and 0 < number < 0xFFFFFFFF:
            return number
    raise ValueError(f"{path}: `phandle` is one cell in 1..0xfffffffe")


def _allot(labels: dict[str, str], refs: dict[str, str], explicit: dict[str, int], taken: set[int]) -> dict[str, int]:
    phandles = dict(explicit)
    number = 0
    for label in labels:
        if label in refs and label not in explicit:
            number += 1
            while number in taken:
                number += 1
            phandles[label] = number
    return phandles


def _encode_node(node: FdtNode, phandles: dict[str, int], body: bytearray, strings: _StringBlock) -> None:
    body += struct.pack(">I", _BEGIN_NODE) + node.name.encode("ascii") + b"\0"
    _pad(body)
    for name, value in node.props:
        _encode_prop(name, _value_bytes(node, name, value, phandles), body, strings)
    if node.label in phandles and node.prop("phandle") is None:
        _encode_prop("phandle", struct.pack(">I", phandles[node.label]), body, strings)
    for child in node.children:
        _encode_node(child, phandles, body, strings)
    body += struct.pack(">I", _END_NODE)


def _encode_prop(name: str, data: bytes, body: bytearray, strings: _StringBlock) -> None:
    body += struct.pack(">III", _PROP, len(data), strings.offset(name)) + data
    _pad(body)


def _pad(body: bytearray) -> None:
    body += bytes(-len(body) % 4)


def _value_bytes(node: FdtNode, name: str, value: Value, phandles: dict[str, int]) -> bytes:
    where = f"{node.name or '/'}: `{name}`"
    match value:
        case Cells(values):
            cells = [phandles[v.label] if isinstance(v, Ref) else v for v in values]
            return b"".join(_number(where, v, 32) for v in cells)
        case Cells64(numbers):
            return b"".join(_number(where, v, 64) for v in numbers)
        case Strings(texts):
            return b"".join(_string(where, text) for text in texts)
        case Bytes(data):
            return data
        case Empty():
            return b""


def _number(where: str, value: int, bits: int) -> bytes:
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{where}: {value} is no unsigned {bits}-bit number")
    return value.to_bytes(bits // 8, "big")


def _string(where: str, text: str) -> bytes:
    if "\0" in text:
        raise ValueError(f"{where}: a string holds NUL")
    try:
        return text.encode("utf-8") + b"\0"
    except UnicodeEncodeError:
        raise ValueError(f"{where}: a string is no valid Unicode") from None


def decode(data: bytes) -> FdtNode:
    """Return the tree of a DTB, of which nothing is trusted.

    A DTB does not say what a value means: text becomes ``Strings``, whole cells ``Cells``, the rest ``Bytes``; encoding
    the result gives the same values back. Raise ValueError where the blob is no devicetree of version 16 or 17.
    """
    body, strings = _blocks(data)
    at = 0
    stack: list[_Open] = []
    while True:
        token, at = _cell(body, at), at + 4
        if token == _NOP:
            continue
        if token == _BEGIN_NODE:
            name, at = _node_name(body, at, root=not stack)
            if len(stack) >= MAX_DEPTH:
                raise ValueError(f"devicetree: more than {MAX_DEPTH} levels of nodes")
            stack.append(_Open(name))
        elif token == _PROP:
            at = _decode_prop(body, strings, at, stack)
        elif token == _END_NODE:
            if not stack:
                raise ValueError(f"devicetree: a node ends at {at - 4:#x} that never began")
            node = stack.pop().close()
            if not stack:
                break
            stack[-1].add_child(node)
        else:
            raise ValueError(f"devicetree: token {token:#x} at {at - 4:#x} of the structure block")
    while (token := _cell(body, at)) == _NOP:
        at += 4
    if token != _END:
        raise ValueError("devicetree: the structure block does not end after the root")
    return node


class _Open:
    """A node whose end has not been seen yet."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.props: dict[str, Value] = {}
        self.children: dict[str, FdtNode] = {}

    def add_child(self, node: FdtNode) -> None:
        if node.name in self.children:
            raise ValueError(f"devicetree: node `{node.name}` stands twice in `{self.name or '/'}`")
        self.children[node.name] = node

    def close(self) -> FdtNode:
        return FdtNode(self.name, tuple(self.props.items()), tuple(self.children.values()))


def _blocks(data: bytes) -> tuple[bytes, bytes]:
    """Check the header; return the structure block and the strings block."""
    if len(data) < _HEADER.size:
        raise ValueError(f"devicetree: {len(data)} bytes are no header of {_HEADER.size}")
    magic, total, at_struct, at_strings, at_reserved, version, last, _, n_strings, n_struct = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"devicetree: magic is {magic:#010x}, not {MAGIC:#010x}")
    if version < LAST_COMPATIBLE or last > VERSION or version < last:
        raise ValueError(f"devicetree: version {version} (readable from {last} on) is neither 16 nor 17")
    if version < VERSION:
        n_struct = max(total - at_struct, 0)
    if not _HEADER.size <= total <= len(data):
        raise ValueError(f"devicetree: says it has {total} bytes, and {len(data)} are there")
    for what, at, size, align in (("structure", at_struct, n_struct, 4), ("strings", at_strings, n_strings, 1)):
        if at < _HEADER.size or at % align or at + size > total:
            raise ValueError(f"devicetree: the {what} block [{at:#x}, {at + size:#x}) is not inside {total:#x} bytes")
    if at_reserved < _HEADER.size or at_reserved % 8 or at_reserved + _RESERVATION.size > total:
        raise ValueError(f"devicetree: the reservation block at {at_reserved:#x} is not inside {total:#x} bytes")
    return data[at_struct : at_struct + n_struct], data[at_strings : at_strings + n_strings]


def reservations(data: bytes) -> tuple[tuple[int, int], ...]:
    """Return a DTB's memory reservations as (address, size) in bytes. Raise ValueError as ``decode`` does."""
    _blocks(data)
    total, at = struct.unpack_from(">I", data, 4)[0], struct.unpack_from(">I", data, 16)[0]
    found: list[tuple[int, int]] = []
    while at + _RESERVATION.size <= total:
        address, size = _RESERVATION.unpack_from(data, at)
        if address == size == 0:
            return tuple(found)
        found.append((address, size))
        at += _RESERVATION.size
    raise ValueError("devicetree: the reservation block has no end")


def _cell(body: bytes, at: int) -> int:
    if at + 4 > len(body):
        raise ValueError(f"devicetree: the structure block is cut off at {at:#x}")
    return int.from_bytes(body[at : at + 4], "big")


def _node_name(body: bytes, at: int, *, root: bool) -> tuple[str, int]:
    end = body.find(b"\0", at)
    if end < 0:
        raise ValueError(f"devicetree: the node name at {at:#x} has no end")
    name = body[at:end].decode("latin-1")
    if name if root else not _is_node_name(name, len(name)):
        raise ValueError(f"devicetree: {name[:40]!r} at {at:#x} is no name of a {'root' if root else 'node'}")
    return name, (end + 4) & ~3


def _decode_prop(body: bytes, strings: bytes, at: int, stack: list[_Open]) -> int:
    if not stack:
        raise ValueError(f"devicetree: a property at {at:#x} belongs to no node")
    size, at_name = _cell(body, at), _cell(body, at + 4)
    at += 8
    if at + size > len(body):
        raise ValueError(f"devicetree: a property of {size} bytes at {at:#x} leaves the structure block")
    end = strings.find(b"\0", at_name)
    name = strings[at_name:end].decode("latin-1") if end >= 0 else ""
    if not _is_prop_name(name, len(name)):
        raise ValueError(f"devicetree: a property at {at:#x} has no name at {at_name:#x} of the strings block")
    node = stack[-1]
    if name in node.props:
        raise ValueError(f"devicetree: property `{name}` stands twice in `{node.name or '/'}`")
    if node.children:
        raise ValueError(f"devicetree: property `{name}` follows a child of `{node.name or '/'}`")
    node.props[name] = _guess(body[at : at + size])
    return (at + size + 3) & ~3


def _guess(data: bytes) -> Value:
    if not data:
        return Empty()
    if data[-1] == 0 != data[0] and b"\0\0" not in data and not data.translate(None, _TEXT_BYTES):
        return Strings(*data[:-1].decode("ascii").split("\0"))
    if len(data) % 4 == 0:
        return Cells(*(cell for (cell,) in struct.iter_unpack(">I", data)))
    return Bytes(data)


def to_dts(root: FdtNode) -> str:
    """Return the tree as source that dtc accepts, with labels and ``&references``. Raise ValueError as ``encode``."""
    phandles = _check(root)
    lines = ["/dts-v1/;", ""]
    _dts_node(root, phandles, 0, lines)
    return "\n".join(lines) + "\n"


def _dts_node(node: FdtNode, phandles: dict[str, int], depth: int, lines: list[str]) -> None:
    pad = "\t" * depth
    label = f"{node.label}: " if node.label else ""
    lines.append(f"{pad}{label}{node.name or '/'} {{")
    for name, value in node.props:
        _value_bytes(node, name, value, phandles)
        text = _dts_value(value)
        lines.append(f"{pad}\t{name} = {text};" if text else f"{pad}\t{name};")
    for child in node.children:
        lines.append("")
        _dts_node(child, phandles, depth + 1, lines)
    lines.append(f"{pad}}};")


def _dts_value(value: Value) -> str:
    match value:
        case Cells(values):
            return f"<{' '.join(f'&{v.label}' if isinstance(v, Ref) else _hex(v) for v in values)}>" if values else ""
        case Cells64(numbers):
            cells = (part for v in numbers for part in (v >> 32, v & 0xFFFFFFFF))
            return f"<{' '.join(map(_hex, cells))}>" if numbers else ""
        case Strings(texts):
            return ", ".join(f'"{_escape(text)}"' for text in texts)
        case Bytes(data):
            return f"[{data.hex(' ')}]" if data else ""
        case Empty():
            return ""


def _hex(value: int) -> str:
    return str(value) if value < 10 else f"{value:#x}"


def _escape(text: str) -> str:
    """Escape as C does; other bytes than printable ASCII go as octal, which cannot swallow a following digit."""
    out = []
    for byte in text.encode("utf-8"):
        char = chr(byte)
        if char in '"\\':
            out.append(f"\\{char}")
        else:
            out.append(char if 0x20 <= byte < 0x7F else f"\\{byte:03o}")
    return "".join(out)
