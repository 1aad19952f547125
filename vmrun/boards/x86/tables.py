"""How the board ``microvm`` describes itself: ACPI tables out of its devices' own nodes, and the MP table.

Source: ACPI Specification 6.5, section 4.1 (hardware-reduced ACPI); MultiProcessor Specification 1.4.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmrun.boards.x86.cpu import apic_ids
from vmrun.boot.x86_memory import ACPI, MP_POINTER, MP_TABLE, RSDP
from vmrun.devices import registry as devices
from vmrun.devices.power import acpi_power
from vmrun.plan.model import Blob, DevicePlan, X86Cpus
from vmrun.tables import acpi, acpi_nodes, aml, mptable
from vmrun.tables.acpi_tables import BootArch, Fadt, IoApic, Madt, Register

ISA_LINES = 16
RTC_ID = "rtc"
"""The clock that the board has in any case: a kernel without KVM's clock reads the time of day at its ports when it
starts, whatever the tables say (Linux arch/x86/kernel/rtc.c, mach_get_cmos_time). They are silent of it, since a driver
that looks at it costs a boot some hundred exits; a clock that the manifest asks for has another id, and is told of."""


def blobs(cpu: X86Cpus, placed: tuple[DevicePlan, ...], tables: str) -> tuple[Blob, ...]:
    """Return the tables where a kernel looks for them. ``tables`` is ``acpi``, or ``mptable`` for that one alone."""
    found = {device.id: device for device in placed}
    made = list(_mp_blobs(cpu, found))
    if tables == "acpi":
        told = tuple(device for device in placed if device.id != RTC_ID)
        made += _acpi_blobs(cpu, told, found)
    return tuple(made)


def io_apic_id(cpu: X86Cpus) -> int:
    """Return the I/O APIC's id: the first that no vCPU has, since the MP table counts them together."""
    return max(apic_ids(cpu)) + 1


def _mp_blobs(cpu: X86Cpus, found: dict[str, DevicePlan]) -> Iterator[Blob]:
    # KVM's interrupts of ISA are the I/O APIC's pins of the same number (arch/x86/kvm/irq_comm.c, default_routing).
    lines = tuple(mptable.Line(line, line) for line in range(ISA_LINES))
    machine = mptable.MpMachine(
        apic_ids(cpu),
        io_apic_id(cpu),
        lines,
        io_apic_address=found["ioapic"].base,
        local_address=found["lapic"].base,
    )
    made = mptable.encode(machine, table_at=MP_TABLE.base)
    yield Blob("mp-pointer", MP_POINTER.base, len(made.pointer), MP_POINTER.size, data=made.pointer)
    yield Blob("mp-table", MP_TABLE.base, len(made.table), MP_TABLE.size, data=made.table)


def _acpi_blobs(cpu: X86Cpus, told: tuple[DevicePlan, ...], found: dict[str, DevicePlan]) -> Iterator[Blob]:
    base = found["power"].base
    control, status, reset = (
        Register(aml.Space.MEMORY, base + register.offset) for register in acpi_power.REGISTERS.registers
    )
    has_rtc = any(device.kind == "cmos-rtc" for device in told)
    fadt = Fadt(
        boot=BootArch.LEGACY_DEVICES | BootArch.NO_VGA | (BootArch(0) if has_rtc else BootArch.NO_CMOS_RTC),
        reset=reset,
        reset_value=acpi_power.RESET,
        sleep_control=control,
        sleep_status=status,
    )
    apic = IoApic(io_apic_id(cpu), found["ioapic"].base)
    madt = Madt(apic_ids(cpu), (apic,), local_address=found["lapic"].base)
    machine = acpi.Machine((acpi_nodes.system_bus(*_nodes(cpu, told)), _s5()), fadt, madt)
    made = acpi.place(machine, base=ACPI.base, limit=ACPI.base + ACPI.size, rsdp_at=RSDP.base)
    image = made.image()
    yield Blob("rsdp", made.rsdp.gpa, len(made.rsdp.data), RSDP.size, data=made.rsdp.data)
    yield Blob("acpi", image.gpa, len(image.data), ACPI.base + ACPI.size - image.gpa, data=image.data)


def _s5() -> aml.Node:
    return acpi_nodes.sleep_state(5, acpi_power.S5)


def _nodes(cpu: X86Cpus, told: tuple[DevicePlan, ...]) -> Iterator[aml.Node]:
    yield from (acpi_nodes.processor(number) for number in range(cpu.count))
    counts: dict[str, int] = {}
    for device in told:
        owner = device.transport or device.kind
        number = counts.get(owner, 0)
        counts[owner] = number + 1
        yield from devices.load(device.kind).aml(device, number)
