"""NS16550A UART, served by C.

Spec: Texas Instruments PC16550D data sheet (SNLS378), sections 8.0 to 8.8.
Devicetree: serial/8250.yaml. ACPI: PNP0501, 16550A-compatible COM port (Linux drivers/tty/serial/8250/8250_pnp.c).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Driver, FdtContext, Needs, Nodes, Props, Wires, interrupts, reg
from vmrun.devices.registers import READ_ONLY, READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Served
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, FdtNode, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine
    from vmrun.tables.aml import Node

CLOCK_HZ = 3_686_400
"""The input clock that the tree states; no line has this speed, but a driver divides it."""

REGISTERS = RegisterMap(
    "PC16550D",
    (
        Register("RBR", 0, 1, READ_ONLY, section="8.0"),
        Register("THR", 0, 1, WRITE_ONLY, section="8.0"),
        Register("IER", 1, 1, READ_WRITE, 0, (Bits("RDA", 0), Bits("THRE", 1), Bits("RLS", 2), Bits("MSR", 3)), "8.7"),
        Register("IIR", 2, 1, READ_ONLY, 1, (Bits("NONE", 0), Bits("CAUSE", 1, 3), Bits("FIFO", 6, 7)), "8.6"),
        Register(
            "FCR",
            2,
            1,
            WRITE_ONLY,
            0,
            (Bits("ENABLE", 0), Bits("CLEAR_RX", 1), Bits("CLEAR_TX", 2), Bits("TRIGGER", 6, 7)),
            "8.5",
        ),
        Register("LCR", 3, 1, READ_WRITE, 0, (Bits("WLS", 0, 1), Bits("PARITY", 3), Bits("DLAB", 7)), "8.1"),
        Register(
            "MCR",
            4,
            1,
            READ_WRITE,
            0,
            (Bits("DTR", 0), Bits("RTS", 1), Bits("OUT1", 2), Bits("OUT2", 3), Bits("LOOP", 4)),
            "8.8",
        ),
        Register("LSR", 5, 1, READ_ONLY, 0x60, (Bits("DR", 0), Bits("OE", 1), Bits("THRE", 5), Bits("TEMT", 6)), "8.4"),
        Register(
            "MSR",
            6,
            1,
            READ_ONLY,
            0xB0,
            (Bits("DELTA", 0, 3), Bits("CTS", 4), Bits("DSR", 5), Bits("RI", 6), Bits("DCD", 7)),
            "8.9",
        ),
        Register("SCR", 7, 1, READ_WRITE, section="8.10"),
    ),
    prefix="VMR_UART_",
)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``serial`` node."""
    props: Props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("clock-frequency", Cells(CLOCK_HZ)),
        *interrupts(device, context),
    )
    return Nodes((FdtNode(f"serial@{device.base:x}", props),))


def aml(device: DevicePlan, number: int) -> tuple[Node, ...]:
    """Return the port as ``COM1`` and so on, where it stands on I/O ports: PNP0501 says nothing of a port in memory."""
    from vmrun.tables import acpi_nodes
    from vmrun.tables.resources import IoPorts, Irq

    if device.space != "pio":
        return ()
    line = (Irq(device.interrupt.number),) if device.interrupt else ()
    return (acpi_nodes.device(f"COM{number + 1}", "PNP0501", uid=number, crs=(IoPorts(device.base, 8), *line)),)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Served:
    """Attach the UART; its console is the device's port ``""``."""
    from vmrun._core import ffi, lib

    in_fd, out_fd = wires.stream(device.id)
    uart = ffi.new("vmr_uart16550 **")
    code = lib.vmr_uart16550_new(machine.handle, device.bus_base, device.size, wires.c_line(), in_fd, out_fd, uart)
    machine.check(code, device.id)
    return Served(machine, uart[0], device.id)


DEVICE = DeviceType(
    kind="uart16550",
    doc="16550A serial port",
    owner="board",
    compatible=("ns16550a",),
    driver=Driver(
        None, ("CONFIG_SERIAL_8250_CONSOLE",), MappingProxyType({"fdt": ("CONFIG_SERIAL_OF_PLATFORM",)})
    ),  # Linux 6.12, drivers/tty/serial/8250/Kconfig
    needs=Needs(size=0x100, align=0x100),
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
