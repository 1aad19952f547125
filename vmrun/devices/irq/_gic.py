"""How every GIC names interrupts in a devicetree: three cells.

Source: Linux Documentation/devicetree/bindings/interrupt-controller/arm,gic-v3.yaml and arm,gic.yaml;
include/dt-bindings/interrupt-controller/{arm-gic,irq}.h.
"""

from __future__ import annotations

from vmrun.plan.model import Interrupt

SPI, PPI = 0, 1
EDGE_RISING, LEVEL_HIGH = 1, 4
PPI_CPUS_SHIFT = 8


def line(interrupt: Interrupt) -> tuple[int, int, int]:
    """Return the cells of a wired line: a plan's number is that of the shared interrupt (SPI), from 0 on."""
    return SPI, interrupt.number, EDGE_RISING if interrupt.trigger == "edge" else LEVEL_HIGH


def private(number: int, cpus: int = 0) -> tuple[int, int, int]:
    """Return the cells of each CPU's own interrupt ``number`` (PPI). A GICv2 is told its ``cpus``, a later one none."""
    return PPI, number, ((1 << cpus) - 1) << PPI_CPUS_SHIFT | LEVEL_HIGH
