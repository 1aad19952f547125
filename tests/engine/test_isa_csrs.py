"""What S-mode's CSRs keep of what is written, sstatus.FS, the counters: the core against QEMU's virt board."""

from __future__ import annotations

import pytest
from rv64lab import BARE, FS, MASK, PAGES, ROOT, ROOT48, SD, TRANSLATE, Lab, compare
from rv64run import missing_core, missing_tool, run_core, run_qemu_system

_MISSING = missing_tool("qemu-system-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


_PATTERNS = [0, MASK, 0x5555555555555555, 0xAAAAAAAAAAAAAAAA, 0x123456789ABCDEF0, *(1 << b for b in range(64))]
_SATP_SAFE = [
    root >> 12 | mode << 60 | asid << 44
    for mode, root in ((8, ROOT), (9, ROOT48)) for asid in (0, 1, 0x8000, 0xFFFF, 0x5555)
]  # fmt: skip


_KEPT = {
    "sepc": ~1 & MASK,  # bit 0 is always zero (volume II, 11.1.7); QEMU 10.0 keeps it
    "senvcfg": 1,  # QEMU keeps the fields of Zicbom and Zicboz without them
}


def _readable(csr: str, pattern: int) -> str:
    """Write the pattern, read back, restore, in one go."""
    return f"csrr a1, {csr}; li a2, {pattern}; csrw {csr}, a2; csrr a0, {csr}; csrw {csr}, a1"


@pytest.mark.parametrize(
    "csr",
    [
        "sie",
        "sip",
        "stvec",
        "sepc",
        "scause",
        "stval",
        "sscratch",
        "senvcfg",
        "stimecmp",
        "scounteren",
        "fflags",
        "frm",
        "fcsr",
    ],
)
def test_what_a_csr_keeps(csr: str) -> None:
    lab = Lab().run_code("csrw sie, zero; csrci sstatus, 2")
    for number, pattern in enumerate(_PATTERNS):
        if csr == "sie":
            lab.run_code("csrci sstatus, 2")
        lab.value(f"{number} {csr} <- {pattern:#x}", _readable(csr, pattern))
    lab.value("set by csrrs", f"csrw {csr}, zero; li a1, -1; csrrs a2, {csr}, a1; csrr a0, {csr}")
    lab.value("cleared by csrrci", f"csrrci a2, {csr}, 21; csrr a0, {csr}")
    lab.value("old value", f"csrrwi a0, {csr}, 9")
    core, qemu = lab.run(run_core, run_qemu_system)
    for name in core:
        assert core[name] == qemu[name] & _KEPT.get(csr, MASK), f"{name}: core {core[name]:#x}, QEMU {qemu[name]:#x}"


def test_what_sstatus_keeps() -> None:
    lab = Lab().run_code("csrw sie, zero")
    for number, pattern in enumerate(_PATTERNS):
        lab.value(f"{number} sstatus <- {pattern:#x}", _readable("sstatus", pattern))
    core, qemu = lab.run(run_core, run_qemu_system)
    uxl = 3 << 32  # QEMU's U-mode can have 32 bits; the core's has 64
    for name in core:
        assert core[name] == qemu[name] & ~uxl | 2 << 32, f"{name}: core {core[name]:#x}, QEMU {qemu[name]:#x}"


def test_what_satp_keeps() -> None:
    """Modes that are not there leave satp as it is. The ASID may have any width (volume II, 11.1.11): it is masked."""
    lab = Lab()
    asid = 0xFFFF << 44
    values = [0, *_SATP_SAFE] + [ROOT >> 12 | mode << 60 for mode in range(16) if mode not in (8, 9)]
    for number, value in enumerate(values):
        again = f"li a1, {value}; csrw satp, a1; csrr a0, satp; csrw satp, zero; li a2, {MASK ^ asid}; and a0, a0, a2"
        lab.value(f"{number} satp <- {value:#x}", again)
    lab.value(
        "mode not there, over a good one", f"{TRANSLATE}; li a1, {10 << 60 | 5}; csrw satp, a1; csrr a0, satp; {BARE}"
    )
    compare(lab)


def test_floating_point_dirty() -> None:
    """FS and SD after each instruction that starts with FS initial. Whatever writes F state makes it dirty."""
    initial = f"li a1, {FS}; csrc sstatus, a1; li a1, {1 << 13}; csrs sstatus, a1; li a1, {PAGES}"
    writers = ["flw fa0, 0(a1)", "fld fa0, 0(a1)", "c.fld fa0, 0(a1)", "fadd.s fa0, fa1, fa2", "fmv.d.x fa0, a1",
    "fcvt.d.l fa0, a1",
               "fsgnj.d fa0, fa0, fa0", "fmadd.d fa0, fa0, fa0, fa0", "csrwi fcsr, 0", "csrwi frm, 0",
               "csrwi fflags, 1", "c.fldsp fa0, 0(sp)"]  # fmt: skip
    readers = [
        "fsw fa0, 0(a1)",
        "fsd fa0, 0(a1)",
        "fmv.x.d a0, fa0",
        "fclass.s a0, fa0",
        "frcsr a0",
        "feq.d a0, fa0, fa0",
    ]
    lab = Lab().run_code(f"li sp, {PAGES}")
    for code in writers + readers:
        lab.value(code, f"{initial}; {code}; csrr a0, sstatus")
    core, qemu = lab.run(run_core, run_qemu_system)
    for code in writers:
        assert core[code] == qemu[code], f"{code}: core {core[code]:#x}, QEMU {qemu[code]:#x}"
        assert core[code] & (FS | SD) == FS | SD
    for code in readers:  # dirty is always allowed (volume II, 3.1.6.6), off never
        assert core[code] & FS in (1 << 13, FS), code


def test_counters() -> None:
    lab = Lab().run_code("li t0, 7; csrw scounteren, t0")
    lab.value("time goes on", "rdtime a1; rdtime a2; sltu a0, a2, a1")
    lab.value("cycle goes on", "rdcycle a1; rdcycle a2; sgtz a0, a2; sltu a1, a1, a2; and a0, a0, a1")
    lab.value("instret counts itself in", "rdinstret a1; nop; nop; rdinstret a2; sub a0, a2, a1")
    lab.run_code(TRANSLATE)
    for bits in range(8):
        lab.run_code(f"csrwi scounteren, {bits}")
        for name in ("cycle", "time", "instret"):
            lab.user(f"scounteren {bits}, {name}", f"csrr a0, {name}")
    lab.run_code(BARE)
    log = compare(lab, {"instret counts itself in": "QEMU without -icount counts host time"})
    assert log["instret counts itself in"] == 3
    assert log["scounteren 2, cycle: scause"] == 2
    assert log["scounteren 2, time: scause"] == 3
