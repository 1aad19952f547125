"""Interrupts into a guest's own handler: wired lines, irqfd, messages; doorbells; vCPUs started by INIT and SIPI."""

import os
import select
import struct

import pytest
from kvm_kit import (
    ENABLE_LAPIC,
    EOI,
    HLT,
    LAPIC,
    OUT32,
    PORT,
    REST,
    STI,
    VECTOR,
    Bell,
    eventfd,
    lab,
    mov_dx,
    need_kvm,
    out,
    poke,
    prepare_interrupts,
    redirect,
)

from patience import patience
from vmrun._core import ffi, lib
from vmrun.devices.testing import Recorder
from vmrun.devices.testing import wait_for as told
from vmrun.errors import HostError
from vmrun.kvm.vm import Route, counters

PIN = 5
LEVEL = 1 << 15
READY, RANG = 0, 1


@pytest.fixture(autouse=True)
def _kvm() -> None:
    need_kvm()


def wait_for(fd: int) -> int:
    """Wait for an eventfd's signal; return its count."""
    assert select.select([fd], [], [], patience(20))[0], "no signal came"
    return struct.unpack("<Q", os.read(fd, 8))[0]


def signal(fd: int) -> None:
    os.write(fd, struct.pack("<Q", 1))


def test_a_wired_edge() -> None:
    bell = Bell()
    with lab(ears=bell) as made:
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + redirect(PIN, VECTOR) + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        for rings in (1, 2, 3):
            made.core.line(PIN).pulse()
            assert bell.wait(RANG, rings) == rings


def test_a_wired_level_comes_back_until_it_falls() -> None:
    def hush(offset: int, value: int) -> None:
        if offset == RANG and bell.count(RANG) == 2:
            made.core.line(PIN).lower()

    bell = Bell(hush)
    with lab(ears=bell) as made:
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + redirect(PIN, VECTOR | LEVEL) + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        made.core.line(PIN).raise_()
        bell.wait(RANG, 3)
        made.core.line(PIN).raise_()
        assert bell.wait(RANG, 4) >= 4


def test_an_irqfd_raises_an_edge() -> None:
    bell = Bell()
    with eventfd() as fd, lab(ears=bell) as made:
        made.vm.irqfd(fd, PIN)
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + redirect(PIN, VECTOR) + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        for rings in (1, 2):
            signal(fd)
            assert bell.wait(RANG, rings) == rings
        made.vm.irqfd(fd, PIN, attach=False)
        signal(fd)
        made.core.line(PIN).pulse()
        assert bell.wait(RANG, 3) == 3


def test_an_irqfd_with_resample_is_a_level_that_ends_with_the_eoi() -> None:
    bell = Bell()
    with eventfd() as fd, eventfd() as resample, lab(ears=bell) as made:
        made.vm.irqfd(fd, PIN, resample=resample)
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + redirect(PIN, VECTOR | LEVEL) + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        for rings in (1, 2):
            signal(fd)
            assert bell.wait(RANG, rings) == rings
            assert wait_for(resample) >= 1  # KVM may ask once too often, and so would have been fooled by a held level
        made.core.line(PIN + 1).raise_()  # another line changes nothing
        assert bell.count(RANG) == 2


def test_a_device_is_told_of_the_end_of_its_levels_interrupt() -> None:
    def hush(offset: int, value: int) -> None:
        if offset == RANG:
            line.lower()

    bell = Bell(hush)
    with lab(ears=bell) as made:
        line, ends = made.core.line(PIN), Recorder(made.core)
        assert ends.watch(line)
        made.core.start()
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + redirect(PIN, VECTOR | LEVEL) + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        for rings in (1, 2):
            line.raise_()
            bell.wait(RANG, rings)
            told(lambda rings=rings: ends.ended() >= rings, "the end of the interrupt")


def test_a_table_of_messages_reaches_the_guest() -> None:
    bell = Bell()
    with lab(ears=bell) as made:
        table = ffi.new("vmr_messages **")
        made.core.check(lib.vmr_messages_new(made.core.handle, 2, made.core.messages, table), "messages")
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        assert lib.vmr_messages_put(table[0], 1, LAPIC, VECTOR) == lib.vmr_messages_raise(table[0], 1) == 0
        assert lib.vmr_messages_mask(table[0], 1, 0) == 0
        assert bell.wait(RANG, 1) == 1
        lib.vmr_messages_raise(table[0], 1)
        assert bell.wait(RANG, 2) == 2


def test_messages_and_routes_that_lead_to_them() -> None:
    bell = Bell()
    with eventfd() as fd, lab(ears=bell) as made:
        made.vm.set_routes([Route(40, message=(LAPIC, VECTOR)), Route(PIN, chip=2, pin=PIN)])
        made.vm.irqfd(fd, 40)
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        made.vm.signal_msi(LAPIC, VECTOR)
        assert bell.wait(RANG, 1) == 1
        signal(fd)
        assert bell.wait(RANG, 2) == 2


