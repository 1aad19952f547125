"""Harts with an AIA: when its CSRs are there, and what happens while others send messages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_core = pytest.importorskip("vmrun._core", reason="needs the built extension vmrun._core")
ffi, lib = _core.ffi, _core.lib

from aia_kit import APLIC, IMSIC, add_aia  # noqa: E402
from rv64_priv_kit import ALL, CSR, OUT, Guest, guest, program, ran  # noqa: E402

EIDELIVERY, EITHRESHOLD, EIP, EIE = 0x70, 0x72, 0x80, 0xC0
ILLEGAL = 2
SISELECT, STOPEI, STOPI = 0x150, 0x15C, 0xDB0


def put(select: int, value: int) -> str:
    return f"li t1, {select}; csrw siselect, t1; li t1, {value}; csrw sireg, t1\n"


LISTEN = put(EIE, -1 % 2**64) + put(EIDELIVERY, 1)
START = "li a0, 1; la a1, other; li a2, 0; li a7, 0x48534d; li a6, 0; ecall\n"


@contextmanager
def with_aia(text: str, harts: int = 1, isa: int = ALL) -> Iterator[Guest]:
    """A machine that also has an APLIC with 96 sources and IMSICs with 255 identities."""
    with guest(program(text), harts=harts, isa=isa) as made:
        add_aia(made.machine, made.harts, 96, 255)
        yield made


ACCESSES = {
    "siselect": "csrr t0, siselect",
    "priorities": "li t1, 0x30; csrw siselect, t1; csrr t0, sireg",
    "stopi": "csrr t0, stopi",
    "interrupt file": "li t1, 0x80; csrw siselect, t1; csrr t0, sireg",
    "stopei": "csrr t0, stopei",
}


@pytest.mark.parametrize("access", ACCESSES)
def test_the_csrs_are_there_with_the_extension_and_the_file_with_an_imsic(access: str) -> None:
    with with_aia(ACCESSES[access]) as made:
        made.run()
        assert made.trap().count == 0
    with with_aia(ACCESSES[access].rpartition(";")[2], isa=ALL & ~lib.VMR_RV64_SSAIA) as made:
        made.run()
        assert (made.trap().count, made.trap().cause) == (1, ILLEGAL)
    with ran(ACCESSES[access]) as made:  # no IMSIC
        assert made.trap().count == (access in ("interrupt file", "stopei"))


def test_an_onlooker_reads_and_writes_them() -> None:
    with with_aia("nop") as made:
        made.set(CSR + SISELECT, EIE)
        assert made.get(CSR + SISELECT) == EIE
        made.set(CSR + SISELECT + 1, 1 << 7)
        assert lib.vmr_bus_poke(made.machine, IMSIC, 4, 7) == lib.VMR_BUS_DONE
        assert made.get(CSR + STOPEI) == 7 << 16 | 7
        made.set(CSR + STOPEI, 0)
        assert made.get(CSR + STOPEI) == made.get(CSR + STOPI) == 0
        assert lib.vmr_rv64_set(made.harts[0], CSR + STOPI, 0) < 0


@pytest.mark.parametrize("way", ["message", "wire"])
def test_a_sleeping_hart_wakes(way: str) -> None:
    """By a message from another thread, or by a wire that the APLIC turns into one."""
    wire = "".join(
        f"li t1, {APLIC + offset}; li t2, {value}; sw t2, 0(t1)\n"
        for offset, value in ((4 * 10, 6), (0x3000 + 4 * 10, 33), (0x1EDC, 10), (0, 0x104))
    )
    text = f"""{LISTEN} {wire} la t0, handler; csrw stvec, t0; li t0, 0x200; csrw sie, t0; csrsi sstatus, 2
        li t1, 1; fence; sd t1, 64(s0)
sleep:  wfi; j sleep
        .align 4
