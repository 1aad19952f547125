"""Private interrupts (PPI) of arm64's CPUs: the devicetree names them, and the engine that drives them must agree.

Source: Arm Base System Architecture (DEN 0094), table "PPI assignments"; QEMU include/hw/arm/bsa.h.
"""

from __future__ import annotations

PMU = 7
TIMER_HYPERVISOR = 10
TIMER_VIRTUAL = 11
TIMER_SECURE = 13
TIMER_PHYSICAL = 14
