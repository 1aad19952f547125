"""Frozen data classes that are cheap to define.

``dataclasses`` compiles source text for each class and imports ``inspect``: some 0.7 ms a class and 9 ms once, which is
most of what a cached ``vmrun up`` does before the guest's first instruction. :func:`frozen` gives what this package
uses of it, from closures: ``__slots__``, a constructor by annotations and defaults, equality, hash, repr.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, dataclass_transform

_T = TypeVar("_T")
_set = object.__setattr__


@dataclass_transform(frozen_default=True)
def frozen(cls: type[_T]) -> type[_T]:
    """Return ``cls`` as an immutable value class with a slot for each annotation, in order.

    A ``ClassVar`` (the annotation must be text) stays with the class. A default may be any value, mutable ones too:
    nothing changes it through the instance. A class that writes its own ``__init__`` sets its fields with
    ``object.__setattr__``.
    """
    hints = vars(cls).get("__annotations__", {})  # inspect.get_annotations would bring inspect in
    names = tuple(name for name, hint in hints.items() if not str(hint).startswith("ClassVar"))
    body = {key: value for key, value in vars(cls).items() if key not in ("__dict__", "__weakref__")}
    defaults = {name: body.pop(name) for name in names if name in body}
    body |= {"__slots__": names, "__match_args__": names, "__setattr__": _refuse_set, "__delattr__": _refuse_delete}
    body.setdefault("__init__", _initializer(cls.__name__, names, defaults))
    body.setdefault("__repr__", _represent)
    if "__eq__" not in body:
        body["__eq__"], body["__hash__"] = _equal, _hash
    body["__getstate__"], body["__setstate__"] = _values, _restore
    made: Any = type(cls.__name__, cls.__bases__, body)
    return made  # type: ignore[no-any-return]  # the same class, made again with slots


def evolve(instance: _T, **changes: Any) -> _T:
    """Return ``instance`` with some of its fields changed."""
    return type(instance)(**(as_dict(instance) | changes))


def as_dict(instance: object) -> dict[str, Any]:
    """Return the fields of a frozen instance by name, their values as they are."""
    return {name: getattr(instance, name) for name in field_names(instance)}


def field_names(thing: object) -> tuple[str, ...]:
    """Return the names of the fields of a frozen class or instance, in order."""
    names: tuple[str, ...] = thing.__match_args__  # type: ignore[attr-defined]  # set by frozen
    return names


def _initializer(owner: str, names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    count = len(names)

    def __init__(self: object, *args: Any, **given: Any) -> None:
        if len(args) > count:
            raise TypeError(f"{owner}() takes {count} arguments, {len(args)} were given")
        for name, value in zip(names, args, strict=False):
            _set(self, name, value)
        for name in names[len(args) :]:
            if name in given:
                _set(self, name, given.pop(name))
            elif name in defaults:
                _set(self, name, defaults[name])
            else:
                raise TypeError(f"{owner}() lacks the argument {name!r}")
        if given:
            raise TypeError(f"{owner}() got an unexpected or repeated argument {next(iter(given))!r}")

    return __init__


def _values(self: object) -> tuple[Any, ...]:
    return tuple(getattr(self, name) for name in self.__match_args__)  # type: ignore[attr-defined]


def _restore(self: object, values: Iterator[Any]) -> None:
    for name, value in zip(field_names(self), values, strict=True):
        _set(self, name, value)


def _equal(self: object, other: object) -> Any:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: object) -> int:
    return hash(_values(self))


def _represent(self: object) -> str:
    return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in as_dict(self).items())})"


def _refuse_set(self: object, name: str, value: object) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be set: the value is frozen")


def _refuse_delete(self: object, name: str) -> None:
    raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted: the value is frozen")
