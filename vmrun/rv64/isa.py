"""The ISA extensions that the software core has: one table from which bits and checks derive.

Bits are those of ``vmrun/rv64/core/rv64_api.h`` (``VMR_RV64_*``); an extension with bit 0 is always there. The table
stands in the order of an ISA string (Unprivileged ISA, chapter "ISA Extension Naming Conventions").
"""

from __future__ import annotations

from collections.abc import Iterable

from vmrun.frozen import frozen

SV48_BIT = 1024
"""``VMR_RV64_SV48``: not an extension of the ISA string but the device tree's ``mmu-type``."""


@frozen
class Extension:
    """One extension: its lower-case name, its bit in the core's mask (0: always there), what it brings and needs."""

    name: str
    bit: int
    description: str
    needs: tuple[str, ...] = ()


_TABLE = (
    Extension("i", 0, "base integer instructions, 64 bits"),
    Extension("m", 1, "integer multiplication and division"),
    Extension("a", 2, "atomic instructions"),
    Extension("f", 4, "single-precision floating point", ("zicsr",)),
    Extension("d", 8, "double-precision floating point", ("f",)),
    Extension("c", 16, "compressed instructions"),
    Extension("zicntr", 0, "cycle, time and instret counters", ("zicsr",)),
    Extension("zicsr", 0, "control and status register instructions"),
    Extension("zifencei", 0, "instruction-fetch fence"),
    Extension("zba", 32, "bit manipulation: address generation"),
    Extension("zbb", 64, "bit manipulation: basic"),
    Extension("zbs", 128, "bit manipulation: single bits"),
    Extension("ssaia", 2048, "advanced interrupt architecture of supervisor mode", ("zicsr",)),
    Extension("sstc", 256, "supervisor timer comparison (stimecmp)"),
    Extension("svadu", 0, "hardware updates of the A and D bits of page table entries"),
    Extension("svinval", 512, "fine-grained invalidation of address translations"),
)

EXTENSIONS: dict[str, Extension] = {e.name: e for e in _TABLE}
"""Every extension by name, in the order of an ISA string."""

ALWAYS: frozenset[str] = frozenset(("i", "zicntr", "zicsr", "zifencei"))
"""Extensions that every hart has, asked for or not."""

OFFERED: tuple[str, ...] = tuple(name for name in EXTENSIONS if name != "svadu")
"""What a plan may give a hart. A and D bits are always updated as Svadu says; announcing neither Svadu nor Svade leaves
that open, and kernels before 6.13 know neither name."""

DEFAULT_EXTENSIONS: tuple[str, ...] = tuple(name for name in OFFERED if name != "ssaia")
"""What a hart announces when nobody says otherwise: Ssaia goes with a machine that has IMSICs."""


def normalize(extensions: Iterable[str]) -> tuple[str, ...]:
    """Return ``extensions`` and those always there in canonical order, each once.

    Raises ValueError for a name the core does not have and for an extension without one that it needs.
    """
    wanted = set(ALWAYS)
    for name in extensions:
        if name not in EXTENSIONS:
            raise ValueError(f"the software core has no ISA extension {name!r}; it has {', '.join(EXTENSIONS)}")
        wanted.add(name)
    for name in wanted:
        for need in EXTENSIONS[name].needs:
            if need not in wanted:
                raise ValueError(f"ISA extension {name!r} needs {need!r}")
    return tuple(name for name in EXTENSIONS if name in wanted)


def isa_bits(extensions: Iterable[str]) -> int:
    """Return the ``VMR_RV64_*`` mask of ``extensions``. Raises ValueError as :func:`normalize` does."""
    return sum(EXTENSIONS[name].bit for name in normalize(extensions))
