"""x86 kernels: what is recognised, what is refused and in which words, where things are placed, what is unpacked."""

from __future__ import annotations

import gzip
import io
import lzma
import shutil
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from x86_kit import MIB, bzimage, vmlinux

from patience import patience
from vmrun.boot import boot_params, packed
from vmrun.boot import bzimage as formats
from vmrun.boot.detect import detect, detect_x86
from vmrun.boot.kernel import Segment
from vmrun.boot.source import Source
from vmrun.boot.x86_kernel import X86Kernel
from vmrun.boot.x86_memory import e820, place_initrd
from vmrun.errors import PlanError
from vmrun.images.store import Store
from vmrun.plan.files import BootFile
from vmrun.planning.steps import unpacked
from vmrun.units import parse_size

KERNEL = vmlinux()


def detected(data: bytes, folder: Path, protocol: str = "auto") -> X86Kernel:
    path = folder / "kernel"
    path.write_bytes(data)
    with Source(path, key=("boot", "kernel")) as source:
        return detect_x86(source, protocol)


def refusal(data: bytes, folder: Path, protocol: str = "auto") -> PlanError:
    with pytest.raises(PlanError) as caught:
        detected(data, folder, protocol)
    assert caught.value.key in (("boot", "kernel"), ("boot", "protocol"))
    assert caught.value.remedy and "\n" not in str(caught.value)
    return caught.value


# ---- bzImage ---------------------------------------------------------------------------------------------------------


def test_a_bzimage_goes_where_its_header_wants_it(tmp_path: Path) -> None:
    kernel = detected(bzimage(pref_address=32 * MIB, init_size=5 * MIB, cmdline_size=4095), tmp_path)
    assert kernel.segments == (Segment(32 * MIB, 1024, 0x300, 5 * MIB),)
    assert (kernel.protocol, kernel.entry, kernel.cmdline_max) == ("bzimage", 32 * MIB + 0x200, 4095)
    assert kernel.initrd_max == 0x7FFF_FFFF and "protocol 2.15" in kernel.about
    assert kernel.header[0x202 - 0x1F1 :][:4] == b"HdrS" and len(kernel.header) == 0x202 + 0x6A - 0x1F1


