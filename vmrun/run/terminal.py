"""The person's terminal as the guest's: raw mode with a way back, and the keys that are vmrun's own."""

from __future__ import annotations

import contextlib
import os
import select
import termios
import tty
from collections.abc import Callable, Mapping

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
    """A terminal that can be the guest's: keys then reach the guest one by one and unchanged.

    It becomes raw with :meth:`make_raw`; :meth:`close` gives it back as it was. That holds on every way out, SIGKILL of
    vmrun included (see :mod:`vmrun.run.guardian`, which is started here: make it before any thread).
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved = termios.tcgetattr(fd)
        self._guardian: Guardian | None = Guardian(fd)
        self._wanted = False
        self._raw = False

    def make_raw(self) -> None:
        """Enter raw mode; a process in the background does so by :meth:`retake`, once it stands in the foreground."""
        self._wanted = True
        if owns(self.fd):
            self._raw = True
            tty.setraw(self.fd, termios.TCSANOW)
            mode = termios.tcgetattr(self.fd)
            mode[1] |= termios.OPOST | termios.ONLCR  # vmrun's own lines still begin at the left
            termios.tcsetattr(self.fd, termios.TCSANOW, mode)

    def retake(self) -> None:
        """Enter raw mode again after a stop and a continue, if the terminal is the guest's by now."""
        if self._wanted:
            self.make_raw()

    def restore(self) -> None:
        """Set the terminal as it was, now: output that it holds back is not waited for. Any thread."""
        if self._raw:
            with contextlib.suppress(termios.error):  # the terminal itself has gone
                termios.tcsetattr(self.fd, termios.TCSANOW, self._saved)

    def close(self) -> None:
        """Give the terminal back for good. Idempotent."""
        if self._raw:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self.fd, termios.TCSADRAIN, self._saved)
            self._raw = False
        self._wanted = False
        guardian, self._guardian = self._guardian, None
        if guardian is not None:
            guardian.dismiss()


SANE = b"\x18\x1b\\\x1b[!p\x0f\x1b(B\x1b[m\x1b[?25h\x1b[?7h\x1b[?1l\x1b>\x1b[?1000;1002;1003;1006;2004l"
"""What makes a terminal's emulator readable again after any output.

CAN and ST end a sequence that was cut, DECSTR is the soft reset. Then, for terminals that do not know it, as Linux's:
SI and SCS make G0 ASCII; SGR, cursor, wrapping and keypad are as usual; and no mouse or pasting is reported. Sources:
the VT510's manual; xterm's ctlseqs; console_codes(4).
"""


def make_sane(fd: int) -> None:
    """Write SANE to ``fd`` if it is a terminal that takes it at once."""
    with contextlib.suppress(OSError):
        if os.isatty(fd) and select.select([], [fd], [], 0)[1]:
            os.write(fd, SANE)
