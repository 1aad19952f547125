"""The saved form: reads back equal, refuses what is not it, and shows a change as a line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plan_kit import BASE, planned

from vmrun.errors import PlanError
from vmrun.frozen import evolve
from vmrun.plan import codec, view
from vmrun.plan.diff import diff
from vmrun.plan.model import Blob, Interrupt, MachinePlan

TEXT = BASE + '[disk.root]\nsize = "1MiB"\n[console.main]\n[device.rng]\nkind = "virtio-rng"\n[run]\nready = "login:"\n'


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> MachinePlan:
    return planned(tmp_path_factory.mktemp("plan"), TEXT, ports=("control", "stdin"))


def test_a_plan_reads_back_equal(plan: MachinePlan) -> None:
    assert codec.from_json(codec.to_json(plan)) == plan
    assert codec.from_data(json.loads(json.dumps(codec.to_data(plan, trees=False)))) == plan


def test_whether_code_may_be_translated_is_kept(tmp_path: Path) -> None:
    plan = planned(tmp_path, TEXT.replace('board = "riscv_virt"', 'board = "riscv_virt"\njit = false'))
    assert not plan.jit
    assert json.loads(codec.to_json(plan))["jit"] is False
    assert not codec.from_json(codec.to_json(plan)).jit
    assert planned(tmp_path, TEXT).jit


def test_the_devicetree_is_saved_as_a_tree(plan: MachinePlan) -> None:
    text = codec.to_json(plan)
    assert '"compatible": [' in text and "base64" not in text


EVIL = "\x1b]0;owned\x07\x1b[2J\r\nforged: line\u202e"


def test_no_text_of_a_plan_moves_a_cursor(plan: MachinePlan) -> None:
    odd = evolve(
        plan, name=EVIL, why=EVIL, board=EVIL, engine=EVIL, cmdline=EVIL, assumed=(EVIL,),
        devices=tuple(evolve(d, id=d.id + EVIL, properties={EVIL: EVIL}) for d in plan.devices),
        blobs=tuple(evolve(b, name=b.name + EVIL, origin=EVIL) for b in plan.blobs),
        run=evolve(plan.run, command=("echo", EVIL), console=EVIL, ready=EVIL),
    )  # fmt: skip
    odd = codec.from_json(codec.to_json(odd))
    for text in (view.text(odd), view.tree(odd), "\n".join((*diff(plan, odd), *diff(odd, plan)))):
        assert text.replace("\n", "").isprintable()
        assert not any(line.startswith("forged") for line in text.splitlines())
        assert "\\x1b]0;owned" in text


def test_a_text_of_lone_surrogates_is_refused(plan: MachinePlan) -> None:
    for key in ("name", "why", "cmdline"):
        data = codec.to_data(plan) | {key: "a\ud800"}
        assert refused(data).code == "E172"
    data = codec.to_data(plan)
    data["devices"][0]["properties"] = {"path": "\udbff"}
    assert refused(data).code == "E172"
    data["devices"][0]["properties"] = {"\ud800": 1}
    assert refused(data).code == "E172"


def test_a_path_of_odd_bytes_is_saved(plan: MachinePlan) -> None:
    disk = plan.devices[0]
    odd = evolve(plan, devices=(evolve(disk, properties={"path": "/odd\udcff"}), *plan.devices[1:]))
    text = codec.to_json(odd)
    assert "/odd\\udcff" in text and codec.from_json(text.encode()) == odd


def test_bytes_that_are_no_tree_are_base64(plan: MachinePlan) -> None:
    odd = evolve(plan, blobs=(Blob("x", 0, 3, 3, data=b"\0\1\2"),))
    assert codec.from_json(codec.to_json(odd)) == odd


def refused(data: Any) -> PlanError:
    with pytest.raises(PlanError) as caught:
        codec.from_json(data if isinstance(data, (str, bytes)) else json.dumps(data), name="m.plan.json")
    assert "m.plan.json" in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "1", "null", "{}", '{"format": "1"}', '{"format": 1.5}', '{"a":1,"a":2}', b"\xff\xfe"]
)
def test_what_is_no_plan_is_named(text: str | bytes) -> None:
    assert refused(text).code == "E170"


def test_a_plan_nested_beyond_reason_is_refused() -> None:
    assert refused('{"format":' + "[" * 100_000).code == "E170"


@pytest.mark.parametrize(("format_", "words"), [(0, "the plan is too old"), (2, "the vmrun is too old")])
def test_another_format_says_who_is_older(format_: int, words: str, plan: MachinePlan) -> None:
    error = refused({**codec.to_data(plan), "format": format_})
    assert (error.code, words in error.message) == ("E171", True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("cpu"), "m.plan.json: has no `cpu`"),
        (lambda d: d.update(extra=1), "unknown key `extra`"),
        (lambda d: d["cpu"].update(count="two"), "m.plan.json: cpu.count is no number"),
        (lambda d: d["cpu"].update(count=True), "cpu.count"),
        (lambda d: d["cpu"].update(count=-1), "cpu.count"),
        (lambda d: d["devices"][1].update(base="0x1g"), "devices[1].base"),
        (lambda d: d["devices"][1].update(base=1 << 64), "devices[1].base"),
        (lambda d: d["devices"][1]["interrupt"].update(trigger="both"), "trigger"),
        (lambda d: d.update(devices={}), "devices is no array"),
        (lambda d: d.update(name="a\0b"), "name is no text"),
        (lambda d: d["blobs"][0].update(sha256="xyz"), "sha256"),
        (lambda d: d["blobs"][-1].update(base64="AA=="), "base64"),
        (lambda d: d["blobs"][-1].update(seed=1 << 20), "`seed` beyond"),
        (lambda d: d["blobs"][-1].update(tree={"x y": True}), "no devicetree"),
        (lambda d: d["blobs"][-1].update(tree={"x": 1}), "no property"),
        (lambda d: d["blobs"][-1].update(tree={"x": "<0x1 zz>"}), "no property"),
        (lambda d: d["blobs"][-1].update(tree={"x": "<0x100000000>"}), "32-bit"),
        (lambda d: d["run"].update(reports=1), "reports"),
        (lambda d: d["entry"]["registers"].update(a0=None), "a0"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(change: Callable[[Any], Any], words: str, plan: MachinePlan) -> None:
    data = codec.to_data(plan)
    data = copy.deepcopy(data)
    change(data)
    error = refused(data)
    assert (error.code, words in error.message) == ("E172", True), error.message


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_plan_is_a_plan_or_a_plan_error(data: st.DataObject, plan: MachinePlan) -> None:
    tree = json.loads(codec.to_json(plan))
    at: Any = tree
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if isinstance(at[key], (dict, list)) and at[key] and data.draw(st.booleans()):
            at = at[key]
            continue
        at[key] = data.draw(
            st.one_of(
                st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}), st.just([{}])
            )
        )
        break
    try:
        codec.from_json(json.dumps(tree))
    except PlanError as error:
        assert "\n" not in error.message


def test_a_missing_file_is_a_plan_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        codec.load(str(tmp_path / "gone.json"))


def test_no_difference_is_no_line(plan: MachinePlan) -> None:
    assert diff(plan, plan) == ()


def test_a_moved_interrupt_is_one_line(plan: MachinePlan) -> None:
    devices = tuple(evolve(d, interrupt=Interrupt(7)) if d.id == "disk.root" else d for d in plan.devices)
    assert diff(plan, evolve(plan, devices=devices)) == ("disk.root: interrupt 1 -> 7",)


def test_devices_come_and_go_as_one_line(plan: MachinePlan) -> None:
    without = evolve(plan, devices=tuple(d for d in plan.devices if d.id != "device.rng"))
    (gone,) = diff(plan, without)
    (come,) = diff(without, plan)
    assert gone.startswith("device.rng: removed (kind virtio-rng, base 0x10004000")
    assert come.startswith("device.rng: added")


def test_a_change_of_size_and_command_line_shows(plan: MachinePlan, tmp_path: Path) -> None:
    other = planned(tmp_path, TEXT.replace("128MiB", "256MiB") + "\n", ports=("control", "stdin"))
    lines = diff(plan, other)
    assert "ram: size 0x8000000 -> 0x10000000" in lines
    assert any(line.startswith("fdt tree: memory@80000000/reg") for line in lines)


def test_the_text_shows_every_device_blob_and_range(plan: MachinePlan) -> None:
    text = view.text(plan)
    for device in plan.devices:
        assert f"{device.base:#012x}" in text and device.id in text
    for blob in plan.blobs:
        assert f"{blob.gpa:#012x}" in text
    assert plan.cmdline in text and plan.cpu.isa in text


def test_the_tree_has_every_device(plan: MachinePlan) -> None:
    assert all(device.id in view.tree(plan) for device in plan.devices)


def test_the_source_has_references(plan: MachinePlan) -> None:
    assert "interrupt-parent = <&" in view.dts(plan)
