"""The GIC that KVM serves: version 3 with its redistributors and an ITS, or version 2 where the host has no more.

Source: Linux ``Documentation/virt/kvm/devices/arm-vgic.rst``, ``arm-vgic-v3.rst``, ``arm-vgic-its.rst``; numbers from
``include/uapi/linux/kvm.h`` and ``arch/arm64/include/uapi/asm/kvm.h``.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmrun.errors import HostError
from vmrun.kvm.vm import Vm
from vmrun.plan.model import MachinePlan

V2, V3, ITS = 5, 7, 8
"""KVM_DEV_TYPE_ARM_VGIC_V2, _V3 and _ITS."""
CONTROLLERS = {"gicv3": V3, "gicv2": V2}
"""The kind of a plan's device -> the device of KVM, best first."""
KINDS = frozenset({*CONTROLLERS, "gicv3-redist", "gicv3-its", "gicv2-cpu"})
"""Kinds of a plan's devices that are the GIC, or a part of it with a place of its own."""

GROUP_ADDRESSES, GROUP_LINES, GROUP_CONTROL = 0, 3, 4  # KVM_DEV_ARM_VGIC_GRP_ADDR, _NR_IRQS, _CTRL
V2_DISTRIBUTOR, V2_CPU = 0, 1  # KVM_VGIC_V2_ADDR_TYPE_*
V3_DISTRIBUTOR, ITS_FRAME, V3_REDISTRIBUTORS = 2, 4, 5  # KVM_VGIC_V3_ADDR_TYPE_DIST, ITS, V3 REDIST_REGION
INIT = 0  # KVM_DEV_ARM_VGIC_CTRL_INIT

REDISTRIBUTOR = 0x20000
"""Bytes of a vCPU's redistributor: two frames of 64 KiB (Arm IHI 0069, section 12.10)."""
_PRIVATE = 32  # interrupts of each CPU's own, before the shared ones


def offered(vm: Vm) -> tuple[str, ...]:
    """Return the controllers that this host has, best first."""
    return tuple(kind for kind, number in CONTROLLERS.items() if vm.has_device(number))


def add(vm: Vm, plan: MachinePlan, lines: int) -> None:
    """Make the plan's GIC, with ``lines`` shared interrupts; every vCPU is there. Its interrupts are the machine's.

    Raise HostError E310 for a plan without one, E325 where KVM refuses.
    """
    found = [device.kind for device in plan.devices if device.kind in CONTROLLERS]
    if len(found) != 1:
        text = f"the plan has {len(found)} interrupt controllers that KVM is"
        raise HostError(text, code="E310", remedy="plan the manifest again")
    (kind,) = found
    device = vm.new_device(CONTROLLERS[kind], kind)
    for attribute, value in _addresses(plan):
        device.set(GROUP_ADDRESSES, attribute, "uint64_t", value)
    device.set(GROUP_LINES, 0, "uint32_t", _PRIVATE + lines)
    device.set(GROUP_CONTROL, INIT)
    for its in (one for one in plan.devices if one.kind == "gicv3-its"):
        frame = vm.new_device(ITS, its.kind)
        frame.set(GROUP_ADDRESSES, ITS_FRAME, "uint64_t", its.base)
        frame.set(GROUP_CONTROL, INIT)
    vm.wire()


def _addresses(plan: MachinePlan) -> Iterator[tuple[int, int]]:
    """Yield what lies where: attributes of the group of addresses, and their values."""
    single = {"gicv3": V3_DISTRIBUTOR, "gicv2": V2_DISTRIBUTOR, "gicv2-cpu": V2_CPU}
    left, region = plan.cpu.count, 0
    for device in plan.devices:
        if device.kind in single:
            yield single[device.kind], device.base
        elif device.kind == "gicv3-redist":
            # Redistributors in bits 63 to 52, the base in 51 to 16, flags, the region's number in 11 to 0.
            fit = min(left, device.size // REDISTRIBUTOR)
            if fit:
                yield V3_REDISTRIBUTORS, fit << 52 | device.base | region
            left, region = left - fit, region + 1
