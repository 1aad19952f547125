"""What is wrong with a manifest, before it has a place in a file; and pydantic's error list in a person's words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from vmrun.errors import Key
from vmrun.frozen import frozen
from vmrun.schema.tree import is_index

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

KEYED_TABLES = ("disk", "net", "share", "console", "device", "profile")
"""Tables whose keys are names that the user chooses."""
_OF_NAMES = tuple((name,) for name in (*KEYED_TABLES, "vars", "matrix"))

_EXPECTED = {
    "int_type": "an integer",
    "string_type": "a string",
    "bool_type": "a boolean",
    "float_type": "a number",
    "tuple_type": "an array",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "date_type": "a date",
    "int_from_float": "an integer",
}
_EXAMPLES = {
    ("manifest",): "manifest = 1",
    ("machine", "board"): 'board = "riscv_virt"',
    ("memory", "size"): 'size = "256MiB"',
    ("boot", "kernel"): 'kernel = { path = "vmlinux" }',
}


MAX_FINDINGS = 256
"""How many findings on a manifest are shown: nobody reads more, and each costs its time."""
_LONGEST_NAME = 64
"""The longest name that is compared with others; each name that the format has is shorter."""
_MOST_NAMES = 64
"""How many names of a manifest's own are compared, or listed, at most."""


@frozen
class Mark:
    """A second place of a problem."""

    text: str
    key: Key
    part: str = "value"


@frozen
class Problem:
    """One finding on a merged manifest: ``part`` says whether the key or its value is at fault.

    ``mends`` names the keys of the table that would have cured it: where one of them was only misspelt, the typo
    is the one cause and this problem is dropped.
    """

    code: str
    key: Key
    message: str
    label: str | None = None
    help: str | None = None
    part: str = "value"
    marks: tuple[Mark, ...] = ()
    severity: str = "error"
    mends: tuple[str, ...] = ()
    suggestion: str | None = None


def dotted(key: Iterable[str]) -> str:
    """Return a key path for a reader: ``disk.root.path``."""
    return ".".join(key)


def is_item(key: Key) -> bool:
    """Tell whether ``key`` is an item of an array, rather than a name that a user made of digits."""
    return len(key) > 1 and is_index(key[-1]) and key[:-1] not in _OF_NAMES


def table_name(key: Key) -> str:
    """Return where a key stands, for a reader: ``in [disk.root]``, or ``at the top level``."""
    if is_item(key):
        return f"in {described(key)}"
    return f"in [{dotted(key)}]" if key else "at the top level"


def described(key: Key) -> str:
    """Return a key, or an item of an array, for a reader: ``item 2 of `cmdline` in [boot]``."""
    if is_item(key):
        return f"item {int(key[-1]) + 1} of {described(key[:-1])}"
    return f"`{key[-1]}` {table_name(key[:-1])}" if len(key) > 1 else f"`{key[-1]}`"


def toml_type(value: object) -> str:
    """Return the name that TOML gives to a value's type, with its article."""
    # bool before int, datetime before date: each is a subclass of the other.
    if isinstance(value, bool):
        return "a boolean"
    named: tuple[tuple[Any, str], ...] = (
        (str, "a string"),
        (int, "an integer"),
        (float, "a float"),
        (dict, "a table"),
        ((list, tuple), "an array"),
    )
    return next((name for kind, name in named if isinstance(value, kind)), "a date or time")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of ``names``, the first `_MOST_NAMES`, that ``name`` was probably meant to be, or None."""
    import difflib

    if len(name) > _LONGEST_NAME:
        return None
    lowered = {n.lower().replace("_", "-"): n for n in islice(names, _MOST_NAMES) if len(n) <= _LONGEST_NAME}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), lowered, n=1, cutoff=0.6)
    return lowered[close[0]] if close else None


def listed(names: Collection[str]) -> str:
    """Return names for a reader, the first `_MOST_NAMES` of them."""
    return ", ".join(islice(names, _MOST_NAMES)) + (", …" if len(names) > _MOST_NAMES else "")


def did_you_mean(suggestion: str | None) -> str | None:
    """Return the label for a suggestion, where there is one."""
    return f"did you mean `{suggestion}`?" if suggestion else None


def unknown_key(key: Key, names: Sequence[str], value: object) -> Problem:
    """Return E014 for the last part of ``key`` in a table that takes ``names``."""
    table, name = key[:-1], key[-1]
    suggestion = nearest(name, names)
    if table or not isinstance(value, dict):
        message = f"unknown key `{name}` {table_name(table)}"
        known = f"keys are {', '.join(names)}" if names else "this table takes no keys"
    else:
        message = f"unknown table [{name}]"
        known = f"tables are {', '.join(n for n in names if n not in ('manifest', 'name', 'extends'))}"
    return Problem("E014", key, message, did_you_mean(suggestion), known, part="key", suggestion=suggestion)


def wrong_type(key: Key, expected: str, value: object, remedy: str | None = None) -> Problem:
    """Return E010 for a value of another type than ``expected``, which carries its article."""
    found = toml_type(value)
    if remedy is None:
        remedy = _type_remedy(key, expected, value)
    return Problem("E010", key, f"{described(key)} must be {expected}, not {found}", f"expected {expected}", remedy)


def _type_remedy(key: Key, expected: str, value: object) -> str | None:
    if expected == "a table" and len(key) == 2 and key[0] in KEYED_TABLES:
        return f"a {key[0]} has a name: write [{key[0]}.NAME] above its keys"
    if expected == "a table" and isinstance(value, str) and key[:1] == ("boot",):
        return f'write {key[-1]} = {{ path = "{value}" }}'
    if expected == "an array" and isinstance(value, str):
        return f'write {key[-1]} = ["{value}"]'
    if expected in ("an integer", "a number", "a boolean") and isinstance(value, str):
        bare = {"an integer": r"-?\d+", "a number": r"-?\d+(\.\d+)?", "a boolean": "true|false"}[expected]
        return f"write {value} without quotes" if re.fullmatch(bare, value) else None
    return None


def keys_of(key: Key) -> list[str]:
    """Return the keys that the format has in the table at ``key``, in their declared order; empty where any goes."""
    import typing

    from pydantic import BaseModel

    from vmrun.schema.models import Manifest

    where: Any = Manifest
    for part in key:
        if isinstance(where, type) and issubclass(where, BaseModel):
            field = where.model_fields.get(part)
            if field is None:
                return []
            where = field.annotation
        else:
            where = typing.get_args(where)[-1 if typing.get_origin(where) is dict else 0]
        while typing.get_args(where) and typing.get_origin(where) not in (dict, tuple):
            where = typing.get_args(where)[0]  # out of Annotated, and of a union with None
    return list(where.model_fields) if isinstance(where, type) and issubclass(where, BaseModel) else []


def from_pydantic(errors: Iterable[ErrorDetails]) -> list[Problem]:
    """Return one problem an error, in pydantic's order, one more than is shown at most."""
    return [_translate(e) for e in islice(errors, MAX_FINDINGS + 1)]