def test_no_setup_sectors_are_four(tmp_path: Path) -> None:
    assert detected(bzimage(setup_sects=0), tmp_path).segments[0].offset == 5 * 512


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"boot_flag": 0}, "E117", "boot flag"),
        ({"version": 0x20B}, "E119", "boot protocol 2.11"),
        ({"version": 0x200}, "E119", "2.00"),
        ({"loadflags": 0}, "E119", "zImage"),
        ({"xloadflags": 0x7E}, "E112", "32-bit"),
        ({"jump": 0x61}, "E117", "ends at"),
        ({"jump": 0x8F}, "E117", "ends at"),
        ({"setup_sects": 40}, None, ""),
        ({"size": 1000}, "E111", "truncated"),
        ({"size": 0x263}, "E111", "truncated"),
        ({"syssize": 0}, "E117", "bytes of code"),
        ({"syssize": 0xFFFF_FFFF}, "E111", "truncated"),
        ({"payload_offset": 0x2F0, "payload_length": 0x100}, "E117", "payload"),
        ({"payload_offset": 0xFFFF_FFFF, "payload_length": 1}, "E117", "payload"),
        ({"payload_length": 0xFFFF_FFFF}, "E117", "payload"),
        ({"alignment": 0}, "E117", "alignment"),
        ({"alignment": 3 * MIB}, "E117", "power of two"),
        ({"pref_address": 0}, "E117", "prefers"),
        ({"pref_address": 1 << 32}, "E117", "prefers"),
        ({"pref_address": 17 * MIB}, "E117", "prefers"),
        ({"pref_address": 17 * MIB, "relocatable": 0}, None, ""),
        ({"init_size": 0x2FF}, "E117", "to start"),
        ({"cmdline_size": 0}, "E117", "command line"),
        ({"cmdline_size": 0xFFFF_FFFF}, "E117", "command line"),
    ],
)
def test_a_header_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, int], code: str | None, words: str
) -> None:
    if code is None:
        assert detected(bzimage(**change), tmp_path).protocol == "bzimage"
        return
    error = refusal(bzimage(**change), tmp_path)
    assert error.code == code and words in error.message, str(error)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0x1F1, 0x27F), st.integers(0, 255)), max_size=12),
    cut=st.integers(0, 2048),
)
def test_no_header_gets_past_its_file(tmp_path: Path, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(bzimage(payload=b"\x1f\x8b\x08" + bytes(200)))
    for at, value in changes:
        data[at] = value
    data = data[: max(len(data) - cut, 1)]
    try:
        kernel = detected(bytes(data), tmp_path)
    except PlanError as error:
        assert error.key == ("boot", "kernel") and error.code in ("E110", "E111", "E112", "E117", "E119")
        return
    (segment,) = kernel.segments
    assert segment.offset + segment.size <= len(data) and segment.size <= segment.reserve
    assert segment.gpa <= kernel.entry < segment.gpa + segment.size and segment.gpa >= MIB
    assert len(boot_params.zero_page(boot_params.Handover(1, 1, None, 0, ()), kernel.header)) <= 4096
    with Source(tmp_path / "kernel") as source:
        try:
            payload = formats.payload(source)
        except PlanError as error:
            assert error.code == "E118"
        else:
            assert segment.offset <= payload.offset and payload.offset + payload.size <= segment.offset + segment.size


# ---- vmlinux ---------------------------------------------------------------------------------------------------------


def test_a_vmlinux_is_entered_in_64_or_32_bits(tmp_path: Path) -> None:
    data = vmlinux(segments=((16 * MIB, 4096, MIB), (20 * MIB, 100, 300)))
    long, pvh = detected(data, tmp_path), detected(data, tmp_path, "pvh")
    assert [(s.gpa, s.size, s.reserve) for s in long.segments] == [(16 * MIB, 4096, MIB), (20 * MIB, 100, 300)]
    assert (long.protocol, long.entry) == ("elf", 16 * MIB + 0x10)
    assert (pvh.protocol, pvh.entry, pvh.segments) == ("pvh", 16 * MIB + 0x20, long.segments)
    assert detected(vmlinux(note=struct.pack("<I", 16 * MIB)), tmp_path, "pvh").entry == 16 * MIB


@pytest.mark.parametrize(
    ("change", "protocol", "code", "words"),
    [
        ({"machine": 243}, "auto", "E112", "riscv64"),
        ({"machine": 183}, "auto", "E112", "arm64"),
        ({"bits": 1}, "auto", "E112", "32-bit x86_64"),
        ({"entry": 15 * MIB}, "auto", "E117", "outside"),
        ({"entry": 16 * MIB + 8192}, "auto", "E117", "outside"),
        ({"note": None}, "pvh", "E119", "no PVH entry"),
        ({"note": b"\1\2\3"}, "pvh", "E119", "no PVH entry"),
        ({"note": struct.pack("<Q", 1 << 40)}, "pvh", "E117", "outside"),
        ({"segments": ((16 * MIB, 4096, MIB), (16 * MIB + 4096, 16, 16))}, "auto", "E117", "overlap"),
        ({"segments": ((16 * MIB, 4096, 1),)}, "auto", "E117", "bytes in"),
        ({"segments": ((1 << 60, 4096, MIB),)}, "auto", "E117", "bytes in"),
        ({"segments": ()}, "auto", "E117", "nothing to load"),
        ({}, "bzimage", "E119", "a vmlinux"),
    ],
)
def test_a_vmlinux_that_cannot_be_is_refused(
    tmp_path: Path, change: dict[str, object], protocol: str, code: str, words: str
) -> None:
    error = refusal(vmlinux(**change), tmp_path, protocol)  # type: ignore[arg-type]
    assert error.code == code and words in error.message, str(error)


def test_overlapping_segments_name_both(tmp_path: Path) -> None:
    error = refusal(vmlinux(segments=((16 * MIB, 4096, MIB), (16 * MIB + 4096, 16, 16))), tmp_path)
    assert [owner.base for owner in error.owners] == [16 * MIB, 16 * MIB + 4096]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(4, 64 + 56 * 2 - 1), st.integers(0, 255)), max_size=8),
    cut=st.integers(0, 4200),
    protocol=st.sampled_from(["elf", "pvh"]),
)
def test_no_elf_gets_past_its_file(tmp_path: Path, changes: list[tuple[int, int]], cut: int, protocol: str) -> None:
    data = bytearray(KERNEL)
    for at, value in changes:
        data[at] = value
    data = data[: len(data) - cut]
    try:
        kernel = detected(bytes(data), tmp_path, protocol)
    except PlanError as error:
        assert error.key == ("boot", "kernel")
        return
    for segment in kernel.segments:
        assert segment.offset + segment.size <= len(data) and segment.size <= segment.reserve
    assert any(s.gpa <= kernel.entry < s.gpa + s.size for s in kernel.segments)


