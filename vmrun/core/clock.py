"""The machine's clock, as Python reads it and waits by it: the C core's, real or virtual (see ``clock_api.h``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from vmrun._core import ffi, lib

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine
    from vmrun.core.state import State

NEVER = (1 << 64) - 1


class CoreTimer:
    """One wait of a device that Python serves: ``call`` is called on the machine's I/O thread.

    It may come after `cancel` or `arm` where it was on its way: a device looks again, with its lock.
    """

    def __init__(self, machine: CoreMachine, call: Callable[[], None]) -> None:
        self.call = call
        self._self = ffi.new_handle(self)
        out = ffi.new("vmr_timer **")
        machine.check(lib.vmr_timer_new(machine.handle, lib.vmr_python_expired, self._self, out), "timer")
        self._c = out[0]

    def arm(self, deadline_ns: int) -> None:
        """Wait anew, for a time of the clock in nanoseconds; one that has passed is due at once. Any thread."""
        lib.vmr_timer_arm(self._c, min(max(deadline_ns, 0), NEVER))

    def cancel(self) -> None:
        """Wait no more. Any thread."""
        lib.vmr_timer_cancel(self._c)


@ffi.def_extern()
def vmr_python_expired(opaque: Any) -> None:
    """Call what the timer was made for."""
    ffi.from_handle(opaque).call()


class CoreClock:
    """The clock of ``machine``."""

    def __init__(self, machine: CoreMachine) -> None:
        self._machine = machine
        self._c = lib.vmr_machine_clock(machine.handle)
        self._timers: list[CoreTimer] = []
        """They live as long as the machine: C may call them until its end."""

    def now_ns(self) -> int:
        """Return nanoseconds since the machine started to run."""
        return int(lib.vmr_clock_time(self._c))

    def day_ns(self) -> int:
        """Return the time of day in nanoseconds since 1970: a base, and `now_ns`."""
        return int(lib.vmr_clock_day(self._c))

    def timer(self, call: Callable[[], None]) -> CoreTimer:
        """Return a new timer that is not armed; its machine has not started."""
        self._timers.append(CoreTimer(self._machine, call))
        return self._timers[-1]

    def make_virtual(self, day_ns: int) -> None:
        """Let it move only by `advance`, from a time of day on. Raise HostError once it has begun."""
        self._machine.check(lib.vmr_clock_make_virtual(self._c, day_ns), "clock")

    def advance(self, ns: int) -> None:
        """Move a virtual clock; what falls due is called before this returns. Raise HostError for a real one."""
        self._machine.check(lib.vmr_clock_advance(self._c, ns), "clock")

    def hold(self) -> None:
        """Let no time pass. Idempotent."""
        lib.vmr_clock_hold(self._c)

    def save(self) -> State:
        """Return the time, and the base of the time of day."""
        return self._machine.save_state(self._c, "clock")

    def load(self, state: State) -> None:
        """Go on from a saved time. Devices are loaded after it. Raise HostError E370 for what is none."""
        self._machine.load_state(self._c, state, "clock")

    def release(self) -> None:
        """Let time go on from where it stood. Idempotent."""
        lib.vmr_clock_release(self._c)
