"""From a manifest's or saved plan's path to a MachinePlan: the one function behind up, run, plan and check.

A plan that was made before is found in the plan cache; then neither the manifest nor pydantic is loaded, nor anything
that makes plans: `vmrun.planning.making` does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.errors import PlanError
from vmrun.plan import codec
from vmrun.plan.model import MachinePlan

if TYPE_CHECKING:
    from vmrun.images.sources import Progress


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Say whether ``path`` is named as a saved plan is, rather than a manifest."""
    return os.fspath(path).endswith(".json")


def plan_manifest(
    path: str | os.PathLike[str],
    *,
    sets: Sequence[str] = (),
    profile: str | None = None,
    accel: str | None = None,
    artifacts: bool = True,
    offline: bool = False,
    locked: bool = False,
    refresh: bool = False,
    command: tuple[str, ...] | None = None,
    progress: Progress | None = None,
    phase: Callable[[str], None] = lambda name: None,
    cached: bool = True,
    anywhere: bool = False,
    warn: Callable[[str], None] = lambda text: None,
) -> MachinePlan:
    """Return the plan of the manifest, or the saved plan, in the file ``path``.

    ``sets``, ``profile`` and ``accel`` override the manifest. ``artifacts`` False lets stand-ins take the place of
    kernel and initrd: nothing is looked for, and the plan cannot run. ``command`` runs in the guest with vmrun's own
    standard files in place of the manifest's command. ``phase`` is told what begins: ``check``, ``fetch``, ``plan``.
    ``cached`` False makes the plan anew. ``anywhere`` plans for any host that has the engine, without asking this one.
    ``warn`` is told in one line where the engine that a plan is made for will be slow.
    Raise ManifestError, ArtifactError, HostError or PlanError.
    """
    name = os.fspath(path)
    if is_saved(name):
        given = {"--set": bool(sets), "--profile": profile is not None, "--accel": accel is not None}
        return _saved(name, [option for option, there in given.items() if there], command)
    from vmrun.images import lease
    from vmrun.planning import cache as plancache

    key = None
    if artifacts and cached and not refresh:
        key = plancache.key([str(Path(name).absolute()), list(sets), profile, accel, locked, command, anywhere])
        plan = plancache.find(key)
        if plan is not None and lease.keep(blob.path for blob in plan.blobs):
            return plan
    from vmrun.planning.making import How, plan_fresh

    began_ns = time.time_ns()
    how = How(
        tuple(sets), profile, accel, artifacts, offline, locked, refresh, command, progress, phase, anywhere, warn
    )
    plan, looked_at = plan_fresh(name, how)
    if key is not None:
        plancache.keep(key, plan, looked_at, began_ns)
    return plan


def check_plan(plan: MachinePlan) -> None:
    """Raise PlanError where a plan that came from a file is no machine of its board."""
    from vmrun.boards.limits import limits_of
    from vmrun.plan import checks

    checks.require(plan, limits_of(plan.board))


def _saved(path: str, options: list[str], command: tuple[str, ...] | None) -> MachinePlan:
    if options:
        raise PlanError(
            f"{path} is a saved plan, and {options[0]} changes manifests",
            code="E174",
            remedy="give it to the manifest, and save the plan again",
        )
    from vmrun.engine.blobs import verify_digests
    from vmrun.images import lease

    plan = codec.load(path)
    check_plan(plan)
    lease.keep(blob.path for blob in plan.blobs)  # what is gone is found to be so by the look at the digests
    verify_digests(plan)
    if command is not None:
        raise PlanError(
            f"{path} is a saved plan, whose command is in its initrd",
            code="E174",
            remedy="name the manifest instead",
        )
    return plan
