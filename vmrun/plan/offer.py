"""What an engine offers to a guest, as data: the part of a plan that depends on the host."""

from __future__ import annotations

from vmrun.frozen import frozen


@frozen
class Offer:
    """What an engine can build.

    ``extensions`` are what a vCPU may have: ISA extensions of riscv64 in any order, features of x86 as /proc/cpuinfo
    names them, ``pmu``, ``sve`` and ``pauth`` of arm64; ``fixed`` are those that no vCPU can be without. ``mmu`` is
    riscv64's largest mode (``sv48``), ``timebase_hz`` the frequency of its clock, ``why`` the reason for this engine in
    one line. ``irqchips`` are the interrupt controllers, the usual one first (``gicv3``, ``gicv2``; ``aia``, ``plic``),
    ``granules`` the sizes of arm64's pages in bytes; both are empty where there is no choice, or nobody has looked.
    ``blocks`` are the sizes of riscv64's cache blocks in bytes, by the extension that works on them, ``msi_ids`` the
    interrupt identities of an IMSIC. ``nominal`` says that no host was looked at: what a manifest asks for beyond the
    offer is for the engine to find out.
    """

    engine: str
    why: str
    arch: str
    extensions: tuple[str, ...]
    max_vcpus: int
    timebase_hz: int
    mmu: str
    irqchips: tuple[str, ...] = ()
    granules: tuple[int, ...] = ()
    fixed: tuple[str, ...] = ()
    blocks: tuple[tuple[str, int], ...] = ()
    msi_ids: int = 0
    nominal: bool = False
