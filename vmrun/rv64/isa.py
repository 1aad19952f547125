"""The ISA extensions that the software core has: one table from which bits, ISA strings and checks derive.

Bits are those of ``vmrun/rv64/core/rv64_api.h`` (``VMR_RV64_*``); an extension with bit 0 is always there. Order and
spelling follow the Unprivileged ISA's naming chapter: single letters in canonical order, then Z extensions by the
letter after the z in that same order and then by name, then S extensions by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmrun.frozen import frozen

_CANONICAL = "imafdqlcbkjtpvh"
SV48_BIT = 1024
"""``VMR_RV64_SV48``: not an extension of the ISA string but the device tree's ``mmu-type``."""


@frozen
class Extension:
    """One extension: its lower-case name, its bit in the core's mask (0: always there), what it brings and needs."""

    name: str
    bit: int
    description: str
    needs: tuple[str, ...] = ()


def _rank(name: str) -> tuple[int, int, str]:
    """Return the sort key of an extension's place in an ISA string."""
    if len(name) == 1:
        return (0, _CANONICAL.index(name), name)
    if name.startswith("z"):
        return (1, _CANONICAL.find(name[1]), name)
    return (2, 0, name)


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
    Extension("sstc", 256, "supervisor timer comparison (stimecmp)"),
    Extension("svadu", 0, "hardware updates of the A and D bits of page table entries"),
    Extension("svinval", 512, "fine-grained invalidation of address translations"),
)

EXTENSIONS: dict[str, Extension] = {e.name: e for e in sorted(_TABLE, key=lambda e: _rank(e.name))}
"""Every extension by name, in the order of an ISA string."""

ALWAYS: frozenset[str] = frozenset(("i", "zicntr", "zicsr", "zifencei"))
"""Extensions that every hart has, asked for or not."""

DEFAULT_EXTENSIONS: tuple[str, ...] = tuple(name for name in EXTENSIONS if name != "svadu")
"""What a hart announces when nobody says otherwise. A and D bits are always updated as Svadu says; announcing neither
Svadu nor Svade leaves that open, and kernels before 6.13 know neither name."""


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


def isa_string(extensions: Iterable[str]) -> str:
    """Return the ISA string of ``extensions``: ``rv64imac_zicntr_zicsr_zifencei_svadu``. Raises as normalize."""
    names = normalize(extensions)
    letters = "".join(name for name in names if len(name) == 1)
    return "_".join([f"rv64{letters}", *(name for name in names if len(name) > 1)])


def parse_isa_string(text: str) -> tuple[str, ...]:
    """Return the extensions that an ISA string names, in canonical order.

    Takes any order of the multi-letter extensions, upper case, and ``g`` for ``imafd_zicsr_zifencei``.
    Raises ValueError when the string is not one, or names what the core does not have, twice, or without its needs.
    """
    first, *rest = text.strip().lower().split("_")
    if not first.startswith("rv64"):
        raise ValueError(f"ISA string {text!r} does not begin with rv64")
    letters = first.removeprefix("rv64").replace("g", "imafd", 1)
    if not letters.startswith("i"):
        raise ValueError(f"ISA string {text!r} does not name the base: i or g comes after rv64")
    names = [*letters, *rest]
    if "" in names:
        raise ValueError(f"ISA string {text!r} has an empty part between underscores")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"ISA string {text!r} names {name!r} twice")
    return normalize(names)