def _translate(error: ErrorDetails) -> Problem:
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    key = tuple(str(part) for part in error["loc"] if part != "[key]")
    part = "key" if "[key]" in error["loc"] else "value"
    where = described(key)
    if kind == "vmrun":
        return Problem(context["code"], key, f"{where}: {context['message']}", context["label"], part=part)
    if kind == "vmrun_type":
        return wrong_type(key, context["expected"], value, context["help"])
    if kind == "extra_forbidden":
        return unknown_key(key, keys_of(key[:-1]), value)
    if kind == "missing":
        return missing(key)
    if kind in _EXPECTED:
        return wrong_type(key, _EXPECTED[kind], value)
    if kind == "literal_error":
        return _not_a_choice(key, value, re.findall(r"'([^']*)'", context["expected"]))
    if kind in ("greater_than", "greater_than_equal", "less_than_equal"):
        word, bound = {
            "greater_than": ("more than", "gt"),
            "greater_than_equal": ("at least", "ge"),
            "less_than_equal": ("at most", "le"),
        }[kind]
        return Problem("E012", key, f"{where} is {value}", f"must be {word} {context[bound]}")
    if kind == "too_short":
        return Problem("E012", key, f"{where} is empty", "at least one item")
    return Problem("E016", key, f"{where} has a value that the format does not allow", error["msg"].lower())


def _not_a_choice(key: Key, value: object, choices: Sequence[str]) -> Problem:
    if not isinstance(value, str):
        return wrong_type(key, "a string", value, f"one of {', '.join(choices)}")
    return not_a_choice(key, value, choices)


def not_a_choice(key: Key, value: str, choices: Sequence[str]) -> Problem:
    """Return E016 for a string that is none of ``choices``."""
    suggestion = nearest(value, choices)
    return Problem(
        "E016",
        key,
        f"unknown value `{value}` for `{key[-1]}` {table_name(key[:-1])}",
        did_you_mean(suggestion),
        f"values are {', '.join(choices)}",
    )


def missing(key: Key) -> Problem:
    """Return E015 for a required key or table that is not there; it points at the table that lacks it."""
    table, name = key[:-1], key[-1]
    whole = not table and name not in ("manifest", "name")
    message = f"missing table [{name}]" if whole else f"missing key `{name}` {table_name(table)}"
    example = next((text for k, text in _EXAMPLES.items() if k == key or (whole and k[:1] == key)), None)
    if whole and example:
        example = f"[{name}] with {example}"
    remedy = f"write {example}" if example else None
    if key[0] == "device" and name == "kind":
        remedy = "`vmrun devices` lists the kinds"
    return Problem("E015", table, message, None, remedy, mends=(name,))


def one_per_cause(problems: Iterable[Problem]) -> list[Problem]:
    """Drop what another problem explains: a missing key that was misspelt, and a second finding on the same value."""
    kept: list[Problem] = []
    everything = list(problems)
    at_fault = {p.key for p in everything if p.code != "E050"}
    typos = {(p.key[:-1], p.suggestion) for p in everything if p.suggestion and p.code == "E014"}
    seen: set[tuple[Key, str]] = set()
    for problem in everything:
        if any((problem.key, name) in typos for name in problem.mends):
            continue
        if problem.code == "E050" and problem.key in at_fault:
            continue
        # A missing key and an unknown one both stand at the table, so only values are taken one finding each.
        mark = (problem.key, problem.message if problem.mends else problem.part)
        if mark in seen:
            continue
        seen.add(mark)
        kept.append(problem)
    return kept
