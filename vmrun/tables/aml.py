"""ACPI Machine Language: a small typed tree in, the bytes of a definition block out.

Source: ACPI Specification 6.5, chapter 20 (AML) and chapter 19 (what the operators mean); opcodes as in Linux
drivers/acpi/acpica/amlcode.h. Numbers are those of a block of revision 2 or later: 64 bits wide.

Plain Python values stand for constants: an int in 0..2**64-1, a str (ASCII, no NUL). Everything else is a class of this
module. Names are written as in ASL, ``\\_SB.PCI0._CRS``, segments of 1 to 4 of ``A-Z 0-9 _``; they are padded here.
Statements and operators are functions of ``aml_ops`` (``store``, ``equal``); what declares a name, or holds a body, is
a class. ``encode`` turns the bodies into bytes and raises ValueError, naming the object, for what the format refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum

from vmrun.frozen import frozen
from vmrun.tables.aml_bytes import constant, eisa_id, name_segment, name_string, package_length, uuid_bytes


class Space(IntEnum):
    """Address spaces of an operation region (section 20.2.5.2)."""

    MEMORY = 0
    IO = 1
    PCI_CONFIG = 2
    EMBEDDED_CONTROL = 3
    SMBUS = 4
    CMOS = 5


class Access(IntEnum):
    """Width of the accesses to a field (section 19.6.48)."""

    ANY = 0
    BYTE = 1
    WORD = 2
    DWORD = 3
    QWORD = 4
    BUFFER = 5


class Update(IntEnum):
    """What a write to part of a field's access unit leaves in the rest (section 19.6.48)."""

    PRESERVE = 0
    ONES = 1
    ZEROS = 2


@frozen
class Path:
    """A reference to a name: absolute (``\\_SB``), relative (``PCI0.LNKA``), or of a parent (``^X``)."""

    text: str


@frozen
class Eisa:
    """A compressed EISA id, ``PNP0501``: three letters A-Z and four hex digits, upper case; an integer in AML."""

    text: str


@frozen
class Uuid:
    """A UUID in ACPI's byte order (section 19.6.142, ToUUID); a buffer in AML."""

    text: str


@frozen
class Buffer:
    """Bytes. ``size`` is the buffer's length where it exceeds the bytes given; the rest is zero."""

    data: bytes = b""
    size: int | None = None


@frozen
class Package:
    """A list of constants and references, at most 255 of them."""

    items: tuple[Data | Path, ...]

    def __init__(self, *items: Data | Path) -> None:
        object.__setattr__(self, "items", items)


@frozen
class Arg:
    """A method's argument, 0 to 6."""

    number: int


@frozen
class Local:
    """A method's local variable, 0 to 7."""

    number: int


@frozen
class Word:
    """Sixteen bits in the place of an operand, without an opcode of their own."""

    value: int


@frozen
class Op:
    """An operator with its operands; the functions of this module make it. None is the null target: nothing stored."""

    code: int
    operands: tuple[Term | Word | None, ...] = ()


@frozen
class Call:
    """A method called by name. AML does not say how many arguments follow: they must be as many as it declares."""

    path: str
    arguments: tuple[Term, ...]

    def __init__(self, path: str, *arguments: Term) -> None:
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "arguments", arguments)


Data = int | str | Eisa | Uuid | Buffer | Package
"""Constants: what a ``Name`` holds."""
Term = Data | Path | Arg | Local | Op | Call
"""What has a value."""


@frozen
class Name:
    """A named constant."""

    name: str
    value: Data


@frozen
class Scope:
    """Bodies placed below a name that stands already, here or in ACPI itself (``\\_SB``)."""

    path: str
    body: tuple[Node, ...]


@frozen
class Device:
    """A device; its body declares at least ``_HID`` or ``_ADR`` (section 6.1)."""

    name: str
    body: tuple[Node, ...]

    def value(self, name: str) -> Data | None:
        """Return the value of the ``Name`` declared in the body as ``name``, or None."""
        return next((node.value for node in self.body if isinstance(node, Name) and node.name == name), None)


@frozen
class Method:
    """A control method of ``args`` 0..7 arguments. One that declares names must be ``serialized`` (section 19.6.85)."""

    name: str
    body: tuple[Node, ...]
    args: int = 0
    serialized: bool = False
    sync_level: int = 0


@frozen
class Region:
    """An operation region: ``length`` bytes at ``offset`` in ``space``."""

    name: str
    space: Space
    offset: Term
    length: Term


@frozen
class Bits:
    """A field of ``width`` bits; without a name, a gap."""

    name: str | None
    width: int


@frozen
class Offset:
    """The next field starts at this byte of the region; never before the end of the one before it."""

    byte: int