# ---- other files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (bytes(0x38) + b"RSC\x05" + bytes(100), "E112", "a riscv64 Image"),
        (bytes(0x38) + b"ARM\x64" + bytes(100), "E112", "an arm64 Image"),
        (b"hsqs" + bytes(100), "E110", "squashfs"),
        (b"\xfd7zXZ\0" + bytes(100), "E110", "xz-compressed"),
        (b"#!/bin/sh\n", "E110", "script"),
        (b"\x01\x02\x03" * 9, "E110", "neither"),
        (b"\x7fELF", "E111", "truncated"),
    ],
)
def test_other_files_are_named(tmp_path: Path, data: bytes, code: str, words: str) -> None:
    error = refusal(data, tmp_path)
    assert error.code == code and words in error.message, str(error)
    assert "riscv64" not in (error.remedy or "")


def test_x86_kernels_are_none_of_riscvs(tmp_path: Path) -> None:
    for data in (bzimage(), vmlinux()):
        (tmp_path / "kernel").write_bytes(data)
        with Source(tmp_path / "kernel", key=("boot", "kernel")) as source, pytest.raises(PlanError, match="E112"):
            detect(source, "riscv64", 0x8000_0000)


# ---- memory ----------------------------------------------------------------------------------------------------------


def kernel_at(gpa: int, reserve: int, initrd_max: int = 0x7FFF_FFFF) -> X86Kernel:
    return X86Kernel("elf", "", (Segment(gpa, 0, 16, reserve),), gpa, b"", initrd_max, 2047)


def test_the_initrd_lies_as_high_as_it_may() -> None:
    kernel = kernel_at(16 * MIB, 48 * MIB)
    assert place_initrd(kernel, 0, 256 * MIB) == 0
    assert place_initrd(kernel, 5000, 256 * MIB) == 256 * MIB - 8192
    assert place_initrd(kernel, 4096, 3 << 30) == 0x7FFF_F000
    assert place_initrd(kernel_at(16 * MIB, MIB, 0x37FF_FFFF), MIB, 3 << 30) == 0x3800_0000 - MIB


@pytest.mark.parametrize(
    ("kernel", "size", "ram", "code", "words"),
    [
        (kernel_at(16 * MIB, 48 * MIB), 0, 63 * MIB, "E114", "0x1000000"),
        (kernel_at(0x9_0000, MIB), 0, 64 * MIB, "E114", "0x90000"),
        (kernel_at(16 * MIB, 48 * MIB), 64 * MIB + 1, 128 * MIB, "E115", "end of RAM"),
        (kernel_at(16 * MIB, MIB, 0xFF_FFFF), MIB, 1 << 30, "E115", "initrd_addr_max"),
        (kernel_at(16 * MIB, MIB), 3 << 30, 3 << 30, "E115", "initrd_addr_max"),
    ],
)
def test_what_does_not_fit_is_named(kernel: X86Kernel, size: int, ram: int, code: str, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        place_initrd(kernel, size, ram)
    error = caught.value
    assert error.code == code and words in str(error) and error.remedy
    assert error.key == (("boot", "kernel") if code == "E114" else ("boot", "initrd"))


@given(initrd=st.integers(1, 64 * MIB), ram=st.integers(2, 64), reserve=st.integers(16, 48 * MIB))
def test_the_remedy_of_a_refusal_is_enough(initrd: int, ram: int, reserve: int) -> None:
    kernel = kernel_at(16 * MIB, reserve)
    try:
        place_initrd(kernel, initrd, ram * MIB)
    except PlanError as error:
        assert error.remedy is not None and "memory.size" in error.remedy
        place_initrd(kernel, initrd, parse_size(error.remedy.split()[-1]))


@given(low=st.integers(1, 768), high=st.integers(0, 4096))
def test_the_memory_map_is_sorted_and_disjoint(low: int, high: int) -> None:
    ram = ((0, low * 4 * MIB), *(((4 << 30, high * MIB),) if high else ()))
    entries = e820(ram)
    assert all(one[0] + one[1] <= other[0] for one, other in pairwise(entries))
    usable = sum(size for _, size, kind in entries if kind == 1)
    assert sum(size for _, size in ram) - usable == MIB - 0x9_FC00


def test_too_many_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match="129 ranges"):
        boot_params.zero_page(boot_params.Handover(1, 1, None, 0, ((0, 1, 1),) * 129), b"")


