"""A vCPU's registers on x86: the state that a plan's entry asks for, in real, protected or long mode.

A plan names registers: ``rsi``, ``rflags``, ``cr0``, ``cr3``, ``cr4``, ``efer``; tables as ``gdt.base``, ``gdt.limit``,
``idt.base``; segments as ``cs.base`` and ``cs.selector``. The mode follows from ``cr0`` and ``efer``, as it does in the
processor.
Segments: Intel SDM vol. 3, 3.4.5 and 10.1.4 (reset), AMD64 APM vol. 2, 4.8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmrun.errors import HostError
from vmrun.frozen import evolve, frozen
from vmrun.plan.model import EntryPlan

GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
)
CONTROL = ("cr0", "cr2", "cr3", "cr4", "cr8", "efer", "apic_base")
TABLES = ("gdt_base", "gdt_limit", "idt_base", "idt_limit")
SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")
REGISTERS = (*GENERAL, *CONTROL, *TABLES)

PE, PG = 1, 1 << 31
EFER_LMA = 1 << 10
RFLAGS = 2  # bit 1 is always set
RESET_CR0 = 0x60000010  # cache off, not write-through, extension type

_CODE, _DATA = 0x9B, 0x93  # present, ring 0, accessed
_GRANULAR, _BIG, _LONG = 1 << 15, 1 << 14, 1 << 13
_BUSY_TSS = 0x8B
_LDT = 0x82
_FLAT = 0xFFFFFFFF
_BOOT_CS, _BOOT_DS = 0x10, 0x18  # __BOOT_CS and __BOOT_DS of Linux' boot protocol


@frozen
class Segment:
    """A segment as the processor has it loaded. ``access`` is bits 40 to 55 of its descriptor, ``limit`` bytes."""

    base: int = 0
    limit: int = 0xFFFF
    selector: int = 0
    access: int = _DATA
    unusable: bool = False


@frozen
class State:
    """Registers by name, and segments by name. What is not given keeps its value."""

    registers: Mapping[str, int]
    segments: Mapping[str, Segment] = {}


def entry_state(entry: EntryPlan) -> State:
    """Return the boot vCPU's state. Raise HostError E310 for a register that does not exist."""
    given = dict(entry.registers)
    registers = {"rflags": RFLAGS, "cr0": RESET_CR0, "cr4": 0, "efer": 0, "cr3": 0}
    segments = _mode(given)
    for name, value in given.items():
        where, _, part = name.partition(".")
        if part == "base" and where in SEGMENTS:
            segments[where] = evolve(segments[where], base=value)
        elif part == "selector" and where in SEGMENTS:
            segments[where] = evolve(segments[where], selector=value)
        elif part in ("base", "limit") and where in ("gdt", "idt"):
            registers[f"{where}_{part}"] = value
        elif name in GENERAL or name in CONTROL:
            registers[name] = value
        else:
            raise HostError(f"x86 has no register `{name}`", code="E310", remedy="plan the manifest again")
    registers["rip"] = entry.pc
    if not registers["cr0"] & PE and "cs.base" not in given:
        base = entry.pc & ~0xFFFF
        segments["cs"] = evolve(segments["cs"], base=base, selector=base >> 4 & 0xFFFF)
        registers["rip"] = entry.pc - base
    return State(registers, segments)


def _mode(given: Mapping[str, int]) -> dict[str, Segment]:
    """Return the segments of the mode that cr0 and efer make."""
    if not given.get("cr0", 0) & PE:
        code, data = Segment(access=_CODE), Segment()
    else:
        wide = _LONG if given.get("efer", 0) & EFER_LMA else _BIG
        code = Segment(0, _FLAT, _BOOT_CS, _GRANULAR | wide | _CODE)
        data = Segment(0, _FLAT, _BOOT_DS, _GRANULAR | _BIG | _DATA)
    tss = Segment(0, 0xFFFF, 0, _BUSY_TSS)
    ldt = Segment(0, 0xFFFF, 0, _LDT, unusable=True)
    return {"cs": code, **dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data), "tr": tss, "ldt": ldt}


def get(vcpu: Any) -> State:
    """Return the registers of a vCPU that is not running. Raise HostError E325 where KVM does not say."""
    raw = _read(vcpu)
    segments = {}
    for name in SEGMENTS:
        s = getattr(raw, name)
        segments[name] = Segment(int(s.base), int(s.limit), int(s.selector), int(s.access), bool(s.unusable))
    return State({name: int(getattr(raw, name)) for name in REGISTERS}, segments)


def put(vcpu: Any, state: State) -> int:
    """Set the registers of a vCPU that is not running; return 0 or -errno, with a text at the machine."""
    from vmrun._core import lib

    raw = _read(vcpu)
    for name, value in state.registers.items():
        setattr(raw, name, value)
    for name, segment in state.segments.items():
        s = getattr(raw, name)
        s.base, s.limit, s.selector = segment.base, segment.limit, segment.selector
        s.access, s.unusable = segment.access, int(segment.unusable)
    return int(lib.vmr_kvm_x86_set_state(vcpu, raw))


_PARTS = {"base": 64, "limit": 32, "selector": 16, "access": 16, "unusable": 1}


def flat(state: State) -> Mapping[str, int]:
    """Return all of a whole ``state`` by one name each: ``rip``, ``cs.base``."""
    parts = {f"{n}.{part}": int(getattr(s, part)) for n, s in state.segments.items() for part in _PARTS}
    return {**state.registers, **parts}


def from_flat(registers: Mapping[str, int]) -> State:
    """Return what `flat` took apart. Raise HostError E370 for a value that is wider than its register."""
    for name, value in registers.items():
        bits = 32 if name in ("gdt_limit", "idt_limit") else _PARTS.get(name.partition(".")[2], 64)
        if value >> bits:
            raise HostError(f"vCPU: `{name}` cannot be {value:#x}", code="E370")
    segments = {}
    for name in SEGMENTS:
        base, limit, selector, access, unusable = (registers[f"{name}.{part}"] for part in _PARTS)
        segments[name] = Segment(base, limit, selector, access, bool(unusable))
    return State({name: registers[name] for name in REGISTERS}, segments)


def _read(vcpu: Any) -> Any:
    from vmrun._core import ffi, lib

    raw = ffi.new("vmr_kvm_x86_state *")
    code = lib.vmr_kvm_x86_get_state(vcpu, raw)
    if code < 0:
        import os

        from vmrun.kvm.host import failed

        raise failed(f"KVM_GET_SREGS: {os.strerror(-code)}", -code, "vCPU")
    return raw
