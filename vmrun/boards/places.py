"""Who lies where on a board: RAM, the devices with a place of their own, then those in virtio slots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from vmrun.boards.slots import TRANSPORT, Wanted, given
from vmrun.devices import registry as devices
from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.plan.allocate import Allocator, Range, SlotRow
from vmrun.plan.model import EMPTY, DevicePlan, Interrupt, Json, RamRegion

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest


@frozen
class Fixed:
    """A device with a place of its own: memory, or I/O ports where ``space`` is ``pio``.

    ``size`` is what the device needs where it is 0, ``irq`` None is no interrupt, and ``trigger`` is how its line is
    wired, as the device has it where it is empty.
    """

    id: str
    kind: str
    base: int
    irq: int | None = None
    trigger: str = ""
    space: str = "mmio"
    size: int = 0
    properties: Mapping[str, Json] = EMPTY


@frozen
class PlatformBus:
    """Where devices go that a board has no place of its own for: a range of addresses, and interrupts."""

    where: Range
    irqs: Sequence[int]


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
            needs = devices.load(fixed.kind).needs
            owner = Owner(id, fixed.base, fixed.size or needs.size, key)
            (self._io if fixed.space == "pio" else self._memory).claim(owner)
            line = None
            if fixed.irq is not None:
                trigger = fixed.trigger or needs.trigger
                assert trigger is not None, f"{fixed.kind} has no interrupt"
                line = Interrupt(self._memory.interrupt(fixed.irq, owner), trigger)
            yield DevicePlan(id, fixed.kind, owner.base, owner.size, line, properties=properties, space=fixed.space)

    def ports(self, name: str, base: int, size: int, key: Key) -> None:
        """Claim I/O ports for a device of the manifest."""
        self._io.claim(Owner(f"{name} ports", base, size, key))

    def bus(self, bus: PlatformBus, wants: Iterable[Wanted]) -> Iterator[DevicePlan]:
        """Yield ``wants`` on ``bus``, one behind the other as each is aligned.

        Raise PlanError E108 where it has no room, or no interrupt, for one more.
        """
        at, lines = bus.where.base, iter(bus.irqs)
        for want in wants:
            needs = devices.load(want.kind).needs
            base = at + -at % needs.align
            at = base + needs.size
            number = next(lines, None) if needs.trigger else 0
            if number is None or at > bus.where.base + bus.where.size:
                raise PlanError(
                    f"the bus has no {'interrupt' if number is None else 'room'} left for `{want.id}`",
                    code="E108",
                    key=want.key,
                    remedy="remove a device",
                )
            owner = Owner(want.id, base, needs.size, want.key)
            self._memory.claim(owner)
            line = Interrupt(self._memory.interrupt(number, owner), needs.trigger) if needs.trigger else None
            yield DevicePlan(want.id, want.kind, base, needs.size, line, properties=want.properties)

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
