"""What a look at this host's KVM found, as data."""

from __future__ import annotations

from vmrun.errors import HostError
from vmrun.frozen import frozen

FULL, RESTRICTED, NONE = "full", "restricted", "none"

SLOW = 20_000_000
"""Instructions a second. An emulator of single instructions reaches a few million, the slowest hardware a billion, and
hardware that is itself emulated by a translator some hundred million."""


_EXITS = {"x86_64": "real, protected and long mode, port and MMIO exits"}
"""What emulated kernel-mode code can do on an architecture that has more than MMIO."""


@frozen
class Try:
    """An instruction in kernel mode: whether it worked (None: guests are not shown it, so that a kernel does without),
    what a kernel needs it for, and why it did not."""

    name: str
    works: bool | None
    purpose: str
    why: str = ""


@frozen
class MicroGuest:
    """What a guest of a few milliseconds found: kernel-mode instructions a second, and what it tried."""

    speed: int
    tries: tuple[Try, ...]

    @property
    def lacking(self) -> tuple[Try, ...]:
        """What did not work."""
        return tuple(one for one in self.tries if one.works is False)

    @property
    def emulated(self) -> bool:
        """Whether kernel-mode code is emulated instruction by instruction."""
        return self.speed < SLOW


@frozen
class Standing:
    """What KVM can do here. ``capabilities`` are KVM's answers by name; ``guest`` is None where none was run."""

    arch: str
    error: HostError | None
    capabilities: tuple[tuple[str, int], ...] = ()
    guest: MicroGuest | None = None

    @property
    def verdict(self) -> str:
        """``full``: Linux boots; ``restricted``: only small guests run; ``none``."""
        if self.error is not None:
            return NONE
        guest = self.guest
        return RESTRICTED if guest and (guest.emulated or guest.lacking) else FULL

    @property
    def why(self) -> str:
        """One line on the verdict."""
        if self.error is not None:
            return self.error.message
        if self.guest is None:
            return f"{self.arch} guests"
        if self.verdict == FULL:
            return f"{self.arch} guests at the processor's own speed"
        return f"{'; '.join(_complaints(self.guest))}; no Linux kernel boots on it"

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
        return ""


def _complaints(guest: MicroGuest) -> list[str]:
    out = []
    if guest.emulated:
        out.append(f"kernel-mode code is emulated, {guest.speed / 1e6:.1f} million instructions a second")
    if guest.lacking:
        out.append(f"kernel mode lacks {', '.join(one.name for one in guest.lacking)}")
    return out


def require_linux(standing: Standing) -> None:
    """Raise HostError where ``standing`` cannot boot a Linux kernel: the host's own error, or E330."""
    if standing.error is not None:
        raise standing.error
    if standing.verdict == RESTRICTED:
        raise HostError(f"this host's KVM is restricted: {standing.why}", code="E330", remedy=standing.remedy)
