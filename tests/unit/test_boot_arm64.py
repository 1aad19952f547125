"""The arm64 Image: what is recognised, what is refused and in which words, and where it is placed."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmrun.boot import packed
from vmrun.boot.detect import detect
from vmrun.boot.kernel import Kernel, Segment
from vmrun.boot.source import Source
from vmrun.errors import PlanError

BASE = 0x4000_0000
MIB = 1 << 20
PAGES_4K, PAGES_16K, PAGES_64K, ANYWHERE = 1 << 1, 2 << 1, 3 << 1, 1 << 3


def image(
    *,
    size: int = 8192,
    image_size: int = MIB,
    text_offset: int = 0,
    flags: int = PAGES_4K | ANYWHERE,
    machine: int | None = None,
) -> bytes:
    """Return an arm64 Image without code; with an EFI stub's header where ``machine`` is given."""
    head = bytearray(size)
    code0 = 0xFA405A4D if machine is not None else 0x14000010  # "MZ" is the start of an instruction that does nothing
    struct.pack_into("<IIQQQQQQII", head, 0, code0, 0, text_offset, image_size, flags, 0, 0, 0, 0x644D5241, 64)
    if machine is not None:
        struct.pack_into("<4sHHIIIHH", head, 64, b"PE\0\0", machine, 1, 0, 0, 0, 16, 0)
        struct.pack_into("<II", head, 64 + 24 + 16 + 16, size - 4096, 4096)
    return bytes(head)


def elf(machine: int = 183, order: int = 1) -> bytes:
    way = "<" if order == 1 else ">"
    ident = struct.pack("4sBBBB8x", b"\x7fELF", 2, order, 1, 0)
    entry = 0xFFFF_8000_8000_0000
    head = ident + struct.pack(f"{way}HHIQQQIHHHHHH", 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return head + struct.pack(f"{way}IIQQQQQQ", 1, 7, 120, entry, entry & (1 << 48) - 1, 4, 4, 4096) + b"code"


def detected(data: bytes, tmp_path: Path, granules: tuple[int, ...] = ()) -> Kernel:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    with Source(path, key=("boot", "kernel")) as source:
        return detect(source, "aarch64", BASE, granules)


def refusal(data: bytes, tmp_path: Path, granules: tuple[int, ...] = ()) -> PlanError:
    with pytest.raises(PlanError) as caught:
        detected(data, tmp_path, granules)
    assert caught.value.key == ("boot", "kernel")
    assert caught.value.remedy
    return caught.value


@pytest.mark.parametrize("offset", [0, 0x80000, 0x1FF000])
@pytest.mark.parametrize("placement", [0, ANYWHERE])
def test_an_image_goes_to_its_offset_with_room_for_its_bss(offset: int, placement: int, tmp_path: Path) -> None:
    kernel = detected(image(text_offset=offset, flags=PAGES_4K | placement), tmp_path)
    assert kernel.format == "image" and "arm64 Image" in kernel.about
    assert kernel.segments == (Segment(BASE + offset, 0, 8192, MIB),)
    assert kernel.entry == BASE + offset


def test_an_image_with_an_efi_stub_is_the_same(tmp_path: Path) -> None:
    assert detected(image(machine=0xAA64), tmp_path) == detected(image(), tmp_path)


def test_an_image_larger_than_it_says_keeps_all_its_bytes(tmp_path: Path) -> None:
    (segment,) = detected(image(size=12288, image_size=4096), tmp_path).segments
    assert segment.reserve == segment.size == 12288


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (image(flags=1), "E113", "big-endian"),
        (image(image_size=0), "E117", "3.17"),
        (image(image_size=1 << 60), "E117", "image_size"),
        (image(text_offset=2 * MIB), "E117", "text_offset"),
        (image(machine=0x5064), "E117", "PE machine 0x5064"),
        (image(size=12288, machine=0xAA64)[:8192], "E111", "8192 of at least 12288"),
        (image(machine=0xAA64)[:70], "E111", "truncated"),
        (image(machine=0xAA64)[:40], "E111", "truncated"),
        (b"\0" * 56 + b"RSC\x05" + b"\0" * 100, "E112", "a riscv64 Image, and the board runs arm64"),
        (b"\0" * 0x202 + b"HdrS" + b"\0" * 100, "E112", "x86 bzImage"),
        (b"\0" * 0x24 + b"\x18\x28\x6f\x01" + b"\0" * 100, "E112", "arm zImage"),
        (b"MZ" + b"\x90" * 200, "E112", "EFI"),
        (elf(243), "E112", "riscv64"),
        (elf(62), "E112", "x86_64"),
        (elf(183, order=2), "E113", "big-endian"),
        (elf(), "E110", "of which the Image is made"),
        (elf()[:80], "E111", "truncated"),
        (b"!<arch>\ndebian-binary", "E110", ".deb"),
        (b"\x13\x01\x02\x03" * 100, "E110", "no known format"),
        (gzip.compress(b"x", mtime=0), "E110", "compressed kernel"),
    ],
)
def test_what_is_no_arm64_kernel_is_named(data: bytes, code: str, words: str, tmp_path: Path) -> None:
    error = refusal(data, tmp_path)
    assert (error.code, words in error.message) == (code, True), str(error)


@pytest.mark.parametrize(("flags", "pages"), [(PAGES_4K, 4096), (PAGES_16K, 16384), (PAGES_64K, 65536)])
def test_pages_that_the_host_lacks_are_named(flags: int, pages: int, tmp_path: Path) -> None:
    data = image(flags=flags)
    others = tuple(size for size in (4096, 16384, 65536) if size != pages)
    assert detected(data, tmp_path).entry == detected(data, tmp_path, (pages,)).entry == BASE
    error = refusal(data, tmp_path, others)
    assert error.code == "E120" and f"{pages >> 10}KiB" in error.message
    assert all(f"{size >> 10}KiB" in (error.remedy or "") for size in others)
    assert detected(image(flags=0), tmp_path, (65536,)).entry == BASE, "a kernel that leaves it open is asked nothing"


def test_a_packed_image_is_found_inside(tmp_path: Path) -> None:
    data = image(machine=0xAA64)
    (tmp_path / "packed").write_bytes(gzip.compress(data))
    out = io.BytesIO()
    with Source(tmp_path / "packed") as source:
        how = packed.recognise(source)
        assert how is not None
        packed.unpack(source, how, out)
    assert detected(out.getvalue(), tmp_path) == detected(data, tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    noise=st.binary(min_size=1, max_size=300),
    head=st.sampled_from([b"", image()[:200], image(machine=0xAA64)[:200], elf()]),
    at=st.integers(0, 199),
)
def test_garbage_is_a_kernel_or_a_plan_error(noise: bytes, head: bytes, at: int, tmp_path: Path) -> None:
    data = head[:at] + noise + head[at + len(noise) :]
    try:
        kernel = detected(data, tmp_path, (4096,))
        assert all(s.size <= s.reserve and s.offset + s.size <= len(data) for s in kernel.segments)
        assert all(BASE <= s.gpa < BASE + 2 * MIB for s in kernel.segments)
    except PlanError as error:
        assert "\n" not in str(error)
