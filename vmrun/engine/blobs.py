"""Puts the bytes of a plan's blobs into guest RAM, from the plan itself or from the files that it names."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from vmrun import regular
from vmrun.core.machine import CoreMachine
from vmrun.errors import HostError
from vmrun.images import digests
from vmrun.images.bound import LARGEST
from vmrun.plan.model import SEED_SIZE, Blob, MachinePlan
from vmrun.units import format_size

_AGAIN = "plan the manifest again"

PIECE = 1 << 20
"""Bytes of a file that are copied between two looks at whether they are still wanted."""


class Loading:
    """Copies blobs into RAM on a thread of its own while a ``with`` block makes the rest of the machine.

    A kernel of 50 MiB takes about as long as everything else. The block's end waits, and raises what `load_blob` did.
    Where the block or the wait is left by another exception, an interrupt above all, the copying is given up at once.
    """

    def __init__(self, core: CoreMachine, blobs: Sequence[Blob]) -> None:
        self._core = core
        self._blobs = blobs
        self._failure: BaseException | None = None
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blobs", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._thread.join()
        finally:  # RAM is unmapped next: nobody may write to it any more
            self._given_up.set()
            self._thread.join()
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            for blob in self._blobs:
                load_blob(self._core, blob, self._given_up.is_set)
        except BaseException as error:  # handed to the thread that waits
            self._failure = error


def load_blob(core: CoreMachine, blob: Blob, given_up: Callable[[], bool] = lambda: False) -> None:
    """Copy ``blob`` into RAM, a piece at a time; ``given_up`` is asked before each, and ends the copying.

    Raise HostError E311 where its file cannot be read, E312 where it is another than planned.
    """
    if blob.data is not None:
        core.write_ram(blob.gpa, blob.data)
        if blob.seed is not None:
            core.write_ram(blob.gpa + blob.seed, os.urandom(SEED_SIZE))
        return
    if blob.path is None:
        raise HostError(f"the plan has no bytes for {blob.name}", code="E310", remedy="plan the manifest again")
    try:
        fd = regular.open_fd(blob.path)
        try:
            _check_file(fd, blob)
            for at in range(0, blob.size, PIECE):
                if given_up():
                    return
                core.load_fd(blob.gpa + at, fd, blob.offset + at, min(PIECE, blob.size - at), blob.name)
        finally:
            os.close(fd)
    except regular.NotRegular:
        raise _no_file(blob) from None
    except OSError as error:
        raise _unreadable(blob, error) from error


def _check_file(fd: int, blob: Blob) -> None:
    """Raise HostError E312 unless the open file is one that has all the planned bytes."""
    found = os.fstat(fd)
    planned = blob.offset + blob.size
    if found.st_size < planned:
        short = f"{blob.name}: {blob.path} has {found.st_size} bytes, and {planned} were planned"
        raise HostError(short, code="E312", remedy=_AGAIN)


def verify_digests(plan: MachinePlan) -> None:
    """Raise HostError unless a saved plan's files are the ones it was made from: E311 unreadable, E312 others.

    A plan made or looked up in this process needs no such look: its files were seen just now. What a saved plan says of
    a file's digest is a pin, wherever the file lies: its bytes are read, once as long as the file does not change.
    """
    named = {(blob.path, blob.sha256): blob for blob in plan.blobs}
    for (path, sha256), blob in named.items():
        if path is None:
            continue
        try:
            size = regular.size(path)
            if size > LARGEST:
                text = f"{blob.name}: {path} has {format_size(size)}, more than any file that a guest boots from"
                raise HostError(text, code="E312", remedy=_AGAIN)
            found = digests.of_file(path) if sha256 is not None else None
        except regular.NotRegular:
            raise _no_file(blob) from None
        except OSError as error:
            raise _unreadable(blob, error) from error
        if found != sha256:
            text = f"{blob.name}: {path} has changed since it was planned"
            raise HostError(text, code="E312", remedy=_AGAIN)


def _no_file(blob: Blob) -> HostError:
    return HostError(f"{blob.name}: {blob.path} is no regular file", code="E312", remedy=_AGAIN)


def _unreadable(blob: Blob, error: OSError) -> HostError:
    text = f"{blob.name}: {blob.path}: {error.strerror}"
    return HostError(text, code="E311", errno=error.errno, remedy="fetch and plan the manifest again")
