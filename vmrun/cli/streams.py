"""Standard files that every verb can count on: all three are open, what they cannot encode is replaced, and what
cannot be written is an error of one line (standard output) or lost (standard error).
"""

from __future__ import annotations

import codecs
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from vmrun.errors import HostError

_PLAIN = {"…": "...", "─": "-", "│": "|", "├": "|", "└": "`", "·": "-"}
"""What stands in for the signs that vmrun itself draws with, where the locale has but ASCII."""

_REPLACE = "vmrun.replace"


def settle() -> None:
    """Make the standard files fit for use; the first thing that a command does."""
    _open_closed()
    if sys.stdout is None:
        # Written to as if it were open, so that a verb learns that nobody can read it.
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), "w")  # noqa: SIM115  # as long as we live
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
    codecs.register_error(_REPLACE, _replace)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_REPLACE)


def _open_closed() -> None:
    """Open /dev/null for each of 0, 1, 2 that was closed, so that no other file ever becomes one of them."""
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return what is written in place of characters that the stream's encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    chars = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or c.encode("unicode_escape").decode() for c in chars), error.end


class Writing:
    """A context in which standard output is written to, and flushed at its end.

    Raise HostError E520 where that fails; BrokenPipeError where the reader has left.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as failed:
            raise _not_written(failed) from None
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise _not_written(error) from None


def _not_written(error: OSError) -> HostError:
    from vmrun.errors import HostError

    drop(sys.stdout)
    return HostError(
        f"standard output cannot be written: {error.strerror}",
        code="E520",
        errno=error.errno,
        remedy="give it a file or a pipe with room",
    )


def write(text: str | bytes) -> None:
    """Write to standard output: bytes as they are, text in the locale's encoding. Raise as `Writing`."""
    with Writing():
        if isinstance(text, str):
            sys.stdout.write(text)
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(text)


def tell(text: str) -> None:
    """Write one line to standard error; where that fails it is lost, and the exit code says it all."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)


def drop(stream: TextIO) -> None:
    """Let what is still to be written to ``stream`` go nowhere, so that the interpreter's last flush succeeds."""
    try:
        fd = stream.fileno()
    except (OSError, ValueError):  # no file behind it
        return
    null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(null, fd)
    os.close(null)
