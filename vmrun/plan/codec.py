"""The saved form of a plan: JSON that diffs well and that nobody has to be trusted for.

Addresses are hex strings, counts and interrupt numbers are numbers; keys stand in a fixed order. The devicetree is
written as a tree where its bytes follow from it (they do for vmrun's own), so that a changed register is one changed
line; other inline bytes are base64. Reading is strict: every key is known, every value has its type and range.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from vmrun import regular
from vmrun.errors import PlanError
from vmrun.frozen import as_dict
from vmrun.plan.model import (
    PLAN_FORMAT,
    SEED_SIZE,
    ArmCpus,
    Blob,
    CpuPlan,
    DevicePlan,
    EntryPlan,
    Interrupt,
    Json,
    MachinePlan,
    RamRegion,
    RiscvCpus,
    RunPlan,
    X86Cpus,
)
from vmrun.plan.topology import Topology

if TYPE_CHECKING:
    from vmrun.tables.fdt import FdtNode, Value

MAX_SIZE = 64 << 20
"""Bytes of a saved plan that are read at most: far beyond any, since kernels and disks are files beside it."""
_MAX_DEPTH = 100
_HEX_DIGITS = frozenset("0123456789abcdef")
_T = TypeVar("_T")


def to_json(plan: MachinePlan) -> str:
    """Return the saved form of ``plan``, ending in a line break: text that UTF-8 can hold.

    A byte of a file's name that is no UTF-8 is a lone surrogate (PEP 383), and is written as JSON escapes one.
    """
    text = json.dumps(to_data(plan), indent=1, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "backslashreplace").decode()


def to_data(plan: MachinePlan, *, trees: bool = True) -> dict[str, Any]:
    """Return ``plan`` as what JSON can hold, in the saved form's order; without ``trees`` devicetrees are base64."""
    run = plan.run
    return {
        "format": plan.format,
        "name": plan.name,
        "board": plan.board,
        "engine": plan.engine,
        "why": plan.why,
        **({} if plan.jit else {"jit": False}),
        "cpu": _cpu_data(plan.cpu),
        "ram": [{"base": hex(r.base), "size": hex(r.size)} for r in plan.ram],
        "devices": [_device_data(d) for d in plan.devices],
        "blobs": [_blob_data(b, trees) for b in plan.blobs],
        "entry": {"pc": hex(plan.entry.pc), "registers": {name: hex(value) for name, value in plan.entry.registers}},
        "cmdline": plan.cmdline,
        "run": {
            "command": list(run.command),
            "reports": run.reports,
            "console": run.console,
            "ready": run.ready,
            "boot_ns": run.boot_ns,
            "idle_ns": run.idle_ns,
            "total_ns": run.total_ns,
            "logs": dict(run.logs),
        },
        "assumed": list(plan.assumed),
    }


def _cpu_data(cpu: CpuPlan) -> dict[str, Any]:
    facts = as_dict(cpu)
    if isinstance(cpu, X86Cpus | ArmCpus):
        shape = facts.pop("topology")
        facts |= {"sockets": shape.sockets, "cores": shape.cores, "threads": shape.threads}
    elif blocks := dict(facts.pop("blocks")):
        facts["blocks"] = blocks
    return {name: _plain(value) for name, value in facts.items()}


def _device_data(device: DevicePlan) -> dict[str, Any]:
    data: dict[str, Any] = {"id": device.id, "kind": device.kind, "base": hex(device.base), "size": hex(device.size)}
    if device.space != "mmio":
        data["space"] = device.space
    if device.interrupt is not None:
        data["interrupt"] = {"number": device.interrupt.number, "trigger": device.interrupt.trigger}
    if device.transport is not None:
        data["transport"] = device.transport
    if device.properties:
        data["properties"] = {k: _plain(v) for k, v in device.properties.items()}
    return data


def _plain(value: Json) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return {k: _plain(v) for k, v in value.items()} if isinstance(value, Mapping) else value


def _blob_data(blob: Blob, trees: bool) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": blob.name,
        "gpa": hex(blob.gpa),
        "size": blob.size,
        "reserve": blob.reserve,
    }
    for name in ("path", "sha256", "origin"):
        if getattr(blob, name) is not None:
            data[name] = getattr(blob, name)
    if blob.offset:
        data["offset"] = blob.offset
    if blob.seed is not None:
        data["seed"] = blob.seed
    if blob.data is not None:
        tree = _tree_or_none(blob.data) if trees else None
        if tree is not None:
            data["tree"] = _node_data(tree)
        else:
            data["base64"] = binascii.b2a_base64(blob.data, newline=False).decode("ascii")
    return data


