"""A kernel that has no ACPI finds its second processor, its timer and its interrupts by the MP table.

Debian's generic kernel reads MP tables; none of Debian's takes `virtio_mmio.device=` (VIRTIO_MMIO_CMDLINE_DEVICES is
off), so that what such a guest has is the serial console and its initramfs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from guest_kit import VMRUN, manifest, run_vmm, this_host
from lab_table import GuestKernel

pytestmark = pytest.mark.lab_guest
if not this_host().more_guests:
    pytest.skip("no kernel of this host finds its hardware by an MP table", allow_module_level=True)


@pytest.mark.parametrize("guest", this_host().more_guests, ids=lambda guest: guest.tag)
def test_two_processors_without_acpi(guest: GuestKernel, tmp_path: Path) -> None:
    words = ("acpi=off", "lab_facts=1", "lab_end=reboot")
    path = manifest(tmp_path, guest.tag, guest.forms[0], words, cpus=2, tables="mptable")
    ended = run_vmm([*VMRUN, "up", str(path), "--no-reboot"], tmp_path)
    assert ended.status == 0, ended
    assert "INIT-OK" in ended.out and "LAB-DONE" in ended.out, ended
    assert (ended.facts["cpus"], ended.facts["online"]) == ("2", "0-1"), ended
    assert ended.out.count("LAB ran=1 on cpu") == 2
    assert not ended.splats
