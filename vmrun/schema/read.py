"""Manifest files, as they stand and as they extend each other.

Nothing of a file is trusted: not its size, its bytes, its nesting, nor the files that it names.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import tomli

from vmrun import regular
from vmrun.errors import Diagnostic, Label, Span
from vmrun.schema.tree import (
    APPEND,
    MAX_DEPTH,
    MAX_VALUES,
    BeyondError,
    Node,
    Origin,
    Source,
    expand,
    merge,
    walk,
    wrap,
)

if TYPE_CHECKING:
    from vmrun.schema.spans import Places

MAX_BYTES = 1 << 20
"""The largest manifest file, in bytes."""
MAX_CHAIN = 16
"""How many files may extend each other in a row."""
MAX_FILES = 64
"""How many files one manifest may be made from."""
MAX_ASKED = 256
"""How often the files of one manifest may name one to extend, the same ones again among them."""


def place(origin: Origin, part: str = "value") -> Span:
    """Return where ``origin`` stands in its file."""
    return places(origin.source.name, origin.source.text).find(origin.key, part)


def places(file: str, text: str) -> Places:
    """Return the places of a text. This parses it again: for errors alone."""
    from vmrun.schema import spans

    return spans.places(file, text)


class Reader:
    """Reads a manifest with all that it extends.

    ``findings`` fill up with what is wrong; ``files`` (absolute) and ``documents`` are what was read, in order.
    """

    def __init__(self) -> None:
        self.findings: list[Diagnostic] = []
        self.files: list[str] = []
        self.documents: list[Node] = []
        self._trees: dict[str, Node] = {}
        self._room = MAX_VALUES
        self._asked = 0

    def manifest(self, name: str) -> Node:
        """Return the manifest in the file ``name`` merged with what it extends; empty where it could not be read."""
        tree = self._read(name, (), None)
        return tree or Node({}, Origin(Source(name, "", ""), ()))

    def _read(self, name: str, above: tuple[str, ...], asked: Origin | None) -> Node | None:
        """Return the tree of one file; ``above`` are the files that lead to it, ``asked`` is who names it."""
        real = real_path(name)
        if asked and real in above:
            self._refuse("E008", f"{name} extends itself", asked, "already on the way here")
            return None
        if asked and len(above) >= MAX_CHAIN:
            self._refuse("E009", f"more than {MAX_CHAIN} manifests extend each other in a row", asked)
            return None
        if real in self._trees:
            return self._trees[real]
        if asked and len(self.files) == MAX_FILES:
            self._refuse("E009", f"one manifest is made from more than {MAX_FILES} files", asked)
            return None
        self.files.append(real)
        text = self._text(name, asked)
        if text is None:
            return None
        source = Source(name, text, str(Path(name).absolute().parent))
        document = self._parse(source)
        if document is None:
            return None
        self.documents.append(document)
        self._set_and_appended(document)
        tree = Node({}, document.origin)
        for parent in self._parents(document, (*above, real)):
            inherited = {k: v for k, v in parent.value.items() if k != "extends"}
            tree = merge(tree, Node(inherited, parent.origin))
        tree = merge(tree, _with_profiles(document))
        self._trees[real] = tree
        return tree

    def _text(self, name: str, asked: Origin | None) -> str | None:
        code = "E007" if asked else "E001"
        try:
            data = regular.read(name, MAX_BYTES + 1)
        except FileNotFoundError:
            remedy = "a path is from the folder of the file that names it" if asked else "check the path"
            self._refuse(code, f"no manifest {name}{' to extend' if asked else ''}", asked, remedy=remedy)
            return None
        except OSError as error:
            reason = error.strerror or str(error)
            code = "E007" if asked else "E002"
            self._refuse(code, f"cannot read {name}: {reason.lower()}", asked, remedy="give a file that can be read")
            return None
        if len(data) > MAX_BYTES:
            self._at("E006", f"{name} is larger than {MAX_BYTES >> 20} MiB", Span(name, 1, 1, 1, 1))
            return None
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = data[: error.start]
            line = before.count(b"\n") + 1
            column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
            message = f"byte {data[error.start]:#04x} is not UTF-8"
            self._at("E003", message, Span(name, line, column, line, column + 1), remedy="save the file as UTF-8")
            return None

    def _parse(self, source: Source) -> Node | None:
        try:
            tree = wrap(tomli.loads(source.text), lambda key: Origin(source, key), self._room)
            self._room -= sum(1 for _ in walk(tree))
            return tree
        except tomli.TOMLDecodeError as error:
            self.findings.append(_syntax(source, error))
        except BeyondError as error:
            self._at("E006", str(error), place(Origin(source, error.key)))
        except (ValueError, RecursionError) as error:
            # Limits of tomli and of Python: the depth of values, the digits of an integer.
            deep = f"a value is nested more than {MAX_DEPTH} levels deep"
            reason = deep if isinstance(error, RecursionError) else "an integer has more than 64 bits"
            self._at("E006", reason, places(source.name, source.text).beyond(sys.get_int_max_str_digits()))
        return None

    def _set_and_appended(self, document: Node) -> None:
        stack = [document]
        while stack:
            node = stack.pop()
            if not isinstance(node.value, dict):
                continue
            stack.extend(node.value.values())
            for name, child in node.value.items():
                target = node.value.get(name.removesuffix(APPEND))
                if name.endswith(APPEND) and target is not None:
                    message = f"`{name.removesuffix(APPEND)}` is set and appended to in one table"
                    first = Label("set here", place(target.origin, "key"))
                    self._at("E020", message, place(child.origin, "key"), "appended to here", labels=(first,))

    def _parents(self, document: Node, above: tuple[str, ...]) -> list[Node]:
        node = document.value.get("extends")
        # A wrong type is pydantic's to name.
        items = node.value if node is not None and isinstance(node.value, list) else []
        folder = Path(document.origin.source.name).parent
        names = [i for i in items if isinstance(i.value, str)]
        self._asked += len(names)
        if self._asked > MAX_ASKED:
            self._refuse("E009", f"manifests extend others more than {MAX_ASKED} times", names[-1].origin)
            return []
        # `..` stays: behind a link it is the folder above the link's target, as the system has it for every path.
        trees = [self._read(str(folder / i.value), above, i.origin) for i in names]
        return [tree for tree in trees if tree is not None]

    def _refuse(
        self, code: str, message: str, asked: Origin | None, label: str | None = None, remedy: str | None = None
    ) -> None:
        self._at(code, message, place(asked) if asked else None, label, remedy)

    def _at(
        self,
        code: str,
        message: str,
        span: Span | None,
        label: str | None = None,
        remedy: str | None = None,
        labels: tuple[Label, ...] = (),
    ) -> None:
        self.findings.append(Diagnostic(code, message, None, span, label, remedy, labels))


def real_path(name: str) -> str:
    """Return the absolute path of a file without links, as far as there is one."""
    try:
        return os.path.realpath(name)
    except (OSError, ValueError):  # a NUL in the name: opening it says so
        return name


def _with_profiles(document: Node) -> Node:
    """Return the document with the dotted keys of its profiles (``"boot.cmdline+"``) made tables."""
    profiles = document.value.get("profile")
    if profiles is None or not isinstance(profiles.value, dict):
        return document
    bodies = {k: expand(v) if isinstance(v.value, dict) else v for k, v in profiles.value.items()}
    return Node({**document.value, "profile": Node(bodies, profiles.origin)}, document.origin)


def _syntax(source: Source, error: tomli.TOMLDecodeError) -> Diagnostic:
    """Return E004 for what tomli refuses, or E005 with both places where a key is defined twice."""
    if "verwrite" in error.msg or "twice" in error.msg or "uplicate" in error.msg or "mutate" in error.msg:
        twice = places(source.name, source.text).twice
        if twice:
            key, first, second = twice[0]
            message = f"`{'.'.join(key)}` is defined twice"
            return Diagnostic("E005", message, None, second, "defined again", None, (Label("first here", first),))
    line = min(error.lineno, source.text.count("\n") + 1)
    row = source.text.split("\n")[line - 1]
    column = min(error.colno, len(row.rstrip("\r")) + 1)
    word = re.match(r"[A-Za-z_][\w.-]*", row[column - 1 :])
    bare = word is not None and error.msg.startswith("Invalid value")
    remedy = f'a string wants quotes: "{word[0]}"' if word and bare else None
    span = Span(source.name, line, column, line, column + (len(word[0]) if word and bare else 1))
    return Diagnostic("E004", "not valid TOML", None, span, error.msg[:1].lower() + error.msg[1:], remedy)
