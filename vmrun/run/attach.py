"""What a run is attached to on the host: descriptors, a policy, and who watches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vmrun.frozen import frozen

if TYPE_CHECKING:
    from vmrun.run.terminal import RawTerminal


class Observer(Protocol):
    """Who shows a run to a person. Called from the run's own thread; it must not block for long."""

    def phase(self, name: str, at_ns: int) -> None:
        """Phase ``name`` began, so many nanoseconds after the process started."""

    def warn(self, text: str) -> None:
        """Something is not as it should be, and the run goes on: one line."""

    def note(self, text: str) -> None:
        """Tell a person at the console something: one line."""


@frozen
class Attachment:
    """Which of the host's descriptors the guest's streams meet; None is not connected.

    ``output`` is the one whose loss ends the run. ``terminal`` is ``console_in`` where its keys go to the guest one by
    one: made before any thread, and closed by who made it. ``escape`` is the byte before vmrun's own keys, None for
    none.
    """

    console_in: int | None = None
    console_out: int | None = 1
    command_in: int | None = None
    command_out: int | None = 1
    command_err: int | None = 2
    output: int = 1
    terminal: RawTerminal | None = None
    escape: int | None = 1


@frozen
class Policy:
    """How a run is kept.

    ``reboots`` lets the guest really reboot; ``results`` is the folder above ``.vmrun``, or None.
    """

    reboots: bool = True
    results: Path | None = None


def owns(fd: int) -> bool:
    """Return whether ``fd`` is a terminal on which this process may act: it stands in its foreground."""
    try:
        return os.isatty(fd) and os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
