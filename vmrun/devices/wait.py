"""One wait of a device that Python serves: an alarm that is to ring, a key that is to be let go."""

from __future__ import annotations

import threading
from collections.abc import Callable

_LONGEST_S = 3600.0
"""threading's waits have a limit, and the host's clock may be set meanwhile: who is called looks at the time again."""


class Timer:
    """Calls ``call`` on a thread of its own after the wait that was asked for last, or an hour if that is shorter.

    The device's lock guards it: ``call`` may come after `stop`, where it was waiting for the lock.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._timer: threading.Timer | None = None

    def start(self, wait_s: float) -> None:
        """Wait anew, ``wait_s`` seconds (less than 0 is 0)."""
        self.stop()
        self._timer = threading.Timer(min(max(wait_s, 0.0), _LONGEST_S), self._call)
        self._timer.daemon = True
        self._timer.start()

    def stop(self) -> None:
        """Wait no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
