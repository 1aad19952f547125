"""A run from the first instruction to the outcome: one thread per vCPU, and one that waits for everything else.

The waiting thread serves the guest's streams, the terminal, signals and timers. Whatever ends the run first is its
event: the vCPUs are stopped, then all that the guest had said by then is read, and both together are judged.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from vmrun.engine.seam import Engine
from vmrun.errors import VmrunError
from vmrun.plan.model import MachinePlan
from vmrun.run.attach import Attachment, Observer, Policy
from vmrun.run.boot import Boot
from vmrun.run.host import HostSide
from vmrun.run.loop import Loop
from vmrun.run.outcome import (
    CODE_VMRUN,
    ENGINE_ERROR,
    FAULTS,
    REBOOT,
    SIGNAL,
    STOPPED,
    TIMEOUT,
    Event,
    Outcome,
    judge,
    stopped_by,
)
from vmrun.run.phases import PhaseClock
from vmrun.run.signals import KILLERS, Signals
from vmrun.units import format_time_ns

FORCE_AFTER_NS = 300_000_000  # signals that come in a bunch are one


def run_plan(
    plan: MachinePlan,
    engine: Engine,
    attachment: Attachment,
    policy: Policy,
    observer: Observer,
    clock: PhaseClock | None = None,
) -> Outcome:
    """Build the machine of ``plan``, run it to its end, and return the outcome.

    Raise VmrunError where the machine cannot be built or its engine fails in a way that leaves no outcome.
    """
    return _Session(plan, engine, attachment, policy, observer, clock or PhaseClock()).run()


class _Session:
    """One call of :func:`run_plan`: what stays from boot to boot, and the signals."""

    def __init__(
        self,
        plan: MachinePlan,
        engine: Engine,
        attachment: Attachment,
        policy: Policy,
        observer: Observer,
        clock: PhaseClock,
    ) -> None:
        self._plan = plan
        self._engine = engine
        self._policy = policy
        self._observer = observer
        self._clock = clock
        self._loop = Loop()
        self._stack = contextlib.ExitStack()
        self._host = HostSide(plan, self._loop, attachment, observer, self._end, self._stack)
        watched = (*KILLERS, signal.SIGWINCH, signal.SIGCONT)
        self._signals = Signals(self._loop, watched, self._on_signal)
        self._boot = self._next_boot()
        self._killed_ns: int | None = None
        self._folder: Path | None = None

    def _next_boot(self) -> Boot:
        return Boot(self._plan, self._loop, self._host, self._begin, self._signals.interrupting)

    def run(self) -> Outcome:
        started = time.time()
        with self._stack:
            self._stack.callback(self._loop.close)
            self._folder = self._host.open_results(self._policy.results)
            self._stack.enter_context(self._signals)
            self._stack.callback(self._host.return_terminal)
            try:
                self._host.open_logs()
                outcome = self._run_boots()
            except (VmrunError, OSError, MemoryError, RuntimeError) as error:
                from vmrun.run.shortage import named

                self._clock.end()
                told = named(error) or error
                outcome = Outcome(ENGINE_ERROR, CODE_VMRUN, str(told), phases=self._clock.phases())
                self._write_result(outcome, started)
                if told is error:
                    raise
                raise told from error
            self._write_result(outcome, started)
        return outcome

    def _run_boots(self) -> Outcome:
        total_ns = self._plan.run.total_ns
        if total_ns is not None:
            late = Event(TIMEOUT, detail=f"the run took longer than {format_time_ns(total_ns)}")
            self._loop.set_timer("total", self._loop.clock() + total_ns, lambda: self._end(late))
        boots = 1
        while True:
            self._begin("build")
            event = self._boot.run(self._engine)
            event = self._host.lost or event
            reports = self._plan.run.reports
            due = reports and bool(self._plan.run.command)
            verdict = judge(event, self._boot.heard, reports=reports, status_due=due)
            if verdict.reason != REBOOT or verdict.code != 0 or not self._policy.reboots:
                break
            self._observer.note("the guest reboots: the same machine starts afresh, with empty overlays")
            boots += 1
            self._boot = self._next_boot()
        self._clock.end()
        return Outcome(
            verdict.reason,
            verdict.code,
            verdict.detail,
            value=event.value,
            status=self._boot.heard.status,
            boots=boots,
            phases=self._clock.phases(),
            vcpus=self._boot.remains.vcpus,
            counters=self._boot.remains.counters,
            guest_errors=self._boot.remains.guest_errors,
            host_errors=self._boot.remains.host_errors,
            report=self._boot.remains.report if verdict.reason in FAULTS else "",
            tail=self._host.tail.bytes(),
            folder=None if self._folder is None else str(self._folder),
        )

    def _begin(self, phase: str) -> None:
        self._clock.begin(phase)
        self._observer.phase(phase, self._clock.now_ns())

    def _end(self, event: Event) -> None:
        if event.reason in (SIGNAL, STOPPED):
            self._boot.hurry = True
        self._boot.end(event)

    def _write_result(self, outcome: Outcome, started: float) -> None:
        if self._folder is None or self._policy.results is None:
            return
        from vmrun.run import history, results

        try:
            results.write_acpi(self._folder, self._plan)
            results.write_result(self._folder, self._plan, outcome, started)
        except OSError as error:
            self._observer.warn(f"no result.json: {error.filename or self._folder}: {error.strerror}")
        history.forget(self._policy.results)

    # ---- signals ---------------------------------------------------------------------------------------------------

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGCONT:
            self._host.retake_terminal()
        elif number == signal.SIGWINCH:
            self._boot.resize()
        elif self._killed_ns is None:
            self._killed_ns = self._loop.clock()
            event = stopped_by(number)
            if self._boot.ended:
                self._host.lost = event  # the guest's last words may not all be out
            self._end(event)
        elif number != signal.SIGHUP and self._loop.clock() - self._killed_ns > FORCE_AFTER_NS:
            self._host.return_terminal()
            os._exit(128 + number)
