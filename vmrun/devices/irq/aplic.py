"""The advanced platform-level interrupt controller (AIA), served by C or by KVM: wired lines become messages.

Spec: RISC-V Advanced Interrupt Architecture 1.0, chapter 4. Devicetree: interrupt-controller/riscv,aplic.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Live, Needs, Nodes, Property, Wires, label_of, reg
from vmrun.devices.registers import READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Served
from vmrun.plan.model import DevicePlan, Interrupt
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

SOURCES = 96
"""Interrupt sources beside the unused 0: QEMU's virt board has as many (VIRT_IRQCHIP_NUM_SOURCES)."""
SIZE = 0x4000
"""The domain's registers; no delivery to harts without an IMSIC follows (KVM_DEV_RISCV_APLIC_SIZE)."""
_EDGE_RISING, _LEVEL_HIGH = 1, 4
"""The second cell of a line: IRQ_TYPE_* of dt-bindings/interrupt-controller/irq.h."""

MAX_SOURCES = 1023
_TARGET = (Bits("EIID", 0, 10), Bits("HART", 18, 31))

REGISTERS = RegisterMap(
    "RISC-V Advanced Interrupt Architecture 1.0",
    (
        Register(
            *("DOMAINCFG", 0, 4, READ_WRITE, 0x8000_0004),
            fields=(Bits("DM", 2), Bits("IE", 8), Bits("FIXED", 24, 31)),
            section="4.5.1",
        ),
        Register(
            *("SOURCECFG", 4, 4, READ_WRITE),
            fields=(Bits("SM", 0, 2), Bits("D", 10)),
            section="4.5.2",
            count=MAX_SOURCES,
            stride=4,
        ),
        Register("SETIP", 0x1C00, 4, READ_WRITE, section="4.5.5", count=32, stride=4),
        Register("SETIPNUM", 0x1CDC, 4, WRITE_ONLY, section="4.5.6"),
        Register("IN_CLRIP", 0x1D00, 4, READ_WRITE, section="4.5.7", count=32, stride=4),
        Register("CLRIPNUM", 0x1DDC, 4, WRITE_ONLY, section="4.5.8"),
        Register("SETIE", 0x1E00, 4, READ_WRITE, section="4.5.9", count=32, stride=4),
        Register("SETIENUM", 0x1EDC, 4, WRITE_ONLY, section="4.5.10"),
        Register("CLRIE", 0x1F00, 4, WRITE_ONLY, section="4.5.11", count=32, stride=4),
        Register("CLRIENUM", 0x1FDC, 4, WRITE_ONLY, section="4.5.12"),
        Register("SETIPNUM_LE", 0x2000, 4, WRITE_ONLY, section="4.5.13"),
        Register("SETIPNUM_BE", 0x2004, 4, WRITE_ONLY, section="4.5.14"),
        Register("GENMSI", 0x3000, 4, READ_WRITE, fields=_TARGET, section="4.5.15"),
        Register("TARGET", 0x3004, 4, READ_WRITE, fields=_TARGET, section="4.5.16", count=MAX_SOURCES, stride=4),
    ),
    prefix="VMR_APLIC_",
)


def _sources(device: DevicePlan) -> int:
    return device.number("sources", SOURCES)


def line(wired: Interrupt) -> tuple[int, ...]:
    """Return what the APLIC has to be told of a line: its number, and its trigger."""
    return (wired.number, _EDGE_RISING if wired.trigger == "edge" else _LEVEL_HIGH)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the node, labelled with the device's id; its messages go to the IMSICs."""
    parents = tuple(Ref(label_of(other)) for other in context.placed if other.kind == "imsic")
    props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(2)),
        ("#address-cells", Cells(0)),
        ("riscv,num-sources", Cells(_sources(device))),
        *((("msi-parent", Cells(*parents)),) if parents else ()),
    )
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, label=label_of(device)),))


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Attach the APLIC; its messages go to the interrupt files of the machine's harts."""
    from vmrun._core import ffi, lib

    messages = wires.messages if wires.messages is not None else ffi.new("vmr_msi *")[0]
    place = (machine.handle, device.base, device.size)
    out = ffi.new("vmr_aplic **")
    machine.check(lib.vmr_aplic_new(*place, _sources(device), messages, out), device.id)
    return Served(machine, out[0], device.id)


DEVICE = DeviceType(
    kind="aplic",
    doc="RISC-V advanced platform-level interrupt controller: wired lines become messages",
    owner="board",
    compatible=("qemu,aplic", "riscv,aplic"),
    needs=Needs(size=SIZE, trigger=None),
    properties={"sources": Property("integer", "Interrupt sources.", default=SOURCES, minimum=1, maximum=MAX_SOURCES)},
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
    gives="lines",
)
