"""What vmrun.frozen promises: value classes that behave as frozen dataclasses with slots do."""

from __future__ import annotations

import copy
import pickle
from typing import ClassVar

import pytest

from vmrun.frozen import as_dict, evolve, field_names, frozen


@frozen
class Point:
    """A point."""

    x: int
    y: int = 2

    def norm(self) -> int:
        return self.x * self.x + self.y * self.y


@frozen
class Tagged:
    value: int
    TAG: ClassVar[int] = 6


@frozen
class Many:
    values: tuple[int, ...]

    def __init__(self, *values: int) -> None:
        object.__setattr__(self, "values", values)


def test_construction_by_place_by_name_and_by_default() -> None:
    assert Point(1) == Point(1, 2) == Point(x=1, y=2)
    assert Point(1).norm() == 5
    assert Many(1, 2).values == (1, 2)


@pytest.mark.parametrize(("args", "given"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"x": 1})])
def test_wrong_arguments_are_refused(args: tuple[int, ...], given: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*args, **given)


def test_nothing_can_be_set_deleted_or_added() -> None:
    point = Point(1)
    for name in ("x", "z"):
        with pytest.raises(AttributeError):
            setattr(point, name, 3)
    with pytest.raises(AttributeError):
        del point.x
    assert not hasattr(point, "__dict__")


def test_equality_is_by_type_and_value_and_agrees_with_hash() -> None:
    assert Point(1) != Point(2)
    assert Point(1) != (1, 2)
    assert len({Point(1), Point(1, 2), Point(2)}) == 2


def test_evolve_copies_and_names() -> None:
    assert evolve(Point(1), y=7) == Point(1, 7)
    assert as_dict(Point(1)) == {"x": 1, "y": 2}
    assert field_names(Point) == ("x", "y")
    assert copy.deepcopy(Point(3)) == Point(3) == pickle.loads(pickle.dumps(Point(3)))
    assert repr(Point(1)) == "Point(x=1, y=2)"
    assert Point.__doc__ == "A point."


def test_class_variables_are_no_fields() -> None:
    assert field_names(Tagged) == ("value",)
    assert Tagged(1).TAG == 6


def test_match_by_place() -> None:
    match Point(4, 5):
        case Point(x, y):
            assert (x, y) == (4, 5)
