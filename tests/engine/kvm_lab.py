"""What the tests of KVM share whatever the architecture: a machine with RAM and vCPUs, run on threads that end."""

from __future__ import annotations

import platform
import threading
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pytest

from patience import patience
from vmrun._core import ffi
from vmrun.core.machine import CoreMachine
from vmrun.errors import HostError


def need_kvm(machine: str, code: str) -> None:
    """Skip the test where there is no KVM of ``machine``, as `uname -m` calls it, to run its ``code`` on."""
    from vmrun.kvm.host import Kvm

    if platform.machine() != machine:
        pytest.skip(f"the payloads are {code} code: needs {'an' if machine[0] in 'ax' else 'a'} {machine} host")
    try:
        Kvm().close()
    except HostError as error:
        pytest.skip(f"needs /dev/kvm: {error.message}")


class KvmLab(ABC):
    """A machine of ``vcpus`` vCPUs. An architecture's own adds ``load``, which puts code where the first one begins."""

    ram: ClassVar[tuple[int, int]]
    """Where RAM lies, and how much."""

    def __init__(self, vcpus: int = 1) -> None:
        from vmrun.kvm.host import Kvm

        self.core = CoreMachine()
        self.threads: list[threading.Thread] = []
        try:
            self.core.add_ram(*self.ram)
            with Kvm() as kvm:
                self.vm = self.make(kvm, vcpus)
            self.vcpus: list[Any] = list(self.vm.vcpus)
            self.exits: list[Any] = [ffi.new("vmr_exit *") for _ in range(vcpus)]
        except BaseException:
            self.core.close()
            raise

    @abstractmethod
    def make(self, kvm: Any, vcpus: int) -> Any:
        """Return the VM with its vCPUs; RAM is there."""

    def run(self, index: int = 0) -> int:
        """Run a vCPU until it leaves for good; return VMR_EXIT_*."""
        return self.core.run_vcpu(self.vcpus[index], self.exits[index])

    def spawn(self, index: int = 0) -> threading.Thread:
        """Run a vCPU on a thread of its own."""
        thread = threading.Thread(target=self.run, args=(index,), daemon=True)
        self.threads.append(thread)
        thread.start()
        return thread

    def wrongs(self) -> dict[tuple[str, str], int]:
        """Return what the guest did wrong, by device and kind."""
        return {(device, what): count for device, what, count in self.core.guest_errors()}

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.core.stop()
        for thread in self.threads:
            thread.join(patience(20))
            assert not thread.is_alive(), "a vCPU did not stop"
        self.core.close()
