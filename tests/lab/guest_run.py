"""`vmrun run` under KVM, as users call it: Debian's packages out of the store, a command in the guest, its status."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from guest_kit import VMRUN, Ended, debian_manifest, run_vmm, this_host
from lab_table import GuestKernel

pytestmark = pytest.mark.lab_guest
HOST = this_host()


def run(path: Path, *command: str) -> Ended:
    return run_vmm([*VMRUN, "run", "--offline", str(path), "--", *command], path.parent)


@pytest.mark.parametrize("guest", HOST.guests, ids=lambda guest: guest.tag)
def test_output_and_status_of_a_command(guest: GuestKernel, tmp_path: Path) -> None:
    ended = run(debian_manifest(tmp_path, guest, cpus=2), "sh", "-c", "uname -r; echo aside >&2; exit 42")
    assert ended.status == 42, ended
    assert ended.out.startswith(f"{guest.tag}."), ended
    assert "aside" in ended.err and "kvm" in ended.err
    assert "Traceback" not in ended.err


def test_a_disk_holds_what_the_host_wrote(tmp_path: Path) -> None:
    data = os.urandom(4 << 20)
    (tmp_path / "disk.img").write_bytes(data)
    path = debian_manifest(tmp_path, HOST.guests[0], '[disk.data]\npath = "disk.img"\nmode = "overlay"\n')
    script = "sha256sum </dev/vda; printf written >/dev/vda; sync; head -c 7 /dev/vda"
    ended = run(path, "sh", "-c", script)
    assert ended.status == 0, ended
    assert hashlib.sha256(data).hexdigest() in ended.out and ended.out.endswith("written")
    assert (tmp_path / "disk.img").read_bytes() == data


def test_a_kvm_is_not_restricted_because_its_host_is_busy(tmp_path: Path) -> None:
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        ended = run_vmm([*VMRUN, "doctor", "--fresh", "--json"], tmp_path)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    assert ended.status == 0, ended
    found = json.loads(ended.out)
    assert found["engines"][0]["engine"] == "kvm" and found["engines"][0]["verdict"] in ("full", "slow"), found
    assert all(one["works"] is not False for one in found["kernel_mode"]["tries"]), found
