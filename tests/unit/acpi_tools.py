"""ACPICA's tools as oracles, and a machine's tables to give them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path as File

import pytest

from patience import patience
from vmrun.tables import acpi
from vmrun.tables.acpi_nodes import (
    device,
    event_device,
    power_button,
    processor,
    routing,
    sleep_state,
    system_bus,
)
from vmrun.tables.acpi_tables import (
    BootArch,
    Fadt,
    Fixed,
    IoApic,
    Madt,
    Mcfg,
    Override,
    PmHardware,
    Register,
)
from vmrun.tables.aml import (
    Access,
    Arg,
    Bits,
    BufferField,
    Call,
    Field,
    If,
    Local,
    Method,
    Mutex,
    Name,
    Node,
    Offset,
    Package,
    Path,
    Region,
    Space,
    Uuid,
    While,
)
from vmrun.tables.aml_bytes import ONES
from vmrun.tables.aml_ops import (
    acquire,
    add,
    bit_and,
    bit_or,
    equal,
    increment,
    less,
    logical_and,
    logical_not,
    notify,
    release,
    returns,
    shift_left,
    size_of,
    store,
)
from vmrun.tables.resources import (
    BusNumbers,
    Interrupt,
    IoPorts,
    Irq,
    Memory32Fixed,
    MemoryWindow,
    PortWindow,
)

HEADER_MADE_BY = slice(28, 36)
"""Compiler's id and revision, which iasl replaces by its own."""


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name} (package acpica-tools)")
    return found


def run(name: str, *args: str, cwd: File) -> str:
    done = subprocess.run([tool(name), *args], cwd=cwd, capture_output=True, text=True, timeout=patience(60))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def clean(said: str) -> None:
    """No error, warning or remark. Optimizations are no complaint: iasl counts shorter forms of names that it found."""
    counts = re.search(r"(\d+) Errors, (\d+) Warnings, (\d+) Remarks", said)
    assert counts is not None and counts.groups() == ("0", "0", "0"), said
    assert not re.search(r"^(Error|Warning|Remark|Table .* invalid)", said, re.MULTILINE), said


def through_iasl(data: bytes, folder: File) -> tuple[str, bytes]:
    """Disassemble and recompile one table; return the source and what came out. Fails on any complaint."""
    name = data[:4].decode().lower()
    (folder / f"{name}.dat").write_bytes(data)
    said = run("iasl", "-d", f"{name}.dat", cwd=folder)
    assert "Warning" not in said and "Error" not in said, said
    source = (folder / f"{name}.dsl").read_text()
    assert "iASL Warning" not in source and "ASL Error" not in source, source
    # -oa: no optimization, so that what it writes is what the source says, form for form.
    clean(run("iasl", "-w3", "-oa", "-p", f"{name}-again", f"{name}.dsl", cwd=folder))
    return source, (folder / f"{name}-again.aml").read_bytes()


def same_but_for_the_maker(one: bytes, other: bytes) -> bool:
    """Equal in all that iasl does not set by itself: the maker's id and revision, and so the checksum."""

    def bare(data: bytes) -> bytes:
        body = bytearray(data)
        body[HEADER_MADE_BY] = bytes(8)
        body[9] = 0
        return bytes(body)

    return bare(one) == bare(other)


def virtio(slot: int) -> Node:
    return device(
        f"VR{slot:02d}",
        "LNRO0005",
        uid=slot,
        cca=True,
        crs=(Memory32Fixed(0xFEB00000 + slot * 512, 512), Interrupt(16 + slot)),
    )


GED = 0xFEA00000


def microvm_nodes(cpus: int = 2, slots: int = 4) -> tuple[Node, ...]:
    """A hardware-reduced machine: what the board of that name has."""
    return (
        system_bus(
            *(processor(number) for number in range(cpus)),
            device("COM1", "PNP0501", uid=1, crs=(IoPorts(0x3F8, 8), Irq(4))),
            device("RTC0", "PNP0B00", crs=(IoPorts(0x70, 2, align=1), Irq(8))),
            device("KBD0", "PNP0303", status=0xF, crs=(IoPorts(0x60, 1), IoPorts(0x64, 1), Irq(1))),
            power_button(),
            Region("GEDR", Space.MEMORY, GED, 4),
            Field("GEDR", (Bits("ESEL", 32),), Access.DWORD),
            event_device(
                "GED0",
                [(Interrupt(9, edge=True), 9, (If(bit_and(Path("ESEL"), 2), (notify(Path("PWRB"), 0x80),)),))],
            ),
            *(virtio(slot) for slot in range(slots)),
        ),
        sleep_state(5, 5),
    )


