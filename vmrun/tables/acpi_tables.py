"""The fixed ACPI tables' bodies: FADT, FACS, MADT, MCFG. Values in, the bytes after the header out.

Source: ACPI Specification 6.5, sections 5.2.3.2 (generic address), 5.2.9 (FADT), 5.2.10 (FACS), 5.2.12 (MADT); PCI
Firmware Specification 3.0, section 4.1.2 (MCFG). Offsets as in Linux include/acpi/actbl.h and actbl2.h. Each ``encode``
raises ValueError for a number beyond its field.
"""

from __future__ import annotations

import struct
from enum import IntFlag
from typing import ClassVar

from vmrun.frozen import frozen
from vmrun.tables.aml import Space

FADT_REVISION = 6
FADT_MINOR = 5
FACS_SIZE = 64
_FADT_BODY = 276 - 36
_NO_C2, _NO_C3 = 101, 1001
"""Latencies in µs that say a C state is not there (section 5.2.9, P_LVL2_LAT and P_LVL3_LAT)."""


class Fixed(IntFlag):
    """FADT flags (section 5.2.9, table 5.10)."""

    WBINVD = 1 << 0
    C1 = 1 << 2
    POWER_BUTTON_IS_DEVICE = 1 << 4
    SLEEP_BUTTON_IS_DEVICE = 1 << 5
    RTC_WAKE_NOT_FIXED = 1 << 6
    TIMER_32BIT = 1 << 8
    RESET_REGISTER = 1 << 10
    SEALED_CASE = 1 << 11
    HEADLESS = 1 << 12
    PLATFORM_CLOCK = 1 << 15
    APIC_CLUSTER = 1 << 18
    APIC_PHYSICAL = 1 << 19
    HARDWARE_REDUCED = 1 << 20
    LOW_POWER_S0 = 1 << 21


class BootArch(IntFlag):
    """What an IA-PC operating system may count on (section 5.2.9.3)."""

    LEGACY_DEVICES = 1 << 0
    I8042 = 1 << 1
    NO_VGA = 1 << 2
    NO_MSI = 1 << 3
    NO_ASPM = 1 << 4
    NO_CMOS_RTC = 1 << 5


BOOT_NOTHING = BootArch(0)


@frozen
class Register:
    """A generic address structure: a register of ``bits`` at ``address``, its accesses 1, 2, 4 or 8 bytes wide."""

    space: Space
    address: int
    bits: int = 8
    access: int = 1

    def encode(self) -> bytes:
        """Return its 12 bytes."""
        if self.access not in (1, 2, 4, 8) or not 0 < self.bits <= 0xFF or not 0 <= self.address < 1 << 64:
            raise ValueError(f"ACPI register at {self.address:#x}: {self.bits} bits, accesses of {self.access} bytes")
        return struct.pack("<BBBBQ", self.space, self.bits, 0, self.access.bit_length(), self.address)


_NO_REGISTER = bytes(12)


@frozen
class PmHardware:
    """The fixed power management ports of a machine that is not hardware-reduced (section 4.8).

    ``gpe0_length`` is in bytes, status and enable halves together. Without ``smi_command`` the machine is in ACPI mode
    from the start, and ``acpi_enable``, ``acpi_disable`` are 0.
    """

    sci: int
    pm1_event: int
    pm1_control: int
    timer: int
    gpe0: int
    gpe0_length: int
    smi_command: int = 0
    acpi_enable: int = 0
    acpi_disable: int = 0


