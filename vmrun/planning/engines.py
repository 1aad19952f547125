"""Which engine runs a plan. The plan has decided already; here its name becomes the engine, or a reason why not."""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from vmrun.engine.seam import Engine
from vmrun.errors import HostError
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


def choose(accel: str, guest_arch: str, host_arch: str) -> tuple[str, str]:
    """Return the engine for ``accel`` (auto, kvm, soft or qemu) and the reason in one line.

    Raise HostError E301 where this release has no such engine, E302 where it cannot run a guest of ``guest_arch``.
    """
    if accel in _NOT_YET:
        raise HostError(f"accel = {accel!r}: {_NOT_YET[accel]}", code="E301", remedy='write accel = "auto" or "soft"')
    if accel not in ("auto", *_ENGINES):
        names = ", ".join(("auto", *_ENGINES))
        raise HostError(f"accel = {accel!r} is no engine", code="E301", remedy=f"engines are {names}")
    if accel == "kvm" or (accel == "auto" and guest_arch == host_arch and guest_arch != "riscv64"):
        return _kvm(guest_arch, host_arch)
    if accel == "auto" and guest_arch == host_arch:
        with suppress(HostError):  # the software core runs these guests as well
            return _kvm(guest_arch, host_arch)
    if guest_arch != "riscv64":
        text = f"the soft engine runs riscv64 guests, not {guest_arch}"
        raise HostError(text, code="E302", remedy='write board = "riscv_virt"')
    return "soft", reason("soft", guest_arch, host_arch)


def _kvm(guest_arch: str, host_arch: str) -> tuple[str, str]:
    """Return the KVM engine where it can boot a Linux guest here. Raise HostError E302, or what the probe found."""
    if guest_arch != host_arch:
        remedy = 'write accel = "auto", or use a host of the guest\'s architecture'
        raise HostError(f"KVM runs {host_arch} guests on this host, not {guest_arch}", code="E302", remedy=remedy)
    from vmrun.kvm.outcome import require_linux
    from vmrun.kvm.probe import look

    require_linux(look())
    return "kvm", reason("kvm", guest_arch, host_arch)


def load(plan: MachinePlan) -> Engine:
    """Return the engine that ``plan`` names. Raise HostError E301 where this release does not have it."""
    if plan.engine not in _ENGINES:
        why = _NOT_YET.get(plan.engine, "no such engine")
        raise HostError(f"the plan is for the {plan.engine} engine: {why}", code="E301", remedy="plan it again here")
    engine: Engine = import_module(_ENGINES[plan.engine]).ENGINE
    return engine