def _tree_or_none(data: bytes) -> FdtNode | None:
    from vmrun.tables.fdt import decode, encode

    try:
        tree = decode(data)
        return tree if encode(tree) == data else None
    except ValueError:
        return None


def _node_data(node: FdtNode) -> dict[str, Any]:
    data: dict[str, Any] = {name: _value_data(value) for name, value in node.props}
    for child in node.children:
        data[f"{child.name}/"] = _node_data(child)
    return data


def _value_data(value: Value) -> Any:
    from vmrun.tables.fdt import Bytes, Cells, Ref, Strings

    match value:
        case Strings(texts):
            return list(texts)
        case Cells(cells):
            return f"<{' '.join(hex(c) for c in cells if not isinstance(c, Ref))}>"
        case Bytes(data):
            return f"[{data.hex(' ')}]"
    return True


def from_json(text: str | bytes, *, name: str = "plan") -> MachinePlan:
    """Return the plan whose saved form is ``text``; ``name`` is the file's, for errors.

    Raise PlanError: E170 no JSON or no plan, E171 another format, E172 a key or a value that cannot be.
    """
    try:
        data = json.loads(text, parse_float=_no_float, parse_constant=_no_float, object_pairs_hook=_no_twins)
    except RecursionError:
        raise PlanError(f"{name}: nested too deeply for a plan", code="E170") from None
    except ValueError as error:
        raise PlanError(
            f"{name}: no JSON: {error}", code="E170", remedy="save a plan with: vmrun plan M --json > m.plan.json"
        ) from None
    return from_data(data, name=name)


def from_data(data: Any, *, name: str = "plan") -> MachinePlan:
    """Return the plan of what `to_data` returned. Raise PlanError as `from_json`."""
    if not isinstance(data, dict) or type(data.get("format")) is not int:
        raise PlanError(
            f"{name}: JSON, but no plan: it has no `format`",
            code="E170",
            remedy="save a plan with: vmrun plan M --json > m.plan.json",
        )
    if data["format"] != PLAN_FORMAT:
        newer = data["format"] > PLAN_FORMAT
        raise PlanError(
            f"{name}: plan format {data['format']}, and this vmrun reads format {PLAN_FORMAT}:"
            f" the {'vmrun' if newer else 'plan'} is too old",
            code="E171",
            remedy="use a newer vmrun" if newer else "save the plan again, from its manifest",
        )
    return _plan(_Table(data, f"{name}:"))


def load(path: str) -> MachinePlan:
    """Return the plan saved in the file ``path``. Raise PlanError E173 where it cannot be read, else as `from_json`."""
    try:
        text = regular.read(path, MAX_SIZE + 1)
    except OSError as error:
        raise PlanError(f"{path}: cannot be read: {error.strerror}", code="E173", remedy="check the path") from None
    if len(text) > MAX_SIZE:
        raise PlanError(f"{path}: more than {MAX_SIZE} bytes are no plan", code="E170")
    return from_json(text, name=path)


def _no_float(text: str) -> Any:
    raise ValueError(f"{text} is no integer")


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError(f"a key stands twice among {', '.join(sorted(table))[:80]}")
    return table


class _Table:
    """A JSON object, read key by key: each get takes a key away, and `end` refuses what is left."""

    def __init__(self, data: Any, path: str) -> None:
        if not isinstance(data, dict):
            raise _wrong(path, "is no object")
        self._left = dict(data)
        self.path = path

    def take(self, key: str, read: Callable[[Any, str], _T], default: _T | None = None, *, need: bool = True) -> _T:
        """Return the value of ``key`` as ``read`` reads it; ``default`` where it is not there and not needed."""
        if key not in self._left:
            if need:
                raise _wrong(self.path, f"has no `{key}`")
            return default  # type: ignore[return-value]  # its type is the caller's choice
        return read(self._left.pop(key), f"{self.path} {key}" if self.path.endswith(":") else f"{self.path}.{key}")

    def end(self) -> None:
        """Refuse keys that nobody asked for."""
        for key in self._left:
            raise _wrong(self.path, f"has an unknown key `{key}`")


