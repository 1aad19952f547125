"""RISC-V's Advanced Interrupt Architecture as KVM serves it: one APLIC, and an IMSIC a hart.

Linux has no document of the device: what it does is ``arch/riscv/kvm/aia_device.c``, its numbers are those of
``arch/riscv/include/uapi/asm/kvm.h`` (KVM_DEV_RISCV_AIA_*).
"""

from __future__ import annotations

from vmrun.errors import HostError
from vmrun.kvm.vm import Vm
from vmrun.plan.model import DevicePlan

KIND = 11
"""KVM_DEV_TYPE_RISCV_AIA."""
_CONFIG, _ADDRESS, _CONTROL = 0, 1, 2
_IDS, _SOURCES, _HART_BITS = 1, 2, 5
_APLIC, _FIRST_IMSIC = 0, 1
_INIT = 0
IMSIC_SIZE = 0x1000
"""A hart's page: no guest files of its own follow it."""


def most_ids(vm: Vm) -> int:
    """Return how many interrupt identities an IMSIC may have, 0 where KVM has no AIA. ``vm`` is then of no more use."""
    if not vm.has_device(KIND):
        return 0
    try:
        return vm.new_device(KIND, "AIA").get(_CONFIG, _IDS, "uint32_t")
    except HostError:
        return 0  # KVM knows the device, and this host's harts are without it


def build(vm: Vm, harts: int, aplic: DevicePlan, imsic: DevicePlan) -> None:
    """Make the plan's APLIC and IMSICs, and lead the machine's wired lines there; all ``harts`` are made.

    How the IMSICs are served stays KVM's choice: by the processor's where guest files are left, else in software.
    Raise HostError E325 where KVM refuses.
    """
    sources = aplic.number("sources")
    ids = imsic.number("ids")
    device = vm.new_device(KIND, "AIA")
    device.set(_CONFIG, _IDS, "uint32_t", ids)
    device.set(_CONFIG, _SOURCES, "uint32_t", sources)
    device.set(_CONFIG, _HART_BITS, "uint32_t", (harts - 1).bit_length())
    device.set(_ADDRESS, _APLIC, "uint64_t", aplic.base)
    for hart in range(harts):
        device.set(_ADDRESS, _FIRST_IMSIC + hart, "uint64_t", imsic.base + hart * IMSIC_SIZE)
    device.set(_CONTROL, _INIT)
    vm.wire()
    vm.take_messages(imsic.base)
