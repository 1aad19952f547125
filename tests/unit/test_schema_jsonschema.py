"""The JSON Schema: what editors are told agrees with what the loader does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import tomli

from vmrun.boards.registry import known
from vmrun.errors import ManifestError
from vmrun.schema.jsonschema import schema, schema_text
from vmrun.schema.known import EXAMPLE_KNOWN, KindInfo, Known, Property
from vmrun.schema.load import load_manifest

ROOT = Path(__file__).parents[2]
MINIMAL = """\
manifest = 1
[machine]
board = "riscv_virt"
[memory]
size = "256MiB"
[boot]
kernel = { path = "vmlinux" }
"""


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    text = schema(EXAMPLE_KNOWN)
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


def valid(validator: Any, text: str) -> bool:
    return bool(validator.is_valid(tomli.loads(text)))


def test_the_file_in_git_is_what_the_command_prints() -> None:
    text = schema_text(known())
    assert text == schema_text(known()), "the same to the byte each time"
    stored = (ROOT / "schema" / "vmrun.schema.json").read_text(encoding="utf-8")
    assert stored == text, "run: vmrun schema > schema/vmrun.schema.json"
    assert json.loads(text)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").rglob("*.toml")), ids=lambda p: p.name)
def test_example_manifests_fit(path: Path) -> None:
    validator = jsonschema.Draft202012Validator(schema(known()))
    assert [e.message for e in validator.iter_errors(tomli.loads(path.read_text(encoding="utf-8")))] == []


@pytest.mark.parametrize(
    "more",
    [
        'cmdline = ["a"]',
        """cmdline = ['a="b c"', '"d=e f" g']""",
        """cmdline = 'just "this'""",
        'cmdline = ""',
        '"cmdline+" = ["a"]',
        'cmdline = ["${x}"]\n[cpu]\ncount = "${cpus}"',
        '[disk.root]\nsize = "${size}"\nmode = "rw"',
        '[device.rng]\nkind = "virtio-rng"',
        '[profile.debug]\n"boot.cmdline+" = ["initcall_debug"]\n"cpu.count" = 4',
        "[profile.debug.cpu]\ncount = 4",
        '[run]\ntimeouts = { boot = "20s", scale = { soft = 10 } }',
        '[verdict]\nallow = [{ match = "x", reason = "y" }]\n[matrix]\n"cpu.count" = [1, 4]',
        "[vars]\na = 1\nb = true\nc = 'x'",
    ],
)
def test_valid_manifests_fit(validator: Any, more: str) -> None:
    assert valid(validator, f"{MINIMAL}{more}\n")


@pytest.mark.parametrize(
    "more",
    [
        "cmdlin = []",
        "cmdline = 1",
        """cmdline = ['a="b']""",
        'cmdline = [""]',
        'cmdline = "a\\nb"',
        '"kernel+" = ["a"]',
        "[cpu]\ncount = 0",
        '[cpu]\ncount = "two"',
        '[disk.root]\nmode = "readonly"',
        '[disk.root]\nsize = "64MB"',
        '[disk."my disk"]\npath = "x"',
        '[disk]\npath = "x"',
        '[device.rng]\nkind = "virtio-rgn"',
        '[device.rng]\nkind = "virtio-rng"\nrate = 3',
        "[profile.debug]\ncmdline = []",
        "[verdict]\nallow = [{ match = 'x' }]",
        '[matrix]\n"cpu.count" = []',
        "[vars]\na = [1]",
    ],
)
def test_schema_and_loader_refuse_alike(validator: Any, more: str, tmp_path: Path) -> None:
    text = f"{MINIMAL}{more}\n"
    assert not valid(validator, text)
    path = tmp_path / "m.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ManifestError):
        load_manifest(path, known=EXAMPLE_KNOWN, env={})


def test_what_a_parent_may_give_is_not_required(validator: Any) -> None:
    assert valid(validator, 'manifest = 1\nextends = ["base.toml"]\nmachine.accel = "soft"\n')
    assert not valid(validator, "manifest = 1\n")
    assert not valid(validator, MINIMAL.replace("manifest = 1\n", ""))
    assert not valid(validator, MINIMAL.replace('size = "256MiB"', ""))


def test_kinds_bring_their_properties() -> None:
    kind = KindInfo(
        "a thing", {"size": Property("size", "its size", required=True), "n": Property("integer", maximum=3)}
    )
    validator = jsonschema.Draft202012Validator(schema(Known(("riscv_virt",), {"thing": kind})))
    device = MINIMAL + '[device.x]\nkind = "thing"\n'
    assert valid(validator, device + 'size = "1KiB"\nn = 3\n')
    assert not valid(validator, device)
    assert not valid(validator, device + 'size = "1KiB"\nn = 4\n')
    assert not valid(validator, device + 'size = "1KiB"\nm = 4\n')


def test_every_key_is_described() -> None:
    text = schema(EXAMPLE_KNOWN)
    tables = {"top": text, **{k: v for k, v in text["$defs"].items() if "properties" in v}}
    silent = [f"{t}.{k}" for t, v in tables.items() for k, p in v["properties"].items() if not p.get("description")]
    assert silent == []


def test_what_is_not_carried_says_so() -> None:
    text = schema(EXAMPLE_KNOWN)
    assert "Not carried" in text["properties"]["net"]["description"]
    assert "Not carried" in text["$defs"]["Memory"]["properties"]["hugepages"]["description"]
    assert "Not carried" not in text["properties"]["disk"]["description"]
