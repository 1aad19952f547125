"""One thread that waits: file descriptors by poll, and deadlines. Nothing here blocks but :meth:`Loop.turn`."""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from collections.abc import Callable

READ = select.POLLIN
WRITE = select.POLLOUT
LONGEST_WAIT_MS = 24 * 3600 * 1000
"""How long one wait may be: poll(2) counts milliseconds in an int, which 25 days leave."""
Handler = Callable[[], None]


class Loop:
    """Calls handlers when their descriptor is ready, and timers when they are due.

    A descriptor that hung up or fails counts as ready in both directions, so that its handler meets the error.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock = clock
        self._poll = select.poll()
        self._handlers: dict[int, dict[int, Handler]] = {}
        self._timers: dict[str, tuple[int, Handler]] = {}
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(self._wake_read, READ, self._woken)

    def wake(self) -> None:
        """Let a turn that waits return now, from any thread."""
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            os.write(self._wake_write, b"w")

    def _woken(self) -> None:
        os.read(self._wake_read, 4096)

    def close(self) -> None:
        """Close what the loop itself holds; nothing may wake it any more."""
        os.close(self._wake_read)
        os.close(self._wake_write)

    def watch(self, fd: int, direction: int, handler: Handler) -> None:
        """Call ``handler`` whenever ``fd`` is ready for READ or WRITE; one handler per descriptor and direction."""
        self._handlers.setdefault(fd, {})[direction] = handler
        self._poll.register(fd, sum(self._handlers[fd]))

    def unwatch(self, fd: int, direction: int) -> None:
        """Stop watching; nothing happens where nothing was watched."""
        known = self._handlers.get(fd, {})
        if known.pop(direction, None) is None:
            return
        if known:
            self._poll.register(fd, sum(known))
        else:
            del self._handlers[fd]
            self._poll.unregister(fd)

    def set_timer(self, name: str, at_ns: int, handler: Handler) -> None:
        """Call ``handler`` once when the clock reaches ``at_ns``; a timer of the same name is replaced."""
        self._timers[name] = (at_ns, handler)

    def cancel_timer(self, name: str) -> None:
        """Forget the timer ``name``, if it is there."""
        self._timers.pop(name, None)

    def turn(self, limit_ns: int | None = None) -> None:
        """Wait until something is ready or due, at most ``limit_ns`` or a day, and call its handlers."""
        for fd, events in self._poll.poll(self._patience_ms(limit_ns)):
            for direction, handler in tuple(self._handlers.get(fd, {}).items()):
                ready = events & (direction | select.POLLHUP | select.POLLERR | select.POLLNVAL)
                if ready and direction in self._handlers.get(fd, {}):
                    handler()
        now = self.clock()
        for name, (at_ns, handler) in tuple(self._timers.items()):
            if at_ns <= now:
                del self._timers[name]
                handler()

    def _patience_ms(self, limit_ns: int | None) -> int | None:
        waits = [at_ns - self.clock() for at_ns, _ in self._timers.values()]
        if limit_ns is not None:
            waits.append(limit_ns)
        return min(max(0, math.ceil(min(waits) / 1_000_000)), LONGEST_WAIT_MS) if waits else None
