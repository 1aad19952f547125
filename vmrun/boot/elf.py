"""ELF64 kernels (a vmlinux): the loadable segments and the entry, by physical address.

Source: System V ABI, chapter 4 (ELF header) and 5 (program header); RISC-V psABI (EM_RISCV).
"""

from __future__ import annotations

import struct
from itertools import pairwise

from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.riscv_image import truncated
from vmrun.boot.source import Source
from vmrun.errors import Owner, PlanError
from vmrun.units import format_size

MAGIC = b"\x7fELF"
EM_RISCV = 243
MACHINES = {3: "i386", 8: "mips", 20: "powerpc", 21: "powerpc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "arm64",
            EM_RISCV: "riscv", 258: "loongarch"}  # fmt: skip
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_ET_EXEC, _ET_DYN, _PT_LOAD = 2, 3, 1
_MAX_PROGRAMS = 64
_MAX_ADDRESS = 1 << 56  # the longest physical address of RV64, Privileged ISA 4.4 (Sv39)


def place(source: Source, ram_base: int) -> Kernel:
    """Return the ELF's segments at their physical addresses; one linked below RAM goes to ``ram_base`` + 2 MiB.

    Raise PlanError: E112 another architecture, E113 big-endian, E111 truncated, E117 a header that cannot be.
    """
    ident = source.read(0, 16)
    if len(ident) < 16:
        raise truncated(source, _HEADER.size)
    wide, little = ident[4] == 2, ident[5] == 1
    machine = int.from_bytes(source.read(18, 2), "little" if little else "big")
    name = MACHINES.get(machine, f"ELF machine {machine}")
    if machine != EM_RISCV or not wide:
        raise PlanError(
            f"{source.name}: an ELF for {name if machine != EM_RISCV else '32-bit riscv'}, and the board runs riscv64",
            code="E112",
            key=source.key,
            remedy="name a riscv64 kernel, or a board of the kernel's architecture",
        )
    if not little:
        raise PlanError(
            f"{source.name}: a big-endian riscv64 ELF, and the machine is little-endian",
            code="E113",
            key=source.key,
            remedy="build the kernel little-endian",
        )
    head = source.read(0, _HEADER.size)
    if len(head) < _HEADER.size:
        raise truncated(source, _HEADER.size)
    _, kind, _, _, entry, at, _, _, _, entry_size, count, *_ = _HEADER.unpack(head)
    if kind not in (_ET_EXEC, _ET_DYN):
        raise _malformed(source, "is neither executable nor position-independent (a .o or core file)")
    if entry_size != _PROGRAM.size or not 0 < count <= _MAX_PROGRAMS:
        raise _malformed(source, f"has {count} program headers of {entry_size} bytes")
    loads = _loads(source, source.read(at, count * entry_size), at + count * entry_size)
    return _placed(source, loads, entry, ram_base)


def _loads(source: Source, table: bytes, table_end: int) -> list[tuple[Segment, int]]:
    """Return the loadable segments, each with its virtual address."""
    loads = []
    if len(table) % _PROGRAM.size or not table:
        raise truncated(source, table_end)
    for kind, _, offset, virtual, physical, in_file, in_memory, _ in _PROGRAM.iter_unpack(table):
        if kind != _PT_LOAD or in_memory == 0:
            continue
        if in_file > in_memory or physical + in_memory > _MAX_ADDRESS:
            raise _malformed(source, f"has a segment of {in_file} bytes in {in_memory} bytes at {physical:#x}")
        if offset + in_file > source.size:
            raise truncated(source, offset + in_file)
        loads.append((Segment(physical, offset, in_file, in_memory), virtual))
    if not loads:
        raise _malformed(source, "has nothing to load")
    loads.sort(key=lambda load: load[0].gpa)
    for (low, _), (high, _) in pairwise(loads):
        if low.gpa + low.reserve > high.gpa:
            owners = tuple(Owner("ELF segment", s.gpa, s.reserve, source.key) for s in (low, high))
            raise PlanError(
                f"{source.name}: two ELF segments overlap",
                code="E117",
                key=source.key,
                owners=owners,
                remedy="name a vmlinux or an Image",
            )
    return loads


def _placed(source: Source, loads: list[tuple[Segment, int]], entry: int, ram_base: int) -> Kernel:
    # Linux links vmlinux at virtual addresses; the entry is one too, unless it already is physical (U-Boot).
    start = next((s.gpa + entry - v for s, v in loads if v <= entry < v + s.reserve), None)
    if start is None:
        start = next((entry for s, _ in loads if s.gpa <= entry < s.gpa + s.reserve), None)
    if start is None:
        raise _malformed(source, f"starts at {entry:#x}, outside everything it loads")
    # Debian and mainline vmlinux have physical addresses from 0 on: they go where Image goes.
    shift = ram_base + (2 << 20) if loads[0][0].gpa < ram_base else 0
    segments = tuple(Segment(s.gpa + shift, s.offset, s.size, s.reserve) for s, _ in loads)
    total = sum(s.reserve for s in segments)
    about = f"riscv64 ELF, {len(segments)} segments, {format_size(total)}"
    return Kernel("elf", about, segments, entry=start + shift)


def _malformed(source: Source, what: str) -> PlanError:
    return PlanError(f"{source.name}: the ELF {what}", code="E117", key=source.key, remedy="name a vmlinux or an Image")
