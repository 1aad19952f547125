"""ARM PrimeCell GPIO, eight lines, with the machine's power key on line 3. Served by Python.

Spec: ARM PrimeCell General Purpose Input/Output (PL061) Technical Reference Manual, DDI 0190B, chapter 3; Linux
drivers/gpio/gpio-pl061.c. Devicetree: gpio/pl061-gpio.yaml, input/gpio-keys.yaml. QEMU's `virt` has the key there too.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from vmrun.devices import primecell
from vmrun.devices.model import (
    DeviceType,
    FdtContext,
    Needs,
    Nodes,
    Props,
    Wires,
    interrupts,
    label_of,
    reg,
    set_line,
)
from vmrun.devices.registers import READ_ONLY, READ_WRITE, WRITE_ONLY, Bits, Register, RegisterMap
from vmrun.devices.state import Declared, Kept, Table
from vmrun.plan.model import DevicePlan
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

_LINES = (Bits("LINES", 0, 7),)

REGISTERS = RegisterMap(
    "DDI 0190B",
    (
        # Bits 9 to 2 of the address say which lines are meant.
        Register("DATA", 0x000, 4, READ_WRITE, 0, _LINES, "3.3.1", count=256, stride=4),
        Register("DIR", 0x400, 4, READ_WRITE, 0, _LINES, "3.3.2"),
        Register("IS", 0x404, 4, READ_WRITE, 0, _LINES, "3.3.3"),
        Register("IBE", 0x408, 4, READ_WRITE, 0, _LINES, "3.3.4"),
        Register("IEV", 0x40C, 4, READ_WRITE, 0, _LINES, "3.3.5"),
        Register("IE", 0x410, 4, READ_WRITE, 0, _LINES, "3.3.6"),
        Register("RIS", 0x414, 4, READ_ONLY, 0, _LINES, "3.3.7"),
        Register("MIS", 0x418, 4, READ_ONLY, 0, _LINES, "3.3.8"),
        Register("IC", 0x41C, 4, WRITE_ONLY, 0, _LINES, "3.3.9"),
        Register("AFSEL", 0x420, 4, READ_WRITE, 0, _LINES, "3.3.10"),
        *primecell.identity(0x061, 0, "3.3.11"),
    ),
)
_KEPT = ("DIR", "IS", "IBE", "IEV", "IE", "AFSEL")
POWER_LINE = 3
_POWER = 1 << POWER_LINE
KEY_POWER = 116
"""Linux include/uapi/linux/input-event-codes.h."""
HOLD_NS = 100_000_000
"""How long a press lasts: drivers look at the line again once it has settled (gpio-keys after 5 ms)."""


def fdt(device: DevicePlan, context: FdtContext) -> Nodes:
    """Return the ``gpio`` node, and at the root the power key."""
    label = label_of(device)
    props: Props = (
        ("compatible", Strings(*DEVICE.compatible)),
        reg(device),
        *interrupts(device, context),
        ("gpio-controller", Empty()),
        ("#gpio-cells", Cells(2)),
        ("interrupt-controller", Empty()),
        ("#interrupt-cells", Cells(2)),
        # dtc before 1.7 asks for it of every interrupt controller; the binding does not know it.
        ("#address-cells", Cells(0)),
        *primecell.clocks(context, "apb_pclk"),
    )
    key: Props = (
        ("label", Strings("GPIO Key Poweroff")),
        ("linux,code", Cells(KEY_POWER)),
        ("gpios", Cells(Ref(label), POWER_LINE, 0)),
    )
    keys = FdtNode("gpio-keys", (("compatible", Strings("gpio-keys")),), (FdtNode("key-poweroff", key),))
    return Nodes((FdtNode(f"gpio@{device.base:x}", props, label=label),), (keys,))


class Pl061(Declared):
    """The live lines: outputs go nowhere, inputs are low, but for the power key's while it is pressed."""

    STATE = Table(
        "pl061",
        kept=(
            Kept("kept", 8, keys=_KEPT),
            *(Kept(name, 8) for name in ("output", "input", "pending")),
            Kept("release_ns", 64, optional=True),
        ),
    )

    def __init__(self, machine: CoreMachine, wires: Wires) -> None:
        self._machine = machine
        self._line = wires.line
        self._lock = threading.RLock()
        self._clock = wires.clock or machine.clock
        self._timer = self._clock.timer(self.release_power)
        self._kept = dict.fromkeys(_KEPT, 0)
        self._output = 0
        self._input = 0
        self._pending = 0
        self._release_ns: int | None = None
        """When the power key is let go, by the machine's clock; None: nobody presses it."""
        self._level = False

    def press_power(self) -> None:
        """Press the power key, and let it go a moment later. Any thread, while the machine is there."""
        with self._lock:
            self._set_inputs(self._input | _POWER)
            self._release_ns = self._clock.now_ns() + HOLD_NS
            self._timer.arm(self._release_ns)

    def release_power(self) -> None:
        """Let the power key go. The timer calls it, and so may a test."""
        with self._lock:
            self._timer.cancel()
            self._release_ns = None
            self._set_inputs(self._input & ~_POWER)

    def _data(self) -> int:
        outputs = self._kept["DIR"]
        return self._output & outputs | self._input & ~outputs

    def _set_inputs(self, value: int) -> None:
        before = self._data()
        self._input = value
        self._notice(before)

    def _notice(self, before: int) -> None:
        """Note what a change of the lines from ``before`` raises, then what the levels do (2.2.2, 3.2)."""
        kept, now = self._kept, self._data()
        edges = (before ^ now) & ~kept["DIR"] & ~kept["IS"]
        self._pending |= edges & (kept["IBE"] | ~(now ^ kept["IEV"]))
        self._update()

    def _raw(self) -> int:
        """Return the interrupts as they are: edges are remembered, levels are not."""
        by_level = self._kept["IS"]
        return self._pending & ~by_level | ~(self._data() ^ self._kept["IEV"]) & by_level & 0xFF

    def _update(self) -> None:
        level = bool(self._raw() & self._kept["IE"])
        if level != self._level:
            self._level = level
            set_line(self._line, level)

    def _wrong(self) -> str:
        pressed = self._release_ns is not None
        return "" if self._input == (_POWER if pressed else 0) else "inputs that nobody drives"

    def _loaded(self) -> None:
        self._level = bool(self._raw() & self._kept["IE"])
        set_line(self._line, self._level)
        if self._release_ns is None:
            self._timer.cancel()
        else:
            self._timer.arm(self._release_ns)

    def read(self, offset: int, size: int) -> int:
        """Return a register; Linux reads its lowest byte alone."""
        found = REGISTERS.at(offset)
        if found is None or offset % 4:
            self._machine.guest_did_wrong("pl061", "read beside the registers")
            return 0
        register, index = found
        with self._lock:
            match register.name:
                case "DATA":
                    return self._data() & index
                case "RIS":
                    return self._raw()
                case "MIS":
                    return self._raw() & self._kept["IE"]
                case _:
                    return self._kept.get(register.name, register.reset)

    def write(self, offset: int, size: int, value: int) -> None:
        """Take a register; Linux writes its lowest byte alone."""
        found = REGISTERS.at(offset, write=True)
        if found is None or offset % 4:
            self._machine.guest_did_wrong("pl061", "write beside the registers")
            return
        register, index = found
        with self._lock:
            before = self._data()
            match register.name:
                case "DATA":
                    self._output = self._output & ~index | value & index
                case "IC":
                    self._pending &= ~value
                case _:
                    self._kept[register.name] = value & 0xFF
            if register.name in ("IS", "IBE", "IEV"):
                before = self._data()
            self._notice(before)


def realize(device: DevicePlan, machine: CoreMachine, wires: Wires) -> Pl061:
    """Attach the lines."""
    gpio = Pl061(machine, wires)
    machine.claim(device.base, device.size, gpio, max_width=4)
    return gpio


DEVICE = DeviceType(
    kind="pl061",
    doc="ARM's GPIO, with the power key on a line",
    owner="board",
    compatible=primecell.compatible("arm,pl061"),
    needs=Needs(size=0x1000),
    registers=REGISTERS,
    fdt=fdt,
    realize=realize,
)
