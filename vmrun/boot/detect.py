"""Which kernel format a file has: one table of magics, the known formats and what is often given by mistake."""

from __future__ import annotations

from vmrun.boot import arm64_image, bzimage, elf, packed, riscv_image, vmlinux
from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source, truncated
from vmrun.boot.x86_kernel import X86Kernel
from vmrun.errors import PlanError
from vmrun.units import format_size

HEAD_SIZE = 4096
FLAT_OFFSET = 2 << 20
"""A flat image starts here above RAM's base: where QEMU's riscv `virt` puts the payload of its firmware."""

_OTHER_KERNELS = (
    # offset, magic, what it is
    (0x202, b"HdrS", "an x86 bzImage"),  # Linux Documentation/arch/x86/boot.rst
    (0x38, b"RSC\x05", "a riscv64 Image"),  # Documentation/arch/riscv/boot-image-header.rst
    (0x38, b"ARM\x64", "an arm64 Image"),  # Documentation/arch/arm64/booting.rst
    (0x38, b"LoongArch", "a loongarch kernel"),
    (0x24, b"\x18\x28\x6f\x01", "an arm zImage"),  # arch/arm/boot/compressed/head.S
    (0x24, b"\x01\x6f\x28\x18", "an arm zImage (big-endian)"),
)
_NO_KERNELS = (
    (0, b"!<arch>\n", "an ar archive, such as a .deb package"),
    (0, b"070701", "a cpio archive, such as an initramfs"),
    (0, b"\xfd7zXZ\0", "xz-compressed data"),
    (0, b"\x28\xb5\x2f\xfd", "zstd-compressed data"),
    (0, b"\x02\x21\x4c\x18", "lz4-compressed data"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed data"),
    (0, b"BZh", "bzip2-compressed data"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"hsqs", "a squashfs image"),
    (0, b"\xd0\x0d\xfe\xed", "a devicetree blob or FIT image"),
    (0, b"\x27\x05\x19\x56", "a U-Boot legacy image (uImage)"),
    (0x438, b"\x53\xef", "an ext2/3/4 file system"),
    (0x1FE, b"\x55\xaa", "a disk or boot sector image"),
)
_FORMS = {
    "riscv64": "name an Image, Image.gz, EFI zboot or ELF kernel, or a flat image such as u-boot.bin",
    "aarch64": "name an Image, Image.gz or EFI zboot kernel",
    "x86_64": "name a bzImage (vmlinuz) or a vmlinux",
}
_WORDS = {"riscv64": "riscv64", "aarch64": "arm64", "x86_64": "x86_64"}
"""Architectures as kernels' own trees and packages call them."""
_IMAGE_HEADER = 64
"""Bytes of the header of an Image, on riscv64 and on arm64."""
_TEXT = frozenset(range(0x20, 0x7F)) | {9, 10, 13, 0x1B}


def detect(source: Source, arch: str, ram_base: int, granules: tuple[int, ...] = ()) -> Kernel:
    """Return the kernel for ``arch`` (riscv64, aarch64) in ``source``, placed in RAM from ``ram_base`` (bytes) on.

    On riscv64 a file of no known format is taken for a flat image, as U-Boot's: copied to ``ram_base`` + 2 MiB and
    entered there. ``granules`` are the sizes of an arm64 host's pages. Compressed kernels are refused here: `packed`
    unpacks them first. Raise PlanError: E110 no kernel, E112 another architecture, and what the formats' own raise.
    """
    head = source.read(0, HEAD_SIZE)
    if arch == "riscv64" and riscv_image.is_image(head):
        return riscv_image.place(source, ram_base)
    if arch == "aarch64" and arm64_image.is_image(head):
        return arm64_image.place(source, ram_base, granules)
    if head.startswith(elf.MAGIC):
        return _elf(source, arch, ram_base)
    _refuse_others(source, head, arch)
    if head[:2] == b"MZ" and len(head) < _IMAGE_HEADER:
        raise truncated(source, _IMAGE_HEADER)
    if head[:2] == b"MZ" and head[4:8] != b"zimg":
        raise _foreign(source, f"an EFI program of another kind than a kernel for {_WORDS[arch]}", arch)
    _refuse_no_kernel(source, head, arch)
    if packed.recognise(source):
        raise _no_kernel(source, arch, "holds a compressed kernel inside a compressed kernel")
    if arch != "riscv64":
        raise _no_kernel(source, arch, "is of no known format")
    return _flat(source, head, ram_base)


def _elf(source: Source, arch: str, ram_base: int) -> Kernel:
    if arch == "riscv64":
        return elf.place(source, ram_base)
    # Its physical addresses are virtual ones (arch/arm64/kernel/vmlinux.lds.S has no AT): nothing says where it goes.
    elf.read(source, elf.EM_AARCH64, _WORDS[arch])
    raise _no_kernel(source, arch, "is a vmlinux, of which the Image is made")


def detect_x86(source: Source, protocol: str) -> X86Kernel:
    """Return the x86_64 kernel in ``source`` with its place in RAM, entered by ``protocol``.

    ``auto`` takes a file as it is: a bzImage unpacks itself, a vmlinux is entered in 64-bit mode. Raise PlanError: E110
    no kernel, E112 another architecture, E119 a file that cannot be entered so, and what `bzimage` and `vmlinux` raise.
    """
    head = source.read(0, HEAD_SIZE)
    found = "bzimage" if bzimage.is_bzimage(head) else "elf" if head.startswith(elf.MAGIC) else None
    if found is None:
        _refuse_others(source, head, "x86_64")
        _refuse_no_kernel(source, head, "x86_64")
        raise _no_kernel(source, "x86_64", "has neither a bzImage's header nor an ELF's")
    if found == "bzimage" and protocol in ("auto", "bzimage"):
        return bzimage.place(source)
    if found == "elf" and protocol != "bzimage":
        return vmlinux.place(source, "elf" if protocol == "auto" else protocol)
    what = {"bzimage": "a bzImage, whose kernel is not unpacked", "elf": "a vmlinux"}[found]
    raise PlanError(
        f"{source.name}: {what}, and boot.protocol is `{protocol}`",
        code="E119",
        key=("boot", "protocol"),
        remedy='write protocol = "auto", or name a kernel of that kind',
    )


def _refuse_others(source: Source, head: bytes, arch: str) -> None:
    for offset, magic, what in _OTHER_KERNELS:
        if head[offset : offset + len(magic)] == magic:
            raise _foreign(source, what, arch)


def _refuse_no_kernel(source: Source, head: bytes, arch: str) -> None:
    for offset, magic, what in _NO_KERNELS:
        if head[offset : offset + len(magic)] == magic:
            raise _no_kernel(source, arch, f"is {what}")


def _flat(source: Source, head: bytes, ram_base: int) -> Kernel:
    # Unprivileged ISA 1.5: a parcel of all zeros or all ones is an illegal instruction, so no program starts with one.
    if head[:2] in (b"\0\0", b"\xff\xff") or len(head) < 4:
        raise _no_kernel(source, "riscv64", "starts with no RISC-V instruction")
    if _TEXT.issuperset(head):
        raise _no_kernel(source, "riscv64", "is a text file")
    gpa = ram_base + FLAT_OFFSET
    about = f"flat image, {format_size(source.size)}"
    return Kernel("flat", about, (Segment(gpa, 0, source.size, source.size),), entry=gpa)


def _foreign(source: Source, what: str, arch: str) -> PlanError:
    return PlanError(
        f"{source.name}: {what}, and the board runs {_WORDS[arch]}",
        code="E112",
        key=source.key,
        remedy=f"name a kernel for {_WORDS[arch]}, or a board of the kernel's architecture",
    )


def _no_kernel(source: Source, arch: str, what: str) -> PlanError:
    return PlanError(
        f"{source.name}: {what}, and no {_WORDS[arch]} kernel", code="E110", key=source.key, remedy=_FORMS[arch]
    )
