"""The PL011: its registers as drivers use them, and the host's streams behind it."""

import os
from collections.abc import Iterator

import pytest
from dev_kit import UART, Bench, bench, read_all
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.devices import primecell
from vmrun.devices.serial.pl011 import REGISTERS
from vmrun.devices.testing import wait_for

FIFO = 16
RING = 8192
FEN, LBE = lib.VMR_PL011_LCRH_FEN, lib.VMR_PL011_CR_LBE
RX, TX, RT, OE = (getattr(lib, f"VMR_PL011_RIS_{name}") for name in ("RX", "TX", "RT", "OE"))
RXFE, RXFF, TXFE, TXFF, BUSY = (
    getattr(lib, f"VMR_PL011_FR_{name}") for name in ("RXFE", "RXFF", "TXFE", "TXFF", "BUSY")
)
ON = 0x301


class Uart:
    def __init__(self, b: Bench, in_fd: int, out_fd: int) -> None:
        self.bench = b
        self.machine = b.machine
        self.handle = b.make("vmr_pl011_new", "vmr_pl011", UART, 0x1000, b.line.c, in_fd, out_fd)

    def get(self, name: str, size: int = 4) -> int:
        value = self.machine.peek(UART + REGISTERS.named(name).offset, size)
        assert value is not None
        return value

    def put(self, name: str, value: int, size: int = 4) -> None:
        self.machine.poke(UART + REGISTERS.named(name).offset, size, value)

    def send(self, data: bytes) -> None:
        for byte in data:
            self.put("DR", byte)

    @property
    def state(self) -> "ffi.CData":
        state = ffi.new("vmr_pl011_counters *")
        lib.vmr_pl011_get_counters(self.handle, state)
        return state

    def arrived(self, count: int) -> None:
        wait_for(lambda: self.state.rx_waiting >= count, f"{count} bytes")

    @property
    def level(self) -> int:
        return self.bench.level()


@pytest.fixture
def rig() -> Iterator[tuple[Uart, int, int]]:
    """A started UART with its FIFOs on, the end that it reads from, the end with its output."""
    with bench() as b:
        in_read, in_write = b.pipe()
        out_read, out_write = b.pipe()
        uart = Uart(b, in_read, out_write)
        b.machine.start()
        uart.put("LCRH", 0x60 | FEN)
        uart.put("CR", ON)
        yield uart, in_write, out_read


def test_reset_values_are_those_declared() -> None:
    with bench() as b:
        uart = Uart(b, -1, -1)
        for register in REGISTERS.registers:
            if register.readable():
                assert uart.get(register.name) == register.reset, register.name


def test_drivers_know_the_cell_by_its_numbers(rig: tuple[Uart, int, int]) -> None:
    """As Linux's AMBA bus reads them: a number of 32 bits from the lowest bytes of four registers."""
    uart = rig[0]
    numbers = [
        sum((uart.machine.peek(UART + at + 4 * n, 4) or 0) << 8 * n for n in range(4))
        for at in (primecell.PERIPHERAL_ID, primecell.CELL_ID)
    ]
    assert numbers[0] & 0x000FFFFF == 0x00041011 and numbers[1] == 0xB105F00D
    assert numbers[0] >> 20 & 0xF < 3, "from revision 3 on Linux takes FIFOs of 32 bytes for granted"


@pytest.mark.parametrize("size", [1, 2, 4])
def test_any_width_means_the_register_at_its_address(size: int, rig: tuple[Uart, int, int]) -> None:
    uart, in_write, out = rig
    uart.put("DR", ord("\n"), size)
    assert os.read(out, 10) == b"\n"
    os.write(in_write, b"q")
    uart.arrived(1)
    assert not uart.get("FR", size) & RXFE & 0xFF
    assert uart.get("DR", size) == ord("q")
    uart.put("IMSC", 0x70, size)
    assert uart.get("IMSC") == 0x70


def test_an_access_beside_a_register_is_counted(rig: tuple[Uart, int, int]) -> None:
    uart = rig[0]
    for offset in (1, 0x1A, 0xFE2):
        assert uart.machine.peek(UART + offset, 1) == 0
        uart.machine.poke(UART + offset, 1, 0xFF)
    for offset in (0x8, 0x50, 0xFDC):
        assert uart.machine.peek(UART + offset, 4) == 0
    for name in ("FR", "RIS", "MIS", "PERIPHID0"):
        uart.put(name, 0xFF)
    assert uart.bench.wrongs("pl011") == {
        "access beside a register": 6,
        "read of a register that is not there": 3,
        "write of a register that cannot be written": 4,
    }


