"""The lab itself, without vmrun: KVM is there, and each peer boots each guest kernel on it.

Where these fail, nothing that the other tests say of vmrun counts.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from guest_kit import cmdline, peer_argv, run_vmm, this_host
from lab_table import Peer

pytestmark = pytest.mark.lab_guest
HOST = this_host()
KVM_GET_API_VERSION = 0xAE00
FIRST = HOST.guests[0]


def test_kvm_answers() -> None:
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        assert fcntl.ioctl(kvm, KVM_GET_API_VERSION) == 12
    finally:
        os.close(kvm)


@pytest.mark.parametrize("peer", HOST.peers, ids=lambda peer: peer.name)
def test_a_peer_boots_on_it(peer: Peer, tmp_path: Path) -> None:
    line = cmdline("lab_facts=1", "lab_end=poweroff")
    ended = run_vmm(peer_argv(peer, FIRST.tag, FIRST.forms[0], line, cpus=2), tmp_path)
    assert ended.status == 0, ended
    assert "INIT-OK" in ended.out and "LAB-DONE" in ended.out, ended
    assert ended.facts["cpus"] == "2"
