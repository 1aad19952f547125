"""The words for two owners of one thing: what the allocator and the checks both say."""

from __future__ import annotations

from vmrun.errors import Owner, PlanError


def overlap(one: Owner, other: Owner) -> PlanError:
    """Return the error for two claims on the same addresses."""
    return PlanError(
        f"`{one.name}` and `{other.name}` overlap: {one} and {other}",
        code="E101",
        key=other.key,
        owners=(one, other),
        remedy="move or remove one of them",
    )


def shared_line(number: int, one: Owner, other: Owner) -> PlanError:
    """Return the error for two claims on the same interrupt."""
    return PlanError(
        f"`{one.name}` and `{other.name}` share interrupt {number}",
        code="E103",
        key=other.key,
        owners=(one, other),
        remedy="give one of them another interrupt",
    )


def no_such_line(number: int, owner: Owner, last: int) -> PlanError:
    """Return the error for an interrupt that the controller does not have."""
    return PlanError(
        f"`{owner.name}` has interrupt {number}, and the board's are 1 to {last}",
        code="E103",
        key=owner.key,
        owners=(owner,),
        remedy="choose an interrupt that the board has",
    )
