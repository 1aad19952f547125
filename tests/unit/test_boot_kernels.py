"""Kernel image formats: what is recognised, what is refused and in which words, and where things are placed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from patience import patience
from vmrun.boot import packed
from vmrun.boot.detect import detect
from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.place import FDT_ROOM, place
from vmrun.boot.source import Source
from vmrun.errors import PlanError

BASE = 0x8000_0000
MIB = 1 << 20
UBOOT = Path("/usr/lib/u-boot/qemu-riscv64_smode")


def image(
    *,
    size: int = 8192,
    image_size: int = 1 << 20,
    text_offset: int = 2 * MIB,
    flags: int = 0,
    version: int = 2,
    pe: bool = False,
) -> bytes:
    head = bytearray(size)
    code0 = int.from_bytes(b"MZ\x6f\x10", "little") if pe else 0x0000106F
    magics = int.from_bytes(b"RISCV\0\0\0", "little"), int.from_bytes(b"RSC\x05", "little")
    fields = (code0, 0, text_offset, image_size, flags, version, 0, 0, *magics, 64 if pe else 0)
    struct.pack_into("<IIQQQIIQQII", head, 0, *fields)
    if pe:
        struct.pack_into("<4sHHIIIHH", head, 64, b"PE\0\0", 0x5064, 1, 0, 0, 0, 16, 0)
        struct.pack_into("<II", head, 64 + 24 + 16 + 16, size - 4096, 4096)
    return bytes(head)


def elf(
    segments: list[tuple[int, int, bytes, int]],
    *,
    entry: int,
    machine: int = 243,
    bits: int = 2,
    order: int = 1,
    kind: int = 2,
) -> bytes:
    ident = struct.pack("<4sBBBB8x", b"\x7fELF", bits, order, 1, 0)
    head = ident + struct.pack("<HHIQQQIHHHHHH", kind, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 64, 0, 0)
    at = 64 + 56 * len(segments)
    table, body = b"", b""
    for physical, virtual, data, memory in segments:
        table += struct.pack("<IIQQQQQQ", 1, 7, at + len(body), virtual, physical, len(data), memory, 4096)
        body += data
    return head + table + body


def detected(data: bytes, tmp_path: Path) -> Kernel:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    with Source(path, key=("boot", "kernel")) as source:
        return detect(source, "riscv64", BASE)


def refusal(data: bytes, tmp_path: Path) -> PlanError:
    with pytest.raises(PlanError) as caught:
        detected(data, tmp_path)
    assert caught.value.key == ("boot", "kernel")
    assert caught.value.remedy
    return caught.value


def test_an_image_goes_to_its_offset_with_room_for_its_bss(tmp_path: Path) -> None:
    kernel = detected(image(), tmp_path)
    assert kernel.format == "image"
    assert kernel.segments == (Segment(BASE + 2 * MIB, 0, 8192, 1 << 20),)
    assert kernel.entry == BASE + 2 * MIB


def test_an_image_larger_than_it_says_keeps_all_its_bytes(tmp_path: Path) -> None:
    (segment,) = detected(image(size=3 * 4096, image_size=4096), tmp_path).segments
    assert segment.reserve == segment.size == 3 * 4096


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (image(flags=1), "E113", "big-endian"),
        (image(version=1 << 16), "E117", "1.0"),
        (image(image_size=0), "E117", "image_size"),
        (image(image_size=1 << 60), "E117", "image_size"),
        (image(text_offset=4096), "E117", "text_offset"),
        (image(size=12288, pe=True)[:8192], "E111", "8192 of at least 12288"),
        (image(pe=True)[:70], "E111", "truncated"),
        (image(pe=True)[:40], "E111", "truncated"),
        (b"\0" * 0x202 + b"HdrS" + b"\0" * 100, "E112", "x86 bzImage"),
        (b"\0" * 56 + b"ARM\x64" + b"\0" * 100, "E112", "arm64 Image"),
        (b"MZ" + b"\0" * 54 + b"ARM\x64" + b"\0" * 100, "E112", "arm64 Image"),
        (b"MZ" + b"\x90" * 200, "E112", "EFI"),
        (elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE, machine=62), "E112", "x86_64"),
        (elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE, bits=1), "E112", "32-bit"),
        (elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE, kind=1), "E117", ".o"),
        (elf([], entry=BASE), "E117", "0 program headers"),
        (elf([(BASE, BASE, b"x" * 8, 4)], entry=BASE), "E117", "8 bytes in 4"),
        (elf([(BASE, BASE, b"x" * 8, 8), (BASE + 4, BASE + 4, b"y", 1)], entry=BASE), "E117", "overlap"),
        (elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE + 100), "E117", "outside"),
        (elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE)[:-1], "E111", "truncated"),
        (elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE)[:80], "E111", "truncated"),
        (b"\x7fELF", "E111", "truncated"),
        (b"!<arch>\ndebian-binary", "E110", ".deb"),
        (b"070701" + b"0" * 100, "E110", "cpio"),
        (b"manifest = 1\nname = 'x'\n", "E110", "text"),
        (b"\0" * 4096, "E110", "no RISC-V instruction"),
        (b"\x13", "E110", "no RISC-V instruction"),
    ],
)
def test_what_is_no_riscv64_kernel_is_named(data: bytes, code: str, words: str, tmp_path: Path) -> None:
    error = refusal(data, tmp_path)
    assert (error.code, words in error.message) == (code, True), str(error)


def test_a_big_endian_elf_is_named(tmp_path: Path) -> None:
    data = bytearray(elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE))
    data[5] = 2
    data[18:20] = (243).to_bytes(2, "big")
    assert refusal(bytes(data), tmp_path).code == "E113"


def test_an_elf_is_placed_by_its_physical_addresses(tmp_path: Path) -> None:
    virtual = 0xFFFF_FFFF_8000_0000
    data = elf(
        [(BASE + 4 * MIB, virtual, b"a" * 16, 64), (BASE + 5 * MIB, virtual + MIB, b"b", 4096)], entry=virtual + MIB
    )
    kernel = detected(data, tmp_path)
    assert [(s.gpa, s.size, s.reserve) for s in kernel.segments] == [
        (BASE + 4 * MIB, 16, 64),
        (BASE + 5 * MIB, 1, 4096),
    ]
    assert kernel.entry == BASE + 5 * MIB


def test_an_elf_linked_at_zero_goes_where_an_image_goes(tmp_path: Path) -> None:
    kernel = detected(elf([(0, 0xFFFF_FFFF_8000_0000, b"a" * 16, 64)], entry=0xFFFF_FFFF_8000_0002), tmp_path)
    assert kernel.segments[0].gpa == BASE + 2 * MIB
    assert kernel.entry == BASE + 2 * MIB + 2


@pytest.mark.skipif(not UBOOT.is_dir(), reason="needs u-boot-qemu")
def test_u_boot_is_a_flat_image_and_an_elf_at_the_same_place(tmp_path: Path) -> None:
    with Source(UBOOT / "u-boot.bin") as flat, Source(UBOOT / "uboot.elf") as linked:
        one, other = detect(flat, "riscv64", BASE, flat=True), detect(linked, "riscv64", BASE)
    assert (one.format, other.format) == ("flat", "elf")
    assert one.entry == other.entry == BASE + 2 * MIB


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(min_size=1, max_size=300),
    head=st.sampled_from([b"", image()[:200], image(pe=True)[:200], elf([(0, 0, b"x", 1)], entry=0)]),
    at=st.integers(0, 199),
)
def test_garbage_is_a_kernel_or_a_plan_error(noise: bytes, head: bytes, at: int, tmp_path: Path) -> None:
    data = head[:at] + noise + head[at + len(noise) :]
    try:
        kernel = detected(data, tmp_path)
        assert all(s.size <= s.reserve and s.offset + s.size <= len(data) for s in kernel.segments)
    except PlanError as error:
        assert "\n" not in str(error)


def unpacked(data: bytes, tmp_path: Path) -> bytes:
    path = tmp_path / "packed"
    path.write_bytes(data)
    out = io.BytesIO()
    with Source(path, key=("boot", "kernel")) as source:
        how = packed.recognise(source)
        assert how is not None
        assert packed.unpack(source, how, out) == len(out.getvalue())
    return out.getvalue()


def zboot(payload: bytes, method: bytes) -> bytes:
    return struct.pack("<2s2x4sII8x32s", b"MZ", b"zimg", 4096, len(payload), method).ljust(4096, b"\0") + payload


LARGE = image(size=3 * MIB, pe=True) + os.urandom(2 * MIB)


@pytest.mark.parametrize(
    "data",
    [gzip.compress(LARGE), zboot(gzip.compress(LARGE), b"gzip"), zboot(lzma.compress(LARGE), b"xzkern"),
     zboot(lzma.compress(LARGE, format=lzma.FORMAT_ALONE), b"lzma")],
    ids=["gzip", "zboot-gzip", "zboot-xz", "zboot-lzma"],
)  # fmt: skip
def test_compressed_kernels_unpack(data: bytes, tmp_path: Path) -> None:
    assert unpacked(data, tmp_path) == LARGE


@pytest.mark.parametrize(
    "data", [bz2.compress(LARGE), lzma.compress(LARGE), lzma.compress(LARGE, format=lzma.FORMAT_ALONE)],
    ids=["bzip2", "xz", "lzma"],
)  # fmt: skip
def test_images_unpack_as_the_kernels_build_packs_them(data: bytes, tmp_path: Path) -> None:
    assert unpacked(data, tmp_path) == LARGE


@pytest.mark.parametrize(("tool", "options"), [("zstd", ()), ("lz4", ("-l",)), ("lz4", ()), ("xz", ("--format=lzma",))])
def test_images_unpack_by_a_tool(tool: str, options: tuple[str, ...], tmp_path: Path) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    data = subprocess.run(
        [tool, "-c", *options], input=LARGE, capture_output=True, check=True, timeout=patience(60)
    ).stdout
    assert unpacked(data, tmp_path) == LARGE


def test_lzo_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="lzo") as caught:
        unpacked(b"\x89LZO\0\r\n\x1a\n" + bytes(100), tmp_path)
    assert caught.value.code == "E118"


def test_an_lzma_archive_with_a_boundless_dictionary_is_refused(tmp_path: Path) -> None:
    data = bytearray(lzma.compress(LARGE, format=lzma.FORMAT_ALONE))
    data[1:5] = (3 << 30).to_bytes(4, "little")
    with pytest.raises(PlanError) as caught:
        unpacked(bytes(data), tmp_path)
    assert caught.value.code == "E118"


NO_KERNELS = [
    (b"#!/bin/sh\nexit 0\n", "script"),
    (b"070701" + b"0" * 200, "cpio"),
    (b"PK\3\4" + bytes(200), "zip"),
    (bytes(0x101) + b"ustar\x0000" + bytes(300), "tar"),
    (b"!<arch>\ndebian-binary", ".deb"),
    (b"QFI\xfb" + bytes(600), "qcow2"),
    (b"hsqs" + bytes(600), "squashfs"),
    (bytes(0x438) + b"\x53\xef" + bytes(600), "ext2/3/4"),
    (bytes(0x1_0040) + b"_BHRfS_M" + bytes(600), "btrfs"),
    (bytes(0x8001) + b"CD001" + bytes(600), "ISO 9660"),
    (b"\xd0\x0d\xfe\xed" + bytes(600), "devicetree"),
]


@pytest.mark.parametrize(("data", "words"), NO_KERNELS, ids=[words for _, words in NO_KERNELS])
def test_what_is_often_given_by_mistake_is_named(data: bytes, words: str, tmp_path: Path) -> None:
    for inside in (data, unpacked(gzip.compress(data), tmp_path)):
        error = refusal(inside, tmp_path)
        assert (error.code, words in error.message) == ("E110", True), str(error)


def test_a_flat_image_is_asked_for(tmp_path: Path) -> None:
    program = bytes.fromhex("6f000000") + bytes(range(256))  # j 0, and no header
    error = refusal(program, tmp_path)
    assert error.code == "E110" and 'protocol = "flat"' in (error.remedy or "")
    path = tmp_path / "flat"
    for data, words in ((program, None), (b"\x7fELF" + program, "an ELF"), (gzip.compress(program), "gzip"),
                        (image(), "header"), (bytes(64), "instruction"), (b"#" * 64, "text")):  # fmt: skip
        path.write_bytes(data)
        with Source(path, key=("boot", "kernel")) as source:
            if words is None:
                kernel = detect(source, "riscv64", BASE, flat=True)
                assert (kernel.format, kernel.entry) == ("flat", BASE + 2 * MIB)
                continue
            with pytest.raises(PlanError, match=words) as caught:
                detect(source, "riscv64", BASE, flat=True)
            assert caught.value.code == "E110"


@pytest.mark.parametrize(("name", "options"), [("zstd22", ("-c",)), ("zstd", ("-c",)), ("lz4", ("-c", "-l"))])
def test_zboot_kernels_unpack_by_a_tool(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    """As scripts/Makefile.lib packs them: the kernel's size follows the payload, and is no part of it."""
    tool = name.removesuffix("22")
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")
    payload = subprocess.run(
        [tool, *options], input=LARGE, capture_output=True, check=True, timeout=patience(60)
    ).stdout
    data = zboot(payload, name.encode()) + len(LARGE).to_bytes(4, "little")
    assert unpacked(data, tmp_path) == LARGE


