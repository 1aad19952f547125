"""Rules that span keys, or that need the registries' names: one function a rule, all in `CHECKS`.

They read the merged values before any model exists, so that a wrong type elsewhere hides none of them; a value of
the wrong type is absent here, since pydantic names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

from vmrun.errors import Key
from vmrun.frozen import frozen
from vmrun.schema.carried import FORMAT_BOARDS, FORMAT_ENGINES, NOT_CARRIED, TEST_ONLY
from vmrun.schema.known import Known
from vmrun.schema.problems import (
    MAX_FINDINGS,
    Mark,
    Problem,
    described,
    did_you_mean,
    dotted,
    keys_of,
    nearest,
    table_name,
)
from vmrun.schema.read import real_path
from vmrun.units import parse_time_ns


@frozen
class View:
    """The merged manifest as plain tables, arrays as tuples, and the names that the registries handed in."""

    tables: Mapping[str, Any]
    known: Known

    def get(self, *key: str) -> Any:
        """Return the value at ``key``, or None."""
        value: Any = self.tables
        for part in key:
            if not isinstance(value, dict) or part not in value:
                return None
            value = value[part]
        return value

    def text(self, *key: str) -> str | None:
        """Return the string at ``key``, or None."""
        value = self.get(*key)
        return value if isinstance(value, str) else None

    def number(self, *key: str) -> int | None:
        """Return the integer at ``key``, or None."""
        value = self.get(*key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def table(self, *key: str) -> dict[str, Any] | None:
        """Return the table at ``key``, or None."""
        value = self.get(*key)
        return value if isinstance(value, dict) else None

    def items(self, *key: str) -> tuple[Any, ...]:
        """Return the array at ``key``, or an empty one."""
        value = self.get(*key)
        return value if isinstance(value, tuple) else ()

    def named(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the tables under a keyed table such as ``disk``, with their names."""
        for name, table in (self.table(kind) or {}).items():
            if isinstance(table, dict):
                yield name, table


def _board(view: View) -> Iterator[Problem]:
    board, key = view.text("machine", "board"), ("machine", "board")
    if board is None or board in view.known.boards:
        return
    boards = ", ".join(view.known.boards)
    if board in FORMAT_BOARDS:
        yield _not_carried(key, f"board `{board}`", f"boards are {boards}")
    else:
        label = did_you_mean(nearest(board, view.known.boards))
        yield Problem("E030", key, f"unknown board `{board}`", label, f"boards are {boards}")


def _accel(view: View) -> Iterator[Problem]:
    accel = view.text("machine", "accel")
    if accel in FORMAT_ENGINES and accel not in view.known.accels:
        engines = ", ".join(("auto", *view.known.accels))
        yield _not_carried(("machine", "accel"), f"engine `{accel}`", f"engines are {engines}")


def _not_carried(key: Key, what: str, remedy: str | None, part: str = "value") -> Problem:
    return Problem("E050", key, f"{what}: not carried by this release", None, remedy, part=part)


def _carried(view: View) -> Iterator[Problem]:
    for row in NOT_CARRIED:
        for key in _expand(view, row.key):
            value = view.get(*key)
            if value is False or (row.values and value not in row.values):
                continue
            if row.values:
                yield _not_carried(key, f"`{value}` {table_name(key[:-1])} asks for {row.what}", row.remedy)
            else:
                what = f"[{dotted(key)}]" if isinstance(value, dict) else described(key)
                yield _not_carried(key, f"{what} asks for {row.what}", row.remedy, part="key")


def _expand(view: View, pattern: Key) -> list[Key]:
    keys: list[Key] = [()]
    for part in pattern:
        if part == "*":
            keys = [(*k, name) for k in keys for name in (view.table(*k) or {})]
        else:
            keys = [(*k, part) for k in keys if part in (view.table(*k) or {})]
    return keys


def _test_only(view: View) -> Iterator[Problem]:
    for name in TEST_ONLY:
        if view.table(name):
            message = f"[{name}] is for `vmrun test`, which this release does not have; `up` and `run` leave it out"
            yield Problem("E051", (name,), message, part="key", severity="warning")


def _matrix(view: View) -> Iterator[Problem]:
    for name in view.table("matrix") or {}:
        path = tuple(name.removesuffix("+").split("."))
        if len(path) < 2 or path[0] in ("device", "vars"):
            continue
        for depth in range(len(path)):
            names = keys_of(path[:depth])
            if names and path[depth] not in names:
                suggestion = nearest(path[depth], names)
                yield Problem(
                    "E014",
                    ("matrix", name),
                    f"unknown key `{path[depth]}` {table_name(path[:depth])}, named by `{name}` in [matrix]",
                    did_you_mean(suggestion),
                    f"keys are {', '.join(names)}",
                    part="key",
                )
                break


# Artefacts.

_WHOLE = {
    "kernel": ("path", "url", "debian"),
    "firmware": ("path", "url", "debian"),
    "initrd": ("busybox", "path", "url", "debian"),
    "disk": ("path", "url", "size"),
}
_NEEDS = (("url", "sha256"), ("debian", "suite"))
_BELONGS = (("sha256", "url"), ("suite", "debian"), ("file", "debian"))


