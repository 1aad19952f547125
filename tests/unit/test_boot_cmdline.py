"""The kernel's command line, against next_arg of the kernel's lib/cmdline.c written again, character by character."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun.boot.cmdline import find, halves, split

BLANKS = b"\t\n\x0b\x0c\r \xa0"


def kernels_way(line: bytes) -> list[tuple[bytes, bytes | None, int]]:
    """Walk the line as next_arg does, with its two flags."""
    found = []
    at = 0
    while at < len(line):
        if line[at] in BLANKS:
            at += 1
            continue
        begin = at
        quoted = line[at : at + 1] == b'"'
        in_quote = quoted
        at += quoted
        first, equals = at, 0
        while at < len(line) and (in_quote or line[at] not in BLANKS):
            if not equals and line[at : at + 1] == b"=":
                equals = at - first
            if line[at : at + 1] == b'"':
                in_quote = not in_quote
            at += 1
        name, value = line[first:at], None
        if equals:
            name, value = line[first : first + equals], line[first + equals + 1 : at]
            if value[:1] == b'"':
                value = value[1:].removesuffix(b'"')
            elif quoted:
                value = value.removesuffix(b'"')
        elif quoted:
            name = name.removesuffix(b'"')
        found.append((name, value, begin))
    return found


@settings(deadline=None)
@given(st.text(st.sampled_from('ab= "-\tà\u00a0é'), max_size=24))
def test_words_are_the_kernels(line: str) -> None:
    def data(text: str | None) -> bytes | None:
        return None if text is None else text.encode("utf-8", "surrogateescape")

    ours = [(data(word.name), data(word.value), word.at) for word in split(line)]
    assert ours == kernels_way(line.encode())


@settings(deadline=None)
@given(st.text(st.sampled_from('a= "-\tà'), max_size=24))
def test_the_halves_are_the_whole(line: str) -> None:
    kernels, inits = halves(line)
    assert line.startswith(kernels) and line.endswith(inits)
    assert (kernels + inits).replace(" ", "").replace("\t", "") == line.replace(" ", "").replace("\t", "")
    assert not find(kernels, "--") or all(w.value is not None for w in split(kernels) if w.name == "--")


@pytest.mark.parametrize(
    ("line", "name", "values"),
    [
        ("console=a console=b", "console", ("a", "b")),
        ('x="console=a"', "console", ()),
        ("quiet -- quiet", "quiet", (None,)),
        ('x="a -- b" quiet', "quiet", (None,)),
        ("virtio-mmio.device=1", "virtio_mmio.device", ("1",)),
        ('"console=a b"', "console", ("a b",)),
        ("voilà=x quiet", "quiet", (None,)),
        ("=console=x", "console", ()),
    ],
)
def test_a_parameter_is_found_where_the_kernel_finds_it(line: str, name: str, values: tuple[str | None, ...]) -> None:
    assert find(line, name) == values
