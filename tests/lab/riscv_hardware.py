"""What a riscv64 guest sees of its hardware, made comparable: the same board on KVM and on the software core."""

from __future__ import annotations

import re
from pathlib import Path

from patience import patience

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "hardware" / "riscv_virt.txt"
"""What a guest on the software core says; `tests/guest/test_guest_hardware.py` holds it to that."""

COMMAND = ("sh", "-c", "cat /proc/iomem /proc/interrupts")
_LINE = re.compile(r"(\S.*?) +(\d+) (Edge|Level) +(?:-\S+ +)?(\S+)")
"""Controller, number, trigger, the flow's name where the controller gives it one, device."""


def manifest(accel: str, irqchip: str) -> str:
    """Return a manifest whose guest has a device of every kind that the board takes."""
    return (
        f'manifest = 1\nname = "hardware"\n[machine]\nboard = "riscv_virt"\naccel = "{accel}"\nirqchip = "{irqchip}"\n'
        '[cpu]\ncount = 2\n[memory]\nsize = "256MiB"\n'
        '[boot]\nkernel = { debian = "linux-image-riscv64", suite = "trixie" }\n'
        'modules = ["virtio_mmio", "virtio_blk", "virtio-rng"]\ninitrd = { busybox = true }\n'
        'cmdline = ["quiet", "panic=-1"]\n[console.main]\ndevice = "virtio"\n'
        '[disk.first]\nsize = "1MiB"\n[disk.second]\nsize = "1MiB"\n[device.rng]\nkind = "virtio-rng"\n'
        f'[run]\ntimeouts = {{ total = "{round(patience(80))}s" }}\n'
    )


def windows(said: str) -> list[str]:
    """Return the lines of /proc/iomem, without those below RAM: where the kernel lies is not the machine's business."""
    return re.findall(r"(?m)^[0-9a-f]{8,16}-[0-9a-f]{8,16} : .+$", said)


def interrupts(said: str) -> list[str]:
    """Return the wired lines of /proc/interrupts: controller, number, trigger, device; without Linux' own numbers."""
    found = []
    for line in re.findall(r"(?m)^ *\d+:((?: +\d+)+ +)(.*)$", said):
        wired = _LINE.fullmatch(line[1].strip())
        if wired is not None:
            found.append(" ".join(wired.groups()))
    return sorted(found)


def listing(said: str) -> str:
    """Return both as the golden file has them."""
    return "\n".join([*windows(said), *interrupts(said)]) + "\n"
