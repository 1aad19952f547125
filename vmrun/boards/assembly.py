"""The last step of every board: its parts become a plan, and the checks look it through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmrun.boards import loading
from vmrun.boards.board import Layout
from vmrun.boards.consoles import run_plan
from vmrun.plan import checks
from vmrun.plan.files import BootFiles
from vmrun.plan.model import PLAN_FORMAT, Blob, EntryPlan, MachinePlan
from vmrun.plan.offer import Offer

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest


def assemble(
    layout: Layout,
    blobs: tuple[Blob, ...],
    entry: EntryPlan,
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
        cpu=layout.cpu,
        ram=layout.ram,
        devices=layout.devices,
        blobs=blobs,
        entry=entry,
        cmdline=layout.cmdline,
        run=run_plan(manifest, files, layout.ttys, offer, command),
        assumed=tuple(loading.assumed(manifest, files)),
        jit=manifest.machine.jit,
    )
    checks.require(plan, limits)
    return plan
