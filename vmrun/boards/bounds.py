"""What a manifest may ask of any board, checked against the one it names: CPUs, RAM, tables, a boot protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards.limits import limits_of
from vmrun.errors import PlanError
from vmrun.plan.offer import Offer
from vmrun.plan.topology import Topology
from vmrun.units import format_size

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest


def cpu_count(manifest: Manifest, offer: Offer, what: str) -> int:
    """Return how many CPUs (``what`` they are called) there are. Raise PlanError E106 where they are too many."""
    count, board = manifest.cpu.count, manifest.machine.board
    most = min(limits_of(board).vcpus, offer.max_vcpus)
    if count > most:
        raise PlanError(
            f"{count} {what}, and {offer.engine} runs at most {most} on {board}",
            code="E106",
            key=("cpu", "count"),
            remedy=f"set cpu.count to at most {most}",
        )
    return count


def ram_size(manifest: Manifest, most: int) -> int:
    """Return the size of RAM in bytes. Raise PlanError E109 where it is more than ``most``."""
    size, board = manifest.memory.size, manifest.machine.board
    if size > most:
        raise PlanError(
            f"{format_size(size)} of RAM, and {board} has room for {format_size(most)}",
            code="E109",
            key=("memory", "size"),
            remedy="set a smaller memory.size",
        )
    return size


def tables(manifest: Manifest, have: tuple[str, ...]) -> str:
    """Return how the guest learns of its hardware; ``auto`` is the first that the board has. Raise PlanError E133."""
    asked, board = manifest.machine.tables, manifest.machine.board
    if asked == "auto":
        return have[0]
    if asked not in have:
        raise PlanError(
            f"{board} has no `{asked}` tables",
            code="E133",
            key=("machine", "tables"),
            remedy=f"write {' or '.join(have)}, or leave it out",
        )
    return asked


def irqchip(manifest: Manifest, have: tuple[str, ...], offer: Offer) -> str:
    """Return the interrupt controller, of those that the board can ``have``; ``auto`` is the first that is offered.

    Raise PlanError E136 for one that the board, or the host, does not have.
    """
    asked, board = manifest.machine.irqchip, manifest.machine.board
    found = tuple(name for name in offer.irqchips if name in have)
    if asked == "auto" and found:
        return found[0]
    if asked in found:
        return asked
    if asked in have or asked == "auto":
        message = f"the {offer.engine} engine has no {asked if asked != 'auto' else ' or '.join(have)} here"
    else:
        message = f"{board} has no `{asked}`"
    raise PlanError(
        message,
        code="E136",
        key=("machine", "irqchip"),
        remedy=f"write {' or '.join(found)}, or leave it out" if found else "use another host",
    )


def no_irqchip(manifest: Manifest) -> None:
    """Raise PlanError E136 where the manifest chooses an interrupt controller: the board has but one."""
    if manifest.machine.irqchip != "auto":
        raise PlanError(
            f"{manifest.machine.board} has no `{manifest.machine.irqchip}`",
            code="E136",
            key=("machine", "irqchip"),
            remedy="leave it out",
        )


def no_topology(manifest: Manifest) -> None:
    """Raise PlanError E134 for more than one socket, or thread of a core: the board describes one socket of cores."""
    for name in ("sockets", "threads"):
        if (getattr(manifest.cpu, name) or 1) > 1:
            raise PlanError(
                f"{manifest.machine.board} describes one socket of single-threaded cores",
                code="E134",
                key=("cpu", name),
                remedy="leave it out",
            )


def topology(manifest: Manifest, count: int) -> Topology:
    """Return the topology of ``count`` CPUs: factors that are left out are 1, but for cores, which make up the rest."""
    sockets, threads = manifest.cpu.sockets or 1, manifest.cpu.threads or 1
    return Topology(sockets, manifest.cpu.cores or count // (sockets * threads), threads)


def host_model(manifest: Manifest) -> None:
    """Raise PlanError E135 for a CPU model by name: under KVM the guest's is the host's."""
    if manifest.cpu.model not in (None, "host", "max"):
        raise PlanError(
            f"{manifest.machine.board} has no CPU model `{manifest.cpu.model}`",
            code="E135",
            key=("cpu", "model"),
            remedy='write "host", and change it by features',
        )


def protocol(manifest: Manifest, *others: str) -> None:
    """Raise PlanError E119 where a boot protocol is asked for that is neither ``auto`` nor one of ``others``."""
    if manifest.boot.protocol not in ("auto", *others):
        raise PlanError(
            f"{manifest.machine.board} boots by no protocol `{manifest.boot.protocol}`",
            code="E119",
            key=("boot", "protocol"),
            remedy=f"leave it out, or write {' or '.join(others)}" if others else "leave it out",
        )
