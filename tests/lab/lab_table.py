"""The architectures of the lab, as data: the emulated host (L1), its packages, the guests (L2) and the peers.

A fourth architecture is one more `Host` in `HOSTS`. The machines are the ones whose KVM was measured to run stock
Debian kernels; names are QEMU's (docs/system/target-*.rst) and Debian's.
"""

from __future__ import annotations

from dataclasses import dataclass

SUITE = "trixie"
"""The Debian suite of L1: its kernel, its Python, the peers in it."""

QEMU_MAJOR = 10
"""The oldest QEMU whose emulated virtualization hardware boots the guests on all three architectures."""

PYTHON = "3.13"
"""The Python of `SUITE`."""

BASE_PACKAGES = (
    "busybox-static",
    "python3",
    "python3-cffi-backend",
    "python3-hypothesis",
    "python3-pydantic",
    "python3-pytest",
    "python3-pytest-xdist",
    "python3-rich",
    "python3-tomli",
)
"""What L1 needs whatever the architecture: vmrun's dependencies and the test runner."""

L1_TESTS = ("tests/lab/guest_rig.py", "tests/engine/test_kvm*.py", "tests/lab/guest_*.py")
"""What L1 runs, as globs in the checkout, in this order."""


@dataclass(frozen=True, slots=True)
class GuestKernel:
    """A kernel for guests: ``tag`` names it in tests, ``forms`` are the files made of it."""

    tag: str
    package: str
    suite: str
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another VMM that is in L1. ``argv`` is a template: {kernel}, {initrd}, {cmdline}, {ram_mib}, {cpus}."""

    name: str
    argv: tuple[str, ...]
    forms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Host:
    """One architecture of the lab. ``machine`` is how QEMU emulates a host with virtualization hardware.

    ``wheels`` are the platform tags of PyPI's wheels for it; empty where there are none. ``more_guests`` are kernels
    that single tests need, for what those in ``guests`` are built without.
    """

    name: str
    debian: str
    qemu: str
    qemu_package: str
    machine: tuple[str, ...]
    console: str
    kernel: str
    modules: tuple[str, ...]
    packages: tuple[str, ...]
    triplet: str
    compiler: str
    compiler_package: str
    wheels: tuple[str, ...]
    guests: tuple[GuestKernel, ...]
    guest_console: str
    board: str
    peers: tuple[Peer, ...]
    more_guests: tuple[GuestKernel, ...] = ()


_USUAL_MODULES = ("virtio_blk", "squashfs", "overlay")


def _qemu(binary: str, machine: str) -> tuple[str, ...]:
    """Return a peer's command line: nothing but what the machine has, the console on standard output."""
    return (
        *(binary, "-M", machine, "-accel", "kvm", "-cpu", "host", "-smp", "{cpus}", "-m", "{ram_mib}"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-kernel", "{kernel}", "-initrd", "{initrd}", "-append", "{cmdline}"),
    )


_X86 = "qemu-system-x86_64"
_ARM = "qemu-system-aarch64"
_RISCV = "qemu-system-riscv64"

HOSTS = {
    host.name: host
    for host in (
        Host(
            name="x86_64",
            debian="amd64",
            qemu=_X86,
            qemu_package="qemu-system-x86",
            machine=("-M", "q35", "-cpu", "EPYC,+svm,+npt"),
            console="ttyS0",
            kernel="linux-image-cloud-amd64",
            modules=(*_USUAL_MODULES, "kvm-amd"),
            # The tools unpack Debian's kernels, for vmrun boots a vmlinux where it can get at it.
            packages=("qemu-system-x86", "zstd", "lz4"),
            triplet="x86_64-linux-gnu",
            compiler="x86_64-linux-gnu-gcc",
            compiler_package="gcc-x86-64-linux-gnu",
            wheels=("manylinux2014_x86_64", "manylinux_2_17_x86_64"),
            guests=(
                GuestKernel("6.12", "linux-image-cloud-amd64", "trixie", ("bzImage", "vmlinux")),
                GuestKernel("6.1", "linux-image-cloud-amd64", "bookworm", ("bzImage", "vmlinux")),
            ),
            guest_console="ttyS0",
            board="microvm",
            peers=(
                # Its options swing the boot by two: this set is the fastest for these kernels.
                Peer(
                    "qemu-microvm",
                    _qemu(_X86, "microvm,x-option-roms=on,pit=on,pic=on,rtc=on,isa-serial=on"),
                    ("bzImage", "vmlinux"),
                ),
                Peer("qemu-q35", _qemu(_X86, "q35"), ("bzImage", "vmlinux")),
            ),
            # It reads MP tables (X86_MPPARSE), as the cloud kernels do not.
            more_guests=(GuestKernel("6.12-generic", "linux-image-amd64", "trixie", ("bzImage",)),),
        ),
        *(
            Host(
                name=name,
                debian="arm64",
                qemu=_ARM,
                qemu_package="qemu-system-arm",
                machine=("-M", f"virt,virtualization=on,gic-version={gic}", "-cpu", "max,pauth-impdef=on"),
                console="ttyAMA0",
                kernel="linux-image-cloud-arm64",
                modules=_USUAL_MODULES,
                packages=("qemu-system-arm",),
                triplet="aarch64-linux-gnu",
                compiler="aarch64-linux-gnu-gcc",
                compiler_package="gcc-aarch64-linux-gnu",
                wheels=("manylinux2014_aarch64", "manylinux_2_17_aarch64"),
                guests=(
                    GuestKernel("6.12", "linux-image-cloud-arm64", "trixie", ("Image", "Image.gz", "vmlinuz.efi")),
                ),
                guest_console="ttyAMA0",
                board="virt",
                peers=(Peer("qemu-virt", _qemu(_ARM, f"virt,gic-version={gic}"), ("Image", "Image.gz")),),
            )
            # A GICv3 serves no guest with a GICv2 here, and many a board has no more than that.
            for name, gic in (("arm64", 3), ("arm64-gicv2", 2))
        ),
        *(
            Host(
                name=name,
                debian="riscv64",
                qemu=_RISCV,
                qemu_package="qemu-system-misc",
                machine=("-M", machine, "-cpu", "rv64,h=true"),
                console="ttyS0",
                kernel="linux-image-riscv64",
                modules=(*_USUAL_MODULES, "kvm"),
                packages=("qemu-system-riscv",),
                triplet="riscv64-linux-gnu",
                compiler="riscv64-linux-gnu-gcc",
                compiler_package="gcc-riscv64-linux-gnu",
                wheels=(),
                guests=(GuestKernel("6.12", "linux-image-riscv64", "trixie", ("Image",)),),
                guest_console="ttyS0",
                board="riscv_virt",
                peers=(Peer("qemu-virt", _qemu(_RISCV, guest), ("Image",)),),
            )
            for name, machine, guest in (
                ("riscv64", "virt", "virt"),
                ("riscv64-aia", "virt,aia=aplic-imsic,aia-guests=3", "virt,aia=aplic-imsic"),
            )
        ),
    )
}
