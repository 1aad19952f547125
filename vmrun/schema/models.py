"""The manifest, format 1, as frozen models: a person's intent, nothing decided. One class a table.

Sizes are bytes, times nanoseconds, paths absolute (made so by `vmrun.schema.load`, from the file that declares
them). Names that depend on a registry (boards, device kinds) are checked in `vmrun.schema.checks`, as is every
rule that spans two keys.
"""

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from vmrun.schema.fields import (
    Argument,
    Cmdline,
    CpuModel,
    DebianPackage,
    DebianSuite,
    DiskSize,
    Feature,
    FilePath,
    ForbidSet,
    Mac,
    MachineName,
    ModuleName,
    Name,
    PackageFile,
    PageSize,
    Regex,
    Scalar,
    Serial,
    Sha256,
    Text,
    Time,
    Url,
)

Count = Annotated[int, Field(ge=1, le=4096)]


class Table(BaseModel):
    """Base of every table: frozen, unknown keys refused, no type coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Machine(Table):
    """The board, and the engine that runs it."""

    board: str = Field(description="The machine's kind, which fixes its memory map and interrupt numbers.")
    accel: Literal["auto", "kvm", "soft", "qemu"] = Field("auto", description="The engine that runs the guest.")
    jit: bool = Field(
        True,
        description="Let the `soft` engine translate the guest's code into the host's, where it can.",
    )
    tables: Literal["auto", "fdt", "acpi", "mptable"] = Field(
        "auto", description="How the guest learns of its hardware."
    )
    irqchip: Literal["auto", "gicv3", "gicv2", "aia", "plic"] = Field(
        "auto",
        description="The interrupt controller, where there is a choice: the engine's usual one unless given.",
    )


class Cpu(Table):
    """CPUs: how many, in what topology, of what kind."""

    count: Count = Field(1, description="CPUs (harts) at boot.")
    max: Count | None = Field(None, description="CPUs that the machine has room for; `count` unless given.")
    sockets: Count | None = Field(None, description="Sockets; sockets x cores x threads is the count.")
    cores: Count | None = Field(None, description="Cores of a socket.")
    threads: Count | None = Field(None, description="Threads of a core.")
    model: CpuModel | None = Field(None, description='"host", "max", or for riscv an ISA string.')
    features: tuple[Feature, ...] = Field((), description='Features to add ("+name") or to remove ("-name").')


class Memory(Table):
    """Guest RAM."""

    size: PageSize = Field(description="Guest RAM, a multiple of 4KiB.")
    hugepages: Any = Field(None, description="Back guest RAM with huge pages.")
    shared: bool = Field(False, description="Share guest RAM with other processes.")
    prealloc: bool = Field(False, description="Touch all guest RAM before the start.")
    numa: Any = Field(None, description="NUMA nodes of the guest.")


class Artifact(Table):
    """A file that the machine is made from: `path`, `url` with `sha256`, or `debian` with `suite`."""

    path: FilePath | None = Field(None, description="A file, from the folder of the manifest that declares it.")
    url: Url | None = Field(None, description="Where to fetch the file; needs `sha256`.")
    sha256: Sha256 | None = Field(None, description="The file's SHA-256 digest, 64 hex digits.")
    debian: DebianPackage | None = Field(None, description="The Debian package that holds the file; needs `suite`.")
    suite: DebianSuite | None = Field(None, description="The Debian suite to take the package from.")
    file: PackageFile | None = Field(None, description="The file's path inside the package, where it is no kernel.")

    @property
    def source(self) -> str:
        """Which source is named: ``path``, ``url`` or ``debian`` (an `Initrd` also ``busybox``)."""
        return "path" if self.path else "url" if self.url else "debian"


class Initrd(Artifact):
    """The initramfs: built, or a file."""

    busybox: bool = Field(False, description="Build an initramfs around Debian's busybox of the guest's architecture.")

    @property
    def source(self) -> str:
        return "busybox" if self.busybox else super().source


class Firmware(Artifact):
    """Firmware, with its variable store."""

    vars: FilePath | None = Field(None, description="The template of the firmware's variable store.")


class Boot(Table):
    """What the machine boots."""

    kernel: Artifact | None = Field(None, description="The kernel, or a flat image entered in its place.")
    protocol: Literal["auto", "bzimage", "elf", "pvh", "flat"] = Field(
        "auto",
        description="How the kernel is entered, where its format does not say: on x86 a bzImage as it is, or its"
        " vmlinux in 64-bit mode or by PVH; on riscv64 a flat image, such as U-Boot's u-boot.bin, at its first byte.",
    )
    modules: tuple[ModuleName, ...] = Field(
        (), description="Kernel modules from the kernel's package, loaded in this order with what they need."
    )
    initrd: Initrd | None = Field(None, description="The initramfs: built, or a file.")
    cmdline: Cmdline = Field(
        (),
        description="Kernel parameters; console= and the like are derived from the devices unless given."
        " A string is the whole command line as it stands, for guests that are no Linux too.",
    )
    firmware: Firmware | None = Field(None, description="Firmware to boot by.")


class Disk(Table):
    """A disk with a file's content, or with ``size`` alone an empty one that lives as long as the run."""

    path: FilePath | None = Field(None, description="The image, from the folder of the manifest that declares it.")
    url: Url | None = Field(None, description="Where to fetch the image; needs `sha256`.")
    sha256: Sha256 | None = Field(None, description="The image's SHA-256 digest, 64 hex digits.")
    format: Literal["raw", "qcow2"] | None = Field(None, description="The image's format; by content unless given.")
    mode: Literal["ro", "overlay", "rw"] = Field(
        "overlay", description="ro: read-only; overlay: writes are dropped after the run; rw: writes reach the image."
    )
    serial: Serial | None = Field(None, description="The disk's serial, up to 20 ASCII characters.")
    size: DiskSize | None = Field(None, description="Size of an empty scratch disk, in place of an image.")