def _wrong(path: str, what: str) -> PlanError:
    return PlanError(f"{path} {what}", code="E172", remedy="save the plan again, from its manifest")


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or "\0" in value or not _is_text(value):
        raise _wrong(path, "is no text")
    return value


def _is_text(value: str) -> bool:
    """Tell whether ``value`` can be a file's name or a text: without surrogates, but for a name's odd bytes."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def _optional_text(value: Any, path: str) -> str | None:
    return None if value is None else _text(value, path)


def _flag(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(path, "is neither true nor false")
    return value


def _number(value: Any, path: str) -> int:
    """Read a number of 0 to 2**64 - 1, as such or as a hex string."""
    if isinstance(value, str) and value[:2] == "0x" and 2 < len(value) <= 18 and _HEX_DIGITS.issuperset(value[2:]):
        return int(value, 16)
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise _wrong(path, 'is no number: write 0 to 2^64-1, or "0x…"')
    return value


def _optional_number(value: Any, path: str) -> int | None:
    return None if value is None else _number(value, path)


def _one_of(*choices: str) -> Callable[[Any, str], str]:
    def choice(value: Any, path: str) -> str:
        if value not in choices:
            raise _wrong(path, f"is none of {', '.join(choices)}")
        return str(value)

    return choice


def _list(read: Callable[[Any, str], _T]) -> Callable[[Any, str], tuple[_T, ...]]:
    def items(value: Any, path: str) -> tuple[_T, ...]:
        if not isinstance(value, list):
            raise _wrong(path, "is no array")
        return tuple(read(item, f"{path}[{index}]") for index, item in enumerate(value))

    return items


def _map(read: Callable[[Any, str], _T]) -> Callable[[Any, str], tuple[tuple[str, _T], ...]]:
    def items(value: Any, path: str) -> tuple[tuple[str, _T], ...]:
        if not isinstance(value, dict):
            raise _wrong(path, "is no object")
        return tuple((_text(key, f"{path}: a key"), read(item, f"{path}.{key}")) for key, item in value.items())

    return items


def _plan(t: _Table) -> MachinePlan:
    plan = MachinePlan(
        format=t.take("format", _number),
        name=t.take("name", _text),
        board=t.take("board", _text),
        engine=t.take("engine", _text),
        why=t.take("why", _text),
        cpu=t.take("cpu", _cpu),
        ram=t.take("ram", _list(_ram)),
        devices=t.take("devices", _list(_device)),
        blobs=t.take("blobs", _list(_blob)),
        entry=t.take("entry", _entry),
        cmdline=t.take("cmdline", _text),
        run=t.take("run", _run),
        assumed=t.take("assumed", _list(_text), (), need=False),
        jit=t.take("jit", _flag, True, need=False),
    )
    t.end()
    return plan


def _cpu(value: Any, path: str) -> CpuPlan:
    t = _Table(value, path)
    arch, count = t.take("arch", _text), t.take("count", _number)
    cpu: CpuPlan
    if arch in _HOST_CPUS:
        cpu = _HOST_CPUS[arch](
            arch,
            count,
            model=t.take("model", _text),
            features=t.take("features", _list(_text)),
            topology=Topology(t.take("sockets", _number), t.take("cores", _number), t.take("threads", _number)),
        )
    else:
        cpu = RiscvCpus(
            arch,
            count,
            extensions=t.take("extensions", _list(_text)),
            isa=t.take("isa", _text),
            mmu=t.take("mmu", _text),
            timebase_hz=t.take("timebase_hz", _number),
            blocks=t.take("blocks", _map(_number), (), need=False),
        )
    t.end()
    return cpu


_HOST_CPUS: Mapping[str, type[X86Cpus | ArmCpus]] = {"x86_64": X86Cpus, "aarch64": ArmCpus}
"""CPUs that the host's KVM gives, by architecture: they have a model, features and a topology."""


def _ram(value: Any, path: str) -> RamRegion:
    t = _Table(value, path)
    region = RamRegion(t.take("base", _number), t.take("size", _number))
    t.end()
    return region


def _device(value: Any, path: str) -> DevicePlan:
    t = _Table(value, path)
    device = DevicePlan(
        id=t.take("id", _text),
        kind=t.take("kind", _text),
        base=t.take("base", _number),
        size=t.take("size", _number),
        interrupt=t.take("interrupt", _interrupt, need=False),
        transport=t.take("transport", _optional_text, need=False),
        properties=t.take("properties", _properties, MappingProxyType({}), need=False),
        space=t.take("space", _one_of("mmio", "pio"), "mmio", need=False),
    )
    t.end()
    return device


