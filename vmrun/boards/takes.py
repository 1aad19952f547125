"""What a board takes of the keys of a manifest that not every board takes: as data, and the one check that reads it.

A board declares a `Takes`; `refusals` compares a manifest with it before the board is asked for anything, so that no
board has to remember to refuse a key. A key without a row in `RULES` is taken by every board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vmrun.errors import Key, PlanError
from vmrun.frozen import frozen
from vmrun.plan.offer import Offer
from vmrun.plan.topology import Topology
from vmrun.units import format_size

if TYPE_CHECKING:
    from vmrun.boards.board import Board, Layout
    from vmrun.schema.models import Manifest

HOST_MODELS = ("host", "max")
"""CPU models where the guest's CPU is the host's."""


@frozen
class Takes:
    """What one board takes. None has a default: whoever adds a key says it for every board.

    ``tables`` are ways to learn of the hardware, that of ``auto`` first; ``irqchips`` the interrupt controllers, where
    there is a choice; ``protocols`` boot protocols by name, beside ``auto``. ``topology`` has those of the keys
    ``sockets`` and ``threads`` that may be more than 1. ``models`` are names of CPU models, None where they are no
    names: then the board judges what is written. ``ram`` is the most RAM in bytes, ``cpus`` what a CPU is called; how
    many there are at most, the board's limits and the engine's offer say.
    """

    tables: tuple[str, ...]
    irqchips: tuple[str, ...]
    protocols: tuple[str, ...]
    topology: tuple[str, ...]
    models: tuple[str, ...] | None
    ram: int
    cpus: str


@frozen
class _Asked:
    """A manifest's value of one key, and what it is compared with."""

    manifest: Manifest
    key: Key
    board: Board
    offer: Offer

    @property
    def value(self) -> object:
        return getattr(getattr(self.manifest, self.key[0]), self.key[1])

    def refused(self, code: str, message: str, remedy: str) -> PlanError:
        return PlanError(message, code=code, key=self.key, remedy=remedy)


def _tables(asked: _Asked) -> PlanError | None:
    """E133: tables that the board does not have."""
    have = asked.board.takes.tables
    if asked.value in ("auto", *have):
        return None
    message = f"{asked.board.name} has no `{asked.value}` tables"
    return asked.refused("E133", message, f"write {' or '.join(have)}, or leave it out")


def _irqchip(asked: _Asked) -> PlanError | None:
    """E136: an interrupt controller that the board, or the engine, does not have; any where there is no choice."""
    have, engine = asked.board.takes.irqchips, asked.offer.engine
    found = offered(asked.board.takes, asked.offer)
    if asked.value in found or (asked.value == "auto" and (found or not have)):
        return None
    if asked.value in have or asked.value == "auto":
        message = f"the {engine} engine has no {asked.value if asked.value != 'auto' else ' or '.join(have)} here"
    else:
        message = f"{asked.board.name} has no `{asked.value}`"
    elsewhere = "use another host" if have else "leave it out"
    return asked.refused("E136", message, f"write {' or '.join(found)}, or leave it out" if found else elsewhere)


def _protocol(asked: _Asked) -> PlanError | None:
    """E119: a boot protocol that the board does not boot by."""
    have = asked.board.takes.protocols
    if asked.value in ("auto", *have):
        return None
    message = f"{asked.board.name} boots by no protocol `{asked.value}`"
    return asked.refused("E119", message, f"leave it out, or write {' or '.join(have)}" if have else "leave it out")


def _count(asked: _Asked) -> PlanError | None:
    """E106: more CPUs than the board has room for, or the engine runs."""
    count, board, offer = asked.manifest.cpu.count, asked.board, asked.offer
    most = min(board.limits.vcpus, offer.max_vcpus)
    if count <= most:
        return None
    message = f"{count} {board.takes.cpus}, and {offer.engine} runs at most {most} on {board.name}"
    return asked.refused("E106", message, f"set cpu.count to at most {most}")


def _topology(asked: _Asked) -> PlanError | None:
    """E134: more than one socket, or thread of a core, on a board that describes one socket of cores."""
    if asked.value in (None, 1) or asked.key[1] in asked.board.takes.topology:
        return None
    return asked.refused("E134", f"{asked.board.name} describes one socket of single-threaded cores", "leave it out")


def _model(asked: _Asked) -> PlanError | None:
    """E135: a CPU model by another name than the board has."""
    have = asked.board.takes.models
    if have is None or asked.value in (None, *have):
        return None
    message = f"{asked.board.name} has no CPU model `{asked.value}`"
    return asked.refused("E135", message, 'write "host", and change it by features')


def _size(asked: _Asked) -> PlanError | None:
    """E109: more RAM than the board has room for."""
    size, most = asked.manifest.memory.size, asked.board.takes.ram
    if size <= most:
        return None
    message = f"{format_size(size)} of RAM, and {asked.board.name} has room for {format_size(most)}"
    return asked.refused("E109", message, "set a smaller memory.size")


RULES: dict[Key, tuple[str, Callable[[_Asked], PlanError | None]]] = {
    ("machine", "irqchip"): ("irqchips", _irqchip),
    ("cpu", "count"): ("cpus", _count),
    ("cpu", "sockets"): ("topology", _topology),
    ("cpu", "threads"): ("topology", _topology),
    ("cpu", "model"): ("models", _model),
    ("memory", "size"): ("ram", _size),
    ("machine", "tables"): ("tables", _tables),
    ("boot", "protocol"): ("protocols", _protocol),
}
"""Keys that not every board takes: the field of `Takes` that says what one takes, and the check that reads it."""


def refusals(manifest: Manifest, board: Board, offer: Offer) -> Iterator[PlanError]:
    """Yield an error for each key of the manifest that ``board``, or the engine by its ``offer``, does not take."""
    for key, (_, check) in RULES.items():
        error = check(_Asked(manifest, key, board, offer))
        if error is not None:
            yield error


def lay_out(board: Board, manifest: Manifest, offer: Offer, ports: tuple[str, ...] = ()) -> Layout:
    """Return the layout of a manifest that ``board`` takes. Raise the first of its `refusals`, or as `Board.layout`."""
    for error in refusals(manifest, board, offer):
        raise error
    return board.layout(manifest, offer, ports)


# What a manifest that is not refused chooses.


def tables(manifest: Manifest, takes: Takes) -> str:
    """Return how the guest learns of its hardware."""
    asked = manifest.machine.tables
    return takes.tables[0] if asked == "auto" else asked


def offered(takes: Takes, offer: Offer) -> tuple[str, ...]:
    """Return the interrupt controllers of the board that the engine has, its usual one first."""
    return tuple(name for name in offer.irqchips if name in takes.irqchips)


def irqchip(manifest: Manifest, takes: Takes, offer: Offer) -> str:
    """Return the interrupt controller; ``auto`` is the first that is offered."""
    asked = manifest.machine.irqchip
    return offered(takes, offer)[0] if asked == "auto" else asked


def topology(manifest: Manifest, count: int) -> Topology:
    """Return the topology of ``count`` CPUs: factors that are left out are 1, but for cores, which make up the rest."""
    sockets, threads = manifest.cpu.sockets or 1, manifest.cpu.threads or 1
    return Topology(sockets, manifest.cpu.cores or count // (sockets * threads), threads)
