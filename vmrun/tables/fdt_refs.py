"""Phandles back to references, for readers: a blob has numbers where its source had ``&labels``.

Which properties hold phandles is not in the blob; the ones here are those of Devicetree Specification v0.4, 2.4 and
of the bindings that vmrun's own trees use.
"""

from __future__ import annotations

import re

from vmrun.frozen import evolve
from vmrun.tables.fdt import Cells, FdtNode, Ref, Value

_FIRST_CELL = ("interrupt-parent", "cpu", "regmap")
"""Properties whose first cell is a phandle."""
_LISTS = {
    "interrupts-extended": "#interrupt-cells",
    "clocks": "#clock-cells",
    "gpios": "#gpio-cells",
    "msi-parent": "#msi-cells",
}
"""Properties that are lists of a phandle and what its node takes: the node's property that says how many cells."""


def with_references(root: FdtNode) -> FdtNode:
    """Return the tree with labels in place of phandle properties, and references in place of their numbers.

    A number that no node has, or a property that is not known to hold phandles, stays as it is.
    """
    paths: dict[int, str] = {}
    nodes: dict[int, FdtNode] = {}
    for path, node in root.walk():
        number = _cell(node.prop("phandle"))
        if number is not None:
            paths[number], nodes[number] = path, node
    used = {
        cell for _, node in root.walk() for key, value in node.props for cell in _phandles(key, value, nodes).values()
    }
    # A phandle that nothing known refers to stays a property: a label alone would lose it.
    labels = _labels({number: path for number, path in paths.items() if number in used})
    return _named(root, labels, nodes)


def _named(node: FdtNode, labels: dict[int, str], nodes: dict[int, FdtNode]) -> FdtNode:
    number = _cell(node.prop("phandle"))
    label = labels.get(number) if number is not None else None
    props = tuple(
        (key, _resolved(key, value, labels, nodes)) for key, value in node.props if key != "phandle" or label is None
    )
    return evolve(node, props=props, children=tuple(_named(c, labels, nodes) for c in node.children), label=label)


def _phandles(key: str, value: Value, nodes: dict[int, FdtNode]) -> dict[int, int]:
    """Return position -> phandle, for each cell of the property that is the phandle of a node."""
    if not isinstance(value, Cells):
        return {}
    cells = [cell for cell in value.values if isinstance(cell, int)]
    if key in _FIRST_CELL:
        return {0: cells[0]} if cells and cells[0] in nodes else {}
    found: dict[int, int] = {}
    at = 0
    while key in _LISTS and at < len(cells) and cells[at] in nodes:
        found[at] = cells[at]
        at += 1 + (_cell(nodes[cells[at]].prop(_LISTS[key])) or 0)
    return found


def _resolved(key: str, value: Value, labels: dict[int, str], nodes: dict[int, FdtNode]) -> Value:
    if not isinstance(value, Cells):
        return value
    cells: list[int | Ref] = list(value.values)
    for at, number in _phandles(key, value, nodes).items():
        cells[at] = Ref(labels[number])
    return Cells(*cells)


def _cell(value: Value | None) -> int | None:
    if isinstance(value, Cells) and len(value.values) == 1 and isinstance(value.values[0], int):
        return value.values[0]
    return None


def _labels(paths: dict[int, str]) -> dict[int, str]:
    """Return a label for each path: the node's name where that is enough, else with its parent's before it."""
    names = [_word(path.rsplit("/", 1)[-1]) for path in paths.values()]
    labels: dict[int, str] = {}
    for number, path in paths.items():
        parts = [_word(part) for part in path.split("/")[-2:]]
        label = parts[-1] if names.count(parts[-1]) == 1 else "_".join(parts)
        while label in labels.values():
            label += "_"
        labels[number] = label
    return labels


def _word(name: str) -> str:
    word = re.sub(r"\W", "_", name, flags=re.ASCII)
    return word if word[:1].isalpha() else f"n{word}"
