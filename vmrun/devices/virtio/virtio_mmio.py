"""virtio over MMIO, version 2: the window of registers that every virtio device of this transport has. Served by C.

Spec: Virtual I/O Device (VIRTIO) 1.2, section 4.2.2 (MMIO Device Register Layout). Devicetree: virtio/mmio.yaml.
ACPI: LNRO0005 (Linux drivers/virtio/virtio_mmio.c).
A device on it gives its id, features, queues and configuration; the node and the registers are the transport's.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.devices.model import (
    DeviceType,
    Driver,
    FdtContext,
    Live,
    Needs,
    Nodes,
    Props,
    Wires,
    aml_interrupt,
    interrupts,
    reg,
)
from vmrun.devices.registers import READ_ONLY, READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Table
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import FdtNode, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine
    from vmrun.tables.aml import Node

_INTERRUPTS = (Bits("VRING", 0), Bits("CONFIG", 1))
_STATUS = (
    Bits("ACKNOWLEDGE", 0),
    Bits("DRIVER", 1),
    Bits("DRIVER_OK", 2),
    Bits("FEATURES_OK", 3),
    Bits("NEEDS_RESET", 6),
    Bits("FAILED", 7),
)

REGISTERS = RegisterMap(
    "VIRTIO 1.2, 4.2.2",
    (
        Register("MAGIC", 0x000, 4, READ_ONLY, 0x74726976),
        Register("VERSION", 0x004, 4, READ_ONLY, 2),
        Register("DEVICE_ID", 0x008, 4, READ_ONLY),
        Register("VENDOR_ID", 0x00C, 4, READ_ONLY),
        Register("DEVICE_FEATURES", 0x010, 4, READ_ONLY),
        Register("DEVICE_FEATURES_SEL", 0x014, 4, WRITE_ONLY),
        Register("DRIVER_FEATURES", 0x020, 4, WRITE_ONLY),
        Register("DRIVER_FEATURES_SEL", 0x024, 4, WRITE_ONLY),
        Register("QUEUE_SEL", 0x030, 4, WRITE_ONLY),
        Register("QUEUE_NUM_MAX", 0x034, 4, READ_ONLY, 256),
        Register("QUEUE_NUM", 0x038, 4, WRITE_ONLY),
        Register("QUEUE_READY", 0x044, 4, READ_WRITE),
        Register("QUEUE_NOTIFY", 0x050, 4, WRITE_ONLY),
        Register("INTERRUPT_STATUS", 0x060, 4, READ_ONLY, 0, _INTERRUPTS),
        Register("INTERRUPT_ACK", 0x064, 4, WRITE_ONLY, 0, _INTERRUPTS),
        Register("STATUS", 0x070, 4, READ_WRITE, 0, _STATUS),
        Register("QUEUE_DESC_LOW", 0x080, 4, WRITE_ONLY),
        Register("QUEUE_DESC_HIGH", 0x084, 4, WRITE_ONLY),
        Register("QUEUE_DRIVER_LOW", 0x090, 4, WRITE_ONLY),
        Register("QUEUE_DRIVER_HIGH", 0x094, 4, WRITE_ONLY),
        Register("QUEUE_DEVICE_LOW", 0x0A0, 4, WRITE_ONLY),
        Register("QUEUE_DEVICE_HIGH", 0x0A4, 4, WRITE_ONLY),
        Register("SHM_SEL", 0x0AC, 4, WRITE_ONLY),
        Register("SHM_LEN_LOW", 0x0B0, 4, READ_ONLY, 0xFFFFFFFF),
        Register("SHM_LEN_HIGH", 0x0B4, 4, READ_ONLY, 0xFFFFFFFF),
        Register("SHM_BASE_LOW", 0x0B8, 4, READ_ONLY, 0xFFFFFFFF),
        Register("SHM_BASE_HIGH", 0x0BC, 4, READ_ONLY, 0xFFFFFFFF),
        Register("CONFIG_GENERATION", 0x0FC, 4, READ_ONLY),
        Register("CONFIG", 0x100, 1, READ_ONLY, count=0xF00, stride=1),
    ),
    prefix="VMR_VIRTIO_MMIO_",
)


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the node of a device on this transport; what the device is, its registers tell."""
    props: Props = (("compatible", Strings(*DEVICE.compatible)), reg(device), *interrupts(device, context))
    return Nodes((FdtNode(f"virtio_mmio@{device.base:x}", props),))


def aml(device: DevicePlan, number: int) -> tuple[Node, ...]:
    """Return the node of a device on this transport. Its DMA is coherent."""
    from vmrun.tables import acpi_nodes
    from vmrun.tables.resources import Descriptor, Memory32Fixed

    crs: tuple[Descriptor, ...] = (Memory32Fixed(device.base, device.size), *aml_interrupt(device))
    return (acpi_nodes.device(f"VR{number:02X}", "LNRO0005", uid=number, cca=True, crs=crs),)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Attach a window without a device: DEVICE_ID 0, which drivers pass by (4.2.3.1.1)."""
    slot = EmptySlot(machine)
    machine.claim(device.base, device.size, slot, min_width=4, max_width=4)
    return slot


class EmptySlot(Declared):
    """What a driver sees where no device is."""

    STATE = Table("virtio-mmio")

    def __init__(self, machine: CoreMachine) -> None:
        self._machine = machine

    def read(self, offset: int, size: int) -> int:
        """Return the magic value and the version; all else is 0."""
        found = REGISTERS.at(offset)
        return found[0].reset if found and found[0].name in ("MAGIC", "VERSION") else 0

    def write(self, offset: int, size: int, value: int) -> None:
        """Count it: there is nobody to write to."""
        self._machine.guest_did_wrong("virtio-mmio", "write to an empty slot")


DEVICE = DeviceType(
    kind="virtio-mmio",
    doc="window for one virtio device",
    owner="board",
    compatible=("virtio,mmio",),
    driver=Driver(
        "virtio_mmio",
        ("CONFIG_VIRTIO_MMIO",),
        MappingProxyType({"acpi": ("CONFIG_ACPI",), "mptable": ("CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES",)}),
    ),  # Linux 6.12, drivers/virtio/Kconfig
    needs=Needs(size=0x1000),
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