def _interrupt(value: Any, path: str) -> Interrupt:
    t = _Table(value, path)
    interrupt = Interrupt(t.take("number", _number), t.take("trigger", _one_of("level", "edge")))
    t.end()
    return interrupt


def _properties(value: Any, path: str) -> Mapping[str, Json]:
    return MappingProxyType(dict(_map(_json)(value, path)))


def _json(value: Any, path: str) -> Json:
    if isinstance(value, list):
        return _list(_json)(value, path)
    if isinstance(value, dict):
        return _properties(value, path)
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int) and not isinstance(value, bool) and not -(1 << 63) <= value < 1 << 64:
        raise _wrong(path, "is no number of 64 bits")
    return value  # type: ignore[no-any-return]  # null, boolean, integer, text: JSON has nothing else without floats


def _blob(value: Any, path: str) -> Blob:
    t = _Table(value, path)
    blob = Blob(
        name=t.take("name", _text),
        gpa=t.take("gpa", _number),
        size=t.take("size", _number),
        reserve=t.take("reserve", _number),
        data=t.take("tree", _tree, need=False) or t.take("base64", _bytes, need=False),
        path=t.take("path", _optional_text, need=False),
        offset=t.take("offset", _number, 0, need=False),
        sha256=t.take("sha256", _digest, need=False),
        origin=t.take("origin", _optional_text, need=False),
        seed=t.take("seed", _optional_number, need=False),
    )
    t.end()
    if blob.seed is not None and blob.seed + SEED_SIZE > len(blob.data or b""):
        raise _wrong(path, "has its `seed` beyond its bytes")
    return blob


def _digest(value: Any, path: str) -> str:
    if len(_text(value, path)) != 64 or not _HEX_DIGITS.issuperset(value):
        raise _wrong(path, "is no SHA-256 digest")
    return str(value)


def _bytes(value: Any, path: str) -> bytes:
    try:
        return binascii.a2b_base64(_text(value, path), strict_mode=True)
    except ValueError:
        raise _wrong(path, "is no base64") from None


def _tree(value: Any, path: str) -> bytes:
    from vmrun.tables.fdt import encode

    try:
        return encode(_node(value, "", path, 0))
    except ValueError as error:
        raise _wrong(path, f"is no devicetree: {error}") from None


def _node(value: Any, name: str, path: str, depth: int) -> FdtNode:
    from vmrun.tables.fdt import FdtNode

    if not isinstance(value, dict) or depth > _MAX_DEPTH:
        raise _wrong(path, "is no node of a devicetree")
    props = tuple((k, _value(v, f"{path}/{k}")) for k, v in value.items() if not k.endswith("/"))
    below = ((k[:-1], v, f"{path}/{k[:-1]}") for k, v in value.items() if k.endswith("/"))
    return FdtNode(name, props, tuple(_node(v, k, where, depth + 1) for k, v, where in below))


def _value(value: Any, path: str) -> Value:
    from vmrun.tables.fdt import Bytes, Cells, Empty, Strings

    try:
        if value is True:
            return Empty()
        if isinstance(value, list):
            return Strings(*_list(_text)(value, path))
        if isinstance(value, str) and value[:1] + value[-1:] == "<>":
            return Cells(*(int(cell, 16) for cell in value[1:-1].split()))
        if isinstance(value, str) and value[:1] + value[-1:] == "[]":
            return Bytes(bytes.fromhex(value[1:-1]))
    except ValueError:
        pass
    raise _wrong(path, 'is no property: write true, ["text"], "<0x1>" or "[01 02]"')


def _entry(value: Any, path: str) -> EntryPlan:
    t = _Table(value, path)
    entry = EntryPlan(t.take("pc", _number), t.take("registers", _map(_number)))
    t.end()
    return entry


def _run(value: Any, path: str) -> RunPlan:
    t = _Table(value, path)
    run = RunPlan(
        command=t.take("command", _list(_text)),
        reports=t.take("reports", _flag),
        console=t.take("console", _text),
        ready=t.take("ready", _optional_text, need=False),
        boot_ns=t.take("boot_ns", _optional_number, need=False),
        idle_ns=t.take("idle_ns", _optional_number, need=False),
        total_ns=t.take("total_ns", _optional_number, need=False),
        logs=t.take("logs", _map(_text), (), need=False),
    )
    t.end()
    return run
