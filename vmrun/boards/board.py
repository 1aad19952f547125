"""What every board is to the rest: a name, its bounds, and two steps from a manifest to a plan.

A board first lays out what needs no file, and says by it which drivers the guest wants; then, once the files are there,
it loads them into place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vmrun.boards import linux
from vmrun.boards.consoles import Console
from vmrun.boards.takes import Takes
from vmrun.frozen import frozen
from vmrun.plan.checks import Limits
from vmrun.plan.files import BootFiles
from vmrun.plan.model import CpuPlan, DevicePlan, MachinePlan, RamRegion
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest


@frozen
class Layout:
    """What a machine is before any file of it is looked at.

    ``ttys`` are its consoles, the run's main one first; ``tables`` is how the guest learns of its hardware. A disk that
    has to be fetched has no path yet.
    """

    cpu: CpuPlan
    ram: tuple[RamRegion, ...]
    devices: tuple[DevicePlan, ...]
    ttys: tuple[Console, ...]
    cmdline: str
    tables: str

    @property
    def modules(self) -> tuple[str, ...]:
        """The Linux modules that the machine's devices need, as ``modprobe`` knows them."""
        return linux.modules(self.devices)


class Board(Protocol):
    """A kind of machine."""

    @property
    def name(self) -> str:
        """The name that ``machine.board`` gives."""

    @property
    def arch(self) -> str:
        """The guest's architecture, as ``uname -m`` says it."""

    @property
    def doc(self) -> str:
        """One line for a reader."""

    @property
    def limits(self) -> Limits:
        """What the board bounds, whatever the engine."""

    @property
    def takes(self) -> Takes:
        """What the board takes of the keys that not every board takes."""

    def layout(self, manifest: Manifest, offer: Offer, ports: tuple[str, ...] = ()) -> Layout:
        """Return where everything is. Raise PlanError where the manifest asks for what the board cannot be.

        `vmrun.boards.takes.refusals` finds nothing in the manifest. ``ports`` are those through which vmrun's own init
        talks.
        """

    def load(
        self,
        layout: Layout,
        manifest: Manifest,
        files: BootFiles,
        offer: Offer,
        command: tuple[str, ...] | None = None,
    ) -> MachinePlan:
        """Return the machine with ``files`` in place. Raise PlanError where they do not fit it or each other.

        ``command`` takes the place of ``run.command``.
        """