@pytest.mark.parametrize(
    "data",
    [gzip.compress(LARGE)[:-9], gzip.compress(LARGE)[:2000] + b"\xff" * 3000, zboot(b"\x1f\x8b\x08rest", b"gzip"),
     zboot(lzma.compress(LARGE)[:-100], b"xz"), zboot(b"", b"gzip"), zboot(b"x" * 9, b"zstd"),
     zboot(b"x" * 99, b"lzo"),
     zboot(b"x" * 99, b"gzip")[:4100]],
    ids=["short", "damaged", "stub", "short-xz", "empty", "zstd", "unknown", "cut"],
)  # fmt: skip
def test_damaged_archives_are_plan_errors(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as caught:
        unpacked(data, tmp_path)
    assert caught.value.code == "E118"


def test_an_archive_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_UNPACKED", 1 << 20)
    with pytest.raises(PlanError, match="more than 1MiB"):
        unpacked(gzip.compress(bytes(4 << 20)), tmp_path)


def test_a_gzip_of_no_kernel_is_no_kernel(tmp_path: Path) -> None:
    assert "compressed kernel" in refusal(gzip.compress(b"x"), tmp_path).message


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "fifo"])
def test_a_file_that_cannot_be_a_kernel(what: str, tmp_path: Path) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    if what == "empty":
        path.touch()
    if what == "fifo":
        os.mkfifo(path)
    with pytest.raises(PlanError) as caught:
        Source(path)
    assert caught.value.code == "E110"


