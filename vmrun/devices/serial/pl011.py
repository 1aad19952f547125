"""ARM PrimeCell UART, served by C.

Spec: ARM PrimeCell UART (PL011) Technical Reference Manual, DDI 0183G, chapter 3. Devicetree: serial/pl011.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices import primecell
from vmrun.devices.model import (
    DeviceType,
    Driver,
    FdtContext,
    Needs,
    Nodes,
    Props,
    Wires,
    interrupts,
    reg,
)
from vmrun.devices.registers import READ_ONLY, READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Served
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import FdtNode, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_INTERRUPTS = (
    Bits("RI", 0),
    Bits("CTS", 1),
    Bits("DCD", 2),
    Bits("DSR", 3),
    Bits("RX", 4),
    Bits("TX", 5),
    Bits("RT", 6),
    Bits("FE", 7),
    Bits("PE", 8),
    Bits("BE", 9),
    Bits("OE", 10),
)
_FLAGS = (
    Bits("CTS", 0),
    Bits("DSR", 1),
    Bits("DCD", 2),
    Bits("BUSY", 3),
    Bits("RXFE", 4),
    Bits("TXFF", 5),
    Bits("RXFF", 6),
    Bits("TXFE", 7),
    Bits("RI", 8),
)
_LINE_CONTROL = (
    Bits("BRK", 0),
    Bits("PEN", 1),
    Bits("EPS", 2),
    Bits("STP2", 3),
    Bits("FEN", 4),
    Bits("WLEN", 5, 6),
    Bits("SPS", 7),
)
_CONTROL = (
    Bits("UARTEN", 0),
    Bits("SIREN", 1),
    Bits("SIRLP", 2),
    Bits("LBE", 7),
    Bits("TXE", 8),
    Bits("RXE", 9),
    Bits("DTR", 10),
    Bits("RTS", 11),
    Bits("OUT1", 12),
    Bits("OUT2", 13),
    Bits("RTSEN", 14),
    Bits("CTSEN", 15),
)
_DATA = (Bits("DATA", 0, 7), Bits("FE", 8), Bits("PE", 9), Bits("BE", 10), Bits("OE", 11))
_ERRORS = (Bits("FE", 0), Bits("PE", 1), Bits("BE", 2), Bits("OE", 3))

REGISTERS = RegisterMap(
    "DDI 0183G",
    (
        Register("DR", 0x000, 4, READ_WRITE, 0, _DATA, "3.3.1"),
        Register("RSR", 0x004, 4, READ_WRITE, 0, _ERRORS, "3.3.2"),
        Register("FR", 0x018, 4, READ_ONLY, 0x97, _FLAGS, "3.3.3"),
        Register("ILPR", 0x020, 4, READ_WRITE, 0, (), "3.3.4"),
        Register("IBRD", 0x024, 4, READ_WRITE, 0, (), "3.3.5"),
        Register("FBRD", 0x028, 4, READ_WRITE, 0, (), "3.3.6"),
        Register("LCRH", 0x02C, 4, READ_WRITE, 0, _LINE_CONTROL, "3.3.7"),
        Register("CR", 0x030, 4, READ_WRITE, 0x300, _CONTROL, "3.3.8"),
        Register("IFLS", 0x034, 4, READ_WRITE, 0x12, (Bits("TX", 0, 2), Bits("RX", 3, 5)), "3.3.9"),
        Register("IMSC", 0x038, 4, READ_WRITE, 0, _INTERRUPTS, "3.3.10"),
        Register("RIS", 0x03C, 4, READ_ONLY, 0, _INTERRUPTS, "3.3.11"),
        Register("MIS", 0x040, 4, READ_ONLY, 0, _INTERRUPTS, "3.3.12"),
        Register("ICR", 0x044, 4, WRITE_ONLY, 0, _INTERRUPTS, "3.3.13"),
        Register("DMACR", 0x048, 4, READ_WRITE, 0, (Bits("RX", 0), Bits("TX", 1), Bits("ON_ERROR", 2)), "3.3.14"),
        *primecell.identity(0x011, 1, "3.3.15"),
    ),
    prefix="VMR_PL011_",
)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``serial`` node."""
    props: Props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        *interrupts(device, context),
        *primecell.clocks(context, "uartclk", "apb_pclk"),
    )
    return Nodes((FdtNode(f"serial@{device.base:x}", props),))


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Served:
    """Attach the UART; its console is the device's port ``""``."""
    from vmrun._core import ffi, lib

    in_fd, out_fd = wires.stream(device.id)
    uart = ffi.new("vmr_pl011 **")
    code = lib.vmr_pl011_new(machine.handle, device.base, device.size, wires.c_line(), in_fd, out_fd, uart)
    machine.check(code, device.id)
    return Served(machine, uart[0], device.id)


DEVICE = DeviceType(
    kind="pl011",
    doc="ARM's serial port",
    owner="board",
    compatible=primecell.compatible("arm,pl011"),
    driver=Driver(None, ("CONFIG_SERIAL_AMBA_PL011_CONSOLE",)),  # Linux 6.12, drivers/tty/serial/Kconfig
    needs=Needs(size=0x1000),
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
)