# ---- the kernel inside -----------------------------------------------------------------------------------------------


def pack(method: str) -> bytes:
    if method == "gzip":
        return gzip.compress(KERNEL)
    if method == "xz":
        return lzma.compress(KERNEL) + struct.pack("<I", len(KERNEL))
    if method == "lzma":
        return lzma.compress(KERNEL, lzma.FORMAT_ALONE) + struct.pack("<I", len(KERNEL))
    if shutil.which(method) is None:
        pytest.skip(f"needs {method} (package {method})")
    options = ["-l"] if method == "lz4" else []
    done = subprocess.run(
        [method, "-c", *options, "-"], input=KERNEL, capture_output=True, check=True, timeout=patience(60)
    )
    return done.stdout + struct.pack("<I", len(KERNEL))


def file_of(data: bytes, folder: Path) -> BootFile:
    (folder / "image").write_bytes(data)
    return BootFile(str(folder / "image"), len(data), "5" * 64, "a test")


@pytest.mark.parametrize("method", ["gzip", "xz", "lzma", "zstd", "lz4"])
def test_the_kernel_inside_is_unpacked_once(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = file_of(bzimage(payload=pack(method)), tmp_path)
    store = Store(tmp_path / "cache")
    found = unpacked(image, store, "auto")
    assert Path(found.path).read_bytes() == KERNEL and found.size == len(KERNEL) and found.origin == "a test"
    monkeypatch.setattr(packed, "unpack", None)
    assert unpacked(image, store, "elf") == found, "it is in the store"
    assert unpacked(image, store, "bzimage") == image


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"", "an unknown method"),
        (b"\x89LZO" + bytes(50), "lzo"),
        (b"BZh9" + bytes(50), "bzip2"),
    ],
)
def test_a_kernel_that_cannot_be_unpacked_unpacks_itself(tmp_path: Path, payload: bytes, words: str) -> None:
    image = file_of(bzimage(payload=payload), tmp_path)
    store = Store(tmp_path / "cache")
    assert unpacked(image, store, "auto") == image
    with pytest.raises(PlanError) as caught:
        unpacked(image, store, "pvh")
    assert caught.value.code == "E118" and words in caught.value.message and "bzimage" in (caught.value.remedy or "")


@pytest.mark.parametrize("method", ["gzip", "xz", "zstd", "lz4"])
def test_a_damaged_payload_is_refused(tmp_path: Path, method: str) -> None:
    payload = pack(method)
    image = file_of(bzimage(payload=payload[: len(payload) // 2]), tmp_path)
    with pytest.raises(PlanError) as caught:
        unpacked(image, Store(tmp_path / "cache"), "auto")
    assert caught.value.code == "E118" and "damaged" in caught.value.message


def test_without_the_tool_the_image_unpacks_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = file_of(bzimage(payload=b"\x28\xb5\x2f\xfd" + bytes(50)), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    store = Store(tmp_path / "cache")
    assert unpacked(image, store, "auto") == image
    with pytest.raises(PlanError, match="install zstd"):
        unpacked(image, store, "elf")


def test_an_endless_payload_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MAX_UNPACKED", 4096)
    monkeypatch.setattr(packed, "_CHUNK", 1024)
    for method in ("gzip", "zstd"):
        data = bzimage(payload=pack(method))
        (tmp_path / method).write_bytes(data)
        with Source(tmp_path / method) as source, pytest.raises(PlanError, match="unpacks to more"):
            packed.unpack(source, formats.payload(source), io.BytesIO())
