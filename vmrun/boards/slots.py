"""What a manifest wants in virtio slots, in the order in which the slots are filled; the same on every board."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from vmrun.boards.linux import DRIVERS
from vmrun.devices import registry as devices
from vmrun.errors import Key, PlanError
from vmrun.frozen import frozen
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import EMPTY, Json

if TYPE_CHECKING:
    from vmrun.schema.models import Device, Disk, Manifest

TRANSPORT = "virtio-mmio"
AGENT = "agent"
"""The virtio-console through which the init that vmrun builds talks to the run."""


@frozen
class Wanted:
    """A device that is to get a virtio slot."""

    id: str
    kind: str
    properties: Mapping[str, Json]
    key: Key


def wanted(
    manifest: Manifest, files: BootFiles, ports: tuple[str, ...], board: str, elsewhere: Collection[str]
) -> Iterator[Wanted]:
    """Yield what takes slots: disks, consoles, the agent with its ``ports``, others, each in the manifest's order.

    Kinds in ``elsewhere`` have other places on ``board``. Raise PlanError E131 for one that has none.
    """
    images = dict(files.disks)
    for name, disk in manifest.disk.items():
        yield Wanted(f"disk.{name}", "virtio-blk", MappingProxyType(_disk(disk, images.get(name))), ("disk", name))
    for name, console in manifest.console.items():
        if console.device == "virtio":
            yield Wanted(f"console.{name}", "virtio-console", EMPTY, ("console", name))
    if ports:
        named = tuple(f"vmrun.{port}" for port in ports)
        yield Wanted(AGENT, "virtio-console", MappingProxyType({"ports": named}), ("boot", "initrd"))
    for name, device in manifest.device.items():
        if device.kind in elsewhere:
            continue
        if devices.load(device.kind).needs.transport != TRANSPORT:
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


def modules(kinds: Collection[str]) -> tuple[str, ...]:
    """Return the Linux modules that virtio devices of ``kinds``, and their transport, need."""
    named = {TRANSPORT, *kinds}
    return tuple(driver.module for kind, driver in DRIVERS.items() if kind in named and driver.module)


def _disk(disk: Disk, image: BootFile | None) -> dict[str, Json]:
    properties: dict[str, Json] = {}
    path = image.path if image is not None else disk.path
    if path is not None:
        properties["path"] = str(Path(path).absolute())
        properties["mode"] = disk.mode
    elif disk.size is not None:
        properties["size"] = disk.size
    if disk.serial is not None:
        properties["serial"] = disk.serial
    return properties
