"""AML nodes that several devices or boards share; a device's own node is built in its own file, out of these.

Source: ACPI Specification 6.5, sections 6.1 (identification), 7.4 (sleep states), 8.4 (processors), 4.8.2.2 (buttons),
5.6.9 (interrupt-signaled events).
"""

from __future__ import annotations

from collections.abc import Sequence

from vmrun.tables.aml import Arg, Data, Device, Eisa, If, Method, Name, Node, Package, Path, Scope
from vmrun.tables.aml_ops import equal
from vmrun.tables.resources import Descriptor, template

PRESENT = 0xF
"""``_STA``: present, enabled, shown, working (section 6.3.7)."""


def hardware_id(text: str) -> Eisa | str:
    """Return the value of ``_HID`` or ``_CID``: seven characters are a compressed EISA id, eight an ACPI id as text.

    Raise ValueError for any other length; ``encode`` looks at the characters.
    """
    if len(text) == 7:
        return Eisa(text)
    if len(text) == 8 and text.isascii() and text.isalnum() and text == text.upper():
        return text
    raise ValueError(f"hardware id `{text}`: neither an EISA id such as PNP0501 nor an ACPI id such as LNRO0005")


def device(
    name: str,
    hid: str,
    *,
    uid: int | str | None = None,
    cid: str | None = None,
    crs: Sequence[Descriptor] = (),
    cca: bool | None = None,
    status: int | None = None,
    more: Sequence[Node] = (),
) -> Device:
    """Return a device's node. ``uid`` tells devices of one ``hid`` apart; ``cca`` says that its DMA is coherent.

    An absent value leaves its object out; an absent ``_STA`` means present. ``more`` follows the rest.
    """
    body: list[Node] = [Name("_HID", hardware_id(hid))]
    if cid is not None:
        body.append(Name("_CID", hardware_id(cid)))
    if uid is not None:
        body.append(Name("_UID", uid))
    if cca is not None:
        body.append(Name("_CCA", int(cca)))
    if status is not None:
        body.append(Name("_STA", status))
    if crs:
        body.append(Name("_CRS", template(*crs)))
    return Device(name, (*body, *more))


def processor(number: int) -> Device:
    """Return a processor device whose ``_UID`` is that of its MADT entry, 0..4095 (section 8.4)."""
    if not 0 <= number <= 0xFFF:
        raise ValueError(f"processor {number}: not in 0..4095")
    return device(f"C{number:03X}", "ACPI0007", uid=number)


def sleep_state(state: int, sleep_type: int) -> Name:
    """Return ``\\_S0`` to ``\\_S5``: ``sleep_type`` 0..7 is what the sleep register takes for it (section 7.4.2)."""
    if not 0 <= state <= 5 or not 0 <= sleep_type <= 7:
        raise ValueError(f"sleep state S{state} of type {sleep_type}: not S0..S5 and 0..7")
    return Name(f"_S{state}", Package(sleep_type, 0, 0, 0))


def power_button(name: str = "PWRB") -> Device:
    """Return a control-method power button (section 4.8.2.2.1.2): who notifies it with 0x80 asks for a poweroff."""
    return device(name, "PNP0C0C")


def event_device(name: str, events: Sequence[tuple[Descriptor, int, tuple[Node, ...]]]) -> Device:
    """Return a generic event device (section 5.6.9.1): each event is its interrupt, that one's number, what it runs."""
    method: Node = Method(
        "_EVT", tuple(If(equal(Arg(0), number), run) for _, number, run in events), args=1, serialized=True
    )
    return device(name, "ACPI0013", uid=0, crs=[interrupt for interrupt, _, _ in events], more=(method,))


def system_bus(*nodes: Node) -> Scope:
    """Return ``Scope (\\_SB)``, where devices live."""
    return Scope("\\_SB", nodes)


def routing(entries: Sequence[tuple[int, int, Path | int, int]]) -> Package:
    """Return a ``_PRT`` (section 6.2.13): (device, pin 0..3, link device or 0, its index or the global interrupt)."""
    rows: list[Data] = []
    for slot, pin, source, position in entries:
        if not 0 <= slot <= 31 or not 0 <= pin <= 3:
            raise ValueError(f"PCI routing of device {slot}, pin {pin}: not 0..31 and 0..3")
        rows.append(Package(slot << 16 | 0xFFFF, pin, source, position))
    return Package(*rows)