@frozen
class Field:
    """Names for the bits of a region, from its first bit on."""

    region: str
    units: tuple[Bits | Offset, ...]
    access: Access = Access.ANY
    lock: bool = False
    update: Update = Update.PRESERVE


@frozen
class BufferField:
    """A name for ``width`` bits (8, 16, 32, 64) of the buffer ``source``, at byte ``index``."""

    name: str
    source: Term
    index: Term
    width: int


@frozen
class Mutex:
    """A mutex of sync level 0..15."""

    name: str
    sync_level: int = 0


@frozen
class If:
    """Statements under a condition, and those where it is false."""

    condition: Term
    then: tuple[Node, ...]
    otherwise: tuple[Node, ...] = ()


@frozen
class While:
    """Statements repeated while the condition holds."""

    condition: Term
    body: tuple[Node, ...]


Node = Name | Scope | Device | Method | Region | Field | BufferField | Mutex | If | While | Op | Call
"""What stands in a body."""


_WIDTHS = {8: 0x8C, 16: 0x8B, 32: 0x8A, 64: 0x8F}


def encode(body: Sequence[Node]) -> bytes:
    """Return the term list of a definition block: what follows the header of a DSDT or SSDT.

    Raise ValueError for a name of wrong form or declared twice, a number, string or package beyond its encoding, a
    device without ``_HID`` and ``_ADR``, or a method that declares names and is not serialized.
    """
    _check_names(body, (), set())
    return _nodes(body)


def _packaged(opcode: bytes, content: bytes) -> bytes:
    return opcode + package_length(len(content)) + content


def _nodes(body: Sequence[Node]) -> bytes:
    return b"".join(_node(node) for node in body)


def _node(node: Node) -> bytes:
    match node:
        case Name(name, value):
            return b"\x08" + name_string(name) + _data(value, name)
        case Scope(path, body):
            return _packaged(b"\x10", name_string(path) + _nodes(body))
        case Device(name, body):
            return _device(name, body)
        case Method():
            return _method(node)
        case Region(name, space, offset, length):
            return b"\x5b\x80" + name_string(name) + bytes([space]) + _term(offset, name) + _term(length, name)
        case Field():
            return _field(node)
        case BufferField(name, source, position, width):
            if width not in _WIDTHS:
                raise ValueError(f"AML field {name} of {width} bits in a buffer: 8, 16, 32 or 64")
            return bytes([_WIDTHS[width]]) + _term(source, name) + _term(position, name) + name_string(name)
        case Mutex(name, level):
            return b"\x5b\x01" + name_string(name) + bytes([_ranged(level, 15, f"AML mutex {name}: sync level")])
        case If(condition, then, otherwise):
            chosen = _packaged(b"\xa0", _term(condition, "If") + _nodes(then))
            return chosen + (_packaged(b"\xa1", _nodes(otherwise)) if otherwise else b"")
        case While(condition, body):
            return _packaged(b"\xa2", _term(condition, "While") + _nodes(body))
        case Op() | Call():
            return _term(node, "statement")
    raise ValueError(f"AML body: {node!r} is no statement or declaration")


def _device(name: str, body: tuple[Node, ...]) -> bytes:
    declared = {node.name for node in body if isinstance(node, Name | Method)}
    if not declared & {"_HID", "_ADR"}:
        raise ValueError(f"AML device {name}: declares neither _HID nor _ADR")
    return _packaged(b"\x5b\x82", name_string(name) + _nodes(body))


def _method(method: Method) -> bytes:
    args = _ranged(method.args, 7, f"AML method {method.name}: number of arguments")
    level = _ranged(method.sync_level, 15, f"AML method {method.name}: sync level")
    if not method.serialized and any(True for _ in _declared(method.body)):
        # Two threads in it at once would declare the same names twice; iasl remarks on it as well (2120).
        raise ValueError(f"AML method {method.name}: declares names, so it must be serialized")
    flags = args | method.serialized << 3 | level << 4
    return _packaged(b"\x14", name_string(method.name) + bytes([flags]) + _nodes(method.body))


def _field(field: Field) -> bytes:
    flags = field.access | field.lock << 4 | field.update << 5
    content = name_string(field.region) + bytes([flags])
    at = 0
    for unit in field.units:
        if isinstance(unit, Offset):
            if unit.byte * 8 < at:
                raise ValueError(f"AML field of {field.region}: offset {unit.byte:#x} lies before bit {at}")
            gap, name = unit.byte * 8 - at, None
        else:
            gap, name = unit.width, unit.name
            if gap < 1:
                raise ValueError(f"AML field {name or 'gap'} of {field.region}: {gap} bits wide")
        if gap:
            content += (name_segment(name) if name else b"\0") + package_length(gap, counts_itself=False)
        at += gap
    return _packaged(b"\x5b\x81", content)


