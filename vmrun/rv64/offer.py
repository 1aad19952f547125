"""What the software core offers a guest, as data: read where a plan is made, without the core itself."""

from __future__ import annotations

from vmrun.plan.offer import Offer
from vmrun.rv64.isa import DEFAULT_EXTENSIONS

MAX_HARTS = 8
TIMEBASE_HZ = 10_000_000
"""The clock of QEMU's riscv `virt` (RISCV_ACLINT_DEFAULT_TIMEBASE_FREQ)."""
MMU = "sv48"


def offer(why: str) -> Offer:
    """Return the offer; ``why`` is the reason for this engine in one line."""
    return Offer("soft", why, "riscv64", DEFAULT_EXTENSIONS, MAX_HARTS, TIMEBASE_HZ, MMU, ("plic",))
