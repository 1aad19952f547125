"""A VM of KVM around a machine of the C core: what every architecture has."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.core.state import State, StateField
from vmrun.errors import HostError
from vmrun.frozen import frozen
from vmrun.kvm.host import Kvm, check

COUNTERS = ("runs", "mmio", "pio", "python", "interrupted")


@frozen
class Route:
    """Where a GSI leads: ``pin`` of the kernel's ``chip``, or, where ``message`` is given, an address and its data."""

    gsi: int
    chip: int = 0
    pin: int = 0
    message: tuple[int, int] | None = None


class Vm:
    """A VM with the machine's RAM. The machine owns it; every method raises HostError E325 where KVM refuses."""

    def __init__(self, core: CoreMachine, kvm: Kvm, kind: int = 0) -> None:
        """Make it; all RAM has been added. ``kind`` is KVM_CREATE_VM's argument."""
        self.core = core
        out = ffi.new("vmr_kvm **")
        self.check(lib.vmr_kvm_new(core.handle, kvm.fd, kind, out), "VM")
        self.handle: Any = out[0]

    def check(self, code: int, what: str) -> None:
        """Raise HostError if ``code`` is negative."""
        check(self.core, code, what)

    def new_vcpu(self, id: int) -> Any:
        """Return a new vCPU (``vmr_vcpu *``) with the architecture's number ``id``."""
        out = ffi.new("vmr_vcpu **")
        self.check(lib.vmr_kvm_vcpu_new(self.handle, id, out), f"vCPU {id}")
        return out[0]

    def firmware_console(self, in_fd: int, out_fd: int) -> None:
        """Connect the console of firmware that the engine serves (-1: not connected). Here there is none."""

    def wire(self) -> None:
        """Lead the machine's wired interrupts to the kernel's controller."""
        self.check(lib.vmr_kvm_wire(self.handle), "interrupt controller")

    def take_messages(self, base: int) -> None:
        """Lead the machine's message-signalled interrupts there; ``base`` is where vCPU 0's go, a page for each."""
        self.check(lib.vmr_kvm_messages(self.handle, base), "interrupt controller")

    def irqfd(self, eventfd: int, gsi: int, *, resample: int = -1, attach: bool = True) -> None:
        """Raise ``gsi`` whenever ``eventfd`` is signalled; with ``resample``, as a level (see kvm_api.h)."""
        self.check(lib.vmr_kvm_irqfd(self.handle, eventfd, gsi, resample, attach), f"interrupt {gsi}")

    def ioeventfd(self, eventfd: int, gpa: int, size: int, match: int | None = None, *, attach: bool = True) -> None:
        """Signal ``eventfd`` for writes of ``size`` bytes (0: any) to ``gpa``; with ``match`` for that value alone."""
        value = ffi.NULL if match is None else ffi.new("uint64_t *", match)
        self.check(lib.vmr_kvm_ioeventfd(self.handle, eventfd, gpa, size, value, attach), f"doorbell at {gpa:#x}")

    def signal_msi(self, address: int, data: int) -> None:
        """Deliver a message-signalled interrupt."""
        self.check(lib.vmr_kvm_signal_msi(self.handle, address, data), "message-signalled interrupt")

    def set_routes(self, routes: Sequence[Route]) -> None:
        """Replace the table of where interrupts lead."""
        rows = ffi.new("vmr_kvm_route[]", len(routes))
        for row, route in zip(rows, routes, strict=True):
            row.gsi, row.chip, row.pin = route.gsi, route.chip, route.pin
            if route.message is not None:
                row.msi, (row.address, row.data) = 1, route.message
        self.check(lib.vmr_kvm_set_routes(self.handle, rows, len(routes)), "interrupt routes")

    # ---- registers and devices of the kernel -------------------------------------------------------------------------

    def get_reg(self, vcpu: Any, number: int) -> int:
        """Return a register of at most 64 bits of a vCPU that is not running."""
        value = ffi.new("uint64_t *")
        self.check(lib.vmr_kvm_get_reg(vcpu, number, value), "vCPU")
        return int(value[0])

    def set_reg(self, vcpu: Any, number: int, value: int) -> None:
        """Set a register of at most 64 bits of a vCPU that is not running."""
        self.check(lib.vmr_kvm_set_reg(vcpu, number, value), "vCPU")

    def has_device(self, kind: int) -> bool:
        """Return whether KVM has devices of ``kind`` (KVM_DEV_TYPE_*); none is made."""
        return bool(lib.vmr_kvm_device_test(self.handle, kind) == 0)

    def new_device(self, kind: int, name: str) -> KernelDevice:
        """Return a new device of ``kind``, called ``name`` in errors; the machine owns it."""
        out = ffi.new("vmr_kvm_device **")
        self.check(lib.vmr_kvm_device_new(self.handle, kind, out), name)
        return KernelDevice(self, out[0], name)

    # ---- vCPUs -------------------------------------------------------------------------------------------------------

    def mp_state(self, vcpu: Any) -> int:
        """Return where ``vcpu`` is in its life: KVM_MP_STATE_*."""
        out = ffi.new("uint32_t *")
        self.check(lib.vmr_kvm_get_mp_state(vcpu, out), "vCPU")
        return int(out[0])

    def set_mp_state(self, vcpu: Any, state: int) -> None:
        """Set KVM_MP_STATE_*."""
        self.check(lib.vmr_kvm_set_mp_state(vcpu, state), "vCPU")


