"""What virtio ports would carry, over a guest's serial line: frames in the line's text, and input that is asked for.

Where the guest's kernel drives no virtio console, vmrun's init (images/init.sh) writes on a serial line

    ESC _ vmrun ; KEY ; CHANNEL ; NUMBER ; LENGTH ; PAYLOAD ESC \\

an APC string (ECMA-48, 8.3.2), which a terminal passes by. KEY is a UUID that init drew at its start, so that text
which the guest merely prints is no frame. NUMBER counts a channel's frames from 0; LENGTH is the payload's, without CR.

    c   a report, as on the control port: `init UPTIME [DRIVER]`, `command`, `exit STATUS`
    o   standard output, base64      e   standard error, base64
    i   empty: a line of input is asked for; it is sent as base64 and LF, and the empty line is the end

The kernel may print on the same line in the middle of a frame: a line that begins with its time stamp is taken out.
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Callable

from vmrun.run.console import Feed, Sink, Tap
from vmrun.run.loop import Loop

START = b"\x1b_vmrun;"
END = b"\x1b\\"
LIMIT = 1 << 14
"""Bytes of a frame, with what the kernel printed into it."""
INPUT = 2048
"""Bytes of input in a line, at most: as base64 they fit into a Linux terminal (N_TTY_BUF_SIZE, 4096)."""
CHANNELS = (b"c", b"o", b"e", b"i")
_KEY = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KERNEL_LINE = re.compile(rb"\[ *\d+\.\d{6}\][^\n]*\n")


class Frames:
    """Takes frames out of a serial line's text, however it is cut into chunks.

    The guest is not trusted: the first frame must be a report of ``init``, and its key is that of all others; what has
    another key is text. ``take(channel, payload)`` is called for each, decoded. ``damaged`` is called, once, with a
    line on what is wrong, when a frame is lost or no frame; what follows is text.
    """

    def __init__(self, take: Callable[[str, bytes], None], damaged: Callable[[str], None]) -> None:
        self.key: bytes | None = None
        self.off = False
        self._take = take
        self._damaged = damaged
        self._partial = b""
        self._numbers = dict.fromkeys(CHANNELS, 0)

    def feed(self, data: bytes) -> bytes:
        """Take the next chunk; return what of it is text."""
        if self.off:
            data, self._partial = self._partial + data, b""
            return data
        data, text = self._partial + data, b""
        while (end := data.find(END)) >= 0:
            at = data.rfind(START, 0, end)  # one before it that has no end is text
            whole, data = data[: end + len(END)], data[end + len(END) :]
            text += whole if at < 0 else whole[:at] + self._frame(whole[at:])
            if self.off:
                return text + data
        at = data.rfind(START)
        kept = len(data) - at if at >= 0 else _begun(data)
        if kept > LIMIT:
            if self.key is not None and data.startswith(self.key, at + len(START)):
                self._spoil("a frame has no end")
            kept = 0
        self._partial = data[len(data) - kept :]
        return text + data[: len(data) - kept]

    def finish(self) -> bytes:
        """Return what was begun and never ended: no more will come."""
        self.off = True
        return self.feed(b"")

    def _frame(self, whole: bytes) -> bytes:
        """Take a frame; return what of it is text: all of it where it is none of init's."""
        body = whole[len(START) : -len(END)]
        printed = b"".join(_KERNEL_LINE.findall(body))
        fields = _KERNEL_LINE.sub(b"", body).replace(b"\r", b"").split(b";")
        if self.key is None and len(fields) == 5 and _KEY.fullmatch(fields[0]) and fields[4].startswith(b"init "):
            self.key = fields[0]
        if self.key is None or fields[0] != self.key:
            return whole
        wrong = self._accept(fields)
        if wrong is not None:
            self._spoil(wrong)
        return printed

    def _accept(self, fields: list[bytes]) -> str | None:
        """Hand a frame of init's on; return what is wrong with it, or None."""
        if len(fields) != 5 or fields[1] not in CHANNELS:
            return "a frame is broken"
        _, channel, number, length, payload = fields
        name = channel.decode()
        if number != b"%d" % self._numbers[channel]:
            return f"a frame of channel {name} is lost"
        if length != b"%d" % len(payload):
            return f"a frame of channel {name} is cut"
        self._numbers[channel] += 1
        if channel in (b"o", b"e"):
            try:
                payload = binascii.a2b_base64(payload.replace(b"\n", b""), strict_mode=True)
            except binascii.Error:
                return f"a frame of channel {name} is no base64"
        self._take(name, payload)
        return None

    def _spoil(self, what: str) -> None:
        self.off = True
        self._damaged(what)


def _begun(data: bytes) -> int:
    """Return how many bytes at the end of ``data`` may be the beginning of a frame."""
    return next((size for size in range(len(START) - 1, 0, -1) if data.endswith(START[:size])), 0)


class Link:
    """One serial line on which init may speak: the run's side of it.

    ``sinks`` take standard output and error. ``pipe`` leads to the line, and gets a line of ``feed``'s input whenever
    the guest asks, so that its terminal never holds more; where ``typed``, keys go there, and nothing is asked for. Set
    ``reported`` to what takes reports, ``said`` output, ``damaged`` what went wrong, ``rest`` text that was kept.
    """

    def __init__(
        self, loop: Loop, pipe: int | None, feed: Feed | None, sinks: tuple[Sink | None, ...], *, typed: bool
    ) -> None:
        self.pipe = pipe
        self.frames = Frames(self._take, lambda what: self.damaged(what))
        self.sinks = tuple(sink for sink in sinks if sink is not None)
        self.reported: Tap = _nobody
        self.said: Tap = _nobody
        self.rest: Tap = _nobody
        self.damaged: Callable[[str], None] = _nobody
        self._loop = loop
        self._feed = feed
        self._typed = typed
        self._line: Sink | None = None
        self._outputs = dict(zip("oe", sinks, strict=True))

    def _take(self, channel: str, payload: bytes) -> None:
        if channel == "c":
            self.reported(payload)
        elif channel == "i":
            self._ask()
        else:
            self.said(payload)
            sink = self._outputs[channel]
            if sink is not None:
                sink.write(payload)

    def _ask(self) -> None:
        if self.pipe is None or self._typed:
            return
        if self._line is None:
            os.set_blocking(self.pipe, False)
            self._line = Sink(self._loop, self.pipe, _nobody)
        if self._feed is None:
            self._answer(b"")
        else:
            self._feed.pull(INPUT, self._answer)

    def _answer(self, data: bytes) -> None:
        assert self._line is not None
        self._line.write(binascii.b2a_base64(data) if data else b"\n")

    def drop(self) -> None:
        """Send no more input."""
        if self._feed is not None:
            self._feed.drop()
        if self._line is not None:
            self._line.drop()

    def finish(self) -> None:
        """Pass on what was begun as a frame and never ended."""
        self.rest(self.frames.finish())


def _nobody(what: object) -> None:
    """Take what nobody asked for."""


def missing_driver(report: bytes) -> str:
    """Return the driver that init's first report says the kernel lacks, or the empty string."""
    words = report.split()
    known = {b"virtio_mmio": "virtio_mmio", b"virtio_console": "virtio_console"}
    return known.get(words[2], "") if len(words) > 2 else ""
