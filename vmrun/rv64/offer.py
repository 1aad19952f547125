"""What the software core offers a guest, as data: read where a plan is made, without the core itself."""

from __future__ import annotations

from vmrun.plan.offer import Offer
from vmrun.rv64.isa import OFFERED

MAX_HARTS = 8
TIMEBASE_HZ = 10_000_000
"""The clock of QEMU's riscv `virt` (RISCV_ACLINT_DEFAULT_TIMEBASE_FREQ)."""
MMU = "sv48"
MSI_IDS = 255
"""Interrupt identities of an IMSIC as QEMU's `virt` has them (VIRT_IRQCHIP_NUM_MSIS)."""


def offer(why: str) -> Offer:
    """Return the offer; ``why`` is the reason for this engine in one line."""
    return Offer(
        *("soft", why, "riscv64", OFFERED, MAX_HARTS, TIMEBASE_HZ, MMU),
        irqchips=("plic", "aia"),
        msi_ids=MSI_IDS,
    )


def nominal(arch: str, why: str) -> Offer:
    """Return the offer, which is the same on every host; the guests are of riscv64 alone, so ``arch`` is that."""
    return offer(why)
