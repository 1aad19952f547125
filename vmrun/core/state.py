"""State as a value: what something that lives was at one moment, by the names of its fields.

``pack`` and ``unpack`` give it a form in bytes that names its own parts; C's objects have the same (``state_api.h``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from vmrun.frozen import frozen

MAGIC = 0x53524D56
"""``VMRS``, as in the C core: VMR_STATE_MAGIC."""


@frozen
class StateField:
    """One field: ``values`` are its elements, each ``width`` bytes wide and not below 0."""

    name: str
    width: int
    values: tuple[int, ...]


@frozen
class State:
    """The state of a ``kind`` of thing, in the ``version`` of its declaration."""

    kind: str
    version: int
    fields: tuple[StateField, ...] = ()

    def __getitem__(self, name: str) -> int:
        """Return the one element of the field ``name``. Raise KeyError where there is no such field."""
        for field in self.fields:
            if field.name == name:
                (value,) = field.values
                return value
        raise KeyError(name)


def pack(state: State) -> bytes:
    """Return ``state`` as bytes. Raise OverflowError for an element that is wider than its field."""
    parts = [struct.pack("<II", MAGIC, state.version), _text(state.kind), struct.pack("<I", len(state.fields))]
    for field in state.fields:
        parts += [_text(field.name), struct.pack("<BI", field.width, len(field.values))]
        parts += [value.to_bytes(field.width, "little") for value in field.values]
    return b"".join(parts)


def _text(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


def unpack(data: bytes) -> State:
    """Return the state in ``data``. Raise ValueError where it is none."""
    reader = _Reader(data)
    magic, version = reader.numbers("<II")
    if magic != MAGIC:
        raise ValueError("these bytes are no state")
    kind = reader.text()
    (count,) = reader.numbers("<I")
    fields = tuple(reader.fields(count))
    if reader.rest:
        raise ValueError(f"{len(reader.rest)} bytes follow the state")
    return State(kind, version, fields)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.rest = memoryview(data)

    def take(self, size: int) -> memoryview:
        if size > len(self.rest):
            raise ValueError("the state ends in the midst of it")
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def text(self) -> str:
        return bytes(self.take(self.take(1)[0])).decode()

    def fields(self, count: int) -> Iterator[StateField]:
        for _ in range(count):
            name = self.text()
            width, elements = self.numbers("<BI")
            if not width:
                raise ValueError(f"`{name}` has elements without width")
            data = self.take(width * elements)
            values = (int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width))
            yield StateField(name, width, tuple(values))