def _artifacts(view: View) -> Iterator[tuple[str, Key, dict[str, Any]]]:
    for name in ("kernel", "initrd", "firmware"):
        table = view.table("boot", name)
        if table is not None:
            yield name, ("boot", name), table
    for name, table in view.named("disk"):
        yield "disk", ("disk", name), table


def _one_source(view: View) -> Iterator[Problem]:
    for kind, key, table in _artifacts(view):
        named = [s for s in _WHOLE[kind] if table.get(s) not in (None, False)]
        choices = _WHOLE[kind]
        if not named:
            remedy = f"give one of {', '.join(choices)}"
            mends = (*choices, "sha256", "suite")
            yield Problem("E032", key, f"[{dotted(key)}] names no source", None, remedy, mends=mends)
        for other in named[1:]:
            mark = Mark("the first source", (*key, named[0]), "key")
            message = f"[{dotted(key)}] names two sources, `{named[0]}` and `{other}`"
            yield Problem("E033", (*key, other), message, "the second source", "keep one", part="key", marks=(mark,))


def _companions(view: View) -> Iterator[Problem]:
    for _, key, table in _artifacts(view):
        allowed = keys_of(key)
        for source, needed in _NEEDS:
            if source in table and source in allowed and needed not in table:
                message = f"`{source}` {table_name(key)} needs `{needed}`"
                remedy = {
                    "sha256": "a download is taken only by its digest: sha256sum FILE prints it",
                    "suite": 'write suite = "trixie", say',
                }[needed]
                yield Problem("E034", (*key, source), message, None, remedy, part="key", mends=(needed,))
        for extra, source in _BELONGS:
            # An initramfs around busybox takes the suite that busybox comes from.
            fits = source in table or (extra == "suite" and table.get("busybox") is True)
            if extra in table and extra in allowed and not fits:
                message = f"`{extra}` {table_name(key)} goes with `{source}`, which is not there"
                yield Problem("E035", (*key, extra), message, part="key", mends=(source,))


def _disk_modes(view: View) -> Iterator[Problem]:
    for name, table in view.named("disk"):
        key: Key = ("disk", name, "mode")
        mode = table.get("mode")
        if mode == "rw" and "url" in table and "path" not in table:
            mark = Mark("a download, kept by its digest", ("disk", name, "url"), "key")
            remedy = "use overlay, or copy the image and give its path"
            yield Problem("E036", key, f"disk `{name}` is a download and cannot be `rw`", None, remedy, marks=(mark,))
        if mode in ("ro", "rw") and "size" in table and not {"path", "url"} & table.keys():
            mark = Mark("an empty disk, gone after the run", ("disk", name, "size"), "key")
            remedy = "leave mode out, or give a path"
            yield Problem("E037", key, f"scratch disk `{name}` cannot be `{mode}`", None, remedy, marks=(mark,))


# CPUs.


def _topology(view: View) -> Iterator[Problem]:
    given = {k: view.number("cpu", k) for k in ("sockets", "cores", "threads")}
    factors = {k: v for k, v in given.items() if v is not None}
    if not factors:
        return
    count = view.number("cpu", "count")
    product = 1
    for factor in factors.values():
        product *= factor
    if product != (1 if count is None else count):
        sum_ = " x ".join(f"{v} {k if v != 1 else k[:-1]}" for k, v in factors.items())
        last = list(factors)[-1]
        marks = (Mark(f"{count} CPUs", ("cpu", "count")),) if count is not None else ()
        yield Problem(
            "E038",
            ("cpu", last),
            f"{sum_} = {product} CPUs, but `count` in [cpu] is {1 if count is None else count}",
            f"makes {product}",
            "sockets x cores x threads is the count",
            marks=marks,
        )


def _cpu_max(view: View) -> Iterator[Problem]:
    count, most = view.number("cpu", "count") or 1, view.number("cpu", "max")
    if most is None or most < 1 or most == count:
        return
    if most < count:
        mark = Mark(f"{count} CPUs", ("cpu", "count"))
        message = f"`max` in [cpu] is {most}, less than `count`"
        yield Problem("E039", ("cpu", "max"), message, "room for fewer", marks=(mark,))
    else:
        yield _not_carried(("cpu", "max"), "`max` in [cpu] asks for CPUs added at run time", "leave it out")


def _features(view: View) -> Iterator[Problem]:
    seen: dict[str, tuple[int, str]] = {}
    for index, feature in enumerate(view.items("cpu", "features")):
        if not isinstance(feature, str) or feature[:1] not in ("+", "-"):
            continue
        first = seen.setdefault(feature[1:], (index, feature))
        if first[1] != feature:
            mark = Mark("and here the opposite", ("cpu", "features", str(first[0])))
            message = f"feature `{feature[1:]}` is both added and removed"
            yield Problem("E044", ("cpu", "features", str(index)), message, marks=(mark,))


# Boot and run.


