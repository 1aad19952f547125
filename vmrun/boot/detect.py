"""Which kernel format a file has: one table of magics, the known formats and what is often given by mistake."""

from __future__ import annotations

from vmrun.boot import arm64_image, bzimage, elf, packed, riscv_image, vmlinux
from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source, truncated
from vmrun.boot.x86_kernel import X86Kernel
from vmrun.errors import PlanError
from vmrun.units import format_size

HEAD_SIZE = 4096
_FAR_SIZE = 72 << 10
"""Bytes that are read of a file that is no kernel, to say what it is: btrfs says so at 64 KiB."""
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
    (0, b"070702", "a cpio archive, such as an initramfs"),
    (0, b"070707", "a cpio archive, such as an initramfs"),
    (0, b"\xc7\x71", "a cpio archive, such as an initramfs"),
    (0, b"LZIP", "lzip-compressed data"),
    (0, b"\x1f\x9d", "data packed by compress"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a rar archive"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "a zip archive"),
    (0, b"\xed\xab\xee\xdb", "an rpm package"),
    (0x101, b"ustar", "a tar archive"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"KDMV", "a vmdk disk image"),
    (0, b"vhdxfile", "a vhdx disk image"),
    (0, b"conectix", "a vhd disk image"),
    (0x40, b"\x7f\x10\xda\xbe", "a vdi disk image"),
    (0, b"LUKS\xba\xbe", "an encrypted volume (LUKS)"),
    (0, b"ANDROID!", "an Android boot image"),
    (0, b"hsqs", "a squashfs image"),
    (0, b"sqsh", "a squashfs image"),
    (0, b"XFSB", "an xfs file system"),
    (0, b"\x45\x3d\xcd\x28", "a cramfs image"),
    (0, b"\x85\x19", "a jffs2 image"),
    (0, b"UBI#", "a UBI image"),
    (0x400, b"\xe2\xe1\xf5\xe0", "an erofs image"),
    (0x400, b"\x10\x20\xf5\xf2", "an f2fs file system"),
    (0x8001, b"CD001", "an ISO 9660 image"),
    (0x1_0040, b"_BHRfS_M", "a btrfs file system"),
    (0x200, b"EFI PART", "a disk image with a partition table (GPT)"),
    (0, b"#!", "a script"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O program or a Java class"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\xd0\x0d\xfe\xed", "a devicetree blob or FIT image"),
    (0, b"\x27\x05\x19\x56", "a U-Boot legacy image (uImage)"),
    (0x438, b"\x53\xef", "an ext2/3/4 file system"),
    (0x1FE, b"\x55\xaa", "a disk or boot sector image"),
)
_NEVER_FLAT = (
    (elf.MAGIC, "an ELF"),
    *((magic, f"packed by {method}") for magic, method in packed.MAGICS),
    *((magic, what) for offset, magic, what in _NO_KERNELS if offset == 0 and len(magic) > 2),
)
"""What is refused though the manifest says that it is a flat image: no program happens to begin so."""
_FORMS = {
    "riscv64": "name an Image, plain or compressed, an EFI zboot or an ELF kernel",
    "aarch64": "name an Image, plain or compressed, or an EFI zboot kernel",
    "x86_64": "name a bzImage (vmlinuz) or a vmlinux",
}
_WORDS = {"riscv64": "riscv64", "aarch64": "arm64", "x86_64": "x86_64"}
"""Architectures as kernels' own trees and packages call them."""
_IMAGE_HEADER = 64
"""Bytes of the header of an Image, on riscv64 and on arm64."""
_TEXT = frozenset(range(0x20, 0x7F)) | {9, 10, 13, 0x1B}


def detect(source: Source, arch: str, ram_base: int, granules: tuple[int, ...] = (), *, flat: bool = False) -> Kernel:
    """Return the kernel for ``arch`` (riscv64, aarch64) in ``source``, placed in RAM from ``ram_base`` (bytes) on.

    ``flat`` says that it is a flat riscv64 image, as U-Boot's, of which nothing in the file tells: copied to
    ``ram_base`` + 2 MiB and entered there. ``granules`` are the sizes of an arm64 host's pages. Compressed kernels are
    refused here: `packed` unpacks them first. Raise PlanError: E110 no kernel, E112 another architecture, and what the
    formats' own raise.
    """
    head = source.read(0, HEAD_SIZE)
    if flat:
        return _flat(source, head, ram_base)
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
    _refuse_no_kernel(source, arch)
    if arch == "riscv64":
        _refuse_no_program(source, head)
    raise _unknown(source, arch)


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
        _refuse_no_kernel(source, "x86_64")
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


def _refuse_no_kernel(source: Source, arch: str) -> None:
    head = source.read(0, _FAR_SIZE)
    for offset, magic, what in _NO_KERNELS:
        if head[offset : offset + len(magic)] == magic:
            raise _no_kernel(source, arch, f"is {what}")
    how = packed.recognise(source)
    if how is not None:
        raise _no_kernel(source, arch, f"holds {how.method}-compressed data inside a compressed kernel")


def _refuse_no_program(source: Source, head: bytes) -> None:
    # Unprivileged ISA 1.5: a parcel of all zeros or all ones is an illegal instruction, so no program starts with one.
    if head[:2] in (b"\0\0", b"\xff\xff") or len(head) < 4:
        raise _no_kernel(source, "riscv64", "starts with no RISC-V instruction")
    if _TEXT.issuperset(head):
        raise _no_kernel(source, "riscv64", "is a text file")


def _flat(source: Source, head: bytes, ram_base: int) -> Kernel:
    for magic, what in _NEVER_FLAT:
        if head.startswith(magic):
            raise _no_kernel(source, "riscv64", f"is {what}, and no flat image")
    if riscv_image.is_image(head):
        raise _no_kernel(source, "riscv64", "is an Image with a header", 'leave out protocol = "flat"')
    _refuse_no_program(source, head)
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


def _no_kernel(source: Source, arch: str, what: str, remedy: str | None = None) -> PlanError:
    return PlanError(
        f"{source.name}: {what}, and no {_WORDS[arch]} kernel",
        code="E110",
        key=source.key,
        remedy=remedy or _FORMS[arch],
    )


def _unknown(source: Source, arch: str) -> PlanError:
    flat = '; write protocol = "flat" in [boot] for a flat image, such as u-boot.bin' if arch == "riscv64" else ""
    return _no_kernel(source, arch, "is of no known format", _FORMS[arch] + flat)
