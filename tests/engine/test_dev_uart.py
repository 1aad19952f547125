import os
import tty
from collections.abc import Iterator

import pytest
from dev_kit import UART, Bench, bench, read_all
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.devices.testing import wait_for


class Uart:
    def __init__(self, b: Bench, in_fd: int, out_fd: int) -> None:
        self.bench = b
        self.machine = b.machine
        self.handle = b.make("vmr_uart16550_new", "vmr_uart16550", UART, 0x100, b.line.c, in_fd, out_fd)

    def get(self, name: str) -> int:
        value = self.machine.peek(UART + getattr(lib, f"VMR_UART_{name}"), 1)
        assert value is not None
        return value

    def put(self, name: str, value: int) -> None:
        self.machine.poke(UART + getattr(lib, f"VMR_UART_{name}"), 1, value)

    @property
    def state(self) -> "ffi.CData":
        state = ffi.new("vmr_uart16550_counters *")
        lib.vmr_uart16550_get_counters(self.handle, state)
        return state

    def arrived(self, count: int) -> None:
        wait_for(lambda: self.state.rx_waiting >= count, f"{count} bytes")


@pytest.fixture
def rig() -> Iterator[tuple[Uart, int, int]]:
    """A started UART, the end that it reads from, the end with its output."""
    with bench() as b:
        in_read, in_write = b.pipe()
        out_read, out_write = b.pipe()
        uart = Uart(b, in_read, out_write)
        b.machine.start()
        yield uart, in_write, out_read


def test_reset_values_are_those_declared(rig: tuple[Uart, int, int]) -> None:
    from vmrun.devices.serial.uart16550 import REGISTERS

    for register in REGISTERS.registers:
        if register.readable():
            assert rig[0].get(register.name) == register.reset, register.name