def test_a_source_may_be_a_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(image())
    fd = os.open(path, os.O_RDONLY)
    with Source(fd) as source:
        assert detect(source, "riscv64", BASE).format == "image"
    os.close(fd)  # still ours


@pytest.mark.skipif(shutil.which("readelf") is None, reason="needs readelf (binutils)")
def test_the_test_elf_is_an_elf_for_readelf_too(tmp_path: Path) -> None:
    path = tmp_path / "elf"
    path.write_bytes(elf([(BASE, BASE, b"x" * 8, 8)], entry=BASE))
    done = subprocess.run(["readelf", "-l", path], capture_output=True, text=True, timeout=patience(20))
    assert (
        "RISC-V"
        in done.stdout
        + subprocess.run(["readelf", "-h", path], capture_output=True, text=True, timeout=patience(20)).stdout
    )


# Placement.

KERNEL = Kernel("image", "", (Segment(BASE + 2 * MIB, 0, 16 * MIB, 32 * MIB),), BASE + 2 * MIB)


def test_the_devicetree_lies_at_the_top_and_the_initrd_below_it() -> None:
    placed = place(KERNEL, 5_000_001, 7000, BASE, 256 * MIB, BASE + 1024 * MIB)
    assert placed.fdt + placed.fdt_reserve == BASE + 256 * MIB
    assert placed.fdt_reserve == FDT_ROOM
    assert placed.initrd % 4096 == 0
    assert placed.fdt - 5_000_001 - 4096 < placed.initrd <= placed.fdt - 5_000_001


