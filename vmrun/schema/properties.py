"""The free keys of ``[device.NAME]``, read by the declaration that the device's kind hands in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic_core import PydanticCustomError

from vmrun.schema.fields import size_bytes, time_ns
from vmrun.schema.known import KindInfo, Property, PropertyValue
from vmrun.schema.problems import Problem, described, missing, not_a_choice, unknown_key, wrong_type

_WANTED = {
    "string": "a string",
    "integer": "an integer",
    "boolean": "a boolean",
    "size": "a size",
    "time": "a time",
    "path": "a path",
}

_NUMBERS: dict[str, Callable[[Any], int]] = {"size": size_bytes, "time": time_ns, "integer": int}


def read_properties(
    name: str, table: Mapping[str, Any], kind: KindInfo, folders: Mapping[str, str]
) -> tuple[dict[str, PropertyValue], list[Problem]]:
    """Return what ``[device.name]`` sets beside its kind, parsed, and what is wrong with it.

    ``folders`` has, for each key, the folder of the file that declares it.
    """
    values: dict[str, PropertyValue] = {}
    problems: list[Problem] = []
    names = ["kind", *kind.properties]
    for key, value in table.items():
        if key == "kind":
            continue
        if key not in kind.properties:
            problems.append(unknown_key(("device", name, key), names, value))
            continue
        try:
            values[key] = _read(("device", name, key), value, kind.properties[key], folders[key])
        except _WrongError as error:
            problems.append(error.problem)
    for key, declared in kind.properties.items():
        if key not in table:
            if declared.required:
                problems.append(missing(("device", name, key)))
            elif declared.default is not None:
                values[key] = declared.default
    return values, problems


class _WrongError(Exception):
    """Carries a problem out of `_read`; never leaves this module."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _read(key: tuple[str, ...], value: Any, declared: Property, folder: str) -> PropertyValue:
    wanted: type = {"integer": int, "boolean": bool}.get(declared.type, str)
    fits = type(value) is wanted  # exactly: a boolean is no integer
    if not fits:
        raise _WrongError(wrong_type(key, _WANTED[declared.type], value))
    if declared.choices and value not in declared.choices:
        raise _WrongError(not_a_choice(key, str(value), declared.choices))
    if declared.type == "path":
        return str(Path(folder) / str(value))
    if declared.type not in _NUMBERS:
        return str(value) if declared.type == "string" else value is True
    try:
        number: int = _NUMBERS[declared.type](value)
    except PydanticCustomError as error:
        context = error.context or {}
        message = f"{described(key)}: {context['message']}"
        raise _WrongError(Problem(context["code"], key, message, context["label"])) from None
    low, high = declared.minimum, declared.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        bounds = [f"at least {low}"] * (low is not None) + [f"at most {high}"] * (high is not None)
        raise _WrongError(Problem("E012", key, f"{described(key)} is {value}", f"must be {' and '.join(bounds)}"))
    return number
