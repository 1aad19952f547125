"""Linux's command line, split into words as the kernel splits it: at blanks that stand in no double quotes.

Source: Linux 6.12, lib/cmdline.c (next_arg), lib/ctype.c (isspace, for which the byte 0xa0 is a blank, inside a
character of UTF-8 as well), kernel/params.c (parse_args: ``--`` ends what is the kernel's; parameqn: ``-`` in a name is
``_``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmrun.frozen import frozen

_WORD = re.compile(rb'(?:[^\t-\r \xa0"]|"[^"]*"?)+')


@frozen
class Word:
    """A parameter: its name and its value (None without ``=``), without the quotes around them, and its first byte."""

    name: str
    value: str | None
    at: int


def split(line: str) -> Iterator[Word]:
    """Yield every word of ``line``, those for init among them."""
    for match in _WORD.finditer(_bytes(line)):
        text = match[0]
        quoted = text.startswith(b'"')
        text = text[quoted:]
        equals = text.find(b"=", 1)  # one in front is part of a name
        name, value = (text, None) if equals < 0 else (text[:equals], text[equals + 1 :])
        if value is not None and (quoted or value.startswith(b'"')):
            value = value.removeprefix(b'"').removesuffix(b'"')
        elif quoted:
            name = name.removesuffix(b'"')
        yield Word(_text(name), None if value is None else _text(value), match.start())


def halves(line: str) -> tuple[str, str]:
    """Return what the kernel reads, and what init is handed: from ``--`` on, empty without one."""
    cut = next((word.at for word in split(line) if word.name == "--" and word.value is None), None)
    if cut is None:
        return line, ""
    data = _bytes(line)
    return _text(data[:cut]).rstrip(), _text(data[cut:])


def find(line: str, name: str) -> tuple[str | None, ...]:
    """Return the values of every parameter ``name`` that the kernel reads from ``line``, in order."""
    wanted = name.replace("-", "_")
    return tuple(word.value for word in split(halves(line)[0]) if word.name.replace("-", "_") == wanted)


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "surrogateescape")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