def test_low_ram_bounds_the_placement() -> None:
    placed = place(KERNEL, 4096, 4096, BASE, 4096 * MIB, BASE + 1024 * MIB)
    assert placed.fdt + placed.fdt_reserve <= BASE + 1024 * MIB


@given(st.integers(0, 300 * MIB), st.integers(1, 2 * MIB), st.integers(1, 512).map(lambda n: n * MIB))
def test_nothing_overlaps_or_leaves_ram(initrd: int, fdt: int, ram: int) -> None:
    try:
        placed = place(KERNEL, initrd, fdt, BASE, ram, BASE + 1024 * MIB)
    except PlanError as error:
        assert error.code in ("E114", "E115", "E116")
        assert error.remedy is not None and "memory.size" in error.remedy
        return
    kernel_end = BASE + 34 * MIB
    pieces = [(kernel_end, kernel_end), (placed.fdt, placed.fdt + max(fdt, FDT_ROOM))]
    if initrd:
        pieces.append((placed.initrd, placed.initrd + initrd))
    pieces.sort()
    assert all(a[1] <= b[0] for a, b in pairwise(pieces))
    assert pieces[-1][1] <= BASE + ram


@given(st.integers(1, 100 * MIB), st.integers(1, 40).map(lambda n: n * MIB))
def test_the_remedy_of_a_refusal_is_enough(initrd: int, ram: int) -> None:
    try:
        place(KERNEL, initrd, 9000, BASE, ram, BASE + 1024 * MIB)
    except PlanError as error:
        from vmrun.units import parse_size

        assert error.remedy is not None
        place(KERNEL, initrd, 9000, BASE, parse_size(error.remedy.split()[-1]), BASE + 1024 * MIB)
