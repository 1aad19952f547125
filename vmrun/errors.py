"""The one root of every error vmrun raises on purpose, and the diagnostics that errors carry.

A person reads one line: what, where, why, what to do. A machine reads the stable ``code``. The
catalogue (``vmrun/catalogue/*.toml``) explains each code at length for ``vmrun explain``.

Code ranges: E0xx manifest, E1xx plan and boot, E2xx artefacts, E3xx host and engine, E4xx guest,
E5xx run.
"""

from __future__ import annotations

from vmrun.frozen import frozen

Key = tuple[str, ...]
"""A path of TOML keys, such as ``("disk", "root", "path")``."""


@frozen
class Span:
    """A place in a text file. Lines and columns count from 1; columns are characters, ``end_column`` is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@frozen
class Label:
    """A second place that belongs to a diagnostic, such as the other owner of an address."""

    text: str
    span: Span | None = None
    key: Key | None = None


@frozen
class Diagnostic:
    """One finding with one cause.

    ``key`` names the manifest key; ``span`` is filled from it where the manifest's text is at hand.
    ``label`` stands beside the caret, ``help`` after the snippet.
    """

    code: str
    message: str
    key: Key | None = None
    span: Span | None = None
    label: str | None = None
    help: str | None = None
    labels: tuple[Label, ...] = ()
    severity: str = "error"

    def one_line(self) -> str:
        """Format as ``place: severity[code]: message (help)`` on one line."""
        place = f"{self.span}: " if self.span else ""
        if not self.span and self.key:
            place = f"{'.'.join(self.key)}: "
        tail = f" ({self.help})" if self.help else ""
        return f"{place}{self.severity}[{self.code}]: {self.message}{tail}"


class VmrunError(Exception):
    """Root of vmrun's errors. ``code`` is stable; ``remedy`` says what to do."""

    default_code = "E500"

    def __init__(self, message: str, *, code: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.remedy = remedy

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Return the findings behind this error, at least one."""
        return (Diagnostic(self.code, self.message, help=self.remedy),)

    def __str__(self) -> str:
        return "; ".join(d.one_line() for d in self.diagnostics())


class ManifestError(VmrunError):
    """A manifest that cannot be accepted: carries every diagnostic found, each with its span."""

    default_code = "E001"

    def __init__(self, findings: tuple[Diagnostic, ...]) -> None:
        first = findings[0]
        super().__init__(first.message, code=first.code, remedy=first.help)
        self.findings = findings

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return self.findings


@frozen
class Owner:
    """Who claims a resource: a device or blob name and the half-open address range ``[base, base + size)`` in bytes."""

    name: str
    base: int
    size: int
    key: Key | None = None

    def __str__(self) -> str:
        return f"{self.name} [{self.base:#x}, {self.base + self.size:#x})"


class PlanError(VmrunError):
    """A manifest that is valid but makes no machine: names the key, and both owners where two collide."""

    default_code = "E100"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        key: Key | None = None,
        owners: tuple[Owner, ...] = (),
        label: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.key = key
        self.owners = owners
        self.label = label

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        labels = tuple(Label(str(o), key=o.key) for o in self.owners)
        return (Diagnostic(self.code, self.message, key=self.key, label=self.label, help=self.remedy, labels=labels),)


class ArtifactError(VmrunError):
    """An artefact that is missing, unreachable, truncated, or not what its digest says."""

    default_code = "E200"

    def __init__(
        self, message: str, *, code: str | None = None, key: Key | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.key = key
        self.span: Span | None = None
        """Where the manifest names the artefact; filled in by who has the manifest at hand."""

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        return (Diagnostic(self.code, self.message, key=self.key, span=self.span, help=self.remedy),)


class HostError(VmrunError):
    """The host or an engine refused: names the call, the errno, the capability, and the remedy."""

    default_code = "E300"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        errno: int | None = None,
        call: str | None = None,
        capability: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, code=code, remedy=remedy)
        self.errno = errno
        self.call = call
        self.capability = capability


class GuestError(VmrunError):
    """The guest died in a way the engine cannot carry on from: pc, exit and device where known."""

    default_code = "E400"

    def __init__(
        self, message: str, *, code: str | None = None, pc: int | None = None, device: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.pc = pc
        self.device = device
