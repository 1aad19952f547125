"""Which engine runs a plan. The plan has decided already; here its name becomes the engine, or a reason why not."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from vmrun.engine.seam import Engine
from vmrun.errors import HostError
from vmrun.frozen import frozen
from vmrun.plan.model import MachinePlan

_ENGINES = {"soft": "vmrun.rv64.engine", "kvm": "vmrun.kvm.engine"}
"""Engine name -> the module that has it, as ``ENGINE``."""

_NOT_YET = {
    "qemu": "this release of vmrun does not drive QEMU",
}


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


def choose(accel: str, guest_arch: str, host_arch: str, warn: Callable[[str], None] = lambda text: None) -> Choice:
    """Return the engine for ``accel``: auto, kvm, soft or qemu. ``warn`` is told in one line where it will be slow.

    Raise HostError E301 where this release has no such engine, E302 where it cannot run a guest of ``guest_arch``.
    """
    if accel in _NOT_YET:
        raise HostError(f"accel = {accel!r}: {_NOT_YET[accel]}", code="E301", remedy='write accel = "auto" or "soft"')
    if accel not in ("auto", *_ENGINES):
        names = ", ".join(("auto", *_ENGINES))
        raise HostError(f"accel = {accel!r} is no engine", code="E301", remedy=f"engines are {names}")
    if accel == "kvm" or (accel == "auto" and guest_arch == host_arch):
        return _kvm(guest_arch, host_arch, insists=accel == "kvm", warn=warn)
    if guest_arch != "riscv64":
        text = f"the soft engine runs riscv64 guests, not {guest_arch}"
        raise HostError(text, code="E302", remedy='write board = "riscv_virt"')
    return Choice("soft", reason("soft", guest_arch, host_arch))


def _kvm(guest_arch: str, host_arch: str, *, insists: bool, warn: Callable[[str], None]) -> Choice:
    """Return the KVM engine where it can boot a Linux guest here; the soft engine where that runs such guests as well,
    unless the user ``insists``. Raise HostError E302, or what the probe found.
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
        if insists or guest_arch != "riscv64":
            raise
        lasting = standing.guest is None or standing.guest.lasting
        return Choice("soft", reason("soft", guest_arch, host_arch), lasting)
    if doubt:
        warn(doubt)
    return Choice("kvm", reason("kvm", guest_arch, host_arch))


def load(plan: MachinePlan) -> Engine:
    """Return the engine that ``plan`` names. Raise HostError E301 where this release does not have it."""
    if plan.engine not in _ENGINES:
        why = _NOT_YET.get(plan.engine, "no such engine")
        raise HostError(f"the plan is for the {plan.engine} engine: {why}", code="E301", remedy="plan it again here")
    engine: Engine = import_module(_ENGINES[plan.engine]).ENGINE
    return engine
