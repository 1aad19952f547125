"""What the instruction oracles hold is held for the interpreter and for the translator: each test runs with both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import rv64translator

BOTH = frozenset(
    {
        *("test_isa_aia", "test_isa_asm", "test_isa_csrs", "test_isa_fences", "test_isa_harts", "test_isa_interrupts"),
        *("test_isa_matrix", "test_isa_paging", "test_isa_random", "test_isa_traps", "test_rv64_aia", "test_rv64_priv"),
        *("test_fp_qemu", "test_isa_decode"),
    }
)
"""Modules whose tests run code on harts."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ in BOTH:
        metafunc.fixturenames.append("translator")
        metafunc.parametrize("translator", [0, 1], ids=["interpreted", "translated"], indirect=True)


@pytest.fixture
def translator(request: pytest.FixtureRequest) -> Iterator[int]:
    """Everything is translated when it runs for the first time, or nothing is."""
    threshold = int(request.param)
    if threshold and (missing := rv64translator.missing_translator()):
        pytest.skip(missing)
    rv64translator.choose(threshold)
    yield threshold
    rv64translator.choose(0)
