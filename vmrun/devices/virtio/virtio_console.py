"""virtio console with named ports, served by C. Spec: Virtual I/O Device (VIRTIO) 1.2, section 5.3."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from vmrun.devices.model import DeviceType, Driver, Needs, Wires
from vmrun.devices.state import Served
from vmrun.devices.virtio.virtio_mmio import REGISTERS, aml, fdt
from vmrun.plan.model import DevicePlan

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine


def ports(device: DevicePlan) -> tuple[tuple[str, bool], ...]:
    """Return the device's ports in order: name, and whether it is a terminal (``hvc``) of the guest.

    The property ``ports`` names the ports that are no terminal; ``console`` says whether a terminal stands before them,
    which it does unless ports are named.
    """
    named = device.names("ports")
    terminal = device.properties.get("console", not named)
    return ((("", True),) if terminal else ()) + tuple((name, False) for name in named)


class Console(Served):
    """A live console device."""

    def __init__(self, machine: CoreMachine, device: DevicePlan, handle: Any) -> None:
        super().__init__(machine, handle, device.id)
        self._ports = ports(device)

    def resize(self, columns: int, rows: int) -> None:
        """Tell the guest the size of its terminal in characters, each 1 to 65535. Any thread."""
        from vmrun._core import lib

        self._machine.check(lib.vmr_virtio_console_resize(self.handle, columns, rows), self._id)

    def counters(self) -> Mapping[str, int]:
        """Return the bytes that each port moved, to and from the guest."""
        from vmrun._core import ffi, lib

        found: dict[str, int] = {}
        state = ffi.new("vmr_virtio_console_counters *")
        for index, (name, _) in enumerate(self._ports):
            lib.vmr_virtio_console_get_counters(self.handle, index, state)
            found[f"{name or 'console'}.in"] = int(state.rx_bytes)
            found[f"{name or 'console'}.out"] = int(state.tx_bytes)
        return found


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Console:
    """Attach the console; port ``name`` is wired to the stream (device id, name).

    A port that the property ``hangup`` names has its output closed when the guest closes it.
    """
    from vmrun._core import ffi, lib

    hangup = device.names("hangup")
    all_ports = ports(device)
    out = ffi.new("vmr_virtio_console **")
    code = lib.vmr_virtio_console_new(
        machine.handle, device.base, device.size, wires.c_line(), len(all_ports), 0, 0, out
    )
    machine.check(code, device.id)
    for index, (name, terminal) in enumerate(all_ports):
        flags = lib.VMR_PORT_CONSOLE if terminal else lib.VMR_PORT_HANGUP if name in hangup else 0
        in_fd, out_fd = wires.stream(device.id, name)
        code = lib.vmr_virtio_console_port(out[0], index, name.encode(), flags, in_fd, out_fd)
        machine.check(code, f"{device.id}: port {name or index}")
    return Console(machine, device, out[0])


DEVICE = DeviceType(
    kind="virtio-console",
    doc="console, and named ports between guest and host",
    owner="table",
    driver=Driver("virtio_console", ("CONFIG_VIRTIO_CONSOLE",)),  # Linux 6.12, drivers/char/Kconfig
    needs=Needs(size=0x200, transport="virtio-mmio"),
    registers=REGISTERS,
    fdt=fdt,
    aml=aml,
    realize=realize,
)
