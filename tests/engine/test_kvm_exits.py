"""Exits of a vCPU, from code in real, protected and long mode: ports and registers of every width, strings, the end."""

import os
import struct
import threading
import time

import pytest
from kvm_kit import (
    CODE,
    HLT,
    IN8,
    IN16,
    IN32,
    OUT8,
    OUT16,
    OUT32,
    PORT,
    SPIN,
    Ears,
    lab,
    mov_dx,
    mov_eax,
    need_kvm,
    out,
)

from patience import patience
from vmrun._core import ffi, lib
from vmrun.core.line import nowhere
from vmrun.kvm.vm import counters, fault

MMIO = 0x1000_0000
VALUE = 0x1122334455667788


@pytest.fixture(autouse=True)
def _kvm() -> None:
    need_kvm()


def wide(mode: str, size: int, op8: bytes, op: bytes) -> bytes:
    """Return an instruction in the operand width, as the mode encodes it."""
    if size == 1:
        return op8
    if size == 8:
        return b"\x48" + op
    default = 2 if mode == "real" else 4
    return op if size == default else b"\x66" + op


def set_dx(mode: str, port: int) -> bytes:
    return b"\xba" + struct.pack("<H", port) if mode == "real" else mov_dx(port)


WIDTHS = [(mode, size) for mode in ("real", "protected", "long") for size in (1, 2, 4)]


@pytest.mark.parametrize(("mode", "size"), WIDTHS)
def test_port_writes(mode: str, size: int) -> None:
    with lab(mode, irqchip=None) as made:
        made.load(set_dx(mode, PORT + 4) + wide(mode, size, OUT8, OUT32) + HLT, rax=VALUE & 0xFFFFFFFF)
        assert made.run() == lib.VMR_EXIT_HALT
        assert made.ears.heard == [(4, size, VALUE & (1 << 8 * size) - 1)]


@pytest.mark.parametrize(("mode", "size"), WIDTHS)
def test_port_reads(mode: str, size: int) -> None:
    ears = Ears(lambda offset, size: VALUE)
    with lab(mode, irqchip=None, ears=ears) as made:
        made.load(set_dx(mode, PORT) + wide(mode, size, IN8, IN32) + HLT, rax=0xAAAAAAAA)
        assert made.run() == lib.VMR_EXIT_HALT
        assert ears.asked == [(0, size)]
        low = (1 << 8 * size) - 1
        assert made.registers()["rax"] == 0xAAAAAAAA & ~low | VALUE & low


MMIO_WIDTHS = [*((m, s) for m in ("real", "protected") for s in (1, 2, 4)), *(("long", s) for s in (1, 2, 4, 8))]


def at_ds(mode: str) -> tuple[bytes, dict[str, int]]:
    """Return the ModRM byte of [rbx] or [bx], and the registers that make it MMIO."""
    return (b"\x07", {"ds_base": MMIO, "rbx": 0}) if mode == "real" else (b"\x03", {"rbx": MMIO})


@pytest.mark.parametrize(("mode", "size"), MMIO_WIDTHS)
def test_mmio_writes(mode: str, size: int) -> None:
    modrm, registers = at_ds(mode)
    ears = Ears()
    with lab(mode, irqchip=None) as made:
        made.core.claim(MMIO, 4096, ears)
        made.load(wide(mode, size, b"\x88" + modrm, b"\x89" + modrm) + HLT, rax=VALUE, **registers)
        assert made.run() == lib.VMR_EXIT_HALT
        assert ears.heard == [(0, size, VALUE & (1 << 8 * size) - 1)]


@pytest.mark.parametrize(("mode", "size"), MMIO_WIDTHS)
def test_mmio_reads(mode: str, size: int) -> None:
    modrm, registers = at_ds(mode)
    ears = Ears(lambda offset, size: VALUE)
    with lab(mode, irqchip=None) as made:
        made.core.claim(MMIO, 4096, ears)
        made.load(wide(mode, size, b"\x8a" + modrm, b"\x8b" + modrm) + HLT, rax=0, **registers)
        assert made.run() == lib.VMR_EXIT_HALT
        assert ears.asked == [(0, size)]
        assert made.registers()["rax"] == VALUE & (1 << 8 * size) - 1


def test_an_access_across_a_page_is_cut_there() -> None:
    heard = Ears()
    with lab("long", irqchip=None) as made:
        made.core.claim(MMIO, 0x2000, heard)
        made.load(b"\x48\x89\x03" + HLT, rax=VALUE, rbx=MMIO + 0xFFC)  # mov [rbx], rax
        assert made.run() == lib.VMR_EXIT_HALT
        assert heard.heard == [(0xFFC, 4, VALUE & 0xFFFFFFFF), (0x1000, 4, VALUE >> 32)]


