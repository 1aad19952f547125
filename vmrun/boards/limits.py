"""What each board bounds, apart from the boards: a saved plan is checked without loading what makes plans."""

from __future__ import annotations

from vmrun.errors import PlanError
from vmrun.plan.checks import Limits

LIMITS = {
    # 8 harts and 95 interrupt sources: QEMU hw/riscv/virt.h (VIRT_CPUS_MAX is 512 there, an engine's threads bound it
    # here; VIRT_IRQCHIP_NUM_SOURCES). Linux arch/riscv/include/uapi/asm/setup.h: COMMAND_LINE_SIZE 1024 with its NUL.
    "riscv_virt": Limits(vcpus=8, irqs=95, cmdline=1023),
    # The I/O APIC has pins 0 to 23 (Linux arch/x86/kvm/ioapic.h, IOAPIC_NUM_PINS); vCPUs as their threads bound them.
    # Linux arch/x86/include/asm/setup.h: COMMAND_LINE_SIZE 2048 with its NUL.
    "microvm": Limits(vcpus=64, irqs=23, cmdline=2047),
    # 256 shared interrupts of the GIC, from 0 on, of which QEMU's map leaves the first out (include/hw/arm/virt.h,
    # NUM_IRQS); vCPUs as their threads bound them, a GICv2 has fewer. Linux arch/arm64/include/uapi/asm/setup.h:
    # COMMAND_LINE_SIZE 2048 with its NUL.
    "virt": Limits(vcpus=64, irqs=255, cmdline=2047),
}


def limits_of(board: str) -> Limits:
    """Return the limits of ``board``. Raise PlanError E130 where there is no such board."""
    if board not in LIMITS:
        raise PlanError(
            f"no board is called `{board}`",
            code="E130",
            key=("machine", "board"),
            remedy=f"boards are {', '.join(LIMITS)}",
        )
    return LIMITS[board]
