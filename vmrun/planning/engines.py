"""Which engine runs a plan: the choice where it is made, and the engine of a plan where it is run.

A plan has decided already; its engine's name becomes the engine, or a reason why not.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

from vmrun.engine import table
from vmrun.errors import HostError
from vmrun.frozen import frozen

if TYPE_CHECKING:
    from vmrun.engine.seam import Engine
    from vmrun.plan.model import MachinePlan
    from vmrun.plan.offer import Offer


def reason(engine: str, guest_arch: str, host_arch: str) -> str:
    """Return one line on why ``engine`` runs a guest of one architecture on a host of another."""
    guest, host = (f"{_article(arch)} {arch}" for arch in (guest_arch, host_arch))
    return f"{guest} guest on {host} host, vmrun's own {engine} engine"


def _article(word: str) -> str:
    return "an" if word[:1] in "aeiou8x" else "a"


@frozen
class Choice:
    """An engine and the reason in one line; ``lasting`` is False where another look at this host may choose another."""

    engine: str
    why: str
    lasting: bool = True


def offer_for(
    accel: str, arch: str, *, anywhere: bool = False, warn: Callable[[str], None] = lambda text: None
) -> tuple[Offer, bool]:
    """Return what the engine that ``accel`` stands for offers a guest of ``arch``, and whether the choice will last.

    ``warn`` is told, and HostError raised, as by `choose`. With ``anywhere`` this host is not asked: the engine is one
    that runs such guests on some host, and what depends on that host is left open.
    """
    choice = anywhere_for(accel, arch) if anywhere else choose(accel, arch, platform.machine(), warn)
    row = table.find(choice.engine)
    assert row is not None
    return row.offer(choice.why, arch, anywhere=anywhere), choice.lasting


def anywhere_for(accel: str, guest_arch: str) -> Choice:
    """Return the engine for ``accel`` whatever the host: ``auto`` is one that runs such guests on all, if there is one.

    Raise HostError E301 and E302 as `choose`.
    """
    row = _named(accel) if accel != "auto" else _everywhere(guest_arch) or _native()
    if not row.native:
        return _running(row, guest_arch, platform.machine())
    return Choice(row.name, reason(row.name, guest_arch, guest_arch))


def choose(accel: str, guest_arch: str, host_arch: str, warn: Callable[[str], None] = lambda text: None) -> Choice:
    """Return the engine for ``accel``, ``auto`` or a name. ``warn`` is told in one line where it will be slow.

    Raise HostError E301 where this release has no such engine, E302 where it cannot run a guest of ``guest_arch``.
    """
    row = _named(accel) if accel != "auto" else _native() if guest_arch == host_arch else _software(guest_arch)
    if row.native:
        return _on_this_host(row, guest_arch, host_arch, insists=accel != "auto", warn=warn)
    return _running(row, guest_arch, host_arch)


def _named(accel: str) -> table.Row:
    """Return the engine called ``accel``. Raise HostError E301 where this release has none."""
    row = table.find(accel)
    if row is None:
        names = ", ".join(("auto", *table.CARRIED))
        raise HostError(f"accel = {accel!r} is no engine", code="E301", remedy=f"engines are {names}")
    if row.lacks:
        raise HostError(f"accel = {accel!r}: {row.lacks}", code="E301", remedy='write accel = "auto" or "soft"')
    return row


def _everywhere(arch: str) -> table.Row | None:
    """Return the engine that runs guests of ``arch`` on every host, None where there is none."""
    return next((row for row in _of_every_host() if arch in row.guests), None)


def _software(arch: str) -> table.Row:
    """Return the engine of every host to ask for guests of ``arch``; the first, to say what it runs, where none has."""
    return _everywhere(arch) or _of_every_host()[0]


def _of_every_host() -> list[table.Row]:
    return [row for row in table.ENGINES if row.carried and not row.native]


def _native() -> table.Row:
    return next(row for row in table.ENGINES if row.carried and row.native)


def _running(row: table.Row, guest_arch: str, host_arch: str) -> Choice:
    """Return the choice of an engine that runs on every host. Raise HostError E302 where it has no such guests."""
    if guest_arch not in row.guests:
        text = f"the {row.name} engine runs {' and '.join(row.guests)} guests, not {guest_arch}"
        raise HostError(text, code="E302", remedy='write board = "riscv_virt"')
    return Choice(row.name, reason(row.name, guest_arch, host_arch))


def _on_this_host(
    row: table.Row, guest_arch: str, host_arch: str, *, insists: bool, warn: Callable[[str], None]
) -> Choice:
    """Return the native engine where it can boot a Linux guest here; one of every host where that runs such guests as
    well, unless the user ``insists``. Raise HostError E302, or what the probe found.
    """
    if guest_arch != host_arch:
        remedy = 'write accel = "auto", or use a host of the guest\'s architecture'
        raise HostError(f"KVM runs {host_arch} guests on this host, not {guest_arch}", code="E302", remedy=remedy)
    from vmrun.kvm.outcome import admit_linux
    from vmrun.kvm.probe import look

    standing = look()
    try:
        doubt = admit_linux(standing, insists=insists)
    except HostError:
        other = _everywhere(guest_arch)
        if insists or other is None:
            raise
        lasting = standing.guest is None or standing.guest.lasting
        return Choice(other.name, reason(other.name, guest_arch, host_arch), lasting)
    if doubt:
        warn(doubt)
    return Choice(row.name, reason(row.name, guest_arch, host_arch))


def load(plan: MachinePlan) -> Engine:
    """Return the engine that ``plan`` names. Raise HostError E301 where this release does not have it."""
    row = table.find(plan.engine)
    if row is None or row.lacks:
        why = row.lacks if row is not None else "no such engine"
        raise HostError(f"the plan is for the {plan.engine} engine: {why}", code="E301", remedy="plan it again here")
    return row.engine()