def test_where_no_device_is_reads_are_ones_and_writes_vanish() -> None:
    with lab("long", irqchip=None) as made:
        code = mov_dx(0x700) + IN32 + b"\x89\xc1" + mov_eax(1) + OUT32  # ecx = what was read
        code += b"\x48\x8b\x03" + b"\x48\x89\x03" + HLT  # mov rax, [rbx]; mov [rbx], rax
        made.load(code, rbx=MMIO)
        assert made.run() == lib.VMR_EXIT_HALT
        assert made.registers()["rcx"] == 0xFFFFFFFF
        assert made.registers()["rax"] == (1 << 64) - 1
        assert made.wrongs_of_bus() == {"read where no device is": 2, "write where no device is": 2}


STRINGS = [(1, b"\xf3\x6e", b"\xf3\x6c"), (2, b"\x66\xf3\x6f", b"\x66\xf3\x6d"), (4, b"\xf3\x6f", b"\xf3\x6d")]
BUFFER = 0x6000


@pytest.mark.parametrize("mode", ["protected", "long"])
@pytest.mark.parametrize(("size", "outs", "ins"), STRINGS)
def test_string_output(mode: str, size: int, outs: bytes, ins: bytes) -> None:
    count = 300
    values = [i * 0x01010101 & (1 << 8 * size) - 1 for i in range(count)]
    with lab(mode, irqchip=None) as made:
        made.core.write_ram(BUFFER, b"".join(v.to_bytes(size, "little") for v in values))
        made.load(mov_dx(PORT) + outs + HLT, rsi=BUFFER, rcx=count)
        assert made.run() == lib.VMR_EXIT_HALT
        assert made.ears.heard == [(0, size, value) for value in values]
        assert made.registers()["rcx"] == 0
        assert made.registers()["rsi"] == BUFFER + count * size
        assert counters(made.vcpus)["pio"] == count


@pytest.mark.parametrize("mode", ["protected", "long"])
@pytest.mark.parametrize(("size", "outs", "ins"), STRINGS)
def test_string_input(mode: str, size: int, outs: bytes, ins: bytes) -> None:
    count = 300
    source = iter(range(1, count + 1))
    ears = Ears(lambda offset, size: next(source) * 0x01010101)
    with lab(mode, irqchip=None, ears=ears) as made:
        made.load(mov_dx(PORT) + ins + HLT, rdi=BUFFER, rcx=count)
        assert made.run() == lib.VMR_EXIT_HALT
        mask = (1 << 8 * size) - 1
        want = b"".join((i * 0x01010101 & mask).to_bytes(size, "little") for i in range(1, count + 1))
        assert made.core.read_ram(BUFFER, count * size) == want
        assert made.core.read_ram(BUFFER + count * size, 4) == bytes(4)


def test_c_serves_ports_without_python() -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with lab("long", irqchip=None) as made:
            uart = ffi.new("vmr_uart16550 **")
            made.core.check(
                lib.vmr_uart16550_new(made.core.handle, lib.VMR_PIO | 0x3F8, 8, nowhere(), -1, writer, uart), "uart"
            )
            made.core.write_ram(BUFFER, b"hello from the guest\n")
            made.core.start()
            made.load(mov_dx(0x3F8) + b"\xf3\x6e" + HLT, rsi=BUFFER, rcx=21)
            assert made.run() == lib.VMR_EXIT_HALT
            assert made.core.drain(10_000)
            assert os.read(reader, 100) == b"hello from the guest\n"
            assert counters(made.vcpus)["python"] == 0
    finally:
        os.close(reader)
        os.close(writer)


def test_a_register_that_python_serves_ends_at_the_next_run() -> None:
    with lab("long", irqchip=None) as made:
        made.load(mov_dx(PORT) + IN32 + HLT)
        left = ffi.new("vmr_exit *")
        assert lib.vmr_vcpu_run(made.vcpus[0], left) == 0
        assert (left.kind, left.gpa, left.size) == (lib.VMR_EXIT_MMIO_READ, lib.VMR_PIO | PORT, 4)
        left.data = 0xFEEDFACE
        assert lib.vmr_vcpu_run(made.vcpus[0], left) == 0
        assert left.kind == lib.VMR_EXIT_HALT
        assert made.registers()["rax"] == 0xFEEDFACE


def test_a_stop_completes_the_instruction_under_way() -> None:
    with lab("long", irqchip=None) as made:
        made.load(mov_dx(PORT) + IN32 + SPIN)
        left = ffi.new("vmr_exit *")
        assert lib.vmr_vcpu_run(made.vcpus[0], left) == 0
        left.data = 0x1234
        made.core.stop()
        assert lib.vmr_vcpu_run(made.vcpus[0], left) == 0
        assert left.kind == lib.VMR_EXIT_STOPPED
        assert made.registers()["rax"] == 0x1234
        assert made.registers()["pc"] == CODE + len(mov_dx(PORT) + IN32)