def microvm(cpus: int = 2, slots: int = 4) -> acpi.Machine:
    return acpi.Machine(
        dsdt=microvm_nodes(cpus, slots),
        fadt=Fadt(
            flags=Fixed.WBINVD | Fixed.HEADLESS,
            boot=BootArch.NO_VGA | BootArch.I8042,
            reset=Register(Space.MEMORY, GED + 0x302),
            reset_value=0x42,
            sleep_control=Register(Space.MEMORY, GED + 0x300),
            sleep_status=Register(Space.MEMORY, GED + 0x301),
            hypervisor=b"vmrun",
        ),
        madt=Madt(tuple(range(cpus)), (IoApic(0, 0xFEC00000),), (Override(9, 9, level=True),)),
    )


def host_bridge() -> Node:
    """A PCI Express host bridge with everything that asks for control flow, buffers and fields."""
    osc = Method(
        "_OSC",
        (
            BufferField("CDW1", Arg(3), 0, 32),
            If(
                equal(Arg(0), Uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
                (
                    BufferField("CDW3", Arg(3), 8, 32),
                    bit_and(Path("CDW3"), 0x1D, Local(0)),
                    If(logical_not(equal(Local(0), Path("CDW3"))), (bit_or(Path("CDW1"), 0x10, Path("CDW1")),)),
                    store(Local(0), Path("CDW3")),
                ),
                (bit_or(Path("CDW1"), 4, Path("CDW1")),),
            ),
            returns(Arg(3)),
        ),
        args=4,
        serialized=True,
    )
    count = Method(
        "CNTR",
        (
            store(0, Local(0)),
            While(logical_and(less(Local(0), Arg(0)), ONES), (increment(Local(0)),)),
            add(Local(0), shift_left(Arg(1), 4), Local(0)),
            returns(Local(0)),
        ),
        args=2,
    )
    return device(
        "PCI0",
        "PNP0A08",
        cid="PNP0A03",
        uid=0,
        crs=(
            BusNumbers(0, 256),
            IoPorts(0xCF8, 8),
            PortWindow(0, 0xCF8),
            PortWindow(0xD00, 0xF300),
            MemoryWindow(0xC0000000, 0x3EC00000),
            MemoryWindow(1 << 38, 1 << 36, bits=64),
        ),
        more=(
            Name("_SEG", 0),
            Name("_BBN", 0),
            Name("_PRT", routing([(slot, pin, 0, 16 + (slot + pin) % 8) for slot in range(32) for pin in range(4)])),
            osc,
            count,
            Method("TOTL", (returns(Call("CNTR", 3, 1)),)),
            Method(
                "_STA",
                (
                    Call("\\SAFE"),
                    If(less(Call("TOTL"), size_of(Path("\\BIGN"))), (returns(0xF),)),
                    returns(0),
                ),
            ),
        ),
    )


def q35_nodes() -> tuple[Node, ...]:
    return (
        Mutex("MTX0", 1),
        Name("BIGN", Package(*range(255))),
        Method("SAFE", (acquire(Path("MTX0")), release(Path("MTX0"))), serialized=True),
        system_bus(
            processor(0),
            host_bridge(),
            device("MB00", "PNP0C02", crs=(Memory32Fixed(0xB0000000, 1 << 28),)),
            Region("DBGR", Space.IO, 0x402, 1),
            Field("DBGR", (Bits("DBGB", 8),), Access.BYTE),
            Region("PMRG", Space.IO, 0x600, 0x80),
            Field("PMRG", (Bits("PSTS", 5), Bits(None, 3), Offset(4), Bits("PCNT", 1), Offset(0x40), Bits("LAST", 16))),
            power_button(),
        ),
        sleep_state(5, 0),
    )


def q35() -> acpi.Machine:
    return acpi.Machine(
        dsdt=q35_nodes(),
        fadt=Fadt(
            flags=Fixed.WBINVD | Fixed.C1 | Fixed.TIMER_32BIT,
            boot=BootArch.I8042 | BootArch.LEGACY_DEVICES,
            hardware=PmHardware(9, 0x600, 0x604, 0x608, 0x620, 16, 0xB2, 2, 3),
            reset=Register(Space.IO, 0xCF9),
            reset_value=0xF,
            century=0x32,
        ),
        madt=Madt((0, 1, 255, 300), (IoApic(0, 0xFEC00000), IoApic(1, 0xFEC10000, 24)), (Override(0, 2),), pc_at=True),
        mcfg=Mcfg(0xB0000000),
    )
