"""The person's terminal as the guest's: raw mode with a way back, and the keys that are vmrun's own."""

from __future__ import annotations

import contextlib
import termios
import tty
from collections.abc import Callable, Mapping
from types import TracebackType

from vmrun.errors import HostError
from vmrun.run.attach import owns
from vmrun.run.guardian import Guardian


def parse_escape(text: str) -> int | None:
    """Return the byte of an escape key: ``ctrl-a`` to ``ctrl-z`` and ``ctrl-]``, ``^A``, one character, or ``none``.

    Raise HostError E510 for anything else.
    """
    lowered = text.lower()
    if lowered == "none":
        return None
    name = lowered.removeprefix("ctrl-") if lowered.startswith("ctrl-") else lowered[1:] if lowered[:1] == "^" else ""
    if len(name) == 1 and ("a" <= name <= "z" or name in "[\\]^_@"):
        return ord(name.upper()) & 0x1F
    if len(text) == 1 and text.isascii():
        return ord(text)
    raise HostError(f"`{text}` is no escape key", code="E510", remedy="write ctrl-a, ctrl-], one character, or none")


def key_name(byte: int) -> str:
    """Return how a person writes the key that sends ``byte``."""
    return f"Ctrl-{chr(byte | 0x60)}" if 0 < byte < 27 else f"Ctrl-{chr(byte | 0x40)}" if byte < 32 else chr(byte)


class EscapeKeys:
    """Takes vmrun's own keys out of what a person types, however it is cut into chunks.

    After the escape key, a key of ``actions`` (small letters; capitals do the same) acts, the escape key again sends
    one, and others are ignored.
    """

    def __init__(self, escape: int | None, actions: Mapping[str, Callable[[], None]]) -> None:
        self._escape = escape
        self._actions = actions
        self._armed = False

    def feed(self, data: bytes) -> bytes:
        """Return what of ``data`` is the guest's."""
        if self._escape is None:
            return data
        out = bytearray()
        for byte in data:
            if not self._armed:
                if byte == self._escape:
                    self._armed = True
                else:
                    out.append(byte)
                continue
            self._armed = False
            if byte == self._escape:
                out.append(byte)
            elif act := self._actions.get(chr(byte).lower()):
                act()
        return bytes(out)


class RawTerminal:
    """While entered, keys reach the guest one by one and unchanged; afterwards the terminal is as it was.

    That holds on every way out, SIGKILL of vmrun included (see :mod:`vmrun.run.guardian`).
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> RawTerminal:
        self._saved = termios.tcgetattr(self._fd)
        self._guardian = Guardian(self._fd)
        self.make_raw()
        return self

    def make_raw(self) -> None:
        """Enter raw mode, again where a stop and a continue have left it."""
        if owns(self._fd):
            tty.setraw(self._fd, termios.TCSANOW)
            mode = termios.tcgetattr(self._fd)
            mode[1] |= termios.OPOST | termios.ONLCR  # vmrun's own lines still begin at the left
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(termios.error):  # the terminal itself has gone
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)
        self._guardian.dismiss()
