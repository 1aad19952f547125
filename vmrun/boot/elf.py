"""ELF64 kernels (a vmlinux): the loadable segments, the notes and the entry, by physical address.

Source: System V ABI, chapter 4 (ELF header) and 5 (program header, notes); RISC-V psABI (EM_RISCV).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import pairwise

from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source, truncated
from vmrun.errors import Owner, PlanError
from vmrun.frozen import frozen
from vmrun.units import format_size

MAGIC = b"\x7fELF"
EM_RISCV = 243
EM_X86_64 = 62
EM_AARCH64 = 183
MACHINES = {3: "i386", 8: "mips", 20: "powerpc", 21: "powerpc64", 22: "s390x", 40: "arm", EM_X86_64: "x86_64",
            EM_AARCH64: "arm64", EM_RISCV: "riscv64", 258: "loongarch"}  # fmt: skip
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_NOTE = struct.Struct("<III")
_ET_EXEC, _ET_DYN, _PT_LOAD, _PT_NOTE = 2, 3, 1, 4
_MAX_PROGRAMS = 64
_MAX_ADDRESS = 1 << 56  # the longest physical address of RV64, Privileged ISA 4.4 (Sv39); x86 has fewer bits
_MAX_NOTES = 64 << 10


@frozen
class Load:
    """A loadable segment at its physical address, and the virtual one that it is linked for."""

    segment: Segment
    virtual: int


@frozen
class Elf:
    """What an ELF kernel says: ``loads`` by physical address, disjoint; ``entry`` as its header has it."""

    loads: tuple[Load, ...]
    entry: int
    notes: tuple[tuple[str, int, bytes], ...]

    def physical_entry(self) -> int | None:
        """Return the entry's physical address, None where it lies outside everything that is loaded.

        Linux links vmlinux at virtual addresses; the entry is one too, unless it already is physical (x86, U-Boot).
        """
        for load in self.loads:
            if load.virtual <= self.entry < load.virtual + load.segment.reserve:
                return load.segment.gpa + self.entry - load.virtual
        return next((self.entry for s in self.segments() if s.gpa <= self.entry < s.gpa + s.reserve), None)

    def segments(self) -> tuple[Segment, ...]:
        """Return the segments."""
        return tuple(load.segment for load in self.loads)


def read(source: Source, machine: int, arch: str) -> Elf:
    """Return what the ELF in ``source`` says, if it is for ``machine`` (EM_*) of the board's ``arch``.

    Raise PlanError: E112 another architecture, E113 big-endian, E111 truncated, E117 a header that cannot be.
    """
    ident = source.read(0, 16)
    if len(ident) < 16:
        raise truncated(source, _HEADER.size)
    wide, little = ident[4] == 2, ident[5] == 1
    found = int.from_bytes(source.read(18, 2), "little" if little else "big")
    name = MACHINES.get(found, f"ELF machine {found}")
    if found != machine or not wide:
        raise PlanError(
            f"{source.name}: an ELF for {name if found != machine else f'a 32-bit {arch}'}, and the board runs {arch}",
            code="E112",
            key=source.key,
            remedy=f"name {_article(arch)} {arch} kernel, or a board of the kernel's architecture",
        )
    if not little:
        raise PlanError(
            f"{source.name}: a big-endian {arch} ELF, and the machine is little-endian",
            code="E113",
            key=source.key,
            remedy="build the kernel little-endian",
        )
    head = source.read(0, _HEADER.size)
    if len(head) < _HEADER.size:
        raise truncated(source, _HEADER.size)
    _, kind, _, _, entry, at, _, _, _, entry_size, count, *_ = _HEADER.unpack(head)
    if kind not in (_ET_EXEC, _ET_DYN):
        raise malformed(source, "is neither executable nor position-independent (a .o or core file)")
    if entry_size != _PROGRAM.size or not 0 < count <= _MAX_PROGRAMS:
        raise malformed(source, f"has {count} program headers of {entry_size} bytes")
    table, end = source.read(at, count * entry_size), at + count * entry_size
    if len(table) != count * entry_size:
        raise truncated(source, end)
    return Elf(_loads(source, table), entry, tuple(_notes(source, table)))


def _article(arch: str) -> str:
    return "an" if arch[0] in "aeiou" or arch.startswith("x86") else "a"


def _loads(source: Source, table: bytes) -> tuple[Load, ...]:
    loads = []
    for kind, _, offset, virtual, physical, in_file, in_memory, _ in _PROGRAM.iter_unpack(table):
        if kind != _PT_LOAD or in_memory == 0:
            continue
        if in_file > in_memory or physical + in_memory > _MAX_ADDRESS:
            raise malformed(source, f"has a segment of {in_file} bytes in {in_memory} bytes at {physical:#x}")
        if offset + in_file > source.size:
            raise truncated(source, offset + in_file)
        loads.append(Load(Segment(physical, offset, in_file, in_memory), virtual))
    if not loads:
        raise malformed(source, "has nothing to load")
    loads.sort(key=lambda load: load.segment.gpa)
    for low, high in pairwise(load.segment for load in loads):
        if low.gpa + low.reserve > high.gpa:
            raise PlanError(
                f"{source.name}: two ELF segments overlap",
                code="E117",
                key=source.key,
                owners=tuple(Owner("ELF segment", s.gpa, s.reserve, source.key) for s in (low, high)),
                remedy="name a vmlinux or an Image",
            )
    return tuple(loads)


def _notes(source: Source, table: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield (owner, type, bytes) of each note; what is damaged ends the list, since no kernel needs a note."""
    for kind, _, offset, _, _, size, _, _ in _PROGRAM.iter_unpack(table):
        if kind != _PT_NOTE:
            continue
        data, at = source.read(offset, min(size, _MAX_NOTES)), 0
        while at + _NOTE.size <= len(data):
            name_size, value_size, type_ = _NOTE.unpack_from(data, at)
            name_at = at + _NOTE.size
            value_at = name_at + (name_size + 3 & ~3)
            at = value_at + (value_size + 3 & ~3)
            if value_at + value_size > len(data):
                break
            owner = data[name_at : name_at + name_size].rstrip(b"\0").decode("latin-1")
            yield owner, type_, data[value_at : value_at + value_size]


def place(source: Source, ram_base: int) -> Kernel:
    """Return a riscv64 ELF's segments at their physical addresses; one linked below RAM goes to ``ram_base`` + 2 MiB.

    Raise PlanError as `read`.
    """
    elf = read(source, EM_RISCV, "riscv64")
    start = elf.physical_entry()
    if start is None:
        raise malformed(source, f"starts at {elf.entry:#x}, outside everything it loads")
    # Debian and mainline vmlinux have physical addresses from 0 on: they go where Image goes.
    shift = ram_base + (2 << 20) if elf.loads[0].segment.gpa < ram_base else 0
    segments = tuple(Segment(s.gpa + shift, s.offset, s.size, s.reserve) for s in elf.segments())
    total = sum(s.reserve for s in segments)
    about = f"riscv64 ELF, {len(segments)} segments, {format_size(total)}"
    return Kernel("elf", about, segments, entry=start + shift)


def malformed(source: Source, what: str) -> PlanError:
    """Return the error of an ELF that ``what`` says."""
    return PlanError(f"{source.name}: the ELF {what}", code="E117", key=source.key, remedy="name a vmlinux or an Image")