class Net(Table):
    """A network card."""

    mode: Literal["none", "user", "tap", "vhost-tap"] = Field("user", description="What the card is connected to.")
    mac: Mac | None = Field(None, description="The card's address.")


class Share(Table):
    """A folder of the host in the guest."""

    path: FilePath = Field(description="The folder to share, from the folder of the manifest that declares it.")
    mode: Literal["ro", "rw"] = Field("ro", description="Whether the guest may write.")


class Console(Table):
    """A console of the guest."""

    device: Literal["virtio", "serial"] = Field("virtio", description="virtio-console, or the board's UART.")
    log: FilePath | None = Field(None, description="A file that receives everything the guest prints here.")


class Device(Table):
    """Any other device of the registry; ``properties`` is what it sets, parsed by its kind's declaration."""

    kind: str = Field(description="The device's kind in the registry.")
    properties: dict[str, Scalar] = Field(default_factory=dict)


class Scale(Table):
    """Factors on every timeout, by engine."""

    kvm: float = Field(1, gt=0, le=1000, description="Factor on every timeout under kvm.")
    soft: float = Field(1, gt=0, le=1000, description="Factor on every timeout under the software core.")
    qemu: float = Field(1, gt=0, le=1000, description="Factor on every timeout under QEMU.")


class Timeouts(Table):
    """When a run is given up."""

    boot: Time | None = Field(None, description="From the start until `ready`, or else until init runs.")
    idle: Time | None = Field(None, description="The longest silence of the console.")
    total: Time | None = Field(None, description="The whole run.")
    scale: Scale = Field(default_factory=Scale.model_construct, description="Factors for slower engines.")


class Run(Table):
    """What a run does."""

    ready: Text | None = Field(None, description="Console text that says that the guest is up.")
    command: Annotated[tuple[Argument, ...], Field(min_length=1)] | None = Field(
        None, description="The command that the built initramfs runs; a shell unless given."
    )
    timeouts: Timeouts = Field(default_factory=Timeouts.model_construct, description="When to give up.")


class Allow(Table):
    """An exception from what is forbidden."""

    match: Regex = Field(description="What a forbidden line may look like after all.")
    reason: Text = Field(description="Why it is allowed.")
    until: datetime.date | None = Field(None, description="The last day of the allowance.")


class Verdict(Table):
    """What makes a run pass."""

    exit: Annotated[int, Field(ge=0, le=255)] | None = Field(None, description="The exit status that a pass needs.")
    require: tuple[Regex, ...] = Field((), description="Patterns that the console must show.")
    forbid: tuple[ForbidSet, ...] = Field((), description="Patterns, or @named sets, that it must not show.")
    allow: tuple[Allow, ...] = Field((), description="Exceptions from `forbid`, each with its reason.")
    results: Literal["ktap"] | None = Field(None, description="The format of test results on the console.")


class Budget(Table):
    """What a run may take."""

    boot_ms: Annotated[int, Field(ge=1)] | None = Field(None, description="Milliseconds from start to ready.")


class Manifest(Table):
    """A whole manifest after extends, profile, --set and variables."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=False)

    manifest: Literal[1] = Field(description="Format version.")
    name: MachineName = Field(description="The machine's name; the file's name unless given.")
    extends: tuple[str, ...] = Field((), description="Manifests that this one builds on, merged in order.")
    vars: dict[str, Scalar] = Field(
        default_factory=dict, description="Variables for ${name}; ${env:NAME:-default} reads the environment here."
    )
    machine: Machine = Field(description="The board and the engine.")
    cpu: Cpu = Field(default_factory=Cpu.model_construct, description="CPUs.")
    memory: Memory = Field(description="The guest's RAM.")
    boot: Boot = Field(description="What is loaded and started.")
    disk: dict[Name, Disk] = Field(default_factory=dict, description="Block devices by name.")
    net: dict[Name, Net] = Field(default_factory=dict, description="Network cards by name.")
    share: dict[Name, Share] = Field(default_factory=dict, description="Shared folders by name.")
    console: dict[Name, Console] = Field(default_factory=dict, description="Consoles by name.")
    device: dict[Name, Device] = Field(default_factory=dict, description="Other devices by name.")
    run: Run = Field(default_factory=Run.model_construct, description="What a run does, and when it gives up.")
    verdict: Verdict | None = Field(None, description="What makes a run of `vmrun test` pass.")
    budget: Budget | None = Field(None, description="What a run of `vmrun test` may take.")
    matrix: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="Keys and the values that `vmrun test` runs them with."
    )
    profile: dict[Name, dict[str, Any]] = Field(
        default_factory=dict, description="Named changes to this manifest, chosen by --profile."
    )