# ---- ends ------------------------------------------------------------------------------------------------------------


def test_a_triple_fault_is_one() -> None:
    with lab("long") as made:
        made.load(b"\x0f\x0b", idt_limit=0)  # ud2, and no IDT
        assert made.run() == lib.VMR_EXIT_FAULT
        assert made.exits[0].code == lib.VMR_KVM_TRIPLE_FAULT
        assert fault(made.vcpus[0]).exit_reason == 8


@pytest.mark.parametrize("code", [SPIN, HLT + b"\xeb\xfd", mov_dx(0x700) + OUT8 + b"\xeb\xfd"])
@pytest.mark.parametrize("mode", ["protected", "long"])
def test_a_vcpu_that_spins_sleeps_or_exits_all_the_time_can_be_stopped(mode: str, code: bytes) -> None:
    with lab(mode) as made:
        made.load(code)
        thread = made.spawn()
        time.sleep(patience(0.02))  # so that most of them are in the guest; any moment must do
        made.core.stop()
        thread.join(patience(20))
        assert not thread.is_alive()
        assert made.exits[0].kind == lib.VMR_EXIT_STOPPED


def test_a_stop_before_the_run_holds() -> None:
    with lab("long") as made:
        made.load(SPIN)
        made.core.stop()
        assert made.run() == lib.VMR_EXIT_STOPPED
        assert made.run() == lib.VMR_EXIT_STOPPED


def test_a_vcpu_that_waits_for_init_can_be_stopped() -> None:
    with lab("long", vcpus=2) as made:
        made.load(SPIN)
        assert made.vm.mp_state(made.vcpus[1]) == 1  # KVM_MP_STATE_UNINITIALIZED
        thread = made.spawn(1)
        time.sleep(patience(0.02))
        made.core.stop()
        thread.join(patience(20))
        assert made.exits[1].kind == lib.VMR_EXIT_STOPPED


def test_kicks_that_stop_nothing_do_no_harm() -> None:
    with lab("long", irqchip=None) as made:
        # ecx counts down with a port access each: 20,000 exits under a hail of kicks
        made.load(mov_dx(0x700) + b"\xee\xff\xc9\x75\xfb" + out(0, 7) + HLT, rcx=2_000)
        done = threading.Event()

        def hail() -> None:
            while not done.wait(0.0001):  # without a pause the guest would hardly ever be entered
                lib.vmr_vcpu_kick(made.vcpus[0])

        kicker = threading.Thread(target=hail)
        kicker.start()
        try:
            assert made.run() == lib.VMR_EXIT_HALT
        finally:
            done.set()
            kicker.join()
        assert made.ears.heard == [(0, 1, 7)]
        assert made.wrongs_of_bus() == {"write where no device is": 2_000}


def test_the_kick_reaches_a_thread_that_was_started_with_signals_blocked() -> None:
    import signal

    with lab("long") as made:
        made.load(SPIN)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
        try:
            thread = made.spawn()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        time.sleep(patience(0.02))
        made.core.stop()
        thread.join(patience(20))
        assert not thread.is_alive()


def test_a_device_may_stop_the_machine_from_the_vcpus_own_thread() -> None:
    with lab("long") as made:
        made.ears.answers = lambda offset, size: made.core.stop() or 0  # type: ignore[func-returns-value]
        made.load(mov_dx(PORT) + IN8 + SPIN)
        assert made.run() == lib.VMR_EXIT_STOPPED


def test_an_endless_string_instruction_can_be_stopped() -> None:
    with lab("long") as made:
        made.load(mov_dx(0x700) + b"\xf3\x6e" + SPIN, rsi=0, rcx=1 << 40)
        thread = made.spawn()
        time.sleep(patience(0.02))
        made.core.stop()
        thread.join(patience(20))
        assert not thread.is_alive()
        assert made.exits[0].kind == lib.VMR_EXIT_STOPPED


def test_a_kernel_mode_instruction_that_kvm_cannot_run_is_reported() -> None:
    """x87 in MMIO is beyond every KVM's emulator."""
    with lab("long") as made:
        made.load(b"\xdb\x2b" + HLT, rbx=MMIO)  # fld tbyte [rbx]
        assert made.run() == lib.VMR_EXIT_FAULT
        assert made.exits[0].code == lib.VMR_KVM_INTERNAL_ERROR
        assert fault(made.vcpus[0]).suberror == 1


def test_sixteen_bit_ports_of_both_orders() -> None:
    with lab("protected", irqchip=None) as made:
        made.load(mov_dx(PORT) + OUT16 + mov_dx(PORT + 2) + IN16 + HLT, rax=0xBEEF)
        assert made.run() == lib.VMR_EXIT_HALT
        assert made.ears.heard == [(0, 2, 0xBEEF)]
        assert made.ears.asked == [(2, 2)]
