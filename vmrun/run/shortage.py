"""What a process runs out of, told from any error by what the host says of it: descriptors, memory, its own folder."""

from __future__ import annotations

import errno
import os
import resource

from vmrun.errors import HostError

_MEMORY = ("can't start new thread", "failed to map segment", "cannot allocate memory", "Cannot allocate memory")
"""What Python, the dynamic linker and the C library say where the kernel gave no memory, in errors without a number."""


def named(error: BaseException) -> HostError | None:
    """Return the host's shortage behind ``error``, its cause included, or None where it is something else.

    E517 no more files can be opened, E518 no more memory or threads, E519 the working folder is gone.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, HostError) and seen.code in ("E517", "E518", "E519"):
            return seen
        found = _named(seen)
        if found is not None:
            return found
        seen = seen.__cause__
    return None


def _named(error: BaseException) -> HostError | None:
    bare = isinstance(error, OSError) or (isinstance(error, HostError) and error.remedy is None)
    number = error.errno if isinstance(error, (OSError, HostError)) and bare else None
    if number in (errno.EMFILE, errno.ENFILE):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        whose = f"this process may have {soft}" if number == errno.EMFILE else "the host has no more"
        most = "unlimited" if hard == resource.RLIM_INFINITY else hard
        return HostError(
            f"too many open files: {whose}",
            code="E517",
            errno=number,
            remedy=f"raise the limit: ulimit -n 1024 (here {most} at most)",
        )
    starved = isinstance(error, (ImportError, RuntimeError)) and any(words in str(error) for words in _MEMORY)
    if number == errno.ENOMEM or isinstance(error, MemoryError) or starved:
        what = error.message if isinstance(error, HostError) else " ".join(str(error).split())
        return HostError(
            f"the host gives this process no more memory or threads{f': {what}' if what else ''}",
            code="E518",
            errno=errno.ENOMEM,
            remedy="raise its limits (ulimit -v, ulimit -u, the cgroup's), or set a smaller memory.size",
        )
    if isinstance(error, FileNotFoundError) and _homeless():
        return HostError(
            "the working folder is gone", code="E519", errno=errno.ENOENT, remedy="change to a folder that exists"
        )
    return None


def _homeless() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - it is asked whether there is one
    except FileNotFoundError:
        return True
    return False
