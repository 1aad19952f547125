"""The table of ISA extensions: bits as the core has them, canonical order, clear refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmrun.boards.riscv.isa import canonical
from vmrun.rv64 import isa

HEADER = Path(isa.__file__).with_name("core") / "rv64_api.h"


def test_bits_are_those_of_the_core() -> None:
    defines = dict(re.findall(r"#define VMR_RV64_(?!JIT_)(\w+) (\d+)", HEADER.read_text()))
    ours = {e.name.upper(): e.bit for e in isa.EXTENSIONS.values() if e.bit} | {"SV48": isa.SV48_BIT}
    assert ours == {name: int(bit) for name, bit in defines.items()}


def test_the_table_is_in_the_order_of_an_isa_string() -> None:
    assert tuple(isa.EXTENSIONS) == canonical(isa.EXTENSIONS)
    assert isa.isa_bits(isa.DEFAULT_EXTENSIONS) == 1023


@pytest.mark.parametrize(("names", "why"), [(["i", "v"], "no ISA extension 'v'"), (["i", "d"], "'d' needs 'f'")])
def test_what_is_wrong_is_named(names: list[str], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        isa.isa_bits(names)
