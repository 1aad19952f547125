"""virtio entropy source, served by C. Spec: Virtual I/O Device (VIRTIO) 1.2, section 5.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.devices.model import DeviceType, Driver, Live, Needs, Wires
from vmrun.devices.state import Served
from vmrun.devices.virtio.virtio_mmio import REGISTERS, aml, fdt
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Live:
    """Attach the source: the host's randomness, or what ``wires.entropy_fd`` gives."""
    from vmrun._core import ffi, lib

    out = ffi.new("vmr_virtio_rng **")
    code = lib.vmr_virtio_rng_new(machine.handle, device.base, device.size, wires.c_line(), wires.entropy_fd, out)
    machine.check(code, device.id)
    return Served(machine, out[0], device.id)


DEVICE = DeviceType(
    kind="virtio-rng",
    doc="entropy source",
    driver=Driver("virtio_rng", ("CONFIG_HW_RANDOM_VIRTIO",)),  # Linux 6.12, drivers/char/hw_random/Kconfig
    needs=Needs(size=0x200, transport="virtio-mmio"),
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
