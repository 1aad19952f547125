"""Laws of the merge, and a loader that no input breaks."""

from __future__ import annotations

import datetime
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmrun.errors import ManifestError
from vmrun.schema.known import EXAMPLE_KNOWN
from vmrun.schema.load import load_manifest
from vmrun.schema.tree import Node, Origin, Source, merge, plain, settle, wrap
from vmrun.ui.diagnostics import Texts, concise, full

SOURCE = Source("x.toml", "", "/")


# Tables in which a key has one type everywhere, as in a format; each array is set or appended to, not both.
NUMBERS = st.integers(0, 99)
ARRAYS = st.lists(NUMBERS, max_size=2)
LISTS = st.one_of(st.just({}), ARRAYS.map(lambda v: {"a": v}), ARRAYS.map(lambda v: {"a+": v}))


def tables(**inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    chosen = st.fixed_dictionaries({}, optional={"n": NUMBERS, **inner})
    return st.tuples(chosen, LISTS).map(lambda pair: {**pair[0], **pair[1]})


DISK = tables(path=NUMBERS, url=NUMBERS, sha256=NUMBERS)
INNER = tables(t=tables())
MANIFESTS = st.fixed_dictionaries(
    {},
    optional={
        "disk": st.fixed_dictionaries({}, optional={"x": DISK, "y": DISK}),
        "boot": tables(kernel=DISK, initrd=DISK),
        "cpu": INNER,
    },
)


def at(source: Source) -> Callable[[tuple[str, ...]], Origin]:
    return lambda key: Origin(source, key)


def join(*values: dict[str, Any]) -> Any:
    node = wrap(values[0], at(SOURCE))
    for value in values[1:]:
        node = merge(node, wrap(value, at(SOURCE)))
    return node


@settings(deadline=None)
@given(MANIFESTS, MANIFESTS, MANIFESTS)
def test_merge_is_associative(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    left = merge(join(a, b), join(c))
    right = merge(join(a), join(b, c))
    assert plain(settle(left)[0]) == plain(settle(right)[0])


@settings(deadline=None)
@given(MANIFESTS)
def test_empty_is_neutral(a: dict[str, Any]) -> None:
    assert plain(join({}, a)) == plain(join(a, {})) == plain(join(a))


@settings(deadline=None)
@given(MANIFESTS.filter(lambda m: "+" not in str(m)))
def test_merge_with_itself_changes_nothing_without_appends(a: dict[str, Any]) -> None:
    assert plain(join(a, a)) == plain(join(a))


@settings(deadline=None)
@given(MANIFESTS, MANIFESTS)
def test_merge_leaves_its_arguments_alone(a: dict[str, Any], b: dict[str, Any]) -> None:
    first, second = wrap(a, at(SOURCE)), wrap(b, at(SOURCE))
    before = plain(first), plain(second)
    merge(first, second)
    assert (plain(first), plain(second)) == before


@settings(deadline=None)
@given(MANIFESTS, MANIFESTS)
def test_every_value_keeps_its_origin(a: dict[str, Any], b: dict[str, Any]) -> None:
    one, two = Source("one", "", "/"), Source("two", "", "/")
    merged = merge(wrap(a, at(one)), wrap(b, at(two)))

    def look(node: Node, text: dict[str, Any]) -> None:
        for name, child in node.value.items():
            if name in text and not isinstance(child.value, (dict, list)):
                assert child.origin.source is two
            if name in text and isinstance(child.value, dict):
                look(child, text[name])

    look(merged, b)


NAMES = st.sampled_from(
    [
        *("manifest", "name", "extends", "vars", "machine", "board", "accel", "cpu", "count", "cores", "features"),
        *("memory", "size", "boot", "kernel", "modules", "initrd", "cmdline", "cmdline+", "path", "url", "sha256"),
        *("debian", "suite", "busybox", "disk", "root", "mode", "console", "device", "kind", "run", "command"),
        *("timeouts", "total", "scale", "soft", "verdict", "allow", "matrix", "profile", "cpu.count", "x", "a b", "é"),
    ]
)
SCALARS = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.dates(datetime.date(1900, 1, 1))
    | st.text(max_size=8)
    | st.sampled_from(
        ["256MiB", "5s", "riscv_virt", "${x}", "${env:X:-y}", "${", "rw", "raw", "virtio", "-1MiB", "@set", "("]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def toml(value: Any) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{text(k)} = {toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return text(value) if isinstance(value, str) else str(value)


def text(value: str) -> str:
    keep = string.ascii_letters + string.digits + " ${}:.-_@+("
    return '"' + "".join(c if c in keep else f"\\U{ord(c):08x}" for c in value) + '"'


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(NAMES, VALUES, max_size=8), st.lists(st.text(max_size=12), max_size=2), st.sampled_from(["x", None])
)
def test_no_manifest_breaks_the_loader(tables: dict[str, Any], sets: list[str], profile: str | None) -> None:
    """Any tables, however wrong, are accepted or refused with findings that can be shown."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.toml"
        path.write_text("".join(f"{text(k)} = {toml(v)}\n" for k, v in tables.items()), encoding="utf-8")
        try:
            load_manifest(path, known=EXAMPLE_KNOWN, sets=sets, profile=profile, env={})
        except ManifestError as error:
            assert error.findings
            for finding in error.findings:
                assert finding.span is not None
                assert "\n" not in concise(finding)
                full(finding, Texts())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="a.=\"[]{},#\n\r\t'1+-é\\u0", max_size=60).map(str.encode))
def test_no_bytes_break_the_loader(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.toml"
        path.write_bytes(data)
        try:
            load_manifest(path, known=EXAMPLE_KNOWN, env={})
        except ManifestError as error:
            for finding in error.findings:
                full(finding, Texts())