def _data(value: Data, owner: str) -> bytes:
    if isinstance(value, Path | Arg | Local | Op | Call):
        raise ValueError(f"AML name {owner}: {value!r} is no constant")
    return _term(value, owner)


def _element(value: Data | Path, owner: str) -> bytes:
    return name_string(value.text) if isinstance(value, Path) else _data(value, owner)


def _term(value: Term | Word | None, owner: str) -> bytes:
    match value:
        case None:
            return b"\0"
        case int():
            return constant(value)
        case str():
            return _text(value, owner)
        case Path(text):
            return name_string(text)
        case Eisa(text):
            return b"\x0c" + eisa_id(text).to_bytes(4, "little")
        case Uuid(text):
            return _buffer(Buffer(uuid_bytes(text)), owner)
        case Buffer():
            return _buffer(value, owner)
        case Package(items):
            if len(items) > 255:
                raise ValueError(f"AML package in {owner}: {len(items)} elements, at most 255")
            return _packaged(b"\x12", bytes([len(items)]) + b"".join(_element(item, owner) for item in items))
        case Arg(number):
            return bytes([0x68 + _ranged(number, 6, f"AML argument in {owner}: its number")])
        case Local(number):
            return bytes([0x60 + _ranged(number, 7, f"AML local in {owner}: its number")])
        case Word(number):
            return _ranged(number, 0xFFFF, f"AML timeout in {owner}: milliseconds").to_bytes(2, "little")
        case Op(code, operands):
            opcode = code.to_bytes(2, "big") if code > 0xFF else bytes([code])
            return opcode + b"".join(_term(operand, owner) for operand in operands)
        case Call(path, arguments):
            _ranged(len(arguments), 7, f"AML call of {path}: number of arguments")
            return name_string(path) + b"".join(_term(argument, owner) for argument in arguments)
    raise ValueError(f"AML value in {owner}: {value!r} is none")


def _text(value: str, owner: str) -> bytes:
    if any(not 1 <= ord(char) <= 0x7F for char in value):
        raise ValueError(f"AML string {value!r} in {owner}: not ASCII without NUL")
    return b"\x0d" + value.encode("ascii") + b"\0"


def _buffer(buffer: Buffer, owner: str) -> bytes:
    size = len(buffer.data) if buffer.size is None else buffer.size
    if size < len(buffer.data):
        raise ValueError(f"AML buffer in {owner}: {len(buffer.data)} bytes in a size of {size}")
    return _packaged(b"\x11", constant(size) + buffer.data)


def _ranged(value: int, most: int, what: str) -> int:
    if not 0 <= value <= most:
        raise ValueError(f"{what} {value} is not in 0..{most}")
    return value


def _declared(body: Sequence[Node]) -> Iterator[tuple[str, tuple[Node, ...]]]:
    """Yield the names that a body declares, with the body below each; conditional ones count as well."""
    for node in body:
        match node:
            case Name(name) | Region(name) | BufferField(name) | Mutex(name):
                yield name, ()
            case Method(name):
                yield name, ()
            case Device(name, below):
                yield name, below
            case Field(_, units):
                yield from ((unit.name, ()) for unit in units if isinstance(unit, Bits) and unit.name)
            case If(_, then, otherwise):
                # The branches exclude each other: the same name may stand in both.
                both = list(_declared(then))
                seen = {name for name, _ in both}
                yield from both
                yield from (pair for pair in _declared(otherwise) if pair[0] not in seen)
            case While(_, below):
                yield from _declared(below)


def _check_names(body: Sequence[Node], scope: tuple[str, ...], taken: set[tuple[str, ...]]) -> None:
    """Refuse a name that is declared twice: an interpreter refuses the whole table for it."""
    for name, below in _declared(body):
        place = _resolve(name, scope)
        if place in taken:
            raise ValueError(f"AML name \\{'.'.join(place)}: declared twice")
        taken.add(place)
        _check_names(below, place, taken)
    for node in body:
        if isinstance(node, Scope):
            _check_names(node.body, _resolve(node.path, scope), taken)
        elif isinstance(node, Method):
            # A method's own names live as long as its run, each below the method.
            _check_names(node.body, _resolve(node.name, scope), set())


def _resolve(text: str, scope: tuple[str, ...]) -> tuple[str, ...]:
    name_string(text)
    bare = text.lstrip("\\^")
    segments = tuple(segment.ljust(4, "_") for segment in bare.split(".")) if bare else ()
    if text.startswith("\\"):
        return segments
    parents = len(text) - len(bare)
    if parents > len(scope):
        raise ValueError(f"AML name `{text}`: goes above the root from \\{'.'.join(scope)}")
    return scope[: len(scope) - parents] + segments
