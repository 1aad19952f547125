"""What every PrimeCell of ARM has beside its function: eight identification registers, a clock, a ``compatible``.

Source: Linux include/linux/amba/bus.h (the part and cell numbers that drivers are found by);
Documentation/devicetree/bindings/arm/primecell.yaml.
"""

from __future__ import annotations

from vmrun.devices.model import FdtContext, Props
from vmrun.devices.registers import READ_ONLY, Register
from vmrun.tables.fdt import Cells, Ref, Strings

PERIPHERAL_ID, CELL_ID = 0xFE0, 0xFF0
_CELL = (0x0D, 0xF0, 0x05, 0xB1)


def identity(part: int, revision: int, section: str) -> tuple[Register, ...]:
    """Return the identification registers of ARM's ``part`` (three hexadecimal digits)."""
    values = (part & 0xFF, 0x10 | part >> 8, revision << 4 | 0x4, 0)  # the designer is 0x41, "A", across two of them
    return tuple(
        Register(f"{name}{index}", base + 4 * index, 4, READ_ONLY, value, section=section)
        for name, base, row in (("PERIPHID", PERIPHERAL_ID, values), ("PCELLID", CELL_ID, _CELL))
        for index, value in enumerate(row)
    )


def compatible(name: str) -> tuple[str, str]:
    """Return the ``compatible`` strings of the cell that the bindings call ``name``."""
    return name, "arm,primecell"


def clocks(context: FdtContext, *names: str) -> Props:
    """Return the properties of a cell whose clock inputs, ``names``, all hang on the bus's one clock."""
    return ("clocks", Cells(*(Ref(context.clock) for _ in names))), ("clock-names", Strings(*names))
