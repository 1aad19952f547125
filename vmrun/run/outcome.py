"""What came of a run: frozen facts, and the one rule that turns them into an exit code."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vmrun.frozen import frozen

POWEROFF = "poweroff"  # the guest switched itself off
REBOOT = "reboot"  # the guest asked for a reset
EXIT = "exit"  # the guest ended the run with a value of its own
PANIC = "panic"  # the guest's kernel died
TIMEOUT = "timeout"  # a bound of [run] was reached
STOPPED = "stopped"  # the person at the console quit
SIGNAL = "signal"  # vmrun was killed by a signal
FAULT = "fault"  # the engine cannot carry the guest on
ENGINE_ERROR = "engine-error"  # vmrun itself failed

CODE_TIMEOUT = 124
CODE_VMRUN = 125
CODE_DEAD = 255


@frozen
class Event:
    """What ended a run, as first seen. ``value`` is the guest's, or the signal's number; ``detail`` is one line."""

    reason: str
    value: int = 0
    detail: str = ""


@frozen
class Heard:
    """What the guest had said by the time its vCPUs stood still.

    ``panic`` is the kernel's line. ``status`` is what init reported for the command.
    """

    panic: str | None = None
    status: int | None = None


@frozen
class Phase:
    """A stretch of a run, in nanoseconds since the process started."""

    name: str
    start_ns: int
    end_ns: int


@frozen
class GuestFault:
    """Something that the guest did wrong, counted by its device."""

    device: str
    what: str
    times: int


@frozen
class HostFault:
    """Something that the host refused a device: ``what`` it was doing, to which ``file``, and how often in all."""

    device: str
    what: str
    file: str
    errno: int
    times: int


@frozen
class Verdict:
    """How a run is judged: the reason, the exit code of ``up`` and ``run``, and one line on why."""

    reason: str
    code: int
    detail: str


@frozen
class Outcome:
    """The result of one run.

    Times are nanoseconds, ``tail`` is the end of the console as the guest wrote it, ``folder`` has the results.
    ``report`` is what the engine tells of a fault, lines of text, and empty otherwise.
    """

    reason: str
    code: int
    detail: str
    value: int = 0
    status: int | None = None
    boots: int = 1
    phases: tuple[Phase, ...] = ()
    vcpus: tuple[Mapping[str, int], ...] = ()
    counters: Mapping[str, int] = MappingProxyType({})
    guest_errors: tuple[GuestFault, ...] = ()
    host_errors: tuple[HostFault, ...] = ()
    report: str = ""
    tail: bytes = b""
    folder: str | None = None


def guest_code(value: int) -> int:
    """Return the exit code for a failure value of the guest: its low byte, 1 where that would say success."""
    return value & 0xFF or 1


def judge(event: Event, heard: Heard, *, status_due: bool) -> Verdict:
    """Return the verdict on a run that ``event`` ended, given everything heard before the vCPUs stood still.

    ``status_due`` says that a command ran under vmrun's own init, so that a status must have been reported: a pass
    needs positive evidence.
    """
    if event.reason in (ENGINE_ERROR, FAULT):
        code = CODE_VMRUN if event.reason == ENGINE_ERROR else CODE_DEAD
        return Verdict(event.reason, code, event.detail)
    if event.reason == SIGNAL:
        return Verdict(SIGNAL, 128 + event.value, event.detail)
    if heard.panic is not None:
        after = "" if heard.status is None else f" (its command had ended with {heard.status})"
        return Verdict(PANIC, CODE_DEAD, f"the guest's kernel died: {heard.panic}{after}")
    if event.reason == TIMEOUT:
        return Verdict(TIMEOUT, CODE_TIMEOUT, event.detail)
    if event.reason == STOPPED:
        return Verdict(STOPPED, 0, event.detail)
    if event.reason == EXIT:
        return Verdict(EXIT, guest_code(event.value), f"the guest ended the run with {event.value}")
    if status_due:
        return _judge_command(event, heard)
    if event.reason == REBOOT:
        return Verdict(REBOOT, 0, "the guest asked for a reboot")
    return Verdict(POWEROFF, 0, "the guest powered off")


def _judge_command(event: Event, heard: Heard) -> Verdict:
    how = "powered off" if event.reason == POWEROFF else "rebooted"
    if heard.status is None:
        return Verdict(event.reason, CODE_VMRUN, f"the guest {how}, but no status of its command was reported")
    if event.reason == REBOOT:
        return Verdict(REBOOT, CODE_DEAD, f"the command ended with {heard.status}, but the guest rebooted")
    return Verdict(POWEROFF, heard.status, f"the command ended with {heard.status}")
