"""What an exit costs that C serves, beside an access that KVM answers itself.

A payload writes one port in a loop, in turns: a port that a device of the C core serves (the scratch register of a
UART), one that Python serves, one where nobody is, one that is a doorbell (ioeventfd: the kernel answers, the guest
is left but not KVM_RUN), and no port at all. Then the served ports are run again by a bare loop around KVM_RUN: the
difference is what vmrun adds. Figures are medians of alternating rounds; ratios hold on a noisy machine, times do not.

    python bench/exits.py [ROUNDS]
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cffi import FFI

from vmrun._core import ffi, lib
from vmrun.core.line import nowhere
from vmrun.core.machine import CoreMachine
from vmrun.kvm.host import Kvm
from vmrun.kvm.vm import counters
from vmrun.kvm.x86_64.vm import X86Vm
from vmrun.plan.model import EntryPlan

COUNT = 10_000
CODE = 0x1000
UART, PYTHON, NOBODY, BELL = 0x3FF, 0x500, 0x600, 0x700

# Kept apart from the core: what a bare VMM does, KVM_RUN and nothing else, until the guest halts.
BARE_C = """
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
static long bare(int fd, size_t size) {
  struct kvm_run *run = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) return -1;
  long exits = 0;
  do {
    if (ioctl(fd, KVM_RUN, 0) < 0) break;
    exits++;
  } while (run->exit_reason != KVM_EXIT_HLT);
  munmap(run, size);
  return exits;
}
"""


class Silent:
    """Python's side of a port."""

    def read(self, offset: int, size: int) -> int:
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        return


def payload(port: int | None) -> bytes:
    """mov dx, port; loop: out dx, al (or a nop); dec ecx; jnz loop; hlt."""
    body = b"\x90" if port is None else b"\xee"
    return b"\x66\xba" + struct.pack("<H", port or 0) + body + b"\xff\xc9\x75\xfb\xf4"


def vcpu_fd() -> int:
    """Return the descriptor of this process's only vCPU."""
    for name in Path("/proc/self/fd").iterdir():
        if name.is_symlink() and "kvm-vcpu" in str(name.readlink()):
            return int(name.name)
    raise SystemExit("no vCPU is open")


def main(rounds: int) -> None:
    """Print nanoseconds an access."""
    builder = FFI()
    builder.cdef("static long bare(int fd, size_t size);")
    builder.set_source("_bench_exits_bare", BARE_C)
    with tempfile.TemporaryDirectory() as folder:
        spec = importlib.util.spec_from_file_location("_bench_exits_bare", builder.compile(tmpdir=folder))
        assert spec and spec.loader
        bare = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bare)
        measure(rounds, bare.lib.bare)


def measure(rounds: int, bare: Callable[[int, int], int]) -> None:
    """Measure and print."""
    bell = os.eventfd(0, os.EFD_CLOEXEC)
    sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    with CoreMachine() as core, Kvm() as kvm:
        core.add_ram(0, 1 << 20)
        core.claim(lib.VMR_PIO | PYTHON, 1, Silent())
        uart = ffi.new("vmr_uart16550 **")
        core.check(lib.vmr_uart16550_new(core.handle, lib.VMR_PIO | 0x3F8, 8, nowhere(), -1, sink, uart), "uart")
        vm = X86Vm(core, kvm, irqchip=None)
        (vcpu,) = vm.add_vcpus(1)
        vm.ioeventfd(bell, lib.VMR_PIO | BELL, 1)
        fd = vcpu_fd()
        left = ffi.new("vmr_exit *")

        def once(port: int | None, run: str) -> float:
            core.write_ram(CODE, payload(port))
            vm.enter(EntryPlan(CODE, (("cr0", 0x11), ("rcx", COUNT))))
            since = time.perf_counter_ns()
            if run == "bare":
                assert bare(fd, 4096) == COUNT + 1
            else:
                assert core.run_vcpu(vcpu, left) == lib.VMR_EXIT_HALT
            return (time.perf_counter_ns() - since) / COUNT

        cases = {
            "no access": (None, "vmrun"),
            "doorbell (ioeventfd)": (BELL, "vmrun"),
            "bare KVM_RUN loop": (UART, "bare"),
            "device in C": (UART, "vmrun"),
            "nobody there": (NOBODY, "vmrun"),
            "device in Python": (PYTHON, "vmrun"),
        }
        found: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(rounds):
            for name, (port, run) in cases.items():
                found[name].append(once(port, run))
        base = statistics.median(found["bare KVM_RUN loop"])
        for name, times in found.items():
            middle = statistics.median(times)
            print(f"{name:<22} {middle:9.0f} ns  {middle / base:6.2f} x bare  {middle - base:+9.0f} ns")
        added = statistics.median(a - b for a, b in zip(found["device in C"], found["bare KVM_RUN loop"], strict=True))
        print(f"served in C costs {added:.0f} ns over the bare exit (median of {rounds} paired rounds)")
        print(f"exits in all: {counters([vcpu])}")
    os.close(bell)
    os.close(sink)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
