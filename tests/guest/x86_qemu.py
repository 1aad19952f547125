"""A plan of the board microvm on QEMU's machine of that name, without KVM: QEMU's devices, the plan's bytes.

The plan's blobs are loaded where the plan has them. A firmware of 64 KiB, made here, puts the boot processor into the
plan's entry state and jumps; the MP table lies in it, since QEMU shows firmware where the table belongs.
"""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

from said import said

from patience import patience
from vmrun.boot.x86_memory import FIRMWARE, MP_POINTER
from vmrun.plan.model import Blob, MachinePlan

_FLAT_GDT = struct.pack("<4Q", 0, 0, 0x00CF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF)
_SIZE = 0x10000
_CODE, _WIDE, _GDTR, _TABLE = 0xE000, 0xE100, 0xE200, 0xE210
_BASE = 0xF_0000


def firmware(plan: MachinePlan) -> bytes:
    """Return the firmware: 16-bit code that loads the control registers, then code of the entry's own width."""
    registers = dict(plan.entry.registers)
    image = bytearray(b"\xf4" * _SIZE)
    for name in ("mp-pointer", "mp-table"):
        blob = plan.blob(name)
        assert blob is not None and blob.data is not None and blob.gpa >= MP_POINTER.base
        image[blob.gpa - _BASE : blob.gpa - _BASE + len(blob.data)] = blob.data
    long = "efer" in registers
    table, limit = registers.get("gdt.base", _BASE + _TABLE), registers.get("gdt.limit", len(_FLAT_GDT) - 1)
    image[_GDTR : _GDTR + 6] = struct.pack("<HI", limit, table)
    image[_TABLE : _TABLE + len(_FLAT_GDT)] = _FLAT_GDT
    code = b"\xfa\x66\x2e\x0f\x01\x16" + struct.pack("<H", _GDTR)  # cli; lgdt cs:[_GDTR]
    if long:
        code += b"\x66\xb8" + struct.pack("<I", registers["cr4"]) + b"\x0f\x22\xe0"  # mov cr4, eax
        code += b"\x66\xb8" + struct.pack("<I", registers["cr3"]) + b"\x0f\x22\xd8"  # mov cr3, eax
        enable = registers["efer"] & ~0x400  # active is what paging makes it
        code += b"\x66\xb9\x80\x00\x00\xc0\x66\xb8" + struct.pack("<I", enable) + b"\x66\x31\xd2\x0f\x30"  # wrmsr
    code += b"\x66\xb8" + struct.pack("<I", registers["cr0"]) + b"\x0f\x22\xc0"  # mov cr0, eax
    code += b"\x66\xea" + struct.pack("<IH", _BASE + _WIDE, 0x10)  # jmp 0x10:_WIDE
    image[_CODE : _CODE + len(code)] = code
    wide = b"\xb8\x18\x00\x00\x00\x8e\xd8\x8e\xc0\x8e\xd0\x8e\xe0\x8e\xe8"  # mov eax, 0x18; to ds, es, ss, fs, gs
    if long:
        wide += b"\xbe" + struct.pack("<I", registers["rsi"])  # mov esi, boot parameters
    else:
        wide += b"\xbb" + struct.pack("<I", registers["rbx"])  # mov ebx, start info
    wide += b"\xb8" + struct.pack("<I", plan.entry.pc) + b"\xff\xe0"  # mov eax, entry; jmp to it
    image[_WIDE : _WIDE + len(wide)] = wide
    image[0xFFF0:0xFFF5] = b"\xea" + struct.pack("<HH", _CODE, 0xF000)  # jmp 0xf000:_CODE
    return bytes(image)


def _content(blob: Blob) -> bytes:
    if blob.data is not None:
        return blob.data
    assert blob.path is not None
    with open(blob.path, "rb") as file:
        return os.pread(file.fileno(), blob.size, blob.offset)


def run(plan: MachinePlan, folder: Path, *more: str, timeout_s: float = 180) -> tuple[int, str]:
    """Return QEMU's status and what the guest printed. ``more`` are further arguments."""
    (folder / "firmware").write_bytes(firmware(plan))
    options = "x-option-roms=off,acpi=on,pcie=off,ioapic2=off,pit=off,pic=off,rtc=on,isa-serial=on"
    command = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-M", f"microvm,{options}", "-cpu", "max"]
    size = sum(region.size for region in plan.ram) >> 20
    command += ["-smp", str(plan.cpu.count), "-m", str(size), "-bios", str(folder / "firmware"), "-no-reboot"]
    command += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", *more]
    for blob in plan.blobs:
        if FIRMWARE.base + 0x1_0000 <= blob.gpa < FIRMWARE.base + FIRMWARE.size:
            continue
        path = folder / f"blob-{blob.name}"
        path.write_bytes(_content(blob))
        command += ["-device", f"loader,file={path},addr={blob.gpa:#x},force-raw=on"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=patience(timeout_s))
    return done.returncode, said(done)