@frozen
class Fadt:
    """The fixed description table. Without ``hardware`` the machine is hardware-reduced.

    Such a machine sleeps by ``sleep_control`` and ``sleep_status``, both or none. ``reset``, with the value to write to
    it, is for either kind. ``profile`` is the preferred power management profile 0..8, 4 an enterprise server.
    ``century`` is the RTC's CMOS index of it, 0 for none.
    """

    flags: Fixed = Fixed.WBINVD
    boot: BootArch = BOOT_NOTHING
    hardware: PmHardware | None = None
    reset: Register | None = None
    reset_value: int = 0
    sleep_control: Register | None = None
    sleep_status: Register | None = None
    profile: int = 0
    century: int = 0
    hypervisor: bytes = b""

    def encode(self, dsdt_at: int, facs_at: int) -> bytes:
        """Return the body, 240 bytes (revision 6.5)."""
        self._check()
        body = bytearray(_FADT_BODY)
        hardware = self.hardware
        flags = self.flags | (Fixed.RESET_REGISTER if self.reset else 0)
        if hardware is None:
            flags |= Fixed.HARDWARE_REDUCED
        else:
            _put_hardware(body, hardware)
            _put(body, 36, "I", facs_at, "FACS address")
            _put(body, 108, "B", self.century, "century")
        _put(body, 45, "B", self.profile, "profile")
        _put(body, 109, "H", self.boot, "boot architecture")
        _put(body, 112, "I", flags, "flags")
        _put_register(body, 116, self.reset)
        _put(body, 128, "B", self.reset_value, "reset value")
        _put(body, 131, "B", FADT_MINOR, "minor version")
        # Only X_DSDT: the 32-bit pointer and it exclude each other.
        _put(body, 140, "Q", dsdt_at, "DSDT address")
        _put_register(body, 244, self.sleep_control)
        _put_register(body, 256, self.sleep_status)
        body[268 - 36 :] = self.hypervisor.ljust(8, b"\0")
        return bytes(body)

    def _check(self) -> None:
        if self.flags & (Fixed.HARDWARE_REDUCED | Fixed.RESET_REGISTER):
            raise ValueError("FADT flags: hardware-reduced and reset register follow from the other fields")
        if not 0 <= self.profile <= 8:
            raise ValueError(f"FADT profile {self.profile}: not in 0..8")
        if len(self.hypervisor) > 8:
            raise ValueError(f"FADT hypervisor id {self.hypervisor!r}: at most 8 bytes")
        if (self.sleep_control is None) != (self.sleep_status is None):
            raise ValueError("FADT: sleep control and sleep status registers come together")
        if self.hardware is not None and self.sleep_control is not None:
            raise ValueError("FADT: sleep control registers are for hardware-reduced machines")
        if self.hardware is None and self.century:
            raise ValueError("FADT century: ignored, so 0, on hardware-reduced machines")
        if self.reset is None and self.reset_value:
            raise ValueError("FADT reset value: there is no reset register")


def _put_hardware(body: bytearray, hardware: PmHardware) -> None:
    """Write the fixed ports, each to its 32-bit field and its generic address, which must agree (ACPICA tbfadt.c)."""
    if hardware.gpe0_length % 2 or not 0 < hardware.gpe0_length <= 0xFE:
        raise ValueError(f"FADT GPE0 of {hardware.gpe0_length} bytes: an even number in 2..254")
    if not hardware.smi_command and (hardware.acpi_enable or hardware.acpi_disable):
        raise ValueError("FADT: values to enable and disable ACPI, and no SMI command port to write them to")
    _put(body, 46, "H", hardware.sci, "SCI")
    _put(body, 48, "I", hardware.smi_command, "SMI command port")
    _put(body, 52, "B", hardware.acpi_enable, "ACPI enable value")
    _put(body, 53, "B", hardware.acpi_disable, "ACPI disable value")
    _put(body, 96, "H", _NO_C2, "C2 latency")
    _put(body, 98, "H", _NO_C3, "C3 latency")
    blocks = (
        # name, port, 32-bit field, length field, generic address field, bytes, bytes of an access
        ("PM1 event", hardware.pm1_event, 56, 88, 148, 4, 2),
        ("PM1 control", hardware.pm1_control, 64, 89, 172, 2, 2),
        ("PM timer", hardware.timer, 76, 91, 208, 4, 4),
        ("GPE0", hardware.gpe0, 80, 92, 220, hardware.gpe0_length, 1),
    )
    for name, port, at, length_at, generic_at, size, access in blocks:
        if not 0 < port <= 0x10000 - size:
            raise ValueError(f"FADT {name} at {port:#x}: not {size} ports within 16 bits")
        _put(body, at, "I", port, name)
        _put(body, length_at, "B", size, name)
        # The GPE block's width field has 8 bits; a block of 32 bytes or more says 0, and the length field counts.
        bits = size * 8 if size < 32 else 0
        body[generic_at - 36 : generic_at - 24] = struct.pack("<BBBBQ", Space.IO, bits, 0, access.bit_length(), port)


def _put(body: bytearray, at: int, letter: str, value: int, name: str) -> None:
    """Write a number at an offset that counts the header."""
    if not 0 <= value < 1 << 8 * struct.calcsize(letter):
        raise ValueError(f"FADT {name} {value:#x}: beyond its field")
    struct.pack_into(f"<{letter}", body, at - 36, value)


def _put_register(body: bytearray, at: int, register: Register | None) -> None:
    body[at - 36 : at - 24] = register.encode() if register else _NO_REGISTER


def facs() -> bytes:
    """Return a firmware control structure, version 2: no waking vector, no S4BIOS; it has no header and no checksum."""
    return struct.pack("<4sI24xB31x", b"FACS", FACS_SIZE, 2)


