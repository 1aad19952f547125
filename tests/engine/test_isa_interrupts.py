"""Software and timer interrupts of S-mode: when, which first, to where; the core against QEMU's virt board."""

from __future__ import annotations

import pytest
from rv64lab import BARE, INTERRUPT, SIE, SPIE, SPP, TRANSLATE, Lab, compare
from rv64run import missing_core, missing_tool

_MISSING = missing_tool("qemu-system-riscv64") or missing_core()
pytestmark = pytest.mark.skipif(bool(_MISSING), reason=_MISSING)


_NO_INTERRUPTS = "csrci sstatus, 2; csrw sie, zero; csrci sip, 2; li t0, -1; csrw stimecmp, t0"


def test_interrupts_in_supervisor_mode() -> None:
    lab = Lab()
    lab.value("sip at rest", f"{_NO_INTERRUPTS}; csrr a0, sip")
    lab.value("sip, timer due", "csrw stimecmp, zero; csrr a0, sip")
    lab.value("sip, timer not due", "li t0, -1; csrw stimecmp, t0; csrr a0, sip")
    lab.value("sip, software", "csrsi sip, 2; csrr a0, sip")
    lab.value("sip, all bits written", "li t0, -1; csrw sip, t0; csrr a0, sip")
    lab.value("sip, cleared", "csrw sip, zero; csrr a0, sip")
    ways = {
        "by sstatus": "{due}; li t0, 0x222; csrw sie, t0; csrsi sstatus, 2",
        "by sie": "{due}; csrsi sstatus, 2; li t0, 0x222; csrw sie, t0",
        "by the request": "csrsi sstatus, 2; li t0, 0x222; csrw sie, t0; {due}",
    }
    requests = {"software": "csrsi sip, 2", "timer": "csrw stimecmp, zero", "both": "csrsi sip, 2; csrw stimecmp, zero"}
    for way, code in ways.items():
        for request, due in requests.items():
            if (way, request) != ("by the request", "both"):
                lab.run_code(_NO_INTERRUPTS)
                lab.probe(f"{request} {way}", code.format(due=due) + "; nop; nop; ebreak")
    for request, due in requests.items():
        lab.run_code(_NO_INTERRUPTS)
        lab.probe(f"{request}, SIE off", f"{due}; li t0, 0x222; csrw sie, t0; nop; nop")
        lab.run_code(_NO_INTERRUPTS)
        lab.probe(f"{request}, sie off", f"{due}; csrsi sstatus, 2; nop; nop")
        lab.run_code(_NO_INTERRUPTS)
        lab.probe(
            f"{request} by sret",
            f"{due}; li t0, 0x222; csrw sie, t0; li t0, {SPP | SPIE}; csrs sstatus, t0\n"
            "la t0, on@; csrw sepc, t0; sret\non@: nop; ebreak",
        )
        lab.run_code(_NO_INTERRUPTS)
        lab.probe(f"{request}, wfi does not wait", f"{due}; li t0, 0x222; csrw sie, t0; wfi; ebreak")
    lab.run_code(_NO_INTERRUPTS)
    lab.probe(
        "timer to come, wfi",
        "rdtime t0; addi t0, t0, 500; csrw stimecmp, t0; li t0, 32; csrw sie, t0; csrsi sstatus, 2\non@: wfi; j on@",
    )
    lab.run_code(_NO_INTERRUPTS)
    lab.probe(
        "timer to come, spinning",
        "rdtime t0; addi t0, t0, 500; csrw stimecmp, t0; li t0, 32; csrw sie, t0; csrsi sstatus, 2\non@: j on@",
    )
    lab.run_code(_NO_INTERRUPTS)
    log = compare(lab, {"timer to come, wfi: sepc": "in front of the wfi or behind it, as the clock has it"})
    assert log["both by sstatus: scause"] == INTERRUPT | 1
    assert log["timer by sie: scause"] == INTERRUPT | 5
    assert log["timer by sie: stval"] == 0
    assert log["software, SIE off: scause"] == -1


def test_interrupts_in_user_mode() -> None:
    """U-mode takes them whatever sstatus.SIE says, and before its first instruction."""
    lab = Lab().run_code(TRANSLATE)
    for sie in (0, SIE):
        for name, due in {"software": "csrsi sip, 2", "timer": "csrw stimecmp, zero"}.items():
            lab.run_code(f"{_NO_INTERRUPTS}; {due}; li t0, 0x222; csrw sie, t0")
            # SIE would fire at once in S-mode: it comes as SPIE
            lab.user(f"{name}, SPIE {sie}", "nop; nop", status=SPIE if sie else 0)
    lab.run_code(f"{_NO_INTERRUPTS}; {BARE}")
    log = compare(lab)
    assert log["software, SPIE 0: scause"] == INTERRUPT | 1


def test_vectored_interrupts() -> None:
    """stvec.MODE 1: interrupts go to base + 4 x cause, exceptions to base."""
    lab = Lab()
    lab.run_code(f"""
        j    past
        .align 64
    table: j exception
        j    software
        .align 4
        j    wrong
        j    wrong
        j    wrong
        j    timer
    exception: li a0, 100; jr s10
    software: li a0, 1; csrci sip, 2; jr s10
    timer: li a0, 5; li t0, -1; csrw stimecmp, t0; jr s10
    wrong: li a0, 999; jr s10
    past: {_NO_INTERRUPTS}
        csrr s8, stvec
        la   t0, table
        addi t0, t0, 1
        csrw stvec, t0
    """)
    due = {"software": "csrsi sip, 2", "timer": "csrw stimecmp, zero"}
    for name, request in due.items():
        lab.value(
            name,
            f"la s10, on@; li a0, 0; {request}; li t0, 0x222; csrw sie, t0\n"
            "csrsi sstatus, 2; nop\non@: csrci sstatus, 2",
        )
    lab.value("exception", "la s10, on@; li a0, 0; ebreak; nop\non@: csrci sstatus, 2")
    lab.value("stvec", "csrr a0, stvec; andi a0, a0, 63")
    lab.run_code("csrw stvec, s8")
    log = compare(lab)
    assert [log[n] for n in ("software", "timer", "exception")] == [1, 5, 100]
