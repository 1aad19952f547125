"""How a plan is to be made: what overrides the manifest, where its files may come from, what becomes of errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vmrun.frozen import frozen

if TYPE_CHECKING:
    from vmrun.images.sources import Progress


@frozen
class How:
    """What is the same for every step from a manifest to its plan.

    ``sets``, ``profile`` and ``accel`` override the manifest. ``command`` runs in the guest with vmrun's own standard
    files in place of the manifest's command.

    ``artifacts`` False lets stand-ins take the place of kernel and initrd: nothing is looked for, and the plan cannot
    run. ``offline`` takes nothing but what the cache has, ``locked`` nothing but what ``vmrun.lock`` pins, ``refresh``
    looks for newer Debian packages. ``stand_in`` lets a stand-in take the place of what only a network could bring
    (E260), which otherwise is an error. ``anywhere`` plans for any host that has the engine, without asking this one.

    ``collect`` has every step tell all that it finds, rather than raise the first error. ``progress`` is told of
    transfers, ``phase`` what begins: ``check``, ``fetch``, ``plan``; ``warn`` in one line where the engine that a plan
    is made for will be slow.
    """

    sets: tuple[str, ...] = ()
    profile: str | None = None
    accel: str | None = None
    command: tuple[str, ...] | None = None
    artifacts: bool = True
    offline: bool = False
    locked: bool = False
    refresh: bool = False
    stand_in: bool = False
    anywhere: bool = False
    collect: bool = False
    progress: Progress | None = None
    phase: Callable[[str], None] = lambda name: None
    warn: Callable[[str], None] = lambda text: None
