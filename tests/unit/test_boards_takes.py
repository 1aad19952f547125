"""What boards take of a manifest: every key is taken by all of them, or each says what it takes; one check reads it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from plan_kit import BASE, load

from vmrun.boards import registry
from vmrun.boards.takes import RULES, Takes, lay_out, refusals
from vmrun.engine import fake
from vmrun.errors import Key, PlanError
from vmrun.frozen import evolve, field_names
from vmrun.planning.findings import findings
from vmrun.schema.carried import NOT_CARRIED
from vmrun.schema.models import Boot, Cpu, Machine, Memory, Table

TAKEN_BY_ALL = {
    ("machine", "board"),
    ("machine", "accel"),  # the table of engines judges it
    ("machine", "jit"),  # an engine that translates nothing keeps from it in any case
    ("cpu", "max"),  # what is more than the count is refused by the schema
    ("cpu", "cores"),
    ("cpu", "features"),  # by names of the architecture's own
    ("boot", "kernel"),
    ("boot", "modules"),
    ("boot", "initrd"),
    ("boot", "cmdline"),
}
"""Keys that make no difference between boards. A new key stands here, in `NOT_CARRIED`, or has a rule and a field."""

TABLES: dict[str, type[Table]] = {"machine": Machine, "cpu": Cpu, "memory": Memory, "boot": Boot}
KEYS = {(table, name) for table, model in TABLES.items() for name in model.model_fields}


def test_every_key_is_taken_by_all_or_declared() -> None:
    not_carried = {row.key for row in NOT_CARRIED if row.key[0] in TABLES and not row.values}
    for one, other in ((TAKEN_BY_ALL, set(RULES)), (TAKEN_BY_ALL, not_carried), (set(RULES), not_carried)):
        assert not one & other
    assert TAKEN_BY_ALL | set(RULES) | not_carried == KEYS


def test_every_field_of_a_declaration_is_read_by_a_rule() -> None:
    assert {field for field, _ in RULES.values()} == set(field_names(Takes))


@pytest.mark.parametrize("name", registry.NAMES)
def test_a_declaration_names_what_the_format_has(name: str) -> None:
    takes = registry.load(name).takes
    for field, model, key in (
        (takes.tables, Machine, "tables"),
        (takes.irqchips, Machine, "irqchip"),
        (takes.protocols, Boot, "protocol"),
    ):
        assert set(field) <= set(get_args(model.model_fields[key].annotation)) - {"auto"}, key
    assert set(takes.topology) <= {"sockets", "threads"}


def values(key: Key) -> list[object]:
    """Return the values that tell boards apart by ``key``: all of a closed set, or one that is too much anywhere."""
    choices = get_args(TABLES[key[0]].model_fields[key[1]].annotation)
    closed: list[object] = [value for value in choices if isinstance(value, str) and value != "auto"]
    return closed or {"count": [4096], "size": [1 << 45], "model": ["vax"]}.get(key[1], [2])


@pytest.mark.parametrize("key", RULES, ids=".".join)
@pytest.mark.parametrize("name", registry.NAMES)
def test_what_a_board_does_not_declare_is_refused_by_its_key(name: str, key: Key, tmp_path: Path) -> None:
    board = registry.load(name)
    offer = fake.nominal(board.arch, "a test")
    manifest = load(tmp_path, BASE.replace("riscv_virt", name)).manifest
    assert list(refusals(manifest, board, offer)) == []
    declared = getattr(board.takes, RULES[key][0])
    for value in values(key):
        table = getattr(manifest, key[0]).model_copy(update={key[1]: value})
        asked = manifest.model_copy(update={key[0]: table})
        taken = declared is None or (isinstance(declared, tuple) and (value in declared or key[1] in declared))
        found = list(refusals(asked, board, offer))
        assert [error.key for error in found] == ([] if taken else [key]), value
        assert all(error.remedy for error in found)
        if not taken:
            with pytest.raises(PlanError) as caught:
                lay_out(board, asked, offer)
            assert caught.value.code == found[0].code


@pytest.mark.parametrize("name", ["riscv_virt", "virt"])
def test_an_engine_refuses_what_it_does_not_offer(name: str, tmp_path: Path) -> None:
    board = registry.load(name)
    best, other = board.takes.irqchips
    offer = evolve(fake.nominal(board.arch, "a test"), irqchips=(best,), max_vcpus=2)
    text = BASE.replace('"riscv_virt"', f'"{name}"\nirqchip = "{other}"') + "[cpu]\ncount = 3\n"
    found = list(refusals(load(tmp_path, text).manifest, board, offer))
    assert [error.code for error in found] == ["E136", "E106"]
    assert "fake engine has no" in found[0].message and f"write {best}" in str(found[0].remedy)


def test_all_that_a_board_does_not_take_is_told_at_once(tmp_path: Path) -> None:
    text = BASE.replace('"riscv_virt"', '"riscv_virt"\ntables = "acpi"\nirqchip = "gicv3"')
    text = text.replace("[boot]", '[boot]\nprotocol = "pvh"') + "[cpu]\ncount = 9\nsockets = 9\n"
    assert [finding.code for finding in findings(load(tmp_path, text))] == ["E136", "E106", "E134", "E133", "E119"]
