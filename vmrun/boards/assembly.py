"""The last step of every board: its parts become a plan, and the checks look it through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards import loading
from vmrun.boards.consoles import Console, run_plan
from vmrun.frozen import frozen
from vmrun.plan import checks
from vmrun.plan.files import BootFiles
from vmrun.plan.model import PLAN_FORMAT, Blob, CpuPlan, DevicePlan, EntryPlan, MachinePlan, RamRegion
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest


@frozen
class Parts:
    """What a board decides of a machine. ``ttys`` are its consoles, the run's main one first."""

    cpu: CpuPlan
    ram: tuple[RamRegion, ...]
    devices: tuple[DevicePlan, ...]
    blobs: tuple[Blob, ...]
    entry: EntryPlan
    cmdline: str
    ttys: tuple[Console, ...]


def assemble(
    parts: Parts,
    manifest: Manifest,
    files: BootFiles,
    offer: Offer,
    limits: checks.Limits,
    command: tuple[str, ...] | None,
) -> MachinePlan:
    """Return the plan. Raise PlanError for what the checks find first; ``command`` as in `Board.plan`."""
    plan = MachinePlan(
        format=PLAN_FORMAT,
        name=manifest.name,
        board=manifest.machine.board,
        engine=offer.engine,
        why=offer.why,
        cpu=parts.cpu,
        ram=parts.ram,
        devices=parts.devices,
        blobs=parts.blobs,
        entry=parts.entry,
        cmdline=parts.cmdline,
        run=run_plan(manifest, files, parts.ttys, offer, command),
        assumed=tuple(loading.assumed(manifest, files)),
        jit=manifest.machine.jit,
    )
    checks.require(plan, limits)
    return plan