def test_a_line_goes_out_at_once_and_the_rest_soon(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    for byte in b"hello\n":
        uart.put("THR", byte)
    assert uart.state.tx_waiting == 0
    assert os.read(out, 100) == b"hello\n"
    for byte in b"login: ":
        uart.put("THR", byte)
    assert read_all(out, 7) == b"login: "


def test_drain_brings_out_what_no_line_ended(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    uart.put("THR", ord("x"))
    assert uart.machine.drain()
    assert uart.state.tx_waiting == 0
    assert os.read(out, 9) == b"x"


def test_a_full_transmitter_says_so_and_loses_nothing(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    sent = bytearray()
    while uart.get("LSR") & lib.VMR_UART_LSR_THRE:
        sent.append(len(sent) % 251)
        uart.put("THR", sent[-1])
        assert len(sent) < 1 << 20
    uart.put("IER", lib.VMR_UART_IER_THRE)
    assert uart.bench.level() == 0
    assert not uart.machine.drain(20)
    while uart.state.tx_waiting < 8192:  # what a driver may send once it has asked: a FIFO full
        sent.append(len(sent) % 251)
        uart.put("THR", sent[-1])
    uart.put("THR", 0)  # one more is the guest's loss
    assert read_all(out, len(sent)) == sent
    assert uart.machine.drain()
    wait_for(lambda: uart.bench.level() == 1, "the transmitter's interrupt")
    assert uart.get("LSR") & lib.VMR_UART_LSR_THRE
    assert uart.bench.wrongs("uart16550") == {"byte sent while the transmitter was full": 1}


def test_input_raises_an_interrupt_until_it_is_read(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, _ = rig
    uart.put("FCR", lib.VMR_UART_FCR_ENABLE | 0x40)  # trigger at 4
    uart.put("IER", lib.VMR_UART_IER_RDA)
    assert uart.bench.level() == 0
    os.write(in_write, b"abcde")
    uart.arrived(5)
    assert uart.bench.level() == 1
    assert uart.get("IIR") == lib.VMR_UART_IIR_FIFO | lib.VMR_UART_IIR_RDA
    assert [uart.get("RBR") for _ in range(2)] == [*b"ab"]
    assert uart.get("IIR") == lib.VMR_UART_IIR_FIFO | lib.VMR_UART_IIR_TIMEOUT
    assert [uart.get("RBR") for _ in range(3)] == [*b"cde"]
    assert uart.bench.level() == 0
    assert uart.get("IIR") == lib.VMR_UART_IIR_FIFO | lib.VMR_UART_IIR_NONE
    assert uart.get("RBR") == 0


def test_input_waits_in_the_host_until_there_is_room(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, _ = rig
    data = bytes(i * 7 % 256 for i in range(20000))
    assert os.write(in_write, data) == len(data)
    os.close(os.dup(in_write))
    uart.bench.shut(in_write)
    got = bytearray()
    while len(got) < len(data):
        wait_for(lambda: uart.state.rx_waiting > 0, "more input")
        while uart.get("LSR") & lib.VMR_UART_LSR_DR:
            got.append(uart.get("RBR"))
    assert got == data
    wait_for(lambda: not uart.state.in_open, "the end of the input")


def test_transmitter_interrupt_comes_and_goes(rig: tuple[Uart, int, int]) -> None:
    uart, _, _ = rig
    uart.put("IER", lib.VMR_UART_IER_THRE)
    assert uart.bench.level() == 1
    assert uart.get("IIR") == lib.VMR_UART_IIR_THRE
    assert uart.bench.level() == 0
    assert uart.get("IIR") == lib.VMR_UART_IIR_NONE
    uart.put("THR", ord("a"))
    assert uart.bench.level() == 1
    uart.put("IER", 0)
    assert uart.bench.level() == 0
    uart.put("IER", lib.VMR_UART_IER_THRE)
    assert uart.get("IIR") == lib.VMR_UART_IIR_THRE


def test_loopback_carries_bytes_and_lines(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    uart.put("MCR", lib.VMR_UART_MCR_LOOP)
    for byte in range(20):
        uart.put("THR", byte)
    assert uart.get("LSR") & lib.VMR_UART_LSR_OE
    assert not uart.get("LSR") & lib.VMR_UART_LSR_OE
    assert [uart.get("RBR") for _ in range(16)] == [*range(16)]
    uart.get("MSR")
    for mcr, msr in ((1, 0x20), (2, 0x10), (4, 0x40), (8, 0x80)):
        uart.put("MCR", lib.VMR_UART_MCR_LOOP | mcr)
        assert uart.get("MSR") & 0xF0 == msr
    uart.put("MCR", 0)
    assert uart.get("MSR") & 0xF0 == 0xB0 and uart.get("MSR") & 0x0F == 0
    uart.put("THR", ord("\n"))
    assert os.read(out, 100) == b"\n"


def test_modem_status_interrupt(rig: tuple[Uart, int, int]) -> None:
    uart, _, _ = rig
    uart.put("IER", lib.VMR_UART_IER_MSR)
    uart.put("MCR", lib.VMR_UART_MCR_LOOP)
    assert uart.bench.level() == 1 and uart.get("IIR") == lib.VMR_UART_IIR_MSR
    uart.get("MSR")
    assert uart.bench.level() == 0


def test_divisor_and_scratch(rig: tuple[Uart, int, int]) -> None:
    uart, _, _ = rig
    uart.put("LCR", lib.VMR_UART_LCR_DLAB | 3)
    uart.put("DLL", 0x34)
    uart.put("DLM", 0x12)
    assert (uart.get("DLL"), uart.get("DLM"), uart.state.divisor) == (0x34, 0x12, 0x1234)
    uart.put("LCR", 3)
    assert uart.get("IER") == 0
    uart.put("SCR", 0xA5)
    assert uart.get("SCR") == 0xA5


def test_clearing_the_fifo_drops_input_alone(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, out = rig
    os.write(in_write, b"abc")
    uart.arrived(3)
    uart.put("THR", ord("z"))
    uart.put("FCR", lib.VMR_UART_FCR_ENABLE)
    assert not uart.get("LSR") & lib.VMR_UART_LSR_DR
    uart.machine.drain()
    assert os.read(out, 10) == b"z"


def test_a_reader_that_went_away_does_not_stop_the_guest(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    uart.bench.shut(out)
    # The writing end that the test holds stays; the pipe has no reader.
    for _ in range(3):
        for byte in b"nobody hears\n":
            uart.put("THR", byte)
    assert uart.state.tx_waiting == 0 and uart.state.out_errno != 0
    assert uart.machine.drain()


def test_without_descriptors_output_is_dropped() -> None:
    with bench() as b:
        uart = Uart(b, -1, -1)
        b.machine.start()
        for _ in range(10000):
            uart.put("THR", 1)
        assert uart.state.tx_waiting < 256 and not uart.state.in_open


def test_a_file_is_input_and_output(tmp_path: "os.PathLike[str]") -> None:
    with bench() as b:
        source = b.keep(os.open(f"{tmp_path}/in", os.O_RDWR | os.O_CREAT))
        os.write(source, b"x" * 3000)
        os.lseek(source, 0, os.SEEK_SET)
        target = b.keep(os.open(f"{tmp_path}/out", os.O_RDWR | os.O_CREAT | os.O_APPEND))
        uart = Uart(b, source, target)
        b.machine.start()
        for _ in range(3000):
            wait_for(lambda: uart.state.rx_waiting > 0)
            uart.put("THR", uart.get("RBR"))
        b.machine.drain()
        assert os.pread(target, 4000, 0) == b"x" * 3000


def test_a_terminal_keeps_its_blocking_mode() -> None:
    with bench() as b:
        master, slave = os.openpty()
        b.keep(master), b.keep(slave)
        tty.setraw(slave)
        uart = Uart(b, slave, slave)
        b.machine.start()
        assert os.get_blocking(slave)
        os.write(master, b"k")
        uart.arrived(1)
        for byte in b"out\n":
            uart.put("THR", byte)
        assert read_all(master, 4) == b"out\n"
        assert os.get_blocking(slave)


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 0xFF), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1)))
)
@settings(max_examples=60, deadline=None)
def test_garbage_in_every_register(accesses: list[tuple[bool, int, int, int]]) -> None:
    with bench() as b:
        null = b.keep(os.open("/dev/null", os.O_RDWR))
        uart = Uart(b, null, null)
        b.machine.start()
        for write, offset, size, value in accesses:
            if write:
                b.machine.poke(UART + offset, size, value)
            else:
                b.machine.peek(UART + offset, size)
        assert uart.get("LSR") is not None
        assert b.machine.drain()
