"""Who lies where on a board: RAM, the devices with a place of their own, then those in virtio slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from vmrun.boards.slots import TRANSPORT, Wanted, given
from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.plan.allocate import Allocator, Range, SlotRow
from vmrun.plan.model import EMPTY, DevicePlan, Interrupt, Json, RamRegion

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest


@frozen
class Fixed:
    """A device with a place of its own: memory, or I/O ports where ``space`` is ``pio``.

    ``irq`` None is no interrupt, ``trigger`` how its line is wired, whatever the device itself would take.
    """

    id: str
    kind: str
    where: Range
    irq: int | None = None
    trigger: str = "level"
    space: str = "mmio"
    properties: Mapping[str, Json] = EMPTY


class Places:
    """Hands out each address, each I/O port and each interrupt (1 to ``irqs``) once; RAM has its own from the start.

    What collides raises PlanError, with both owners.
    """

    def __init__(self, irqs: int, ram: Sequence[RamRegion]) -> None:
        self._memory, self._io = Allocator(irqs), Allocator(irqs)
        for region in ram:
            self._memory.claim(Owner("RAM", region.base, region.size, ("memory", "size")))

    def fixed(self, table: Iterable[Fixed], manifest: Manifest) -> Iterator[DevicePlan]:
        """Yield the devices of ``table``; one whose kind the manifest has as well is the manifest's.

        Raise PlanError E108 where it has two of them.
        """
        table = tuple(table)
        named = _by_manifest(manifest, {fixed.kind for fixed in table})
        for fixed in table:
            id, properties, key = named.get(fixed.kind, (fixed.id, fixed.properties, None))
            owner = Owner(id, fixed.where.base, fixed.where.size, key)
            (self._io if fixed.space == "pio" else self._memory).claim(owner)
            line = None if fixed.irq is None else Interrupt(self._memory.interrupt(fixed.irq, owner), fixed.trigger)
            yield DevicePlan(
                id, fixed.kind, fixed.where.base, fixed.where.size, line, properties=properties, space=fixed.space
            )

    def ports(self, name: str, base: int, size: int, key: Key) -> None:
        """Claim I/O ports for a device of the manifest."""
        self._io.claim(Owner(f"{name} ports", base, size, key))

    def slots(self, row: SlotRow, wants: Iterable[Wanted], trigger: str) -> Iterator[DevicePlan]:
        """Yield ``wants`` in the slots of ``row``, lowest address first: so disks are called in the manifest's order.

        Raise PlanError E108 where there are more of them than slots.
        """
        for index, want in enumerate(wants):
            slot = self._memory.slot(row, index, want.id, want.key)
            line = Interrupt(slot.irq, trigger)
            yield DevicePlan(want.id, want.kind, slot.base, slot.size, line, TRANSPORT, want.properties)


def _by_manifest(manifest: Manifest, kinds: set[str]) -> dict[str, tuple[str, Mapping[str, Json], Key]]:
    """Return the manifest's devices of ``kinds``, by kind: name, properties, key. One of a kind fits."""
    found: dict[str, tuple[str, Mapping[str, Json], Key]] = {}
    for name, device in manifest.device.items():
        if device.kind not in kinds:
            continue
        key = ("device", name)
        if device.kind in found:
            raise PlanError(
                f"`{found[device.kind][0]}` and `device.{name}` are both `{device.kind}`, and the board has one",
                code="E108",
                key=key,
                remedy="remove one of them",
            )
        found[device.kind] = (f"device.{name}", given(device), key)
    return found
