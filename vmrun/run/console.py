"""The guest's character streams: host descriptors on one side, pipes to the devices on the other.

Backlogs are bounded: a reader that is slow slows the guest's writer, and nobody else. Descriptors that vmrun was given
(a terminal, a shell's pipe) keep their blocking mode, since others share it: they are written only when poll says that
there is room, in pieces that a pipe then takes without waiting.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from vmrun.run.loop import READ, WRITE, Loop

BACKLOG = 1 << 18  # bytes that may wait for a slow reader before the guest is held back
PIECE = 4096  # PIPE_BUF on Linux: what a writable pipe takes at once
CHUNK = 1 << 16
Tap = Callable[[bytes], None]


class Tail:
    """The last ``size`` bytes that passed."""

    def __init__(self, size: int = 1 << 14) -> None:
        self._size = size
        self._data = bytearray()

    def feed(self, data: bytes) -> None:
        """Append ``data`` and forget what is too old."""
        self._data += data
        if len(self._data) > 2 * self._size:
            del self._data[: -self._size]

    def bytes(self) -> bytes:
        """Return at most the last ``size`` bytes."""
        return bytes(self._data[-self._size :])

    def lines(self, count: int) -> list[str]:
        """Return the last ``count`` lines that say anything, as text without control characters."""
        text = self.bytes().decode("utf-8", "replace").replace("\r", "")
        lines = ("".join(c for c in line if c == "\t" or c.isprintable()).rstrip() for line in text.split("\n"))
        return [line for line in lines if line][-count:]


class Sink:
    """Writes to a descriptor as it takes the bytes. ``failed`` is called once, with the error, and drops the rest."""

    def __init__(self, loop: Loop, fd: int, failed: Callable[[OSError], None]) -> None:
        self.fd = fd
        self._loop = loop
        self._failed = failed
        self._backlog = bytearray()
        self._waiting: list[Callable[[], None]] = []
        self._dead = False
        # poll knows nothing of regular files: they always take everything.
        self._plain = stat.S_ISREG(os.fstat(fd).st_mode)

    @property
    def full(self) -> bool:
        """True while the backlog is at its bound."""
        return len(self._backlog) >= BACKLOG

    @property
    def idle(self) -> bool:
        """True when nothing waits to be written."""
        return not self._backlog

    def when_room(self, call: Callable[[], None]) -> None:
        """Call once when the backlog has gone."""
        self._waiting.append(call)

    def write(self, data: bytes) -> None:
        """Take ``data``; it is written now or by the loop."""
        if self._dead or not data:
            return
        self._backlog += data
        if self._plain:
            self._flush()
        else:
            self._loop.watch(self.fd, WRITE, self._flush)

    def drop(self) -> None:
        """Give up: forget the backlog and watch no more."""
        self._dead = True
        self._backlog.clear()
        self._loop.unwatch(self.fd, WRITE)
        self._release()

    def _flush(self) -> None:
        try:
            while self._backlog:
                piece = self._backlog if self._plain else self._backlog[:PIECE]
                del self._backlog[: os.write(self.fd, piece)]
                if not self._plain:
                    break
        except BlockingIOError:
            return
        except OSError as error:
            self.drop()
            self._failed(error)
            return
        if not self._backlog:
            self._loop.unwatch(self.fd, WRITE)
            self._release()

    def _release(self) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()


class Source:
    """Reads a guest stream: every chunk goes to the taps, and to the sink, which holds the reading back when full.

    ``sieve`` sees every chunk first and returns what is the stream's own; what it takes out goes to ``others``, which
    hold the reading back as well.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        taps: tuple[Tap, ...],
        sink: Sink | None = None,
        sieve: Callable[[bytes], bytes] = bytes,
        others: tuple[Sink, ...] = (),
    ) -> None:
        self.fd = fd
        self.ended = False
        self._loop = loop
        self._taps = taps
        self._sink = sink
        self._sieve = sieve
        self._sinks = (*others, *(() if sink is None else (sink,)))
        os.set_blocking(fd, False)
        self._resume()

    def _resume(self) -> None:
        if not self.ended:
            self._loop.watch(self.fd, READ, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        self.pass_on(self._sieve(data))
        for sink in self._sinks:
            if sink.full:
                self._loop.unwatch(self.fd, READ)
                sink.when_room(self._resume)
                break

    def pass_on(self, data: bytes) -> None:
        """Hand ``data`` to the taps and the sink."""
        if not data:
            return
        for tap in self._taps:
            tap(data)
        if self._sink is not None:
            self._sink.write(data)

    def end(self) -> None:
        """Stop reading for good."""
        self.ended = True
        self._loop.unwatch(self.fd, READ)


class Feed:
    """Carries the host's input into the guest, no faster than the guest takes it.

    ``translate`` sees every chunk first and returns what is the guest's (the escape keys act there). ``ended`` is
    called once all of the input has gone into ``pipe``: who closes that then shows the guest the end of its file.
    ``held`` keeps the input, up to BACKLOG, until :meth:`release`: a terminal that nobody reads yet forgets it. Held
    input can be had by :meth:`pull` as well, piece by piece.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        pipe: int,
        *,
        translate: Callable[[bytes], bytes] = bytes,
        ended: Callable[[], None] = lambda: None,
        held: bool = False,
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._translate = translate
        self._at_end = ended
        os.set_blocking(pipe, False)
        self._sink = Sink(loop, pipe, lambda error: self.stop())
        self._ended = False
        self._held = bytearray() if held else None
        self._wanted: tuple[int, Callable[[bytes], None]] | None = None
        loop.watch(fd, READ, self._read)

    def pull(self, size: int, give: Callable[[bytes], None]) -> None:
        """Give at most ``size`` bytes of what is held, once, as soon as there are any; none is the end of the input."""
        self._wanted = (size, give)
        self._give()

    def _give(self) -> None:
        if self._wanted is None or self._held is None or not (self._held or self._ended):
            return
        (size, give), self._wanted = self._wanted, None
        piece = bytes(self._held[:size])
        del self._held[:size]
        if not self._ended:
            self._resume()
        give(piece)

    def turn_to(self, pipe: int) -> None:
        """Send what is held, and all that follows, another way."""
        os.set_blocking(pipe, False)
        self._sink = Sink(self._loop, pipe, lambda error: self.stop())

    def release(self) -> None:
        """Let the guest have what was held for it, and all that follows."""
        held, self._held = self._held, None
        if held is None:
            return
        self._sink.write(bytes(held))
        if self._ended:
            self._finish()
        else:
            self._pace()

    def stop(self) -> None:
        """Read no more input."""
        self._loop.unwatch(self._fd, READ)
        self._ended = True

    def drop(self) -> None:
        """Read no more input and forget what still waits for the guest."""
        self.stop()
        self._held = None
        self._sink.drop()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:
            return
        except OSError:  # a directory, a terminal that went away
            data = b""
        if not data:
            self.stop()
            if self._held is None:
                self._finish()
            else:
                self._give()
            return
        mine = self._translate(data)
        if self._held is None:
            self._sink.write(mine)
        else:
            self._held += mine
            self._give()
        self._pace()

    def _pace(self) -> None:
        """Read on as long as there is room: escape keys are heard even where the guest reads nothing."""
        if self._held is not None:
            if len(self._held) >= BACKLOG:
                self._loop.unwatch(self._fd, READ)
        elif self._sink.full:
            self._loop.unwatch(self._fd, READ)
            self._sink.when_room(self._resume)
        elif not self._ended:
            self._resume()

    def _finish(self) -> None:
        if self._sink.idle:
            self._at_end()
        else:
            self._sink.when_room(self._at_end)

    def _resume(self) -> None:
        if not self._ended:
            self._loop.watch(self._fd, READ, self._read)
