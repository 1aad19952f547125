"""The ISA of a vCPU: what this host's KVM has, what it lets nobody be without, and a vCPU made as a plan says.

KVM gives a new vCPU all that it can; what a plan does not have is switched off before the vCPU runs. Source: Linux
``arch/riscv/kvm/vcpu_onereg.c``.
"""

from __future__ import annotations

import errno
from typing import Any

from vmrun._core import ffi, lib
from vmrun.errors import HostError
from vmrun.frozen import frozen
from vmrun.kvm.riscv64 import registers
from vmrun.kvm.riscv64.registers import Register
from vmrun.kvm.vm import Vm
from vmrun.plan.model import RiscvCpus

_ABSENT = (-errno.ENOENT, -errno.EINVAL)
"""What KVM says of a register that it does not have; EINVAL before Linux 6.6."""
_OLDEST_MMU = "sv39"
"""What every host has; a KVM that does not tell (before Linux 6.5) is taken to have no more."""
_FIRMWARE = ("dbcn",)
"""SBI extensions that vmrun serves, and that KVM hands on only when asked to."""


@frozen
class Have:
    """What a vCPU of this host has before anyone takes something away. ``blocks`` are sizes in bytes, by extension."""

    extensions: tuple[str, ...]
    mmu: str
    timebase_hz: int
    blocks: tuple[tuple[str, int], ...]


def get(vm: Vm, vcpu: Any, register: Register) -> int | None:
    """Return a register's value, None where KVM has no such register. Raise HostError E325 where it does not say."""
    value = ffi.new("uint64_t *")
    code = lib.vmr_kvm_get_reg(vcpu, register.id, value)
    if code in _ABSENT:
        return None
    vm.check(code, register.name)
    return int(value[0])


def put(vm: Vm, vcpu: Any, register: Register, value: int) -> None:
    """Set a register. Raise HostError E325 where KVM refuses."""
    vm.check(lib.vmr_kvm_set_reg(vcpu, register.id, value), register.name)


def read(vm: Vm, vcpu: Any) -> Have:
    """Return what ``vcpu``, which is new, has."""
    extensions = tuple(name for name in registers.ISA if get(vm, vcpu, registers.isa(name)) == 1)
    mode = get(vm, vcpu, registers.config("satp_mode"))
    sizes = [(name, get(vm, vcpu, registers.config(f"{name}_block_size"))) for name in registers.BLOCKS]
    return Have(
        extensions,
        registers.SATP_MODES.get(mode or 0, _OLDEST_MMU),
        get(vm, vcpu, registers.timer("frequency")) or 0,
        tuple((name, size) for name, size in sizes if size and name in extensions),
    )


def fixed(vcpu: Any, have: Have) -> tuple[str, ...]:
    """Return the extensions that KVM takes from no vCPU. ``vcpu``, which is new, loses all others."""
    return tuple(name for name in have.extensions if lib.vmr_kvm_set_reg(vcpu, registers.isa(name).id, 0) < 0)


def shape(vcpu: Any, cpu: RiscvCpus, have: Have) -> None:
    """Take from a new ``vcpu`` what the plan does not have. Raise HostError E327 where KVM does not let it go."""
    for name in have.extensions:
        if name not in cpu.extensions and lib.vmr_kvm_set_reg(vcpu, registers.isa(name).id, 0) < 0:
            raise _misfit(f"has no `{name}`, which this host's KVM takes from no guest", "E327")


def add_firmware(vm: Vm, vcpu: Any) -> None:
    """Have KVM hand on what vmrun serves, where it is off."""
    for name in _FIRMWARE:
        if get(vm, vcpu, registers.sbi(name)) == 0:
            put(vm, vcpu, registers.sbi(name), 1)


def require(cpu: RiscvCpus, have: Have) -> None:
    """Raise HostError E327 where this host lacks an extension of the plan, E331 for another clock, MMU or block."""
    lacking = [name for name in cpu.extensions if name not in have.extensions]
    if lacking:
        listed = ", ".join(f"`{name}`" for name in lacking)
        raise _misfit(f"has {listed}, which this host's KVM does not give", "E327")
    modes = tuple(registers.SATP_MODES.values())
    if cpu.timebase_hz != have.timebase_hz:
        raise _misfit(f"has a clock of {cpu.timebase_hz} Hz, and this host's runs at {have.timebase_hz} Hz", "E331")
    if cpu.mmu not in modes or modes.index(cpu.mmu) > modes.index(have.mmu):
        raise _misfit(f"has an MMU of {cpu.mmu}, and this host's KVM gives at most {have.mmu}", "E331")
    for name, size in cpu.blocks:
        here = dict(have.blocks).get(name, size)
        if here != size:
            raise _misfit(f"has blocks of {size} bytes for `{name}`, and this host has {here}", "E331")


def _misfit(what: str, code: str) -> HostError:
    return HostError(f"the plan {what}", code=code, remedy="plan the manifest on this host")
