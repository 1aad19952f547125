"""Variables: ``${name}`` from ``[vars]`` anywhere in a manifest, ``${env:NAME:-default}`` inside ``[vars]`` alone.

``$${`` stands for ``${`` itself. A string that is one ``${name}`` and nothing else takes the variable's own type, so
that ``count = "${cpus}"`` can be an integer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vmrun.errors import Key
from vmrun.schema.problems import MAX_FINDINGS, Problem, did_you_mean, listed, nearest
from vmrun.schema.tree import Node

_PLACE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ENV = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)

MAX_TEXT = 1 << 20
"""The longest text that substitution may make, in characters: variables that double each other end here."""

MAX_CHAIN = 32
"""How many variables may stand between a text and its end."""

_UNSET = ""
"""What a variable in error becomes; the manifest is refused anyway."""


class Variables:
    """The variables of one manifest. ``problems`` and ``env_read`` fill up as texts are filled in."""

    def __init__(self, nodes: Mapping[str, Node], env: Mapping[str, str]) -> None:
        self._nodes = nodes
        self._env = env
        self._values: dict[str, Any] = {}
        self._active: list[str] = []
        self.problems: list[Problem] = []
        self.env_read: dict[str, str | None] = {}

    def value(self, name: str) -> Any:
        """Return the value of the variable ``name``, which is declared."""
        if name not in self._values:
            if name in self._active:
                loop = [*self._active[self._active.index(name) :], name]
                chain = " -> ".join(loop)
                self.problems.append(Problem("E022", ("vars", name), f"variable `{name}` needs itself", chain))
                return _UNSET
            if len(self._active) == MAX_CHAIN:
                self._refuse("E023", ("vars", name), f"variables need each other more than {MAX_CHAIN} deep")
                return _UNSET
            self._active.append(name)
            value = self._nodes[name].value
            self._values[name] = self.fill(value, ("vars", name)) if isinstance(value, str) else value
            self._active.pop()
        return self._values[name]

    def fill(self, text: str, key: Key) -> Any:
        """Return ``text``, the value at ``key``, with its variables in place."""
        whole = _PLACE.fullmatch(text)
        if whole is not None and whole[1] is not None:
            return self._lookup(whole, key)
        parts: list[str] = []
        position = size = 0
        for match in _PLACE.finditer(text):
            value = "${" if match[1] is None else _as_text(self._lookup(match, key))
            parts += (text[position : match.start()], value)
            position = match.end()
            size += len(value)
            if size > MAX_TEXT:
                self._refuse("E023", key, "variables make a text of more than 1 MiB")
                return _UNSET
        parts.append(text[position:])
        return "".join(parts)

    def _lookup(self, match: re.Match[str], key: Key) -> Any:
        name = match[1]
        if not match[2]:
            self._refuse("E023", key, "`${` without its `}`", "write $${ for a literal ${")
            return _UNSET
        if name.startswith("env:"):
            return self._from_env(name, key)
        if _NAME.fullmatch(name) is None:
            self._refuse("E023", key, f"`${{{name}}}` is no variable", "write $${ for a literal ${")
            return _UNSET
        if name not in self._nodes:
            known = f"variables are {listed(self._nodes)}" if self._nodes else "declare it in [vars]"
            remedy = f"{known}; write $${{{name}}} for a literal ${{{name}}}"
            label = did_you_mean(nearest(name, self._nodes)) if len(self.problems) < MAX_FINDINGS else None
            self.problems.append(Problem("E021", key, f"undefined variable `{name}`", label, remedy))
            return _UNSET
        return self.value(name)

    def _from_env(self, name: str, key: Key) -> str:
        match = _ENV.fullmatch(name)
        if match is None:
            self._refuse("E023", key, f"`${{{name}}}` is no variable", "write ${env:NAME} or ${env:NAME:-default}")
            return _UNSET
        if key[0] != "vars":
            remedy = f'declare it in [vars]: {match[1].lower()} = "${{{name}}}"'
            self._refuse("E024", key, f"`${{{name}}}` reads the environment outside [vars]", remedy)
            return _UNSET
        value = self._env.get(match[1])
        self.env_read[match[1]] = value
        if value:
            return value
        if match[2] is None:
            remedy = f"set it, or write ${{env:{match[1]}:-default}}"
            self._refuse("E021", key, f"environment variable {match[1]} is not set", remedy)
        return match[2] or _UNSET

    def _refuse(self, code: str, key: Key, message: str, remedy: str | None = None) -> None:
        self.problems.append(Problem(code, key, message, help=remedy))


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def substitute(root: Node, env: Mapping[str, str]) -> tuple[Node, Variables]:
    """Return the manifest with every variable in place, and what was found and read on the way.

    ``extends`` was followed before, and a profile that is not chosen stays as it is written.
    """
    table = root.value.get("vars")
    nodes = table.value if table is not None and isinstance(table.value, dict) else {}
    variables = Variables(nodes, env)

    def visit(node: Node, key: Key) -> Node:
        value = node.value
        if isinstance(value, str):
            if "${" not in value:
                return node
            if key[0] == "vars":
                declared = len(key) == 2 and key[1] in nodes  # what is no variable has the wrong type
                return Node(variables.value(key[1]), node.origin) if declared else node
            return Node(variables.fill(value, key), node.origin)
        if isinstance(value, dict):
            return Node({k: visit(v, (*key, k)) for k, v in value.items()}, node.origin)
        if isinstance(value, list):
            return Node([visit(v, (*key, str(i))) for i, v in enumerate(value)], node.origin)
        return node

    skip = ("extends", "profile")
    filled = {k: v if k in skip else visit(v, (k,)) for k, v in root.value.items()}
    return Node(filled, root.origin), variables
