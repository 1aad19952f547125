"""The table of ISA extensions: bits as the core has them, ISA strings in canonical order, clear refusals."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vmrun.rv64 import isa

HEADER = Path(isa.__file__).with_name("core") / "rv64_api.h"


def test_bits_are_those_of_the_core() -> None:
    defines = dict(re.findall(r"#define VMR_RV64_(\w+) (\d+)", HEADER.read_text()))
    ours = {e.name.upper(): e.bit for e in isa.EXTENSIONS.values() if e.bit} | {"SV48": isa.SV48_BIT}
    assert ours == {name: int(bit) for name, bit in defines.items()}


def test_the_default_string_is_canonical() -> None:
    text = "rv64imafdc_zicntr_zicsr_zifencei_zba_zbb_zbs_sstc_svinval"
    assert isa.isa_string(isa.DEFAULT_EXTENSIONS) == text
    assert isa.parse_isa_string(text) == isa.DEFAULT_EXTENSIONS
    assert isa.isa_bits(isa.DEFAULT_EXTENSIONS) == 1023


def test_strings_are_read_in_any_order_and_case() -> None:
    assert isa.parse_isa_string("RV64GC_Sstc_zba") == isa.parse_isa_string("rv64imafdc_zba_sstc")
    assert isa.isa_string(["sstc", "zba", "m", "svadu"]) == "rv64im_zicntr_zicsr_zifencei_zba_sstc_svadu"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with rv64"),
        ("rv32imac", "does not begin with rv64"),
        ("rv64", "does not name the base"),
        ("rv64mac", "does not name the base"),
        ("rv64iv", "no ISA extension 'v'"),
        ("rv64i_zbc", "no ISA extension 'zbc'"),
        ("rv64id", "'d' needs 'f'"),
        ("rv64ii", "twice"),
        ("rv64i_zba_zba", "twice"),
        ("rv64i__zba", "empty part"),
        ("rv64i_", "empty part"),
    ],
)
def test_what_is_wrong_is_named(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        isa.parse_isa_string(text)
