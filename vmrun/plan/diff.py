"""What differs between two plans, as lines a reviewer reads: ``disk.root: interrupt 1 -> 2``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmrun.plan.codec import to_data
from vmrun.plan.model import MachinePlan
from vmrun.printable import clean

_NAMED = {"devices": "id", "blobs": "name"}


def diff(old: MachinePlan, new: MachinePlan) -> tuple[str, ...]:
    """Return one line for each difference, in the order of the saved form; none where the plans are equal."""
    before, after = _flat(to_data(old)), _flat(to_data(new))
    return tuple(map(clean, _lines(before, after)))


def _lines(before: Mapping[tuple[str, str], str], after: Mapping[tuple[str, str], str]) -> Iterator[str]:
    owners_before, owners_after = ({owner for owner, _ in side} for side in (before, after))
    told: set[str] = set()
    for owner, what in dict.fromkeys((*before, *after)):
        if owner not in owners_before or owner not in owners_after:
            if owner not in told:
                told.add(owner)
                side, sign = (before, "removed") if owner in owners_before else (after, "added")
                facts = ", ".join(f"{w} {side[o, w]}" for o, w in side if o == owner and "." not in w)
                yield f"{owner}: {sign} ({facts})"
            continue
        one, other = before.get((owner, what)), after.get((owner, what))
        if one is None:
            yield f"{owner}: {what} added: {other}"
        elif other is None:
            yield f"{owner}: {what} removed: {one}"
        elif one != other:
            yield f"{owner}: {what} {one} -> {other}"


def _flat(data: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return (owner, fact) -> value. Owners are devices, blobs, and the plan's own sections."""
    flat: dict[tuple[str, str], str] = {}
    for section, value in data.items():
        if section in _NAMED:
            for item in value:
                name = item[_NAMED[section]]
                rest = {k: v for k, v in item.items() if k not in (_NAMED[section], "tree")}
                _spread(flat, name, "", rest)
                if "tree" in item:
                    _spread(flat, f"{name} tree", "", item["tree"])
        elif section == "ram":
            for index, region in enumerate(value):
                _spread(flat, "ram" if len(value) == 1 else f"ram {index}", "", region)
        elif isinstance(value, dict):
            _spread(flat, section, "", value)
        else:
            flat["plan", section] = _word(value)
    return flat


def _spread(flat: dict[tuple[str, str], str], owner: str, prefix: str, value: Mapping[str, Any]) -> None:
    for key, item in value.items():
        name = f"{prefix}{key}"
        if key == "interrupt" and isinstance(item, dict):
            flat[owner, name] = str(item["number"])
            flat[owner, "trigger"] = item["trigger"]
        elif key == "properties" and isinstance(item, dict):
            _spread(flat, owner, prefix, item)
        elif isinstance(item, dict):
            _spread(flat, owner, name if name.endswith("/") else f"{name}.", item)
        else:
            flat[owner, name] = _word(item)


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_word, value)) or "(none)"
    if value is None:
        return "(none)"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
