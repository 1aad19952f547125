"""The Advanced Interrupt Architecture of S-mode, CSRs, IMSIC and APLIC: the core against QEMU's virt board."""

from __future__ import annotations

from functools import partial

import pytest
from rv64lab import INTERRUPT, MASK, Lab
from rv64run import APLIC, IMSIC, UART, missing_core, missing_tool, run_core, run_qemu_system

_MISSING = missing_tool("qemu-system-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)

EIDELIVERY, EITHRESHOLD, EIP, EIE = 0x70, 0x72, 0x80, 0xC0
QUIET = "csrci sstatus, 2; csrw sie, zero; csrci sip, 2; li t0, -1; csrw stimecmp, t0"
PATTERNS = [0, MASK, 0x5555555555555555, 0x123456789ABCDEF0, *(1 << b for b in range(64))]


def compare(lab: Lab, allowed: dict[str, str] | None = None) -> dict[str, int]:
    """As the lab's own, on machines that have an AIA."""
    core, qemu = lab.run(partial(run_core, aia=True), partial(run_qemu_system, aia=True))
    wrong = [
        f"{n}: core {core[n]:#x}, QEMU {qemu[n]:#x}" for n in core if core[n] != qemu[n] and n not in (allowed or {})
    ]
    assert not wrong, f"{len(wrong)} of {len(core)} values differ:\n" + "\n".join(wrong[:40])
    return core


def put(select: int, value: int) -> str:
    """Write an indirect register."""
    return f"li t1, {select}; csrw siselect, t1; li t1, {value}; csrw sireg, t1\n"


def get(select: int, to: str = "a0") -> str:
    return f"li t1, {select}; csrw siselect, t1; csrr {to}, sireg\n"


def message(identity: int, register: int = 0) -> str:
    """Send one to this hart, as a device would."""
    return f"li t1, {IMSIC + register}; li t2, {identity}; sw t2, 0(t1)\n"


def store(offset: int, value: int) -> str:
    """Write a register of the APLIC."""
    return f"li t1, {APLIC + offset}; li t2, {value}; sw t2, 0(t1)\n"


def load(offset: int, to: str = "a0") -> str:
    return f"li t1, {APLIC + offset}; lwu {to}, 0(t1)\n"


CLEAN = (
    QUIET
    + "\n"
    + "".join(put(r, 0) for r in (EIDELIVERY, EITHRESHOLD, *range(EIP, EIP + 8, 2), *range(EIE, EIE + 8, 2)))
)
"""Nothing pending, nothing enabled."""


# ---- CSRs


def test_what_siselect_reaches() -> None:
    """Every number of nine bits: a read, and a write of ones behind which the register is read again."""
    lab = Lab().run_code(CLEAN)
    for select in range(0x200):
        lab.run_code(f"li a2, {select}; csrw siselect, a2")
        lab.probe(f"{select:#x} read", "csrr a0, sireg")
        lab.probe(f"{select:#x} write", "li a1, -1; csrw sireg, a1")
        lab.run_code(CLEAN)
    zeros = (0x71, *range(0x73, 0x80), *range(EIP + 8, EIE, 2), *range(EIE + 8, 0x100, 2))
    reserved = {
        f"{select:#x} {how}: {part}": "read-only zero (sections 3.7, 3.8.3 and 3.8.4), an exception in QEMU"
        for select in zeros for how in ("read", "write") for part in ("scause", "stval", "sepc", "sstatus")
    }  # fmt: skip
    log = compare(lab, reserved)
    assert all(log[name] == (-1 if name.endswith("scause") else 0) for name in reserved)
    assert log["0x31 read: scause"] == 2 and log["0x30 read: scause"] == -1


@pytest.mark.parametrize("select", [EIDELIVERY, EITHRESHOLD, EIP, EIP + 6, EIE, EIE + 6, 0x30, 0x3E])
def test_what_indirect_registers_keep(select: int) -> None:
    lab = Lab().run_code(CLEAN)
    for pattern in PATTERNS:
        lab.value(f"{pattern:#x}", put(select, pattern) + "csrr a0, sireg")
    lab.value("set", put(select, 0) + "li a1, 0x101; csrrs a2, sireg, a1; csrr a0, sireg")
    lab.value("clear", put(select, 0x1FF) + "csrrci a2, sireg, 21; csrr a0, sireg")
    lab.value("old value", put(select, 0x55) + "csrrwi a0, sireg, 9")
    lab.run_code(CLEAN)
    core, qemu = lab.run(partial(run_core, aia=True), partial(run_qemu_system, aia=True))
    zeros = select < EIDELIVERY  # priorities may be read-only zeros (section 5.4.1); QEMU keeps some
    for name in core:
        assert core[name] == (0 if zeros else qemu[name]), f"{name}: core {core[name]:#x}, QEMU {qemu[name]:#x}"


@pytest.mark.parametrize("csr", ["siselect", "stopi"])
def test_what_csrs_keep(csr: str) -> None:
    lab = Lab().run_code(CLEAN)
    for pattern in PATTERNS:
        lab.probe(f"{pattern:#x}", f"li a1, {pattern}; csrw {csr}, a1")
        lab.value(f"{pattern:#x} read", f"csrr a0, {csr}")
    compare(lab)


def test_top_interrupts() -> None:
    lab = Lab().run_code(CLEAN + put(EIE, 0xFFFFFFFFFFFFFFFE) + put(EIE + 6, MASK))
    top = "csrr a0, stopei"
    lab.value("none", top)
    lab.value("one", message(40) + top)
    lab.value("a better one", message(7) + top)
    lab.value("a worse one", message(255) + top)
    lab.value("no delivery, no SEIP", "csrr a0, sip")
    lab.value("delivery", put(EIDELIVERY, 1) + "csrr a0, sip")
    lab.value("threshold as low", put(EITHRESHOLD, 7) + top)
    lab.value("and SEIP", "csrr a0, sip")
    lab.value("threshold one higher", put(EITHRESHOLD, 8) + top)
    lab.value("threshold off", put(EITHRESHOLD, 0) + top)
    lab.value("claimed", "csrrw a0, stopei, zero")
    lab.value("the next", top)
    lab.value("claimed by an immediate", "csrrsi a0, stopei, 1")
    lab.value("the last", top)
    lab.value("read alone claims nothing", f"csrrs a0, stopei, zero; {top}")
    lab.value("SEIP is there", "csrr a0, sip")
    lab.value("not enabled", put(EIE + 6, 0) + top)
    lab.value("pending all the same", get(EIP + 6))
    lab.value("SEIP is gone", "csrr a0, sip")
    lab.value("pending by software", put(EIP, 1 << 9) + top)
    lab.value("cleared by software", put(EIP, 0) + top)
    lab.value("big-endian", message(0x21000000, 4) + top)
    for identity in (0, 256, 2047, 0xFFFFFFFF):
        lab.value(f"no such identity {identity}", CLEAN + message(identity) + "".join(
            get(EIP + 2 * n, "a1") + ("mv a0, a1\n" if not n else "or a0, a0, a1\n") for n in range(4)))  # fmt: skip
    lab.value("a page reads zero", f"li t1, {IMSIC}; lwu a0, 0(t1); lwu a1, 4(t1); or a0, a0, a1")
    lab.run_code(CLEAN)
    log = compare(lab, {"big-endian": "may be ignored (section 3.5), as QEMU does"})
    assert log["big-endian"] == 33 << 16 | 33
    assert log["claimed"] == 7 << 16 | 7 and log["the next"] == 40 << 16 | 40


def test_stopi_and_traps_agree() -> None:
    """Which major interrupt comes first, with stopi's identity beside what is taken."""
    requests = {"external": message(3), "software": "csrsi sip, 2", "timer": "csrw stimecmp, zero"}
    lab = Lab()
    for mask in range(8):
        chosen = [request for bit, request in enumerate(requests.values()) if mask >> bit & 1]
        for enabled in (0, 2, 0x20, 0x200, 0x222):
            name = f"{mask:03b} of {enabled:#x}"
            lab.run_code(CLEAN + put(EIDELIVERY, 1) + put(EIE, 1 << 3) + "\n".join(chosen))
            lab.run_code(f"li t0, {enabled}; csrw sie, t0")
            lab.value(f"{name}: identity", "csrr a0, stopi; srli a0, a0, 16")
            lab.probe(name, "csrsi sstatus, 2; nop; nop; ebreak")
    lab.run_code(CLEAN)
    log = compare(lab)
    assert log["111 of 0x222: scause"] == INTERRUPT | 9 and log["111 of 0x222: identity"] == 9
    assert log["110 of 0x222: scause"] == INTERRUPT | 1


def test_a_message_to_oneself_traps() -> None:
    lab = Lab().run_code(CLEAN + put(EIDELIVERY, 1) + put(EIE, 1 << 3))
    lab.probe("spinning", "li t0, 0x200; csrw sie, t0; csrsi sstatus, 2\n" + message(3) + "on@: j on@")
    lab.run_code("csrci sstatus, 2; csrw stopei, zero")
    lab.probe("asleep", "li t0, 0x200; csrw sie, t0; csrsi sstatus, 2\n" + message(3) + "on@: wfi; j on@")
    lab.run_code(CLEAN)
    log = compare(lab, {"asleep: sepc": "in front of the wfi or behind it", "spinning: sepc": "when it is seen"})
    assert log["spinning: scause"] == INTERRUPT | 9


# ---- the APLIC


DOMAINCFG, SETIP, SETIPNUM, IN_CLRIP, CLRIPNUM = 0, 0x1C00, 0x1CDC, 0x1D00, 0x1DDC
SETIE, SETIENUM, CLRIE, CLRIENUM, GENMSI = 0x1E00, 0x1EDC, 0x1F00, 0x1FDC, 0x3000
DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0 = 1, 4, 5, 6, 7
WIRE = 10


def sourcecfg(source: int) -> int:
    return 4 * source


def target(source: int) -> int:
    return 0x3000 + 4 * source


LISTEN = CLEAN + put(EIDELIVERY, 1) + put(EIE, MASK - 1) + store(DOMAINCFG, 4)
"""The file takes all; the domain sends by message, and not yet."""
UART_HIGH = f"li t1, {UART}; li t2, 2; sb t2, 1(t1)\n"
UART_LOW = f"li t1, {UART}; sb zero, 1(t1)\n"
PENDING, INPUT, ENABLED = (load(base + 4 * (WIRE // 32)) for base in (SETIP, IN_CLRIP, SETIE))
ARRIVED = "csrrw a0, stopei, zero\n"


def test_registers_of_the_domain() -> None:
    lab = Lab().run_code(LISTEN)
    for value in (0, 4, 0x104, 0x1FE, 0x80000004):
        lab.value(f"domaincfg {value:#x}", store(DOMAINCFG, value | 4) + load(DOMAINCFG))
    lab.run_code(store(DOMAINCFG, 4))
    for value in (0, DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0, 0x400, 0x406, 0x401, 0xFFFFFBF9):
        lab.value(f"sourcecfg {value:#x}", store(sourcecfg(5), value) + load(sourcecfg(5)))
    for value in (0, MASK, 0x7FF, 0x12345678, 1 << 11, 63 << 12):
        lab.value(
            f"target {value:#x}", store(sourcecfg(5), DETACHED) + store(target(5), value & 0x7FF) + load(target(5))
        )
    lab.value("target of an inactive source", store(sourcecfg(5), 0) + store(target(5), 5) + load(target(5)))
    for source in (1, 31, 32, 63, 96, 97, 1023):
        lab.value(f"sourcecfg[{source}]", store(sourcecfg(source), EDGE1) + load(sourcecfg(source)))
        lab.value(f"target[{source}]", store(target(source), 33) + load(target(source)))
        lab.run_code(store(sourcecfg(source), 0))
    for offset in (SETIPNUM, CLRIPNUM, SETIENUM, CLRIENUM, 0x2000, 0x2004, CLRIE, 0x1BC0, 0x1BC4, 0x1BC8, 0x1BCC,
                   0x1C80, 0x1CD8, 0x1F80, 0x2008, 0x2FFC):  # fmt: skip
        lab.value(f"read of {offset:#x}", load(offset))
    log = compare(lab, {"target of an inactive source": "read-only zero (section 4.5.16); QEMU keeps it"})
    assert log["target of an inactive source"] == 0


def test_bits_of_sources() -> None:
    lab = Lab().run_code(LISTEN + "".join(store(sourcecfg(s), DETACHED) for s in (1, 2, 31, 32, 33, 96)))
    words = {"pending": SETIP, "enabled": SETIE}
    ways = {
        "setip": store(SETIP, 0xFFFFFFFF) + store(SETIP + 4, 0xFFFFFFFF) + store(SETIP + 12, 0xFFFFFFFF),
        "clripnum": store(CLRIPNUM, 2) + store(CLRIPNUM, 5) + store(CLRIPNUM, 0) + store(CLRIPNUM, 2000),
        "in_clrip": store(IN_CLRIP + 4, 1),
        "setipnum": store(SETIPNUM, 2) + store(SETIPNUM, 5) + store(SETIPNUM, 97) + store(SETIPNUM, 0),
        "setipnum_le": store(0x2000, 32) + store(0x2000, 0xFFFFFFFF),
        "clrip": store(IN_CLRIP, 0xFFFFFFFF) + store(IN_CLRIP + 4, 0xFFFFFFFF) + store(IN_CLRIP + 12, 0xFFFFFFFF),
        "setie": store(SETIE, 0xFFFFFFFF) + store(SETIE + 4, 3) + store(SETIE + 12, 0xFFFFFFFF),
        "clrienum": store(CLRIENUM, 31) + store(CLRIENUM, 3) + store(CLRIENUM, 0xFFFFFFFF),
        "setienum": store(SETIENUM, 31) + store(SETIENUM, 3) + store(SETIENUM, 1023),
        "clrie": store(CLRIE, 0xFFFFFFFE) + store(CLRIE + 4, 2),
        "inactive": store(sourcecfg(96), 0) + store(sourcecfg(32), 0x400),
        "active again": store(sourcecfg(96), DETACHED) + store(sourcecfg(32), DETACHED),
    }
    for way, code in ways.items():
        lab.run_code(code)
        for word, base in words.items():
            for index in range(4):
                lab.value(f"{way}: {word} {index}", load(base + 4 * index))
    compare(lab)


def test_messages_leave_when_pending_and_enabled() -> None:
    lab = Lab().run_code(LISTEN + store(sourcecfg(7), DETACHED) + store(target(7), 21))
    lab.value("pending only", store(SETIPNUM, 7) + ARRIVED)
    lab.value("enabled, the domain is not", store(SETIENUM, 7) + ARRIVED)
    lab.value("the domain too", store(DOMAINCFG, 0x104) + ARRIVED)
    lab.value("no longer pending", load(SETIP))
    lab.value("enabled as before", load(SETIE))
    lab.value("again", store(SETIP, 1 << 7) + ARRIVED)
    lab.value("another identity", store(target(7), 5) + store(SETIPNUM, 7) + ARRIVED)
    lab.value("identity 0", store(target(7), 0) + store(SETIPNUM, 7) + ARRIVED)
    lab.value("genmsi", store(DOMAINCFG, 4) + store(GENMSI, 44) + ARRIVED)
    lab.value("genmsi reads", load(GENMSI))
    compare(lab)


@pytest.mark.parametrize("mode", [DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0])
def test_a_wire_in_each_mode(mode: int) -> None:
    """The UART's line goes up and down; what is pending, and what arrives."""
    lab = Lab().run_code(
        LISTEN + UART_LOW + store(sourcecfg(WIRE), mode) + store(target(WIRE), 21) + store(IN_CLRIP, 1 << WIRE)
    )
    steps = {
        "low": UART_LOW,
        "high": UART_HIGH,
        "cleared while high": store(CLRIPNUM, WIRE),
        "set while high": store(SETIPNUM, WIRE),
        "low again": UART_LOW,
        "cleared while low": store(IN_CLRIP, 1 << WIRE),
        "set while low": store(SETIPNUM, WIRE),
        "cleared": store(CLRIPNUM, WIRE),
    }
    for way in ("held", "sent"):
        for step, code in steps.items():
            lab.run_code(code)
            lab.value(f"{way}, {step}: pending", PENDING + f"li a1, {1 << WIRE}; and a0, a0, a1")
            lab.value(f"{way}, {step}: input", INPUT + f"li a1, {1 << WIRE}; and a0, a0, a1")
            lab.value(f"{way}, {step}: arrived", ARRIVED)
        lab.run_code(store(DOMAINCFG, 0x104) + store(SETIENUM, WIRE) + ARRIVED)
    lab.run_code(store(sourcecfg(WIRE), 0) + UART_LOW)
    allowed = {}
    if mode == DETACHED:
        allowed = {n: "zero without a wire (section 4.5.2); QEMU shows it" for n, _ in lab.names if n.endswith("input")}
    if mode == LEVEL1:
        allowed = {"held, low again: pending": "a low level is never pending (section 4.7); QEMU keeps the bit"}
    log = compare(lab, allowed)
    assert not any(log[name] for name in allowed)
    if mode == LEVEL1:
        assert log["sent, high: arrived"] == 21 << 16 | 21 and log["held, high: pending"]


def test_a_level_is_sent_once_until_it_is_asked_for() -> None:
    """Sections 4.9.2: what a handler does at its end, the way that Linux takes."""
    lab = Lab().run_code(LISTEN + UART_LOW + store(sourcecfg(WIRE), LEVEL1) + store(target(WIRE), 9))
    lab.run_code(store(SETIENUM, WIRE) + store(DOMAINCFG, 0x104))
    lab.value("up", UART_HIGH + ARRIVED)
    lab.value("stays", ARRIVED)
    lab.value("asked for", store(0x2000, WIRE) + ARRIVED)
    lab.value("gone", UART_LOW + store(0x2000, WIRE) + ARRIVED)
    lab.run_code(store(sourcecfg(WIRE), 0))
    log = compare(lab)
    assert [log[n] & 0x7FF for n in ("up", "stays", "asked for", "gone")] == [9, 0, 9, 0]
