"""F and D arithmetic against the host's FPU, in the four rounding modes that it has."""

from __future__ import annotations

import platform

import fp_kit as kit
import pytest
from fp_kit import NX, OPS, Op

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"),
    reason="needs an x86-64 host, whose SSE2 detects tininess after rounding as RISC-V does",
)
# FMIN, FMAX and FCLASS have no counterpart.
ON_HOST = [op for op in OPS if not op.name.startswith(("MIN", "MAX", "CLASS"))]


@pytest.mark.parametrize("op", ON_HOST, ids=lambda op: op.name)
def test_against_the_hosts_fpu(op: Op) -> None:
    library = kit.under_test()
    rows = kit.operands(library, op)
    for rm in op.modes[:4]:
        want = kit.host().run(op, rm, rows, entry="host_fp_ops")
        kit.assert_same(op, rm, rows, library.run(op, rm, rows, soft=True), want)
        kit.assert_same(op, rm, rows, library.run(op, rm, rows, flags=NX), kit.with_flags(want, NX))
