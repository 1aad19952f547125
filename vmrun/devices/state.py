"""How a live device is saved and loaded: one that Python serves declares a table of its fields, C has its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from vmrun.core.state import State, StateField
from vmrun.errors import HostError
from vmrun.frozen import frozen

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine


@frozen
class Kept:
    """One attribute of a device that is state, ``name`` without its leading ``_``: numbers of ``bits`` bits.

    ``count`` of them where the attribute is a bytearray, one for each of ``keys`` where it is a dict. A number may be
    below 0 where it is ``signed``, and None where it is ``optional``: that is saved as all ones.
    """

    name: str
    bits: int
    count: int = 1
    keys: tuple[str, ...] = ()
    signed: bool = False
    optional: bool = False

    @property
    def width(self) -> int:
        """How many bytes an element takes."""
        return (self.bits + 7) // 8

    def give(self, value: Any) -> StateField:
        """Return the attribute's ``value`` as a field."""
        found = [value[key] for key in self.keys] if self.keys else list(value) if self.count > 1 else [value]
        none = (1 << self.bits) - 1
        return StateField(self.name, self.width, tuple(none if v is None else int(v) & none for v in found))

    def take(self, field: StateField) -> Any:
        """Return what a field says the attribute is. Raise ValueError for a field that is another's."""
        count = len(self.keys) or self.count
        if field.width != self.width or len(field.values) != count:
            raise ValueError(f"`{self.name}` has {len(field.values)} elements of {field.width} bytes")
        for value in field.values:
            if not 0 <= value < 1 << self.bits:
                raise ValueError(f"`{self.name}` cannot be {value:#x}")
        values = [self._python(value) for value in field.values]
        if self.keys:
            return dict(zip(self.keys, values, strict=True))
        return bytearray(values) if self.count > 1 else values[0]

    def _python(self, value: int) -> Any:
        if self.optional and value == (1 << self.bits) - 1:
            return None
        if self.signed and value >> self.bits - 1:
            return value - (1 << self.bits)
        return bool(value) if self.bits == 1 else value


@frozen
class Table:
    """What a ``kind`` of device that Python serves declares as its state, in the ``version`` of this declaration."""

    kind: str
    version: int = 1
    kept: tuple[Kept, ...] = ()

    def read(self, state: State) -> Iterator[tuple[str, Any]]:
        """Yield attributes and their values out of ``state``. Raise ValueError where it is not of this table."""
        if (state.kind, state.version) != (self.kind, self.version):
            raise ValueError(f"this is version {state.version} of the state of {state.kind}")
        fields = {field.name: field for field in state.fields}
        if len(fields) != len(state.fields) or fields.keys() != {kept.name for kept in self.kept}:
            raise ValueError(f"its fields are {', '.join(field.name for field in state.fields) or 'none'}")
        for kept in self.kept:
            yield f"_{kept.name}", kept.take(fields[kept.name])


class Declared:
    """A live device that Python serves, with its state in ``STATE``; its ``_lock`` guards it, where it has one."""

    STATE: ClassVar[Table]

    def counters(self) -> Mapping[str, int]:
        """Return nothing."""
        return {}

    def save(self) -> State:
        """Return the device's state."""
        with self._still():
            return self._snapshot()

    def load(self, state: State) -> None:
        """Be what ``state`` says, and drive the line so. Raise HostError E370, with nothing changed, if it is none."""
        with self._still():
            before = self._snapshot()
            try:
                self._restore(state)
                wrong = self._wrong()
                if wrong:
                    self._restore(before)
                    raise ValueError(wrong)
            except ValueError as error:
                raise HostError(f"{self.STATE.kind}: no state that can be loaded: {error}", code="E370") from None
            self._loaded()

    def _still(self) -> Any:
        return getattr(self, "_lock", None) or threading.Lock()

    def _snapshot(self) -> State:
        table = self.STATE
        fields = tuple(kept.give(getattr(self, f"_{kept.name}")) for kept in table.kept)
        return State(table.kind, table.version, fields)

    def _restore(self, state: State) -> None:
        for name, value in list(self.STATE.read(state)):
            setattr(self, name, value)

    def _wrong(self) -> str:
        """Return what is wrong with the fields together, or the empty string."""
        return ""

    def _loaded(self) -> None:
        """Drive the line, arm timers."""


class Served:
    """A live device that C serves: ``handle`` is what its constructor gave, ``id`` the plan's name of it."""

    def __init__(self, machine: CoreMachine, handle: Any, id: str) -> None:
        self.handle = handle
        self._machine = machine
        self._id = id

    def counters(self) -> Mapping[str, int]:
        """Return nothing."""
        return {}

    def save(self) -> State:
        """Return the device's state."""
        return self._machine.save_state(self.handle, self._id)

    def load(self, state: State) -> None:
        """Be what ``state`` says, and drive the line so. Raise HostError E370, with nothing changed, if it is none."""
        self._machine.load_state(self.handle, state, self._id)
