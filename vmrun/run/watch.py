"""What the run reads out of the guest's own words: a kernel panic on the console, reports on the control port."""

from __future__ import annotations

import re
from collections.abc import Callable

_LINE_LIMIT = 4096  # a line longer than this is judged by its end
_CONTROL_LIMIT = 256
_STAMP = rb"(?:<\d+>)?\[ *\d+\.\d{3,9}\](?:\[[ \w]*\])?:? "
_STAMPED = re.compile(_STAMP + rb"(Kernel panic - not syncing.*)")
_BARE = re.compile(rb"(?:<\d+>)?(Kernel panic - not syncing.*)")
_ANY_STAMP = re.compile(_STAMP)
_RESTART = re.compile(_STAMP + rb"reboot: Restarting system")  # Linux kernel/reboot.c, kernel_restart
_BARE_RESTART = re.compile(rb"(?:<\d+>)?reboot: Restarting system")
_END = b"end Kernel panic"
_STATUS = re.compile(r"[0-9]{1,3}")


class KernelWatch:
    """Finds the kernel's last words in a console stream, however it is cut into chunks.

    A panic is a line of printk: with its time stamp anywhere in the line (a prompt may stand before it), or at the
    start of a line as long as the kernel stamps none. ``line`` is the kernel's line; ``done`` says that its report is
    over. ``restarts`` says that the kernel announced a restart that it was asked for, which no panic and no reset by
    force does.
    """

    def __init__(self) -> None:
        self.line: str | None = None
        self.done = False
        self.restarts = False
        self._partial = b""
        self._stamps = False

    def feed(self, data: bytes) -> None:
        """Look at the next chunk."""
        *lines, rest = (self._partial + data).split(b"\n")
        self._partial = rest[-_LINE_LIMIT:]
        for line in lines:
            self._look(line)

    def finish(self) -> None:
        """Look at a last line without its end: no more will come."""
        self._look(self._partial)
        self._partial = b""

    def _look(self, line: bytes) -> None:
        if self.line is not None:
            self.done = self.done or _END in line
            return
        bare = b"" if self._stamps else line.lstrip(b"\r")
        self.restarts = self.restarts or bool(_RESTART.search(line) or _BARE_RESTART.match(bare))
        found = _STAMPED.search(line) or _BARE.match(bare)
        if found:
            text = found[1].decode("utf-8", "replace").strip()
            self.line = "".join(c for c in text if c.isprintable())
        elif not self._stamps and _ANY_STAMP.search(line):
            self._stamps = True


class ReadyWatch:
    """Finds ``text`` in a stream, however it is cut."""

    def __init__(self, text: str) -> None:
        self.seen = False
        self._text = text.encode()
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Look at the next chunk."""
        window = self._rest + data
        self.seen = self.seen or self._text in window
        self._rest = window[-max(1, len(self._text) - 1) :]


class ControlPort:
    """Reads the reports of vmrun's own init: ``init <uptime>``, ``command``, ``exit <status>``, one a line.

    The guest is not trusted: a report counts once and in this order, anything else is ignored and counted in
    ``garbage``. ``heard`` says that a report came, ``status`` is what the last one said.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self.status: int | None = None
        self.heard = False
        self.garbage = 0
        self._report = report
        self._partial = b""
        self._expected = ["init", "command", "exit"]

    def feed(self, data: bytes) -> None:
        """Take the next chunk; ``report`` is called with ``init``, ``command`` or ``exit``."""
        *lines, rest = (self._partial + data).split(b"\n")
        if len(rest) > _CONTROL_LIMIT:
            self.garbage += 1
            rest = b""
        self._partial = rest
        for line in lines:
            self._line(line.decode("ascii", "replace").split())

    def _line(self, words: list[str]) -> None:
        if not words or words[0] not in self._expected:
            self.garbage += 1
            return
        if words[0] == "exit":
            if len(words) != 2 or not _STATUS.fullmatch(words[1]) or int(words[1]) > 255:
                self.garbage += 1
                return
            self.status = int(words[1])
        del self._expected[: self._expected.index(words[0]) + 1]
        self.heard = True
        self._report(words[0])