handler: csrr t0, scause; sd t0, 0(s0); csrr t0, stopi; sd t0, 8(s0); csrrw t0, stopei, zero; sd t0, 16(s0)
        csrr t0, sip; sd t0, 24(s0); csrr t0, stopi; sd t0, 32(s0)"""
    with with_aia(text) as made:

        def send() -> None:
            while not made.out(8):
                pass
            if way == "wire":
                wired = ffi.new("vmr_line *")
                made.check(lib.vmr_irqchip_line(made.machine, 10, wired))
                lib.vmr_line_raise(wired[0])
            else:
                lib.vmr_bus_poke(made.machine, IMSIC, 4, 33)

        sender = threading.Thread(target=send)
        sender.start()
        made.run()
        sender.join()
        assert [made.out(i) for i in range(5)] == [1 << 63 | 9, 9 << 16 | 1, 33 << 16 | 33, 0, 0]


def test_harts_ping_each_other_by_messages() -> None:
    """Each waits for its interrupt and answers with a store to the other's page: none is lost, none comes twice."""
    rounds = 3000
    text = f"""{START} li a0, 0
other:  mv s3, a0; li s0, {OUT}; la t0, handler; csrw stvec, t0; {LISTEN}
        li s4, {IMSIC + 0x1000}; beqz s3, mine; li s4, {IMSIC}
mine:   li s2, 0; li t0, 0x200; csrw sie, t0; li s5, {rounds}; li s6, 5
        bnez s3, ready
up:     ld t0, 64(s0); beqz t0, up; sw s6, 0(s4)     # hart 0 serves
ready:  li t0, 1; sd t0, 64(s0); csrsi sstatus, 2
loop:   wfi; bltu s2, s5, loop
        csrci sstatus, 2; slli t0, s3, 3; add t0, t0, s0; sd s2, 0(t0)
        beqz s3, both
sleep:  wfi; j sleep
both:   ld t0, 8(s0); beqz t0, both
        j end
        .align 4
handler: csrrw t0, stopei, zero; srli t0, t0, 16; bne t0, s6, wrong
        addi s2, s2, 1; bltu s2, s5, answer; beqz s3, last    # hart 0's last one goes without
answer: sw s6, 0(s4)
last:   sret
wrong:  sd t0, 128(s0); sret
end:    nop"""
    with with_aia(text, harts=2) as made:
        made.run()
        assert (made.out(0), made.out(1), made.out(16)) == (rounds, rounds, 0)


@pytest.mark.parametrize("busy", ["csrrs t0, sireg, s6; csrrc t0, sireg, s6", "csrrw t0, sireg, s6; or s7, s7, t0"])
def test_changing_some_bits_loses_no_message(busy: str) -> None:
    """Hart 1 sends one message after the other, each when the last was seen; hart 0 rewrites eip all the time."""
    rounds = 5000
    text = f"""{START} {put(EIP, 0)} li s6, 0x200; li s7, 0; li s2, {rounds}; li s5, 0x20
loop:   {busy}
        csrr t1, sireg; or s7, s7, t1
        and t1, s7, s5; beqz t1, loop
        li s7, 0; csrrc zero, sireg, s5
        ld t1, 0(s0); addi t1, t1, 1; sd t1, 0(s0)
        addi s2, s2, -1; bnez s2, loop
        j end
other:  li s0, {OUT}; li s1, {IMSIC}; li s3, 5; li s4, 0
next:   sw s3, 0(s1); addi s4, s4, 1
seen:   ld t1, 0(s0); bltu t1, s4, seen
        li t1, {rounds}; bltu s4, t1, next
sleep:  wfi; j sleep
end:    nop"""
    with with_aia(text, harts=2) as made:
        made.run()
        assert made.out(0) == rounds


def test_a_hart_starts_with_siselect_clear() -> None:
    hsm = "li a7, 0x48534d; li a6, {0}; li a0, 1; la a1, other; li a2, 0; ecall\n"
    text = f"""{START}
first:  ld t0, 64(s0); beqz t0, first
stop:   {hsm.format(2)} li t0, 1; bne a1, t0, stop
        {hsm.format(0)}
second: ld t0, 64(s0); li t1, 2; bne t0, t1, second
        j end
other:  li s0, {OUT}; csrr t0, siselect; sd t0, 0(s0); li t0, 0x80; csrw siselect, t0
        ld t0, 64(s0); addi t0, t0, 1; sd t0, 64(s0)
        li a7, 0x48534d; li a6, 1; ecall
end:    nop"""
    with with_aia(text, harts=2) as made:
        made.run()
        assert (made.out(0), made.out(8)) == (0, 2)
