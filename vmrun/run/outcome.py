"""What came of a run: frozen facts, and the one rule that turns them into an exit code."""

from __future__ import annotations

import signal
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
TRIPLE_FAULT = "triple-fault"  # an x86 vCPU shut down: it could not even report its fault
EARLY_POWEROFF = "early-poweroff"  # the guest switched itself off before the status that was due
EARLY_RESET = "early-reset"  # its kernel was told to restart before the status that was due
SILENT_RESET = "silent-reset"  # it was reset, and no console has a word of its kernel on why
EARLY_EXIT = "early-exit"  # the guest ended the run with a value of its own before the status that was due
ENGINE_ERROR = "engine-error"  # vmrun itself failed

FAULTS = (FAULT, TRIPLE_FAULT)
"""Reasons of which an engine has more to tell."""

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

    ``panic`` is the kernel's line. ``status`` is what init reported for the command. ``init`` says that vmrun's own
    init has reported anything at all; ``restarts``, that the kernel was told to restart: it said so, or its devices
    show it.
    """

    panic: str | None = None
    status: int | None = None
    init: bool = False
    restarts: bool = False


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


def stopped_by(number: int) -> Event:
    """Return the event of a signal that was sent to vmrun."""
    return Event(SIGNAL, number, f"stopped by {signal.Signals(number).name}")


def guest_code(value: int) -> int:
    """Return the exit code for a failure value of the guest: its low byte, 1 where that would say success."""
    return value & 0xFF or 1


def judge(event: Event, heard: Heard, *, reports: bool, status_due: bool) -> Verdict:
    """Return the verdict on a run that ``event`` ended, given everything heard before the vCPUs stood still.

    ``reports`` says that vmrun's own init ran in the guest. ``status_due`` says that a command ran under it, so that a
    status must have been reported: a pass needs positive evidence, and an end without it is the guest's death.
    """
    if event.reason == ENGINE_ERROR or event.reason in FAULTS:
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
    if status_due and heard.status is None:
        return _without_status(event, heard)
    if event.reason == EXIT:
        return Verdict(EXIT, guest_code(event.value), f"the guest ended the run with {event.value}")
    if status_due:
        return _judge_command(event, heard)
    if event.reason == REBOOT and reports and not (heard.init or heard.restarts):
        # A kernel that dies the same way each time would be started for ever.
        return _silent_reset("before its init said a word")
    if event.reason == REBOOT:
        return Verdict(REBOOT, 0, "the guest asked for a reboot")
    return Verdict(POWEROFF, 0, "the guest powered off")


def _judge_command(event: Event, heard: Heard) -> Verdict:
    if event.reason == REBOOT:
        return Verdict(REBOOT, CODE_DEAD, f"the command ended with {heard.status}, but the guest rebooted")
    return Verdict(POWEROFF, heard.status or 0, f"the command ended with {heard.status}")


def _without_status(event: Event, heard: Heard) -> Verdict:
    """Judge a guest that ended of itself while the status of its command was due."""
    when = "before its command reported a status" if heard.init else "before its init said a word"
    if event.reason == EXIT:
        return Verdict(EARLY_EXIT, CODE_DEAD, f"the guest ended the run with {event.value} {when}")
    if event.reason == POWEROFF:
        return Verdict(EARLY_POWEROFF, CODE_DEAD, f"the guest powered off {when}")
    if heard.restarts:
        return Verdict(EARLY_RESET, CODE_DEAD, f"the guest rebooted {when}")
    return _silent_reset(when)


def _silent_reset(when: str) -> Verdict:
    why = "its kernel said nothing of a restart, so it died unseen or was reset by force"
    return Verdict(SILENT_RESET, CODE_DEAD, f"the guest was reset {when}: {why}")
