"""What every board is to the rest: a name, its bounds, and a way from a manifest to a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from vmrun.plan.checks import Limits
from vmrun.plan.files import BootFiles
from vmrun.plan.model import MachinePlan
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Manifest


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

    def plan(
        self,
        loaded: LoadedManifest,
        files: BootFiles,
        offer: Offer,
        *,
        command: tuple[str, ...] | None = None,
        ports: tuple[str, ...] = (),
    ) -> MachinePlan:
        """Return the machine. Raise PlanError where the manifest asks for what the board cannot be.

        ``command`` takes the place of ``run.command``; ``ports`` are those through which vmrun's own init talks.
        """

    def drivers(self, manifest: Manifest) -> tuple[str, ...]:
        """Return the Linux modules that the machine's devices need."""