def test_a_line_goes_out_at_once_and_the_rest_soon(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    uart.send(b"hello\n")
    assert uart.state.tx_waiting == 0
    assert os.read(out, 100) == b"hello\n"
    uart.send(b"login: ")
    assert read_all(out, 7) == b"login: "


def test_an_early_console_needs_no_set_up() -> None:
    with bench() as b:
        out_read, out_write = b.pipe()
        uart = Uart(b, -1, out_write)
        b.machine.start()
        uart.put("CR", 0)
        assert not uart.get("FR") & TXFF
        uart.put("DR", ord("\n"))
        assert not uart.get("FR") & BUSY
        assert os.read(out_read, 9) == b"\n"


def test_a_full_transmitter_says_so_and_loses_nothing(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    uart.put("IMSC", TX)
    sent = bytearray()

    def put() -> None:
        sent.append(len(sent) % 251)
        uart.put("DR", sent[-1])

    while uart.get("RIS") & TX or not sent:
        for _ in range(FIFO):  # as Linux's interrupt handler does, and half of it
            put()
        assert len(sent) < 1 << 20
    assert uart.level == 0
    assert uart.get("FR") & (BUSY | TXFE | TXFF) == BUSY
    while not uart.get("FR") & TXFF:
        put()
    assert uart.state.tx_waiting == RING
    assert uart.bench.wrongs("pl011") == {}
    uart.put("DR", 0)  # a byte without asking is the guest's loss
    assert not uart.machine.drain(20)
    assert read_all(out, len(sent)) == sent
    assert uart.machine.drain()
    wait_for(lambda: uart.level == 1, "the transmitter's interrupt")
    assert uart.get("FR") & (BUSY | TXFE | TXFF) == TXFE
    assert uart.bench.wrongs("pl011") == {"byte sent while the transmitter was full": 1}


def test_the_transmitters_interrupt_follows_a_byte(rig: tuple[Uart, int, int]) -> None:
    uart = rig[0]
    uart.put("IMSC", TX)
    assert uart.level == 0, "nothing was sent: no level was passed"
    uart.put("DR", ord("a"))
    assert uart.level == 1 and uart.get("MIS") == TX
    uart.put("ICR", TX)
    assert uart.level == 0 and uart.get("RIS") == 0
    uart.put("DR", ord("b"))
    uart.put("IMSC", 0)
    assert uart.level == 0 and uart.get("RIS") == TX and uart.get("MIS") == 0


@pytest.mark.parametrize(("select", "trigger"), [(0, 2), (1, 4), (2, 8), (3, 12), (4, 14)])
def test_the_receiver_rings_at_its_trigger_level(select: int, trigger: int, rig: tuple[Uart, int, int]) -> None:
    uart, in_write, _ = rig
    uart.put("IFLS", select << 3)
    uart.put("IMSC", RX)
    os.write(in_write, bytes(range(trigger - 1)))
    uart.arrived(trigger - 1)
    assert uart.level == 0 and uart.get("RIS") == RT
    os.write(in_write, b"x")
    uart.arrived(trigger)
    wait_for(lambda: uart.level == 1, "the receiver's interrupt")
    assert uart.get("DR") == 0
    assert uart.level == 0 and uart.get("RIS") == RT
    for _ in range(trigger - 1):
        uart.get("DR")
    assert uart.get("RIS") == 0 and uart.get("FR") & RXFE


def test_what_lies_below_the_trigger_level_times_out(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, _ = rig
    uart.put("IMSC", RX | RT)
    os.write(in_write, b"ab")
    uart.arrived(2)
    wait_for(lambda: uart.level == 1, "the timeout")
    assert uart.get("MIS") == RT
    assert uart.get("DR") == ord("a") and uart.level == 1
    assert uart.get("DR") == ord("b") and uart.level == 0
    assert uart.get("DR") == 0


def test_without_fifos_one_byte_rings(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, _ = rig
    uart.put("LCRH", 0x60)
    uart.put("IMSC", RX)
    os.write(in_write, b"ab")
    uart.arrived(2)
    wait_for(lambda: uart.level == 1, "the receiver's interrupt")
    assert uart.get("FR") & RXFF
    assert uart.get("DR") == ord("a")
    assert uart.level == 1 and uart.get("FR") & RXFF, "the next byte has arrived"
    assert uart.get("DR") == ord("b")
    assert uart.level == 0 and uart.get("FR") & RXFE


def test_linux_opens_a_port_on_which_somebody_types_ahead(rig: tuple[Uart, int, int]) -> None:
    """pl011_enable_interrupts clears what is raised, drains two FIFOs, and counts on the next byte to ring."""
    uart, in_write, _ = rig
    data = bytes(range(1, 101))
    os.write(in_write, data)
    uart.arrived(100)
    uart.put("ICR", RT | RX)
    assert uart.get("RIS") == 0
    got = bytearray()
    while not uart.get("FR") & RXFE and len(got) < 2 * FIFO:
        got.append(uart.get("DR"))
    uart.put("IMSC", RT | RX)
    while uart.level:
        assert uart.get("MIS") & (RT | RX)
        got.append(uart.get("DR"))
    assert got == data and uart.get("FR") & RXFE


def test_input_waits_in_the_host_until_there_is_room(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, _ = rig
    data = bytes(i * 7 % 256 for i in range(20000))
    assert os.write(in_write, data) == len(data)
    uart.bench.shut(in_write)
    got = bytearray()
    while len(got) < len(data):
        wait_for(lambda: uart.state.rx_waiting > 0, "more input")
        while not uart.get("FR") & RXFE:
            got.append(uart.get("DR"))
    assert got == data
    wait_for(lambda: not uart.state.in_open, "the end of the input")


def test_switching_the_fifos_empties_them_alone(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, out = rig
    os.write(in_write, bytes(range(20)))
    uart.arrived(20)
    uart.send(b"z")
    uart.put("LCRH", 0x60)
    assert uart.state.rx_waiting == 20 - FIFO
    assert uart.get("DR") == FIFO
    uart.put("LCRH", 0x60 | FEN)
    assert uart.get("DR") == FIFO + 2  # the holding register's byte is gone, the rest has not arrived yet
    uart.machine.drain()
    assert os.read(out, 9) == b"z"


def test_loopback_carries_bytes_and_lines(rig: tuple[Uart, int, int]) -> None:
    uart, in_write, out = rig
    uart.put("CR", ON | LBE)
    os.write(in_write, b"kept")
    uart.send(bytes(range(20)))
    assert uart.get("RIS") & (OE | TX | RX) == OE | TX | RX
    assert uart.get("RSR") == lib.VMR_PL011_RSR_OE
    uart.put("RSR", 0)
    assert uart.get("RSR") == 0
    assert uart.get("DR") == lib.VMR_PL011_DR_OE
    assert [uart.get("DR") for _ in range(15)] == [*range(1, 16)]
    assert uart.get("FR") & RXFE
    uart.put("ICR", 0x7FF)
    uart.put("IMSC", 0xF)
    pairs = (("RTS", "CTS"), ("DTR", "DSR"), ("OUT1", "DCD"), ("OUT2", "RI"))
    for output, line in pairs:
        uart.put("CR", ON | LBE | getattr(lib, f"VMR_PL011_CR_{output}"))
        assert uart.get("FR") & 0x107 == getattr(lib, f"VMR_PL011_FR_{line}")
        assert uart.get("MIS") & getattr(lib, f"VMR_PL011_RIS_{line}") and uart.level == 1
        uart.put("ICR", 0xF)
        assert uart.level == 0
    uart.put("CR", ON)
    assert uart.get("FR") & 0x107 == 7
    uart.arrived(4)
    assert bytes(uart.get("DR") for _ in range(4)) == b"kept"
    uart.send(b"\n")
    assert os.read(out, 100) == b"\n"


def test_settings_are_kept(rig: tuple[Uart, int, int]) -> None:
    uart = rig[0]
    for name, value, kept in (
        ("ILPR", 0x1FF, 0xFF),
        ("IBRD", 0x1FFFF, 0xFFFF),
        ("FBRD", 0xFF, 0x3F),
        ("LCRH", 0x1FF, 0xFF),
        ("IFLS", 0xFF, 0x3F),
        ("IMSC", 0xFFFF, 0x7FF),
        ("DMACR", 0xFF, 7),
        ("CR", 0x1FB01, 0xFB01),
    ):
        uart.put(name, value)
        assert uart.get(name) == kept, name


def test_a_reader_that_went_away_does_not_stop_the_guest(rig: tuple[Uart, int, int]) -> None:
    uart, _, out = rig
    uart.bench.shut(out)
    for _ in range(3):
        uart.send(b"nobody hears\n")
    assert uart.state.tx_waiting == 0 and uart.state.out_errno != 0
    assert uart.machine.drain()


def test_the_window_is_a_page() -> None:
    from vmrun.errors import HostError

    with bench() as b, pytest.raises(HostError, match="4096"):
        b.make("vmr_pl011_new", "vmr_pl011", UART, 0x100, b.line.c, -1, -1)


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(0, 0xFFF) | st.sampled_from([register.offset for register in REGISTERS.registers]),
            st.sampled_from([1, 2, 4, 8]),
            st.integers(0, 2**64 - 1),
        )
    )
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
        assert uart.get("MIS") == uart.get("RIS") & uart.get("IMSC")
        assert uart.state.irq == bool(uart.get("MIS"))
        assert b.machine.drain()
