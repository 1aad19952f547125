"""MachinePlan: the concrete machine as frozen data.

Every address, interrupt, blob and initial register is decided here. A plan holds no file descriptor, so it can be
printed, diffed, kept in git and run later on another machine. Addresses and sizes are bytes in the guest's physical
address space; ranges are half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vmrun.errors import PlanError
from vmrun.frozen import frozen
from vmrun.plan.topology import Topology

PLAN_FORMAT = 1
"""Version of the saved form. A plan of another format is refused, with a word on which side is older."""

Json = None | bool | int | str | tuple["Json", ...] | Mapping[str, "Json"]
"""What a property may hold; numbers are integers, so that a plan is equal to the letter on every host."""

EMPTY: Mapping[str, Json] = MappingProxyType({})


PIO = 1 << 63
"""On the machine's bus, the bit that makes an address an I/O port of x86: VMR_PIO of the C core."""


@frozen
class RiscvCpus:
    """Harts. ``extensions`` are ISA extension names in canonical order; ``mmu`` is the largest mode, as ``sv48``.

    ``blocks`` are the sizes in bytes of the blocks that extensions such as ``zicbom`` work on, by the extension.
    """

    arch: str
    count: int
    extensions: tuple[str, ...]
    isa: str
    mmu: str
    timebase_hz: int
    blocks: tuple[tuple[str, int], ...] = ()


@frozen
class X86Cpus:
    """vCPUs, ``count`` of them in ``topology``, whose APIC ids follow from their places in it.

    ``model`` is ``host``, what the host's KVM gives; ``features`` (``+name``, ``-name``, as /proc/cpuinfo names them)
    change it.
    """

    arch: str
    count: int
    model: str
    features: tuple[str, ...]
    topology: Topology


@frozen
class ArmCpus:
    """vCPUs of arm64, ``count`` of them in ``topology``; their MPIDRs follow from KVM's numbering (see `mpidr`).

    ``model`` is ``host``, what the host's KVM gives; ``features`` are the optional ones that the vCPUs are made with
    (``pmu``, ``sve``, ``pauth``), in the order of the names.
    """

    arch: str
    count: int
    model: str
    features: tuple[str, ...]
    topology: Topology


def mpidr(index: int) -> int:
    """Return the affinity fields of MPIDR_EL1 that KVM gives the vCPU with ``index``: 16 to an Aff0, 256 to an Aff1.

    Source: Linux ``arch/arm64/kvm/sys_regs.c``, reset_mpidr.
    """
    return index & 0xF | (index >> 4 & 0xFF) << 8 | (index >> 12 & 0xFF) << 16


CpuPlan = RiscvCpus | X86Cpus | ArmCpus
"""The CPUs of a machine; ``arch`` is the guest's architecture, as ``uname -m`` says it, ``count`` their number."""


@frozen
class RamRegion:
    """Guest RAM in ``[base, base + size)``, multiples of 4096."""

    base: int
    size: int


@frozen
class Interrupt:
    """A wired line of the board's interrupt controller. ``trigger`` is ``level`` or ``edge``."""

    number: int
    trigger: str = "level"


@frozen
class DevicePlan:
    """A device in its place: memory, or I/O ports where ``space`` is ``pio``.

    ``id`` is the manifest's table (``disk.root``) or the board's own name (``plic``). ``kind`` names the registry's
    file. ``transport`` is the kind of the bus it hangs on (``virtio-mmio``) or None for a device that owns its window.
    ``properties`` are the device's own, as its file declares them; file names in it are absolute.
    """

    id: str
    kind: str
    base: int
    size: int
    interrupt: Interrupt | None = None
    transport: str | None = None
    properties: Mapping[str, Json] = EMPTY
    space: str = "mmio"

    @property
    def bus_base(self) -> int:
        """The first address of the window on the machine's bus."""
        return self.base | PIO if self.space == "pio" else self.base

    def number(self, name: str, default: int | None = None, bits: int = 32) -> int:
        """Return the property ``name``, a number of ``bits`` bits. Raise PlanError E104 for anything else."""
        value = self.properties.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value >> bits:
            raise self._wrong(name, f"a number of {bits} bits")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Return the property ``name``, names or not there. Raise PlanError E104 for anything else."""
        value = self.properties.get(name, ())
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "an array of names")
        return tuple(map(str, value))

    def _wrong(self, name: str, what: str) -> PlanError:
        remedy = "save the plan again, from its manifest"
        return PlanError(f"`{self.id}`: its property `{name}` is not {what}", code="E104", remedy=remedy)


SEED_SIZE = 32
"""Bytes of randomness that a guest is started with: what Linux takes to be enough (BLAKE2S_HASH_SIZE)."""


@frozen
class Blob:
    """Bytes that lie in RAM before the first instruction.

    Either ``data`` (inline) or ``path`` with ``offset`` into the file. ``size`` is what is copied; ``reserve`` is what
    the blob occupies once it runs (a kernel's bss), at least ``size``. ``sha256`` covers the whole file. ``seed`` is
    where SEED_SIZE bytes lie that are random, and other ones each time that the blob is loaded.
    """

    name: str
    gpa: int
    size: int
    reserve: int
    data: bytes | None = None
    path: str | None = None
    offset: int = 0
    sha256: str | None = None
    origin: str | None = None
    seed: int | None = None


@frozen
class EntryPlan:
    """Where the boot vCPU starts: ``pc``, and the registers that the boot protocol asks for, by name.

    On x86 ``cr0`` and ``efer`` say the mode, as in the processor: flat segments in protected and long mode, in which
    ``gdt.base`` and ``gdt.limit`` are the table that they come from.
    """

    pc: int
    registers: tuple[tuple[str, int], ...]


@frozen
class RunPlan:
    """How the run is watched. Times are nanoseconds, None is no bound. ``reports`` says that the guest's init, built by
    vmrun, tells the command's status over the control port."""

    command: tuple[str, ...] = ()
    reports: bool = False
    console: str = ""
    ready: str | None = None
    boot_ns: int | None = None
    idle_ns: int | None = None
    total_ns: int | None = None
    logs: tuple[tuple[str, str], ...] = ()


@frozen
class MachinePlan:
    """A machine that an engine can build. ``engine`` is the engine's name, ``why`` the reason in one line.

    ``assumed`` names the artefacts that stood in for missing ones (``--no-artifacts``); such a plan cannot run.
    ``jit`` False keeps the software core from translating the guest's code.
    """

    format: int
    name: str
    board: str
    engine: str
    why: str
    cpu: CpuPlan
    ram: tuple[RamRegion, ...]
    devices: tuple[DevicePlan, ...]
    blobs: tuple[Blob, ...]
    entry: EntryPlan
    cmdline: str
    run: RunPlan
    assumed: tuple[str, ...] = ()
    jit: bool = True

    def blob(self, name: str) -> Blob | None:
        """Return the blob called ``name``, or None."""
        return next((b for b in self.blobs if b.name == name), None)

    def device(self, id: str) -> DevicePlan | None:
        """Return the device whose id is ``id``, or None."""
        return next((d for d in self.devices if d.id == id), None)
