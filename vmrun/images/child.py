"""Child processes that end with vmrun, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1  # include/uapi/linux/prctl.h


def ends_with_parent() -> Callable[[], None]:
    """Return what a child runs before its program: it is killed as soon as the calling thread ends, by SIGKILL too.

    Source: PR_SET_PDEATHSIG(2const). Nothing but two system calls happens in the child, whose other threads are gone.
    """
    import ctypes

    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def arm() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the signal was set
            os._exit(1)

    return arm
