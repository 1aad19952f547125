"""From a manifest's or saved plan's path to a MachinePlan: the one function behind up, run, plan and check.

A plan that was made before is found in the plan cache; then neither the manifest nor pydantic is loaded, nor anything
that makes plans: `vmrun.planning.steps` does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from vmrun.errors import PlanError
from vmrun.plan import codec
from vmrun.plan.model import MachinePlan
from vmrun.planning.how import How


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Say whether ``path`` is named as a saved plan is, rather than a manifest."""
    return os.fspath(path).endswith(".json")


def plan_manifest(path: str | os.PathLike[str], how: How = How(), *, cached: bool = True) -> MachinePlan:  # noqa: B008
    """Return the plan of the manifest, or the saved plan, in the file ``path``, made as ``how`` says.

    ``cached`` False makes the plan anew. ``how`` collects nothing, since there is nobody to tell. Raise ManifestError,
    ArtifactError, HostError or PlanError.
    """
    name = os.fspath(path)
    if is_saved(name):
        given = {"--set": bool(how.sets), "--profile": how.profile is not None, "--accel": how.accel is not None}
        return _saved(name, [option for option, there in given.items() if there], how.command)
    from vmrun.images import lease
    from vmrun.planning import cache as plancache

    key = None
    if how.artifacts and cached and not (how.refresh or how.stand_in):
        named = [
            str(Path(name).absolute()),
            list(how.sets),
            how.profile,
            how.accel,
            how.locked,
            how.command,
            how.anywhere,
        ]
        key = plancache.key(named)
        plan = plancache.find(key)
        if plan is not None and lease.keep(blob.path for blob in plan.blobs):
            return plan
    from vmrun.planning import steps

    began_ns = time.time_ns()
    made = steps.make(steps.loaded_from(name, how), how)
    assert made.plan is not None, "findings are not collected"
    if key is not None:
        plancache.keep(key, made.plan, made.looked_at, began_ns)
    return made.plan


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
