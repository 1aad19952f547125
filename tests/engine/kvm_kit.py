"""What the tests of KVM share: small machines, hand-assembled payloads, and who listens to their ports."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import kvm_lab
from kvm_lab import KvmLab

from patience import patience
from vmrun._core import lib
from vmrun.plan.model import EntryPlan

PORT = 0x500
CODE = 0x1000
TABLES = 0x10_0000  # long mode's page tables
RAM_SIZE = 4 << 20
CR0_LONG = 0x8000_0011  # PG, ET, PE
LONG = (("cr0", CR0_LONG), ("cr3", TABLES), ("cr4", 0x620), ("efer", 0x500))  # OSXMMEXCPT, OSFXSR, PAE; LMA, LME
PROTECTED = (("cr0", 0x11),)
REAL: tuple[tuple[str, int], ...] = ()
MODES = {"real": REAL, "protected": PROTECTED, "long": LONG}


def need_kvm() -> None:
    """Skip the test where there is no x86 KVM to run it on."""
    kvm_lab.need_kvm("x86_64", "x86")


class Ears:
    """Serves ports and registers from Python and writes down what was said. ``answers`` gives what reads find."""

    def __init__(self, answers: Callable[[int, int], int] = lambda offset, size: 0) -> None:
        self.heard: list[tuple[int, int, int]] = []
        self.asked: list[tuple[int, int]] = []
        self.answers = answers

    def read(self, offset: int, size: int) -> int:
        self.asked.append((offset, size))
        return self.answers(offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.heard.append((offset, size, value))


class Lab(KvmLab):
    """A machine with RAM from 0, one or more vCPUs, and a payload. ``ears`` hear ports PORT to PORT + 15."""

    ram = (0, RAM_SIZE)

    def __init__(
        self,
        mode: str = "long",
        vcpus: int = 1,
        *,
        irqchip: str | None = "kernel",
        pit: bool = False,
        ears: Ears | None = None,
    ) -> None:
        self.mode = mode
        self.ears = Ears() if ears is None else ears
        self._irqchip, self._pit = irqchip, pit
        super().__init__(vcpus)

    def make(self, kvm: Any, vcpus: int) -> Any:
        from vmrun.kvm.x86_64.vm import X86Vm

        self.core.claim(lib.VMR_PIO | PORT, 16, self.ears)
        vm = X86Vm(self.core, kvm, irqchip=self._irqchip, pit=self._pit)
        vm.add_vcpus(vcpus)
        if self.mode == "long":
            self.core.write_ram(TABLES, page_tables())
        return vm

    def load(self, code: bytes, at: int = CODE, **registers: int) -> None:
        """Put ``code`` into RAM and the boot vCPU before it."""
        self.core.write_ram(at, code)
        given = dict(MODES[self.mode]) | {"rsp": 0x8000} | {k.replace("_", "."): v for k, v in registers.items()}
        self.vm.enter(EntryPlan(at, tuple(given.items())))

    def registers(self, index: int = 0) -> dict[str, int]:
        return dict(self.vm.where(index))

    def wrongs_of_bus(self) -> dict[str, int]:
        return {what: count for (device, what), count in self.wrongs().items() if device == "bus"}


lab = Lab


@contextmanager
def eventfd() -> Iterator[int]:
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        yield fd
    finally:
        os.close(fd)


def page_tables() -> bytes:
    """Identity-map 4 GiB with pages of 2 MiB: PML4, PDPT and four page directories, from TABLES on."""
    pml4 = struct.pack("<Q", TABLES + 0x1000 | 3).ljust(4096, b"\0")
    pdpt = b"".join(struct.pack("<Q", TABLES + 0x2000 + 0x1000 * i | 3) for i in range(4)).ljust(4096, b"\0")
    directories = b"".join(struct.pack("<Q", i << 21 | 0x83) for i in range(4 * 512))
    return pml4 + pdpt + directories


# ---- hand-assembled pieces -------------------------------------------------------------------------------------------

HLT = b"\xf4"
CLI = b"\xfa"
STI = b"\xfb"
SPIN = b"\xeb\xfe"  # jmp $
OUT8, OUT16, OUT32 = b"\xee", b"\x66\xef", b"\xef"  # out dx, al / ax / eax; in 16-bit code the last two change places
IN8, IN16, IN32 = b"\xec", b"\x66\xed", b"\xed"


def mov_dx(port: int) -> bytes:
    return b"\x66\xba" + struct.pack("<H", port)


def mov_eax(value: int) -> bytes:
    return b"\xb8" + struct.pack("<I", value)


def out(offset: int, value: int) -> bytes:
    """out8 of ``value`` to PORT + ``offset``, in 32- and 64-bit code."""
    return mov_dx(PORT + offset) + b"\xb0" + bytes([value]) + OUT8


def poke(address: int, value: int) -> bytes:
    """Write 32 bits to an address below 4 GiB, in 32- and 64-bit code; rbx is lost."""
    return b"\xbb" + struct.pack("<I", address) + b"\xc7\x03" + struct.pack("<I", value)


LAPIC = 0xFEE0_0000
IOAPIC = 0xFEC0_0000
VECTOR = 0x30
GDT, IDT, HANDLER = 0x2000, 0x2800, 0x3000
EOI = poke(LAPIC + 0xB0, 0)
IRETQ = b"\x48\xcf"
MASK_PICS = (
    b"\xb0\xff\xe6\x21\xe6\xa1"  # or their lines arrive as well, through LINT0: mov al, 255; out 33, al; out 161, al
)
ENABLE_LAPIC = MASK_PICS + poke(LAPIC + 0xF0, 0x1FF)
REST = HLT + b"\xeb\xfd"  # hlt; jmp back


def redirect(pin: int, entry: int) -> bytes:
    """Program an IOAPIC pin; the interrupt goes to APIC id 0."""
    low, high = 0x10 + 2 * pin, 0x11 + 2 * pin
    return poke(IOAPIC, high) + poke(IOAPIC + 0x10, 0) + poke(IOAPIC, low) + poke(IOAPIC + 0x10, entry)


def prepare_interrupts(made: Lab, handler: bytes, vector: int = VECTOR) -> dict[str, int]:
    """Lay out GDT, IDT and a handler for ``vector``; return the registers that point to them (long mode)."""
    gdt = struct.pack("<4Q", 0, 0, 0x00AF9B000000FFFF, 0x00CF93000000FFFF)
    gate = struct.pack("<HHBBHII", HANDLER & 0xFFFF, 0x10, 0, 0x8E, HANDLER >> 16, 0, 0)
    made.core.write_ram(GDT, gdt)
    made.core.write_ram(IDT + 16 * vector, gate)
    made.core.write_ram(HANDLER, handler + IRETQ)
    return {"gdt_base": GDT, "gdt_limit": len(gdt) - 1, "idt_base": IDT, "idt_limit": 16 * 256 - 1}


class Bell(Ears):
    """Ears that can be waited for. ``on_write`` is called on the vCPU's thread."""

    def __init__(self, on_write: Callable[[int, int], None] = lambda offset, value: None) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._on_write = on_write

    def write(self, offset: int, size: int, value: int) -> None:
        self._on_write(offset, value)
        with self._changed:
            super().write(offset, size, value)
            self._changed.notify_all()

    def wait(self, offset: int, count: int = 1) -> int:
        """Wait until ``count`` bytes were written to ``offset``; return how many there are."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count(offset) >= count, patience(20)), f"heard only {self.heard}"
            return self.count(offset)

    def count(self, offset: int) -> int:
        return sum(1 for where, _, _ in self.heard if where == offset)
