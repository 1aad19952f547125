"""Who gets which addresses and interrupts: fixed ranges and rows of equal slots. Collisions name both sides."""

from __future__ import annotations

from vmrun.errors import Key, Owner, PlanError
from vmrun.frozen import frozen
from vmrun.plan.collisions import no_such_line, overlap, shared_line


@frozen
class Range:
    """A half-open range ``[base, base + size)`` of guest physical addresses, in bytes."""

    base: int
    size: int


@frozen
class SlotRow:
    """``count`` windows of ``size`` bytes, ``step`` bytes apart from ``base`` on, interrupts from ``irq`` on.

    Interrupts that others have, ``skip``, are left out of the run.
    """

    base: int
    step: int
    size: int
    count: int
    irq: int
    skip: tuple[int, ...] = ()


@frozen
class Slot:
    """One window of a row, with its interrupt number."""

    base: int
    size: int
    irq: int


class Allocator:
    """Hands out each address and each interrupt once. ``irqs`` is the last interrupt's number; they count from 1."""

    def __init__(self, irqs: int) -> None:
        self._irqs = irqs
        self._ranges: list[Owner] = []
        self._lines: dict[int, Owner] = {}

    def claim(self, owner: Owner) -> None:
        """Claim ``owner``'s range. Raise PlanError E101, with both owners, where it overlaps another."""
        for other in self._ranges:
            if owner.base < other.base + other.size and other.base < owner.base + owner.size:
                raise overlap(other, owner)
        self._ranges.append(owner)

    def interrupt(self, number: int, owner: Owner) -> int:
        """Claim interrupt ``number``. Raise PlanError E103 where it is taken, or where the controller has it not."""
        if not 1 <= number <= self._irqs:
            raise no_such_line(number, owner, self._irqs)
        if number in self._lines:
            raise shared_line(number, self._lines[number], owner)
        self._lines[number] = owner
        return number

    def slot(self, row: SlotRow, index: int, name: str, key: Key) -> Slot:
        """Claim slot ``index`` of ``row``. Raise PlanError E108 where the row has no such slot."""
        if index >= row.count:
            raise PlanError(
                f"no slot is left for `{name}`: the board has {row.count}",
                code="E108",
                key=key,
                remedy="remove a device",
            )
        lines = [line for line in range(row.irq, row.irq + row.count + len(row.skip)) if line not in row.skip]
        slot = Slot(row.base + index * row.step, row.size, lines[index])
        owner = Owner(name, slot.base, slot.size, key)
        self.claim(owner)
        self.interrupt(slot.irq, owner)
        return slot
