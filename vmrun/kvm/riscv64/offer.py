"""What KVM offers a riscv64 guest: the ISA of its harts, their clock, and the interrupt controllers."""

from __future__ import annotations

from vmrun.kvm.offer import MAX_VCPUS
from vmrun.plan.offer import Offer

_RV64GC = ("i", "m", "a", "f", "d", "c", "zicntr", "zicsr", "zifencei")
_TIMEBASE_HZ = 10_000_000
"""The clock of QEMU's riscv `virt` (RISCV_ACLINT_DEFAULT_TIMEBASE_FREQ)."""


def nominal(why: str) -> Offer:
    """Return what every host with KVM has, but for the clock; the engine refuses a plan whose clock is another."""
    return Offer("kvm", why, "riscv64", _RV64GC, MAX_VCPUS, _TIMEBASE_HZ, "sv39", ("plic",), nominal=True)
