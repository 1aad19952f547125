"""What an engine offers to a guest, as data: the part of a plan that depends on the host."""

from __future__ import annotations

from vmrun.frozen import frozen


@frozen
class Offer:
    """What an engine can build.

    ``extensions`` are ISA extension names in canonical order, ``mmu`` the largest mode (``sv48``), ``timebase_hz`` the
    frequency of the guest's clock, ``why`` the reason for this engine in one line.
    """

    engine: str
    why: str
    arch: str
    extensions: tuple[str, ...]
    max_vcpus: int
    timebase_hz: int
    mmu: str
