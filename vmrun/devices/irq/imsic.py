"""The incoming MSI controllers of the harts (AIA), served by C or by KVM: a page of S-mode a hart.

Spec: RISC-V Advanced Interrupt Architecture 1.0, chapter 3. Devicetree: interrupt-controller/riscv,imsics.yaml.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, FdtContext, Needs, Nodes, Property, Wires, label_of, reg
from vmrun.devices.registers import READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Served
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

PAGE = 0x1000
IDS = 255
"""Interrupt identities beside the unused 0: QEMU's virt board has as many (VIRT_IRQCHIP_NUM_MSIS)."""
S_EXTERNAL = 9
"""The hart's interrupt that its file drives: supervisor external (RISC-V privileged architecture, scause)."""
MAX_FILES = 64

REGISTERS = RegisterMap(
    "RISC-V Advanced Interrupt Architecture 1.0",
    (
        Register("SETEIPNUM_LE", 0, 4, WRITE_ONLY, section="3.5", count=MAX_FILES, stride=PAGE),
        Register("SETEIPNUM_BE", 4, 4, WRITE_ONLY, section="3.5", count=MAX_FILES, stride=PAGE),
    ),
    prefix="VMR_IMSIC_",
)
INDIRECT = RegisterMap(
    "RISC-V Advanced Interrupt Architecture 1.0",
    (
        Register("EIDELIVERY", 0x70, 8, READ_WRITE, 0, (Bits("ENABLED", 0),), "3.8.1"),
        Register("EITHRESHOLD", 0x72, 8, READ_WRITE, 0, (Bits("IDENTITY", 0, 10),), "3.8.2"),
        Register("EIP", 0x80, 8, READ_WRITE, section="3.8.3", count=32, stride=2),
        Register("EIE", 0xC0, 8, READ_WRITE, section="3.8.4", count=32, stride=2),
    ),
    prefix="VMR_ISELECT_",
)
"""What siselect chooses and sireg shows of a hart's file; an offset is siselect's value."""


def _ids(device: DevicePlan) -> int:
    return device.number("ids", IDS)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the node of all harts' files, labelled with the device's id."""
    files = tuple(cell for intc in context.hart_intcs for cell in (Ref(intc), S_EXTERNAL))
    props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(0)),
        ("#address-cells", Cells(0)),
        ("msi-controller", Empty()),
        ("#msi-cells", Cells(0)),
        ("riscv,num-ids", Cells(_ids(device))),
        ("interrupts-extended", Cells(*files)),
    )
    return Nodes((FdtNode(f"interrupt-controller@{device.base:x}", props, label=label_of(device)),))


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Served:
    """Attach the interrupt files; the machine's vCPUs must have been added, each gets one."""
    from vmrun._core import ffi, lib
    from vmrun.core.line import array

    out = ffi.new("vmr_imsic **")
    outputs = wires.vcpu_lines(S_EXTERNAL)
    place = (machine.handle, device.base, device.size)
    code = lib.vmr_imsic_new(*place, len(outputs), _ids(device), array(outputs), out)
    machine.check(code, device.id)
    return Served(machine, out[0], device.id)


DEVICE = DeviceType(
    kind="imsic",
    doc="RISC-V incoming MSI controllers, one of S-mode a hart",
    owner="board",
    compatible=("qemu,imsics", "riscv,imsics"),
    needs=Needs(size=PAGE, trigger=None),
    properties={"ids": Property("integer", "Interrupt identities.", default=IDS, minimum=63, maximum=2047)},
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
    gives="messages",
)
