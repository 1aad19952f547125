"""The host's side of a run's streams. It stays while machines come and go: a reboot does not cut the output."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

from vmrun.errors import HostError
from vmrun.plan.model import MachinePlan
from vmrun.run.attach import Attachment, Observer
from vmrun.run.console import Sink, Tail, Tap
from vmrun.run.loop import Loop
from vmrun.run.outcome import ENGINE_ERROR, SIGNAL, STOPPED, Event


class HostSide:
    """Sinks for the host's descriptors, log files, the terminal, and the console's tail. ``end`` ends the run."""

    def __init__(
        self,
        plan: MachinePlan,
        loop: Loop,
        attachment: Attachment,
        observer: Observer,
        end: Callable[[Event], None],
        stack: contextlib.ExitStack,
    ) -> None:
        self.attachment = attachment
        self.observer = observer
        self.tail = Tail()
        self.lost: Event | None = None
        self._plan = plan
        self._loop = loop
        self._end = end
        self._stack = stack
        self._sinks: dict[int, Sink] = {}
        self._logs: dict[str, list[Tap]] = {}

    # ---- output ----------------------------------------------------------------------------------------------------

    def sink(self, fd: int | None) -> Sink | None:
        """Return the one sink of a host descriptor, None for None."""
        if fd is None:
            return None
        if fd not in self._sinks:
            failed = self._output_failed if fd == self.attachment.output else _shrug
            self._sinks[fd] = Sink(self._loop, fd, failed)
        return self._sinks[fd]

    @property
    def idle(self) -> bool:
        """True when everything is written."""
        return all(sink.idle for sink in self._sinks.values())

    def drop(self) -> None:
        """Forget what nobody reads."""
        for sink in self._sinks.values():
            if not sink.idle:
                sink.drop()

    def _output_failed(self, error: OSError) -> None:
        if error.errno in (errno.EPIPE, errno.EIO):
            self.lost = Event(SIGNAL, int(signal.SIGPIPE), "nobody reads standard output any more")
        else:
            self.lost = Event(ENGINE_ERROR, detail=f"the guest's output is lost: standard output: {error.strerror}")
        self._end(self.lost)

    # ---- logs ------------------------------------------------------------------------------------------------------

    def taps(self, console: str) -> tuple[Tap, ...]:
        """Return the logs of a console: its own, and the one of the results, which has them all."""
        return (*self._logs.get("", ()), *self._logs.get(console, ()))

    def open_results(self, root: Path | None) -> Path | None:
        """Return the new folder of this run's results, with the console's log in it; None, with a warning, without."""
        if root is None:
            return None
        from vmrun.run import history, results

        try:
            folder = results.make_folder(root)
            held = history.hold(folder)
            if held is not None:
                self._stack.callback(os.close, held)
            results.write_dtb(folder, self._plan)
            self._log("", folder / "console.log")
            return folder
        except OSError as error:
            self.observer.warn(f"no results are kept: {error.filename or root}: {error.strerror}")
            return None

    def open_logs(self) -> None:
        """Open the logs that the manifest asks for. Raise HostError E511 where that cannot be."""
        for console, path in self._plan.run.logs:
            try:
                self._log(console, Path(path))
            except OSError as error:
                text = f"the log of {console} cannot be written: {path}: {error.strerror}"
                raise HostError(text, code="E511", errno=error.errno, remedy="change `log` in the manifest") from error

    def _log(self, console: str, path: Path) -> None:
        # A named pipe without a reader is refused, rather than waited for.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(path, flags, 0o644)
        self._stack.callback(os.close, fd)
        sink = Sink(self._loop, fd, lambda error: self.observer.warn(f"{path} ends here: {error.strerror}"))
        self._logs.setdefault(console, []).append(sink.write)

    # ---- the terminal ----------------------------------------------------------------------------------------------

    def take_terminal(self, power: Callable[[], None]) -> Callable[[bytes], bytes]:
        """Give the terminal to the guest, if it is to have it; return what translates a person's keys.

        ``power`` presses the guest's power key.
        """
        attachment = self.attachment
        if attachment.terminal is None:
            return bytes
        from vmrun.run.terminal import EscapeKeys, key_name

        attachment.terminal.make_raw()
        if attachment.escape is None:
            return bytes
        key = key_name(attachment.escape)
        words = (
            f"{key} x quits, {key} p presses the power key, {key} h shows this, {key} {key} sends {key} to the guest"
        )

        def helps() -> None:
            self.observer.note(words)

        def quits() -> None:
            self._end(Event(STOPPED, detail=f"quit by {key} x"))

        return EscapeKeys(attachment.escape, {"x": quits, "p": power, "h": helps, "?": helps}).feed

    def retake_terminal(self) -> None:
        """Enter raw mode again after a stop and a continue."""
        if self.attachment.terminal is not None:
            self.attachment.terminal.retake()

    def return_terminal(self) -> None:
        """Restore the terminal now, and what shows the console, whatever the guest wrote to it."""
        if self.attachment.console_out in self._sinks:
            from vmrun.run.terminal import make_sane

            make_sane(self.attachment.console_out)
        if self.attachment.terminal is not None:
            self.attachment.terminal.restore()

    def console_size(self) -> tuple[int, int] | None:
        """Return columns and rows of the terminal that shows the console, or None."""
        if self.attachment.console_out is None:
            return None
        try:
            columns, rows = os.get_terminal_size(self.attachment.console_out)
        except OSError:
            return None
        return (columns, rows) if columns and rows else None


def _shrug(error: OSError) -> None:
    """Lose the command's messages where standard error is gone; the run itself does not depend on them."""
