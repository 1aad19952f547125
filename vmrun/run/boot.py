"""One machine from its build to its end. A guest that reboots gets another one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager

from vmrun.engine.seam import Engine, Machine
from vmrun.plan.model import MachinePlan
from vmrun.run.console import Feed, Source, Tap
from vmrun.run.host import HostSide
from vmrun.run.link import Link, missing_driver
from vmrun.run.loop import Loop
from vmrun.run.outcome import ENGINE_ERROR, FAULT, PANIC, TIMEOUT, Event, Heard, stopped_by
from vmrun.run.signals import Interrupted
from vmrun.run.takedown import Remains, TakeDown
from vmrun.run.trouble import Trouble
from vmrun.run.vcpus import VcpuThreads
from vmrun.run.watch import ControlPort, KernelWatch, ReadyWatch
from vmrun.run.wiring import Stream, Wiring, agent, consoles
from vmrun.units import format_time_ns

PANIC_GRACE_NS = 1_000_000_000  # for the kernel's report after the line that says panic
OFF_GRACE_NS = 10_000_000_000  # from the command's status to power-off
QUIT_DRAIN_NS = 1_000_000_000  # for output that nobody reads, once the run was told to stop
_TIMERS = ("boot", "idle", "panic", "off")


class Boot:
    """Runs one machine of ``plan``. ``phase`` is told the phases as they begin; :meth:`run` may be called once.

    In a block of ``interrupting`` a killing signal raises Interrupted.
    """

    def __init__(
        self,
        plan: MachinePlan,
        loop: Loop,
        host: HostSide,
        phase: Callable[[str], None],
        interrupting: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.hurry = False
        self.remains = Remains()
        self._plan = plan
        self._loop = loop
        self._host = host
        self._phase = phase
        self._trouble = Trouble(loop, host.observer.warn)
        self._interrupting = interrupting
        self._machine: Machine | None = None
        self._vcpus: VcpuThreads | None = None
        self._pending: Event | None = None
        self._sources: list[Source] = []
        self._keys: Feed | None = None  # to the console
        self._input: Feed | None = None  # to the command
        self._links: list[Link] = []
        self._kernels: list[KernelWatch] = []
        self._control = ControlPort(self._on_report)
        # Without init's report and a text to wait for, the kernel's own word says that it is up.
        self._ready = ReadyWatch(plan.run.ready or "as init process")
        self._up = False
        self._last_words_ns = 0

    # ---- what others may do to it ----------------------------------------------------------------------------------

    @property
    def ended(self) -> bool:
        """True once something has ended this machine's run."""
        return self._pending is not None or (self._vcpus is not None and self._vcpus.event is not None)

    def end(self, event: Event) -> None:
        """Stop the vCPUs because of ``event``, unless something came first. Main thread."""
        if self._vcpus is not None:
            self._vcpus.end(event)
        elif self._pending is None:
            self._pending = event

    def resize(self) -> None:
        """Tell the guest the size of its console's terminal."""
        size = self._host.console_size()
        if size is not None and self._machine is not None and not self.ended:
            self._machine.resize_console(*size)

    def _press_power(self) -> None:
        """Press the guest's power key, and say where it has none."""
        if self._machine is not None and not self.ended and not self._machine.press_power():
            self._host.observer.note("this machine has no power key")

    @property
    def heard(self) -> Heard:
        """Return what the guest has said so far."""
        panic = next((watch.line for watch in self._kernels if watch.line is not None), None)
        # A kernel that lets go of its consoles before it says so has let go of all its devices.
        init = self._control.heard
        restarts = any(watch.restarts for watch in self._kernels) or (init and self.remains.released)
        return Heard(panic, self._control.status, init, restarts)

    # ---- its life --------------------------------------------------------------------------------------------------

    def run(self, engine: Engine) -> Event:
        """Build the machine, run it, take it down; return what ended it. Raise VmrunError where it cannot be built."""
        with Wiring(self._plan) as wiring:
            try:
                with self._interrupting():
                    if self._pending is not None:
                        return self._pending
                    machine = engine.build(self._plan, wiring.wires)
            except Interrupted as stop:
                return stopped_by(stop.number)
            vcpus = VcpuThreads(machine, self._loop.wake)
            self._machine, self._vcpus = machine, vcpus
            down = TakeDown(machine, vcpus, self._loop.wake)
            try:
                self._start(machine, vcpus, wiring)
                while vcpus.event is None:
                    self._loop.turn()
            except BaseException as error:
                vcpus.end(Event(ENGINE_ERROR, detail=f"{type(error).__name__}: {error}"))
                raise
            finally:
                self._take_down(down, wiring)
            down.check()
            self.remains = down.remains
            self._trouble.tell(self.remains.host_errors)
            return vcpus.event

    def _start(self, machine: Machine, vcpus: VcpuThreads, wiring: Wiring) -> None:
        keys = self._host.take_terminal(self._press_power)
        self._connect(wiring, keys)
        self.resize()
        machine.start()
        self._trouble.watch(machine)
        self._phase("kernel")
        self._last_words_ns = self._loop.clock()
        for name, bound_ns in (("boot", self._plan.run.boot_ns), ("idle", self._plan.run.idle_ns)):
            if bound_ns is not None:
                self._loop.set_timer(name, self._last_words_ns + bound_ns, getattr(self, f"_on_{name}"))
        vcpus.start()
        if not gc.isenabled():  # a process that began with this run left the collector off until here
            gc.freeze()
            gc.enable()

    def _take_down(self, down: TakeDown, wiring: Wiring) -> None:
        self._trouble.leave()
        for feed in (self._keys, self._input):
            if feed is not None:
                feed.drop()
        for link in self._links:
            link.drop()
        for name in _TIMERS:
            self._loop.cancel_timer(name)
        down.start()
        since = self._loop.clock()
        while not down.done:
            down.hurry = self.hurry
            self._give_up_output(since)
            self._loop.turn(QUIT_DRAIN_NS // 10)
        down.join()
        self._machine = None
        wiring.close_guest_ends()
        while not (self._host.idle and all(source.ended for source in self._sources)):
            self._give_up_output(since)
            self._loop.turn(QUIT_DRAIN_NS // 10)
        for link in self._links:
            link.finish()
        for source in self._sources:
            source.end()
        for watch in self._kernels:
            watch.finish()

    def _give_up_output(self, since: int) -> None:
        """Drop output that nobody reads, once vmrun was told to stop and has waited for a while."""
        if self.hurry and self._loop.clock() - since > QUIT_DRAIN_NS:
            self._host.drop()

    # ---- its streams -----------------------------------------------------------------------------------------------

    def _connect(self, wiring: Wiring, keys: Callable[[bytes], bytes]) -> None:
        attachment = self._host.attachment
        main = next(iter(consoles(self._plan)), None)
        init = agent(self._plan)
        if init is not None:
            # Before the consoles: once a guest has reported here, no text of it is taken for a report.
            self._read(wiring, (init, "vmrun.control"), (self._on_control,), None)
            self._input = self._feed(wiring, (init, "vmrun.stdin"), attachment.command_in, bytes, closes=True)
        if main is not None:
            self._keys = self._feed(wiring, (main, ""), attachment.console_in, keys)
        for console in consoles(self._plan):
            # A guest may speak on any of its consoles, above all where it dies early: none is lost.
            kernel = KernelWatch()
            self._kernels.append(kernel)
            taps = (kernel.feed, self._host.tail.feed, self._on_console, *self._host.taps(console))
            link = self._link(wiring, console) if init is not None else None
            self._read(wiring, (console, ""), taps, attachment.console_out, link)
        if init is not None:
            self._read(wiring, (init, "vmrun.stdout"), (self._on_words,), attachment.command_out)
            self._read(wiring, (init, "vmrun.stderr"), (self._on_words,), attachment.command_err)

    def _read(
        self, wiring: Wiring, stream: Stream, taps: tuple[Tap, ...], out: int | None, link: Link | None = None
    ) -> None:
        fd = wiring.reads(stream)
        if fd is None:
            return
        sink = self._host.sink(out)
        if link is None:
            self._sources.append(Source(self._loop, fd, taps, sink))
            return
        source = Source(self._loop, fd, taps, sink, link.frames.feed, link.sinks)
        self._sources.append(source)
        link.rest = source.pass_on

    def _link(self, wiring: Wiring, console: str) -> Link:
        """Return what may come over ``console`` in place of the ports, all of it for the first that init speaks on."""
        attachment = self._host.attachment
        sinks = tuple(self._host.sink(fd) for fd in (attachment.command_out, attachment.command_err))
        link = Link(self._loop, wiring.writes((console, "")), self._input, sinks, typed=self._keys is not None)
        link.reported = lambda text: self._on_link(link, text)
        link.said = self._on_words
        link.damaged = lambda what: self.end(Event(FAULT, detail=f"the guest's serial line is damaged: {what}"))
        self._links.append(link)
        return link

    def _on_link(self, link: Link, text: bytes) -> None:
        if not self._control.heard:
            driver = missing_driver(text)
            why = f"the guest's kernel has no driver {driver}" if driver else "the guest has no virtio console"
            self._host.observer.note(f"{why}: its command's output and status come over its serial line, slowly")
            for other in self._links:
                other.frames.off = other is not link
            if self._keys is not None and link.pipe is not None:
                self._keys.turn_to(link.pipe)
            self._input = None  # it is sent as the guest asks for it
        self._control.feed(text + b"\n")

    def _feed(
        self,
        wiring: Wiring,
        stream: Stream,
        fd: int | None,
        keys: Callable[[bytes], bytes],
        *,
        closes: bool = False,
    ) -> Feed | None:
        pipe = wiring.writes(stream)
        if pipe is None:
            return None

        def hang_up() -> None:
            if closes:
                wiring.hang_up(stream)

        if fd is None:
            hang_up()
            return None
        return Feed(self._loop, fd, pipe, translate=keys, ended=hang_up, held=self._plan.run.reports)

    # ---- what the guest says ---------------------------------------------------------------------------------------

    def _on_control(self, data: bytes) -> None:
        for link in self._links:  # the guest has its ports: what looks like a frame is text
            link.frames.off = True
        self._control.feed(data)

    def _on_words(self, data: bytes) -> None:
        self._last_words_ns = self._loop.clock()

    def _on_console(self, data: bytes) -> None:
        self._on_words(data)
        self._look_for_ready(data)
        if any(watch.done for watch in self._kernels):
            self.end(Event(PANIC))
        elif self.heard.panic is not None and not self.ended:
            self._loop.set_timer("panic", self._last_words_ns + PANIC_GRACE_NS, lambda: self.end(Event(PANIC)))

    def _look_for_ready(self, data: bytes) -> None:
        if self._up or (self._plan.run.reports and self._plan.run.ready is None):
            return
        self._ready.feed(data)
        if self._ready.seen:
            self._is_up()
            if self._plan.run.ready is not None:
                self._phase("ready")

    def _is_up(self) -> None:
        self._up = True
        self._loop.cancel_timer("boot")

    def _on_report(self, what: str) -> None:
        if what == "init":
            self._phase("init")
        elif what == "command":
            self._phase("command")
            for feed in (self._keys, self._input):  # they have their reader now
                if feed is not None:
                    feed.release()
        else:
            self._phase("off")
            if not self.ended:
                self._loop.set_timer("off", self._loop.clock() + OFF_GRACE_NS, self._on_off)
        if self._plan.run.ready is None:
            self._is_up()

    # ---- when time is up -------------------------------------------------------------------------------------------

    def _on_boot(self) -> None:
        self.end(Event(TIMEOUT, detail=f"the guest was not up within {format_time_ns(self._plan.run.boot_ns or 0)}"))

    def _on_idle(self) -> None:
        bound_ns = self._plan.run.idle_ns or 0
        due_ns = self._last_words_ns + bound_ns
        if due_ns > self._loop.clock():
            self._loop.set_timer("idle", due_ns, self._on_idle)
        else:
            self.end(Event(TIMEOUT, detail=f"the guest said nothing for {format_time_ns(bound_ns)}"))

    def _on_off(self) -> None:
        wait = format_time_ns(OFF_GRACE_NS)
        status = self._control.status
        self.end(Event(FAULT, detail=f"the command ended with {status}, but the guest did not power off within {wait}"))
