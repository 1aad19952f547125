"""What goes wrong on the way to a plan: raised at once, or kept, so that one look tells of everything."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vmrun.errors import ArtifactError, Diagnostic, Key, ManifestError, PlanError, VmrunError

if TYPE_CHECKING:
    from vmrun.planning.how import How
    from vmrun.schema.load import LoadedManifest

NOT_HERE = "E260"
"""The code of an artefact that only a network can bring."""

STAGES = ("lock", "disks", "files", "machine")
"""What findings are about, in the order in which they are told."""


class Found:
    """The findings of one manifest: kept where ``how`` says so, else raised, located in the manifest."""

    def __init__(self, loaded: LoadedManifest, how: How) -> None:
        self._loaded = loaded
        self._how = how
        self._kept: dict[str, list[Diagnostic]] = {stage: [] for stage in STAGES}

    @contextlib.contextmanager
    def at(self, stage: str, key: Key | None = None) -> Iterator[None]:
        """Keep what the block raises, or raise it where the manifest causes it: PlanError becomes ManifestError.

        ``key`` is that of an ArtifactError which has none. One of what is not here is none where a stand-in will do.
        """
        try:
            yield
        except VmrunError as error:
            if isinstance(error, ArtifactError):
                error.key = error.key or key
                if error.code == NOT_HERE and self._how.stand_in:
                    return
                error.span = self._loaded.span_of(error.key) if error.key else None
            if self._how.collect:
                self._kept[stage] += error.diagnostics()
            elif isinstance(error, PlanError):
                raise ManifestError(self._located(error.diagnostics())) from error
            else:
                raise

    def add(self, stage: str, findings: Iterable[Diagnostic]) -> None:
        """Keep ``findings``; `settle` raises the errors among them where they are not collected."""
        self._kept[stage] += findings

    def settle(self) -> None:
        """Raise ManifestError for the errors among what was added, unless everything is collected."""
        errors = tuple(finding for finding in self.all() if finding.severity == "error")
        if errors and not self._how.collect:
            raise ManifestError(self._located(errors))

    def all(self) -> tuple[Diagnostic, ...]:
        """Return what was kept, in the order of `STAGES`."""
        return tuple(finding for stage in STAGES for finding in self._kept[stage])

    def _located(self, findings: tuple[Diagnostic, ...]) -> tuple[Diagnostic, ...]:
        return tuple(self._loaded.located(finding) for finding in findings)
