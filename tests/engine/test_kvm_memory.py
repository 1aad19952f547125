"""Memory slots that come, move, change and go while vCPUs run, on this host's own KVM."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from kvm_kit import HLT, OUT32, PORT, Ears, Lab, lab, mov_dx, need_kvm, out, poke
from live_kit import Cell

from vmrun._core import lib
from vmrun.core.memory import Region
from vmrun.devices.testing import wait_for
from vmrun.errors import HostError

PAGE = 4096
REGION = 0x4000_0000
ELSEWHERE = 0x5000_0000


@pytest.fixture(autouse=True)
def _kvm() -> Iterator[None]:
    need_kvm()
    yield


class Steps(Ears):
    """Ears that hear 32-bit values on PORT, and do something at each byte written to PORT + 8."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[int] = []
        self.steps: list[Callable[[], object]] = []

    def write(self, offset: int, size: int, value: int) -> None:
        if offset == 8:
            self.steps.pop(0)()
        else:
            self.values.append(value)


def tell(address: int) -> bytes:
    """Read 32 bits and write them to PORT."""
    return b"\xbb" + struct.pack("<I", address) + b"\x8b\x03" + mov_dx(PORT) + OUT32


STEP = out(8, 0)


def run(made: Lab, code: bytes) -> list[int]:
    made.load(code + HLT)
    assert made.run() == lib.VMR_EXIT_HALT
    assert isinstance(made.ears, Steps)
    return made.ears.values


@pytest.mark.parametrize("mode", ["protected", "long"])
def test_rom_is_read_and_its_writes_leave(mode: str) -> None:
    cell = Cell()
    with lab(mode, irqchip=None, ears=Steps()) as made:
        rom = made.core.add_region(REGION, PAGE, "rom")
        rom.write(0, struct.pack("<II", 11, 22))
        assert run(made, tell(REGION) + poke(REGION, 99) + tell(REGION) + tell(REGION + 4)) == [11, 11, 22]
        assert made.wrongs_of_bus() == {"write where no device is": 1}
        made.core.claim(REGION, PAGE, cell)
        run(made, poke(REGION + 8, 99))
        assert cell.seen == [("write", 8, 4, 99)]
        assert rom.read(0, 16) == struct.pack("<IIII", 11, 22, 0, 0)


def test_a_flash_is_memory_until_it_is_told_to_answer_itself() -> None:
    class Flash:
        region: Region

        def read(self, offset: int, size: int) -> int:
            return 0x80

        def write(self, offset: int, size: int, value: int) -> None:
            self.region.trap(value == 1)

    flash = Flash()
    with lab(irqchip=None, ears=Steps()) as made:
        flash.region = made.core.add_region(REGION, 2 * PAGE, "flash")
        flash.region.write(0, struct.pack("<I", 7))
        made.core.claim(REGION, 2 * PAGE, flash)
        code = tell(REGION) + poke(REGION, 1) + tell(REGION) + poke(REGION, 2) + tell(REGION)
        assert run(made, code * 20) == [7, 0x80, 7] * 20


def test_slots_come_move_and_go_between_two_instructions() -> None:
    ears = Steps()
    with lab(irqchip=None, ears=ears) as made:
        region = made.core.add_region(None, 4 * PAGE, shared=True)
        region.write(0, struct.pack("<I", 5))
        ears.steps = [
            lambda: region.move(REGION),
            lambda: region.move(REGION + PAGE),
            lambda: region.move(ELSEWHERE),
            lambda: region.move(None),
            lambda: (made.core.add_region(REGION, PAGE).write(0, struct.pack("<I", 6)), region.move(ELSEWHERE)),
            region.remove,
        ]
        both = STEP + tell(REGION) + tell(ELSEWHERE)
        none = 2**32 - 1
        seen = run(made, both + both + both + both + both + both)
        assert seen == [5, none, none, none, none, 5, none, none, 6, 5, 6, none]