@frozen
class IoApic:
    """An I/O APIC whose pins are the global system interrupts from ``gsi_base`` on."""

    id: int
    address: int
    gsi_base: int = 0

    def encode(self) -> bytes:
        """Return the MADT entry of type 1."""
        _fits("I/O APIC", (self.id, 8), (self.address, 32), (self.gsi_base, 32))
        return struct.pack("<BBBBII", 1, 12, self.id, 0, self.address, self.gsi_base)


@frozen
class Override:
    """An ISA interrupt 0..15 that is not the global one of its number, or not edge-triggered and active high."""

    isa: int
    gsi: int
    level: bool = False
    active_low: bool = False

    def encode(self) -> bytes:
        """Return the MADT entry of type 2, polarity and trigger said outright."""
        _fits("interrupt override", (self.isa, 4), (self.gsi, 32))
        flags = (3 if self.active_low else 1) | (3 if self.level else 1) << 2
        return struct.pack("<BBBBIH", 2, 10, 0, self.isa, self.gsi, flags)


@frozen
class Madt:
    """Interrupt controllers. ``apic_ids`` are those of the processors in order, the boot processor first.

    A processor's UID is its place in the list, as ``acpi_nodes.processor`` has it. Ids over 254 become x2APIC entries.
    ``nmi_lint`` is the local interrupt pin that NMIs come in by, on every processor; None leaves it out. ``pc_at`` says
    that there are two 8259 as well.
    """

    apic_ids: tuple[int, ...]
    io_apics: tuple[IoApic, ...]
    overrides: tuple[Override, ...] = ()
    local_address: int = 0xFEE00000
    nmi_lint: int | None = 1
    pc_at: bool = False

    REVISION: ClassVar[int] = 6

    def encode(self) -> bytes:
        """Return the body. Raise ValueError for ids or pins that stand twice, or no processor."""
        self._check()
        body = struct.pack("<II", self.local_address, int(self.pc_at))
        body += b"".join(_processor(uid, apic_id) for uid, apic_id in enumerate(self.apic_ids))
        body += b"".join(apic.encode() for apic in self.io_apics)
        body += b"".join(override.encode() for override in self.overrides)
        if self.nmi_lint is not None:
            # Flags 0: NMIs are edge-triggered and active high as their bus has it. UID of all bits: every processor.
            body += struct.pack("<BBBHB", 4, 6, 0xFF, 0, self.nmi_lint)
            if any(apic_id > 254 for apic_id in self.apic_ids):
                body += struct.pack("<BBHIB3x", 10, 12, 0, 0xFFFFFFFF, self.nmi_lint)
        return body

    def _check(self) -> None:
        if not self.apic_ids:
            raise ValueError("MADT: no processor")
        _fits("MADT", (self.local_address, 32), *((apic_id, 32) for apic_id in self.apic_ids))
        if self.nmi_lint not in (None, 0, 1):
            raise ValueError(f"MADT: NMIs at local interrupt {self.nmi_lint}, not 0 or 1")
        for what, values in (
            ("APIC id", self.apic_ids),
            ("I/O APIC id", tuple(apic.id for apic in self.io_apics)),
            ("I/O APIC interrupt base", tuple(apic.gsi_base for apic in self.io_apics)),
            ("overridden ISA interrupt", tuple(override.isa for override in self.overrides)),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"MADT: an {what} stands twice in {values}")


def _processor(uid: int, apic_id: int) -> bytes:
    """Return an enabled processor: type 0, or type 9 where a number needs more than 8 bits (0xFF means all)."""
    if uid < 0xFF and apic_id < 0xFF:
        return struct.pack("<BBBBI", 0, 8, uid, apic_id, 1)
    return struct.pack("<BBHIII", 9, 16, 0, apic_id, 1, uid)


@frozen
class Mcfg:
    """PCI configuration space in memory: ``base`` is that of bus 0 of the segment, a bus takes 1 MiB."""

    base: int
    first_bus: int = 0
    last_bus: int = 255
    segment: int = 0

    REVISION: ClassVar[int] = 1

    def encode(self) -> bytes:
        """Return the body, one allocation."""
        _fits("MCFG", (self.base, 64), (self.segment, 16), (self.first_bus, 8), (self.last_bus, 8))
        if self.base % (1 << 20) or self.first_bus > self.last_bus:
            raise ValueError(
                f"MCFG at {self.base:#x}, buses {self.first_bus} to {self.last_bus}: no window of 1 MiB each"
            )
        return struct.pack("<8xQHBB4x", self.base, self.segment, self.first_bus, self.last_bus)


def _fits(what: str, *numbers: tuple[int, int]) -> None:
    for value, bits in numbers:
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{what}: {value:#x} does not fit {bits} bits")
