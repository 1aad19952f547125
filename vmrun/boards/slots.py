"""What a manifest wants in virtio slots and on a board's bus, in the order in which both are filled; the same on every
board."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.devices import registry as devices
from vmrun.errors import Key, PlanError
from vmrun.frozen import evolve, frozen
from vmrun.plan.files import BootFiles
from vmrun.plan.model import EMPTY, DevicePlan, Json

if TYPE_CHECKING:
    from vmrun.schema.models import Device, Disk, Manifest

TRANSPORT = "virtio-mmio"
AGENT = "agent"
"""The virtio-console through which the init that vmrun builds talks to the run."""


@frozen
class Wanted:
    """A device that is to get a virtio slot, or a place on the bus."""

    id: str
    kind: str
    properties: Mapping[str, Json]
    key: Key


def wanted(manifest: Manifest, ports: tuple[str, ...]) -> Iterator[Wanted]:
    """Yield what takes slots: disks, consoles, the agent with its ``ports``, others, each in the manifest's order."""
    for name, disk in manifest.disk.items():
        yield Wanted(f"disk.{name}", "virtio-blk", MappingProxyType(_disk(disk)), ("disk", name))
    for name, console in manifest.console.items():
        if console.device == "virtio":
            yield Wanted(f"console.{name}", "virtio-console", EMPTY, ("console", name))
    if ports:
        named = tuple(f"vmrun.{port}" for port in ports)
        yield Wanted(AGENT, "virtio-console", MappingProxyType({"ports": named}), ("boot", "initrd"))
    for name, device in manifest.device.items():
        if devices.load(device.kind).needs.transport == TRANSPORT:
            yield Wanted(f"device.{name}", device.kind, given(device), ("device", name))


def on_bus(manifest: Manifest, board: str, elsewhere: Collection[str], *, has_bus: bool = True) -> Iterator[Wanted]:
    """Yield what the manifest has beside virtio devices and the kinds in ``elsewhere``, which ``board`` places itself.

    Raise PlanError E131 for a device of other boards, and where the board has no bus to put it on.
    """
    for name, device in manifest.device.items():
        kind = devices.load(device.kind)
        if device.kind in elsewhere or kind.needs.transport is not None:
            continue
        if not has_bus or kind.needs.space != "mmio" or (kind.boards and board not in kind.boards):
            raise PlanError(
                f"{board} has no place for a `{device.kind}`",
                code="E131",
                key=("device", name, "kind"),
                remedy="remove it, or use a virtio device",
            )
        yield Wanted(f"device.{name}", device.kind, given(device), ("device", name))


def given(device: Device) -> Mapping[str, Json]:
    """Return what the manifest sets of a device; a kind's declaration lets no float in."""
    return MappingProxyType({name: value for name, value in device.properties.items() if not isinstance(value, float)})


def _disk(disk: Disk) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    if disk.path is not None:
        properties["path"] = str(Path(disk.path).absolute())
    if disk.path is not None or disk.url is not None:
        properties["mode"] = disk.mode
    elif disk.size is not None:
        properties["size"] = disk.size
    if disk.serial is not None:
        properties["serial"] = disk.serial
    return properties


def with_images(placed: Iterable[DevicePlan], files: BootFiles) -> tuple[DevicePlan, ...]:
    """Return the devices, disks that had to be found with the paths of their images."""
    paths = {f"disk.{name}": image.path for name, image in files.disks}
    return tuple(
        evolve(device, properties=MappingProxyType({"path": paths[device.id], **device.properties}))
        if device.id in paths
        else device
        for device in placed
    )