def vcpu_state(arch: str, registers: Mapping[str, int]) -> State:
    """Return 64-bit ``registers`` as the state of a vCPU of ``arch``."""
    fields = tuple(StateField(name, 8, (value,)) for name, value in registers.items())
    return State(f"kvm-{arch}", 1, fields)


def vcpu_registers(arch: str, state: State, names: Collection[str]) -> Mapping[str, int]:
    """Return the registers of a state of ``arch``. Raise HostError E370 unless they are those with ``names``."""
    found = {field.name: field.values[0] for field in state.fields if field.width == 8 and len(field.values) == 1}
    right = (state.kind, state.version) == (f"kvm-{arch}", 1) and len(found) == len(state.fields)
    if not right or found.keys() != set(names) or any(not 0 <= value < 1 << 64 for value in found.values()):
        raise HostError(f"vCPU: version {state.version} of the state of {state.kind} is none of this vCPU", code="E370")
    return found


class KernelDevice:
    """A device that KVM serves. Every method raises HostError E325 where KVM refuses."""

    def __init__(self, vm: Vm, handle: Any, name: str) -> None:
        self._vm = vm
        self._handle = handle
        self._name = name

    def set(self, group: int, attribute: int, ctype: str = "", value: int = 0) -> None:
        """Set an attribute; ``ctype`` is what C calls the type of ``value``, none for an attribute without one."""
        given = ffi.new(f"{ctype} *", value) if ctype else ffi.NULL
        self._vm.check(lib.vmr_kvm_device_set(self._handle, group, attribute, given), self._name)

    def get(self, group: int, attribute: int, ctype: str) -> int:
        """Return an attribute of the type ``ctype``."""
        out = ffi.new(f"{ctype} *")
        self._vm.check(lib.vmr_kvm_device_get(self._handle, group, attribute, out), self._name)
        return int(out[0])


@frozen
class Fault:
    """What KVM said when a vCPU fell over. ``code`` is VMR_KVM_*, 0 for a vCPU that is well; see kvm_api.h."""

    code: int
    exit_reason: int
    suberror: int
    data: tuple[int, ...]


def fault(vcpu: Any) -> Fault:
    """Return the fault of ``vcpu``, which is not running."""
    out = ffi.new("vmr_kvm_fault *")
    lib.vmr_kvm_get_fault(vcpu, out)
    return Fault(int(out.code), int(out.exit_reason), int(out.suberror), tuple(out.data[0 : out.data_count]))


def counters(vcpus: Sequence[Any]) -> Mapping[str, int]:
    """Return the counters of ``vcpus``, summed. Any thread."""
    sums = dict.fromkeys(COUNTERS, 0)
    stats = ffi.new("vmr_kvm_stats *")
    for vcpu in vcpus:
        lib.vmr_kvm_get_stats(vcpu, stats)
        for name in COUNTERS:
            sums[name] += int(getattr(stats, name))
    return sums
