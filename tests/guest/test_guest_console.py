"""A person at the console: a shell on a terminal, U-Boot's prompt on the serial line."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import TIMEOUT_S, vmrun_command, vmrun_env
from patience import patience

pytestmark = [pytest.mark.guest, pytest.mark.network]


class Seat:
    """vmrun on a terminal of its own."""

    def __init__(self, folder: Path, *args: object) -> None:
        self.keys, self.terminal = pty.openpty()
        termios.tcsetwinsize(self.terminal, (33, 111))
        self.before = termios.tcgetattr(self.terminal)
        env = {k: v for k, v in vmrun_env().items() if k != "CI"} | {"TERM": "xterm"}
        self.process = subprocess.Popen(
            vmrun_command(*args), cwd=folder, env=env, stdin=self.terminal, stdout=self.terminal, stderr=self.terminal,
            start_new_session=True, preexec_fn=_take_terminal,
        )  # fmt: skip
        self.seen = b""

    def until(self, words: bytes) -> None:
        end = time.monotonic() + TIMEOUT_S
        while words not in self.seen:
            assert time.monotonic() < end, f"{words!r} never came: {self.seen[-2000:]!r}"
            assert self.process.poll() is None, f"it ended before {words!r}: {self.seen[-2000:]!r}"
            if select.select([self.keys], [], [], 0.2)[0]:
                self.seen += os.read(self.keys, 65536)

    def type(self, keys: bytes) -> None:
        self.seen = b""
        os.write(self.keys, keys)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)
        os.close(self.keys)


def _take_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def sit(tmp_path: Path) -> Iterator[Callable[..., Seat]]:
    seats: list[Seat] = []

    def begin(*args: object) -> Seat:
        seats.append(Seat(tmp_path, *args))
        return seats[-1]

    yield begin
    for seat in seats:
        seat.close()


def test_a_shell_on_the_console(sit: Callable[..., Seat], manifest: Callable[[str], Path], kernel: Path) -> None:
    seat = sit("up", manifest(""))
    seat.until(b"# ")
    seat.type(b"echo $((6 * 7)) $(stty size)\n")
    seat.until(b"42 33 111")
    termios.tcsetwinsize(seat.terminal, (50, 132))
    time.sleep(patience(0.5))
    seat.type(b"stty size\n")
    seat.until(b"50 132")
    seat.type(b"sleep 100\n")
    time.sleep(patience(0.5))
    seat.type(b"\x03")  # the guest's, not vmrun's
    seat.until(b"# ")
    seat.type(b"\x01x")
    assert seat.process.wait(TIMEOUT_S) == 0
    assert termios.tcgetattr(seat.terminal) == seat.before


def test_power_off_from_the_console(sit: Callable[..., Seat], manifest: Callable[[str], Path], kernel: Path) -> None:
    seat = sit("up", manifest(""))
    seat.until(b"# ")
    seat.type(b"poweroff -f\n")
    assert seat.process.wait(TIMEOUT_S) == 0
    assert termios.tcgetattr(seat.terminal) == seat.before


def test_u_boot_reaches_its_prompt(sit: Callable[..., Seat], kernel: Path, tmp_path: Path) -> None:
    path = tmp_path / "u-boot.toml"
    path.write_text(
        'manifest = 1\nname = "u-boot"\n[machine]\nboard = "riscv_virt"\n[cpu]\ncount = 1\n[memory]\nsize = "256MiB"\n'
        '[boot]\nkernel = { debian = "u-boot-qemu", suite = "trixie",'
        ' file = "usr/lib/u-boot/qemu-riscv64_smode/u-boot.bin" }\nprotocol = "flat"\n'
        '[console.main]\ndevice = "serial"\n'
    )
    seat = sit("up", path)
    seat.until(b"Hit any key")
    seat.type(b"\n")
    seat.until(b"=> ")
    seat.type(b"echo $board_name; poweroff\n")
    seat.until(b"qemu-riscv")
    assert seat.process.wait(TIMEOUT_S) == 0
