"""The seam between what KVM is everywhere and what it is on one architecture.

An architecture is one folder here and one in ``core/``, both called as ``uname -m`` calls it. A fourth one needs, here:

- ``capabilities.py`` with ``TABLE``: what it asks of KVM beyond `vmrun.kvm.capabilities.COMMON`;
- ``offer.py`` with ``nominal(why)``, what a plan may count on where nobody has asked a host, and ``offer(kvm, why)``;
- ``vm.py`` with ``build(core, kvm, plan)``, which returns a `GuestVm`, and ``IN_KERNEL``, the kinds of devices of a
  plan that KVM itself is;
- ``microguest.py`` with ``run(kvm)``, what `vmrun doctor` tries;

and, in C, the hooks at the end of ``core/kvm_core.h``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from vmrun.errors import HostError
from vmrun.plan.model import EntryPlan

if TYPE_CHECKING:
    from vmrun.core.state import State
    from vmrun.kvm.report import Scene

ARCHES = ("x86_64", "aarch64", "riscv64")
"""Architectures that the engine runs, hosts and guests alike."""


class GuestVm(Protocol):
    """A VM with its interrupt controller and its vCPUs; RAM is there, devices that KVM is not come later."""

    @property
    def vcpus(self) -> Sequence[Any]:
        """The vCPUs in order (``vmr_vcpu *``)."""

    def firmware_console(self, in_fd: int, out_fd: int) -> None:
        """Connect the console of firmware that the engine serves, as `vmrun.kvm.vm.Vm` does where it is not told."""

    def enter(self, entry: EntryPlan) -> None:
        """Put the boot vCPU at the plan's entry. Raise HostError E310 for an unknown register, E325 where KVM refuses.

        Devices and blobs are there: what an interrupt controller in the kernel needs last is done here as well.
        """

    def where(self, index: int) -> Mapping[str, int]:
        """Return where vCPU ``index`` stands, registers by name, ``pc`` first; only while it does not run."""

    def save(self, index: int) -> State:
        """Return the registers of vCPU ``index``, as far as the tables go; only while it does not run."""

    def load(self, index: int, state: State) -> None:
        """Give vCPU ``index`` those registers; only while it does not run. Raise HostError E370 if they are others."""

    def scene(self, index: int) -> Scene:
        """Return what a report says of vCPU ``index``; only while it does not run."""


def part(name: str, arch: str | None = None) -> ModuleType:
    """Return the module ``name`` of an architecture, this host's unless given.

    Raise HostError E329 where vmrun has no KVM engine for it.
    """
    machine = arch or os.uname().machine
    if machine not in ARCHES:
        raise HostError(f"vmrun has no KVM engine for {machine} hosts", code="E329", remedy='use accel = "soft"')
    return import_module(f"vmrun.kvm.{machine}.{name}")