def test_messages_reach_a_split_irqchip() -> None:
    bell = Bell()
    with lab(ears=bell, irqchip="split") as made:
        tables = prepare_interrupts(made, out(RANG, VECTOR) + EOI)
        made.load(ENABLE_LAPIC + STI + out(READY, 1) + REST, **tables)
        made.spawn()
        bell.wait(READY)
        made.vm.signal_msi(LAPIC, VECTOR)
        assert bell.wait(RANG) == 1


def test_a_route_to_a_pin_that_is_not_there_is_refused() -> None:
    with lab() as made:
        with pytest.raises(HostError) as caught:
            made.vm.set_routes([Route(3, chip=2, pin=99)])
        assert caught.value.call == "KVM_SET_GSI_ROUTING"
        assert caught.value.capability == "KVM_CAP_IRQ_ROUTING"


# ---- doorbells -------------------------------------------------------------------------------------------------------


def test_a_doorbell_at_a_port_needs_no_exit() -> None:
    with eventfd() as fd, lab(irqchip=None) as made:
        made.vm.ioeventfd(fd, lib.VMR_PIO | PORT + 2, 1)
        made.load(out(2, 1) + out(2, 2) + out(3, 9) + HLT)
        assert made.run() == lib.VMR_EXIT_HALT
        assert wait_for(fd) == 2
        assert made.ears.heard == [(3, 1, 9)]
        assert counters(made.vcpus)["pio"] == 1


def test_a_doorbell_in_memory_can_wait_for_one_value() -> None:
    register = 0x1000_0050
    bell = Bell()
    with eventfd() as one, eventfd() as any_, lab(irqchip=None) as made:
        made.core.claim(0x1000_0000, 4096, bell)
        made.vm.ioeventfd(one, register, 4, match=7)
        made.vm.ioeventfd(any_, register + 4, 0)
        code = poke(register, 6) + poke(register, 7) + poke(register + 4, 1) + b"\x88\x03"  # ... mov [rbx], al
        made.load(code + HLT)
        assert made.run() == lib.VMR_EXIT_HALT
        assert wait_for(one) == 1
        assert wait_for(any_) == 2
        assert bell.heard == [(0x50, 4, 6)]
        made.vm.ioeventfd(one, register, 4, match=7, attach=False)
        made.load(poke(register, 7) + HLT)
        assert made.run() == lib.VMR_EXIT_HALT
        assert bell.heard == [(0x50, 4, 6), (0x50, 4, 7)]


def test_a_doorbell_cannot_stand_twice() -> None:
    with eventfd() as fd, lab() as made:
        made.vm.ioeventfd(fd, 0x1000_0000, 4)
        with pytest.raises(HostError, match="KVM_IOEVENTFD") as caught:
            made.vm.ioeventfd(fd, 0x1000_0000, 4)
        assert caught.value.errno is not None


# ---- several vCPUs ---------------------------------------------------------------------------------------------------

# mov eax, 1; cpuid; shr ebx, 24; mov al, bl; mov dx, PORT + 1; out dx, al; hlt; jmp -2
AP = (
    b"\x66\xb8\x01\x00\x00\x00\x0f\xa2\x66\xc1\xeb\x18\x88\xd8\xba"
    + struct.pack("<H", PORT + RANG)
    + b"\xee\xf4\xeb\xfd"
)
TRAMPOLINE = 0x8000
INIT, STARTUP, TO_OTHERS = 0x4500, 0x4600, 0xC0000


@pytest.mark.parametrize("vcpus", [2, 3, 4])
def test_init_and_sipi_start_the_other_vcpus(vcpus: int) -> None:
    bell = Bell()
    with lab(vcpus=vcpus, ears=bell) as made:
        made.core.write_ram(TRAMPOLINE, AP)
        start = poke(LAPIC + 0x300, TO_OTHERS | INIT) + poke(LAPIC + 0x300, TO_OTHERS | STARTUP | TRAMPOLINE >> 12)
        made.load(ENABLE_LAPIC + start + out(READY, 1) + REST)
        for index in range(vcpus):
            made.spawn(index)
        bell.wait(RANG, vcpus - 1)
        assert sorted(value for where, _, value in bell.heard if where == RANG) == list(range(1, vcpus))


def test_lint_is_as_firmware_leaves_it() -> None:
    stop = Bell(lambda offset, value: made.core.stop() if offset == 4 else None)
    with lab(irqchip="kernel", ears=stop) as made:
        read = b"\xbb" + struct.pack("<I", LAPIC + 0x350) + b"\x8b\x03" + mov_dx(PORT) + OUT32
        read += b"\xbb" + struct.pack("<I", LAPIC + 0x360) + b"\x8b\x03" + mov_dx(PORT + 4) + OUT32
        made.load(read + REST)
        assert made.run() == lib.VMR_EXIT_STOPPED
        assert [value for _, _, value in stop.heard] == [0x700, 0x400]


@pytest.mark.parametrize("pit", [False, True])
def test_the_pit_is_there_only_when_asked_for(pit: bool) -> None:
    with lab(pit=pit) as made:
        made.load(mov_dx(0x40) + b"\xec" + out(0, 1) + b"\xeb\xfe")
        made.spawn()
        while not made.ears.heard:
            pass
        assert made.wrongs_of_bus() == ({} if pit else {"read where no device is": 1})