def _bootable(view: View) -> Iterator[Problem]:
    boot = view.table("boot")
    if boot is not None and not {"kernel", "firmware"} & boot.keys():
        remedy = 'write kernel = { path = "vmlinux" }, or { debian = "linux-image-riscv64", suite = "trixie" }'
        yield Problem("E015", ("boot",), "missing key `kernel` in [boot]", None, remedy, mends=("kernel", "firmware"))


def _built_initrd(view: View) -> Iterator[Problem]:
    built = view.get("boot", "initrd", "busybox") is True
    initrd: Key = ("boot", "initrd")
    marks = (Mark("not built by vmrun", initrd, "key"),) if view.table(*initrd) else ()
    remedy = "write initrd = { busybox = true } in [boot]"
    if view.items("run", "command") and not built:
        message = "`command` in [run] needs an initramfs that vmrun builds"
        yield Problem("E040", ("run", "command"), message, None, remedy, part="key", marks=marks)
    if view.items("boot", "modules"):
        key: Key = ("boot", "modules")
        if not built:
            message = "`modules` in [boot] needs an initramfs that vmrun builds"
            yield Problem("E041", key, message, None, remedy, part="key", marks=marks)
        elif view.table("boot", "kernel") is not None and view.get("boot", "kernel", "debian") is None:
            mark = Mark("no package", ("boot", "kernel"), "key")
            message = "`modules` in [boot] are taken from the kernel's Debian package, and this kernel is not from one"
            remedy = "leave modules out and build them in, or name the kernel by debian and suite"
            yield Problem("E041", key, message, None, remedy, part="key", marks=(mark,))


def _timeouts(view: View) -> Iterator[Problem]:
    total = _time(view, "total")
    if total is None:
        return
    for name in ("boot", "idle"):
        value = _time(view, name)
        if value is not None and value > total:
            mark = Mark("ends first", ("run", "timeouts", "total"))
            message = f"timeout `{name}` in [run.timeouts] is longer than `total`"
            yield Problem("E045", ("run", "timeouts", name), message, "never reached", marks=(mark,))


def _time(view: View, name: str) -> int | None:
    try:
        return parse_time_ns(view.text("run", "timeouts", name) or "")
    except ValueError:
        return None


# Two places that claim one thing.


def _serials(view: View) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, table in view.named("disk"):
        serial = table.get("serial")
        if isinstance(serial, str):
            first = seen.setdefault(serial, name)
            if first != name:
                mark = Mark(f"disk `{first}` has it", ("disk", first, "serial"))
                message = f"disks `{first}` and `{name}` have the same serial `{serial}`"
                yield Problem("E043", ("disk", name, "serial"), message, "the same again", marks=(mark,))


def _files(view: View) -> Iterator[Problem]:
    """One file that is written by one part of the machine and used by another."""
    users: dict[str, list[tuple[Key, bool]]] = {}
    for kind, key, table in _artifacts(view):
        if isinstance(path := table.get("path"), str):
            users.setdefault(real_path(path), []).append(((*key, "path"), kind == "disk" and table.get("mode") == "rw"))
    for name, table in view.named("console"):
        if isinstance(path := table.get("log"), str):
            users.setdefault(real_path(path), []).append((("console", name, "log"), True))
    for claims in users.values():
        writer = next((key for key, writes in claims if writes), None)
        for key, _ in claims:
            if writer is not None and key != writer:
                mark = Mark("written here", writer)
                message = f"`{dotted(key)}` and `{dotted(writer)}` are one file, which is written"
                yield Problem("E046", key, message, "used here", "give each its own file", marks=(mark,))


# Devices.


def _kinds(view: View) -> Iterator[Problem]:
    for name, table in view.named("device"):
        kind = table.get("kind")
        key: Key = ("device", name)
        if not isinstance(kind, str):
            continue
        info = view.known.kinds.get(kind)
        if info is None:
            kinds = ", ".join(sorted(view.known.kinds))
            label = did_you_mean(nearest(kind, view.known.kinds))
            yield Problem("E031", (*key, "kind"), f"unknown device kind `{kind}`", label, f"kinds are {kinds}")


CHECKS: tuple[tuple[str, Callable[[View], Iterator[Problem]]], ...] = (
    ("a board that the registry has", _board),
    ("an engine that this vmrun has", _accel),
    ("nothing that this release does not carry", _carried),
    ("what only `vmrun test` reads", _test_only),
    ("a matrix over keys of the format", _matrix),
    ("one source an artefact", _one_source),
    ("a source with what belongs to it", _companions),
    ("a disk that can be what its mode says", _disk_modes),
    ("sockets x cores x threads = count", _topology),
    ("room for every CPU", _cpu_max),
    ("no feature both added and removed", _features),
    ("something to boot", _bootable),
    ("an initramfs for the command and the modules", _built_initrd),
    ("timeouts that can be reached", _timeouts),
    ("one serial a disk", _serials),
    ("no file written by one and used by another", _files),
    ("device kinds that the registry has", _kinds),
)
"""Every rule with what it holds, in the order in which findings on one key are preferred."""


def run_checks(view: View) -> list[Problem]:
    """Return the findings of every rule, of each one more than is shown at most."""
    return [problem for _, check in CHECKS for problem in islice(check(view), MAX_FINDINGS + 1)]