def test_slots_are_used_again() -> None:
    with lab(irqchip=None, ears=Steps()) as made:
        for value in range(100):
            region = made.core.add_region(REGION, PAGE, ("ram", "rom", "flash")[value % 3])
            region.write(0, struct.pack("<I", value))
            assert run(made, tell(REGION))[-1] == value
            region.remove()


def _copy(region: Region, shadow: bytearray) -> int:
    found = region.take_log()
    for page in found:
        shadow[page * PAGE : (page + 1) * PAGE] = region.read(page * PAGE, PAGE)
    return len(found)


SCATTER = (
    b"\xb8\x39\x30\x00\x00"  # mov eax, 12345
    b"\x69\xc0\x6d\x4e\xc6\x41"  # again: imul eax, eax, 0x41c64e6d
    b"\x05\x39\x30\x00\x00"  # add eax, 12345
    b"\x89\xc3\xc1\xeb\x0a"  # mov ebx, eax; shr ebx, 10
    b"\x81\xe3\xfc\xff\x03\x00"  # and ebx, 0x3fffc: 64 pages, words
    b"\x81\xcb\x00\x00\x00\x40"  # or ebx, REGION
    b"\x89\x03"  # mov [rbx], eax
    b"\xeb\xe1"  # jmp again
)
"""Write words all over the 64 pages from REGION on."""


def test_the_kernels_log_and_copies_of_its_pages_make_the_memory() -> None:
    pages = 64
    with lab(irqchip=None, ears=Steps()) as made:
        region = made.core.add_region(REGION, pages * PAGE)
        region.start_log()
        shadow = bytearray(region.read(0, pages * PAGE))
        made.load(SCATTER)
        runner = threading.Thread(target=made.run)
        runner.start()
        told = [0]

        def enough() -> bool:
            told[0] += _copy(region, shadow)
            return told[0] >= 500

        wait_for(enough, "what the log tells")
        made.core.stop()
        runner.join()
        _copy(region, shadow)
        assert bytes(shadow) == region.read(0, pages * PAGE)
        assert any(shadow)
        region.stop_log()
        with pytest.raises(HostError, match="no dirty log"):
            region.take_log()


def test_a_log_is_kept_while_the_region_moves_and_hides() -> None:
    ears = Steps()
    with lab(irqchip=None, ears=ears) as made:
        region = made.core.add_region(REGION, 8 * PAGE)
        region.start_log()
        ears.steps = [lambda: region.move(ELSEWHERE)]
        run(made, poke(REGION + PAGE, 1) + STEP + poke(ELSEWHERE + 3 * PAGE, 1))
        assert region.take_log() == [1, 3]
        run(made, poke(ELSEWHERE + 5 * PAGE, 1))
        region.move(None)
        assert 5 in region.take_log()


def test_a_vcpu_hammers_what_comes_and_goes() -> None:
    """Each value that it reads is the region's, or what an empty place reads as."""
    read = b"\xbb" + struct.pack("<I", REGION) + b"\x8b\x03"
    check = b"\x3d\x05\x00\x00\x00\x74\x06\x83\xf8\xff\x74\x01" + HLT  # cmp eax, 5; je +6; cmp eax, -1; je +1; hlt
    window = b"\xbb" + struct.pack("<I", ELSEWHERE) + b"\x8b\x03"
    loop = read + check + window
    code = loop + b"\xeb" + struct.pack("<b", -len(loop) - 2)
    with lab(irqchip=None, ears=Steps()) as made:
        made.load(code)
        runner = threading.Thread(target=made.run)
        runner.start()
        for _ in range(300):
            region = made.core.add_region(None, PAGE)
            region.write(0, struct.pack("<I", 5))
            region.move(REGION)
            cell = made.core.claim(ELSEWHERE, 16, Cell())
            region.move(REGION + PAGE)
            cell.move(ELSEWHERE + 16)
            region.move(REGION)
            cell.remove()
            region.remove()
        made.core.stop()
        runner.join()
        assert [exit.kind for exit in made.exits] == [lib.VMR_EXIT_STOPPED]
