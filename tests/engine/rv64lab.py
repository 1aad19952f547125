"""Probes: pieces of S-mode or U-mode code, each of which may trap once, with a log of all that came of it.

    lab = Lab()
    lab.probe("a load from nowhere", "li a0, 0x5000000000; ld a1, 0(a0)")
    lab.user("ecall from U", "ecall")
    lab.value("sstatus", "csrr a0, sstatus")

A probe logs scause, stval, sepc and sstatus after the trap (zeros where nothing trapped); a value logs a0. Probe code
may use all registers but s9, s10 and s11. ``lab.run(runner)`` returns the log as a dictionary. A one-to-one map of
RAM and, ``ALIAS`` above it, the same for U-mode are there for code that wants Sv39 (``TRANSLATE``).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

from rv64asm import Asm
from rv64case import Runner
from rv64run import FINISH, PAYLOAD, RAM, Program, run_core, run_qemu_system

ALIAS = 0x4000_0000
_PAGE = 4096
_CODE = PAYLOAD
_CODE_SIZE = 0x4_0000
_TABLES = _CODE + _CODE_SIZE
ROOT, ROOT2, MIDDLE, LEAF, LEAF2, ROOT48 = (_TABLES + n * _PAGE for n in range(6))
PAGES = _TABLES + 8 * _PAGE  # four pages for tests, zero at first
LOG = _TABLES + 16 * _PAGE
MAPPED = (
    0x2_0000_0000  # the addresses that LEAF maps: its entries 0 to 3 are PAGES, for U-mode; 4 to 7 the same for S-mode
)
FLAGS_S, FLAGS_U = 0xCF, 0xDF
TRANSLATE = f"li t0, {8 << 60 | ROOT >> 12}; csrw satp, t0; sfence.vma"
BARE = "csrw satp, zero; sfence.vma"
TRAPPED = 1 << 32
SIE, SPIE, SPP, FS, SUM, MXR, SD = 1 << 1, 1 << 5, 1 << 8, 3 << 13, 1 << 18, 1 << 19, 1 << 63  # of sstatus
INTERRUPT = 1 << 63
MASK = (1 << 64) - 1
NOWHERE = 0x50_0000_0000  # no memory and no device there, neither here nor on QEMU's virt board
STALE = "QEMU leaves the encoding of an earlier illegal instruction in stval"
FIELDS = ("scause", "stval", "sepc", "sstatus")


def entry(physical: int, flags: int) -> int:
    """A page-table entry for a physical address."""
    return physical >> 12 << 10 | flags


def leaf_slot(index: int) -> int:
    """Where LEAF's entry ``index`` stands in memory."""
    return LEAF + 8 * index


