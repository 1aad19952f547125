"""What a look at this host's KVM found, as data."""

from __future__ import annotations

from vmrun.errors import HostError
from vmrun.frozen import frozen

FULL, SLOW, RESTRICTED, NONE = "full", "slow", "restricted", "none"

SLOWEST_USUAL = 20_000_000
"""Instructions a second. The slowest hardware reaches a billion; hardware that a translator emulates some hundred
million, and a fifth of that on a machine that is slow and busy itself."""
HUNG = "it does not come back"
"""Why a piece of code failed that ran until it was stopped."""
UNTRIED = "the host was too busy to try it"


_EXITS = {"x86_64": "real, protected and long mode, port and MMIO exits"}
"""What emulated kernel-mode code can do on an architecture that has more than MMIO."""


@frozen
class Try:
    """An instruction in kernel mode: whether it worked (None: nobody knows; guests are not shown it, so that a kernel
    does without, or `UNTRIED`), what a kernel needs it for, and why it did not."""

    name: str
    works: bool | None
    purpose: str
    why: str = ""


@frozen
class MicroGuest:
    """What a guest of a few milliseconds found: kernel-mode instructions a second of the processor's time (0: too few
    were seen to tell), what it tried, and how many rounds of an empty loop this host's Python does in that second."""

    speed: int
    tries: tuple[Try, ...]
    pace: int = 0

    @property
    def lacking(self) -> tuple[Try, ...]:
        """What did not work."""
        return tuple(one for one in self.tries if one.works is False)

    @property
    def emulated(self) -> bool:
        """Whether kernel-mode code is emulated instruction by instruction: slower than this host's own Python.

        A round of Python is some fifty instructions, so hardware is twenty times as fast. Where it is emulated itself,
        slow or busy, Python is as well. An emulator takes thousands of instructions for one: it is fifty times slower.
        """
        return 0 < self.speed < self.pace

    @property
    def slow(self) -> bool:
        """Whether the guest is slower than any hardware, for whatever reason."""
        return self.speed < SLOWEST_USUAL

    @property
    def lasting(self) -> bool:
        """Whether another look would find the same: what failed will, and a speed that was reached can be."""
        return bool(self.lacking) or not (self.slow or any(one.why == UNTRIED for one in self.tries))


@frozen
class Standing:
    """What KVM can do here. ``capabilities`` are KVM's answers by name; ``guest`` is None where none was run."""

    arch: str
    error: HostError | None
    capabilities: tuple[tuple[str, int], ...] = ()
    guest: MicroGuest | None = None

    @property
    def verdict(self) -> str:
        """``full``: Linux boots; ``slow``: it does, as far as anybody can tell; ``restricted``: only small guests run;
        ``none``."""
        if self.error is not None:
            return NONE
        guest = self.guest
        if guest is None:
            return FULL
        if guest.emulated or guest.lacking:
            return RESTRICTED
        return SLOW if guest.slow else FULL

    @property
    def why(self) -> str:
        """One line on the verdict."""
        if self.error is not None:
            return self.error.message
        if self.guest is None:
            return f"{self.arch} guests"
        if self.verdict == FULL:
            return f"{self.arch} guests at the processor's own speed"
        if self.verdict == SLOW:
            return f"{self.arch} guests, {_speed(self.guest)}; the host is slow or busy"
        end = "no Linux kernel boots on it" if self.guest.lacking else "a Linux kernel takes many minutes to boot on it"
        return f"{'; '.join(_complaints(self.guest))}; {end}"

    @property
    def works(self) -> str:
        """One line on what a restricted KVM is still good for, empty otherwise."""
        if self.verdict != RESTRICTED:
            return ""
        return f"small payloads: {_EXITS.get(self.arch, 'MMIO exits')}, interrupts, user-mode code"

    @property
    def remedy(self) -> str:
        """What to do about it, empty where nothing is to be done."""
        if self.error is not None:
            return self.error.remedy or ""
        if self.verdict == RESTRICTED:
            return "use a host with hardware virtualization (inside a virtual machine: nested virtualization)"
        if self.verdict == SLOW:
            return "`vmrun doctor --fresh` looks again, best when the host has less to do"
        return ""


def _complaints(guest: MicroGuest) -> list[str]:
    out = []
    if guest.emulated:
        out.append(f"kernel-mode code is emulated, {_speed(guest)}")
    if guest.lacking:
        out.append(f"kernel mode lacks {', '.join(one.name for one in guest.lacking)}")
    return out


def _speed(guest: MicroGuest) -> str:
    if not guest.speed:
        return "too slow to be measured"
    return f"{guest.speed / 1e6:.1f} million instructions a second"


def admit_linux(standing: Standing, *, insists: bool = False) -> str:
    """Return one line on why a Linux kernel will be slow on ``standing``, "" where it will not be.

    Raise HostError where it cannot boot: the host's own error, or E330. With ``insists`` the user has named KVM, and a
    guest is run that is emulated, as long as no instruction is missing that a kernel needs.
    """
    if standing.error is not None:
        raise standing.error
    if standing.verdict == FULL:
        return ""
    guest = standing.guest
    if standing.verdict == RESTRICTED and not (insists and guest is not None and not guest.lacking):
        raise HostError(f"this host's KVM is restricted: {standing.why}", code="E330", remedy=standing.remedy)
    return f"this host's KVM is {standing.verdict}: {standing.why}"
