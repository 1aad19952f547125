"""A manifest's consoles, the kernel's names of them, and how the run is watched; the same on every board."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.boot.cmdline import find, halves
from vmrun.engine.table import scale_of
from vmrun.errors import PlanError
from vmrun.frozen import frozen
from vmrun.plan.files import BootFiles
from vmrun.plan.model import RunPlan
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

UART_ID = "uart0"
_LONGEST_NS = (1 << 64) - 1
"""The longest time of a saved plan, some 584 years; a year of the slowest engine would be more."""


@frozen
class Console:
    """A console of the manifest: the device that serves it, and its name in the kernel."""

    device: str
    tty: str
    log: str | None


def consoles(manifest: Manifest, board: str, uart: str = "ttyS0") -> Iterator[Console]:
    """Yield the consoles, the main one, which is the manifest's first, first; the UART where it names none.

    ``uart`` is the kernel's name of the board's UART.
    """
    uarts = hvcs = 0
    for name, console in manifest.console.items():
        if console.device == "serial":
            if uarts:
                raise PlanError(
                    f"two serial consoles, and {board} has one UART",
                    code="E108",
                    key=("console", name),
                    remedy='write device = "virtio"',
                )
            uarts += 1
            yield Console(UART_ID, uart, console.log)
        else:
            yield Console(f"console.{name}", f"hvc{hvcs}", console.log)
            hvcs += 1
    if not manifest.console:
        yield Console(UART_ID, uart, None)


def own(manifest: Manifest) -> str:
    """Return the manifest's own command line."""
    words = manifest.boot.cmdline
    return words if isinstance(words, str) else " ".join(words)


def says(manifest: Manifest, name: str) -> bool:
    """Return whether the manifest's own command line has the parameter ``name``."""
    return bool(find(own(manifest), name))


def cmdline(
    manifest: Manifest,
    ttys: tuple[Console, ...],
    early: str | None,
    *,
    first: tuple[str, ...] = (),
    last: tuple[str, ...] = (),
) -> str:
    """Return the command line: what the manifest says, and where it says it word by word, what follows from devices.

    These are ``first``, the consoles, the manifest's words, the early console, ``last``, and then what the manifest
    hands to init. Until the console's driver is there, which may be a module, the ``early`` one (None: none) says what
    happens. It prints all of the log as soon as the kernel reads of it, an exit or three for each byte, unless `quiet`
    or a loglevel stands before it. A manifest that gives a string gives the whole line, for any kind of guest.
    """
    if isinstance(manifest.boot.cmdline, str):
        return manifest.boot.cmdline
    kernels, inits = halves(own(manifest))
    words = list(first)
    # The kernel makes the last one /dev/console.
    if not says(manifest, "console"):
        words += [f"console={console.tty}" for console in reversed(ttys)]
    words.append(kernels)
    if early is not None and not says(manifest, "earlycon"):
        words.append(f"earlycon={early}")
    return " ".join(filter(None, (*words, *last, inits)))


def run_plan(
    manifest: Manifest, files: BootFiles, ttys: tuple[Console, ...], offer: Offer, command: tuple[str, ...] | None
) -> RunPlan:
    """Return how the run is watched; ``command`` takes the place of the manifest's."""
    timeouts = manifest.run.timeouts
    factor = scale_of(offer.engine)
    scale = getattr(timeouts.scale, factor) if factor else 1

    def scaled(value: int | None) -> int | None:
        return None if value is None else min(max(1, round(value * scale)), _LONGEST_NS)

    return RunPlan(
        command=command if command is not None else manifest.run.command or (),
        reports=files.reports,
        console=ttys[0].device,
        ready=manifest.run.ready,
        boot_ns=scaled(timeouts.boot),
        idle_ns=scaled(timeouts.idle),
        total_ns=scaled(timeouts.total),
        logs=tuple((c.device, str(Path(c.log).absolute())) for c in ttys if c.log is not None),
    )