@dataclass(slots=True)
class Lab:
    """Collects probes and values, then runs them in order."""

    asm: Asm = field(default_factory=Asm)
    names: list[tuple[str, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asm.text(f"""
            la   t0, trap
            csrw stvec, t0
            li   s11, {LOG}
            j    start
            .align 4
        trap:
            csrr s9, scause
            bseti s9, s9, 32
            sd   s9, 0(s11)
            csrr s9, stval
            sd   s9, 8(s11)
            csrr s9, sepc
            sd   s9, 16(s11)
            csrr s9, sstatus
            sd   s9, 24(s11)
            jr   s10
        start:
        """)

    def run_code(self, code: str) -> Lab:
        """Code that neither traps nor logs."""
        self.asm.text(code)
        return self

    def probe(self, name: str, code: str) -> Lab:
        """S-mode code that may trap; labels in it end in ``@`` to be its own. Execution goes on behind it."""
        end = self.asm.unique("end")
        self.asm("la", "s10", end).text(self._own(code, end)).label(end)("addi", "s11", "s11", 32)
        return self._named(name, probe=True)

    def user(self, name: str, code: str, status: int = 0) -> Lab:
        """The same in U-mode under TRANSLATE; the code ends in an ebreak. ``status``: bits to set in sstatus before."""
        end, place = self.asm.unique("end"), self.asm.unique("user")
        self.asm("la", "s10", end).text(f"""
            li   t0, {0x100}
            csrc sstatus, t0
            li   t0, {status}
            csrs sstatus, t0
            la   t0, {place}
            li   t1, {ALIAS}
            add  t0, t0, t1
            csrw sepc, t0
            li   t0, 0
            li   t1, 0
            sret
        """)
        self.asm.label(place).text(self._own(code, end))("ebreak").label(end)("addi", "s11", "s11", 32)
        return self._named(name, probe=True)

    def value(self, name: str, code: str) -> Lab:
        """S-mode code that leaves a value in a0."""
        self.asm.text(self._own(code, self.asm.unique("v")))("sd", "a0", "0(s11)")("addi", "s11", "s11", 8)
        return self._named(name, probe=False)

    @staticmethod
    def _own(code: str, stem: str) -> str:
        return re.sub(r"(\w+)@", lambda m: f"{stem}.{m[1]}", code)

    def _named(self, name: str, *, probe: bool) -> Lab:
        if any(n == name for n, _ in self.names):
            raise ValueError(f"{name} is there twice")
        self.names.append((name, probe))
        return self

    def program(self) -> Program:
        """Finish the program. Its dump is the log."""
        asm = self.asm
        asm.text(FINISH)
        code = asm.assemble(_CODE)
        if len(code) > _CODE_SIZE:
            raise ValueError(f"too many probes: {len(code)} bytes of code")
        tables = {ROOT: {2: entry(RAM, FLAGS_S), 3: entry(RAM, FLAGS_U), 8: entry(MIDDLE, 1)},
                  ROOT2: {2: entry(RAM, FLAGS_S), 3: entry(RAM, FLAGS_U)},
                  MIDDLE: {0: entry(LEAF, 1)},
                  LEAF: {n: entry(PAGES + n % 4 * _PAGE, FLAGS_U if n < 4 else FLAGS_S) for n in range(8)},
                  LEAF2: {},
                  ROOT48: {0: entry(ROOT, 1)}}  # fmt: skip
        image = code.ljust(_CODE_SIZE, b"\0")
        for content in tables.values():
            page = bytearray(_PAGE)
            for index, value in content.items():
                page[8 * index : 8 * index + 8] = struct.pack("<Q", value)
            image += bytes(page)
        size = sum(32 if probe else 8 for _, probe in self.names)
        return Program(image.ljust(LOG - PAYLOAD + size, b"\0"), LOG, size)

    def read(self, dump: bytes) -> dict[str, int]:
        """The log by name; a probe's parts as ``name: scause`` and so on, scause without TRAPPED, or -1 for no trap."""
        found: dict[str, int] = {}
        at = 0
        for name, probe in self.names:
            for part in FIELDS if probe else ("",):
                value = int.from_bytes(dump[at : at + 8], "little")
                if part == "scause":
                    value = value & ~TRAPPED if value & TRAPPED else -1
                found[f"{name}: {part}" if part else name] = value
                at += 8
        return found

    def run(self, *runners: Runner) -> list[dict[str, int]]:
        """Run on each and return the logs."""
        made = self.program()
        return [self.read(runner(made)) for runner in runners]


def compare(lab: Lab, allowed: dict[str, str] | None = None) -> dict[str, int]:
    """Run on the core and under QEMU and compare all but the names in ``allowed`` (name: why they may differ).

    Returns the core's log.
    """
    core, qemu = lab.run(run_core, run_qemu_system)
    wrong = [
        f"{name}: core {core[name]:#x}, QEMU {qemu[name]:#x}"
        for name in core
        if core[name] != qemu[name] and name not in (allowed or {})
    ]
    assert not wrong, f"{len(wrong)} of {len(core)} values differ:\n" + "\n".join(wrong[:40])
    return core
