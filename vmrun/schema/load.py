"""A manifest file to a frozen `Manifest`: read, extend, choose a profile, override, substitute, validate.

pydantic and the models are imported when a manifest is loaded, the syntax tree of `vmrun.schema.spans` only for
an error, so that a command that reads a saved plan pays for neither.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmrun.errors import Diagnostic, Key, Label, ManifestError, Span
from vmrun.frozen import evolve, frozen
from vmrun.schema.known import Known
from vmrun.schema.problems import (
    MAX_FINDINGS,
    Mark,
    Problem,
    did_you_mean,
    listed,
    missing,
    nearest,
    one_per_cause,
    table_name,
    wrong_type,
)
from vmrun.schema.read import Reader
from vmrun.schema.sets import override
from vmrun.schema.tree import APPEND, WHOLE_FILE, Node, Origin, Source, find, matches, merge, plain, settle, walk
from vmrun.schema.vars import substitute

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

FORMAT = 1
"""The format version that this vmrun reads."""

MAX_WORK = 1 << 20
"""Values times profiles: what checking the profiles that are not chosen may cost, each with the whole manifest."""

PATHS = (
    ("boot", "kernel", "path"),
    ("boot", "initrd", "path"),
    ("boot", "firmware", "path"),
    ("boot", "firmware", "vars"),
    ("disk", "*", "path"),
    ("share", "*", "path"),
    ("console", "*", "log"),
)
"""Keys whose values are paths, from the folder of the file that declares them; device properties declare their own."""


@frozen
class LoadedManifest:
    """A valid manifest, what it was made from, and where each of its values stands.

    ``sources`` are the files that were read, absolute, the manifest itself first; ``env_read`` has each environment
    variable that was looked up, None where it is not set. Together with the arguments of `load_manifest` they are
    all that the manifest depends on. ``warnings`` are findings that do not refuse it.
    """

    manifest: Manifest
    path: Path
    sources: tuple[Path, ...]
    env_read: Mapping[str, str | None]
    warnings: tuple[Diagnostic, ...]
    tree: Node

    def span_of(self, key: Key, part: str = "value") -> Span | None:
        """Return where ``key`` stands (``part``: its ``key`` or its ``value``), in the file that declares it.

        A key that no file declares is found at the nearest table above it. None where the manifest says nothing of it.
        """
        return _span(self.tree, key, part)

    def located(self, finding: Diagnostic) -> Diagnostic:
        """Return ``finding`` with its span, and those of its labels, filled in from their keys."""
        span = finding.span or (self.span_of(finding.key) if finding.key else None)
        labels = tuple(
            label if label.span or not label.key else evolve(label, span=self.span_of(label.key))
            for label in finding.labels
        )
        return evolve(finding, span=span, labels=labels)


def load_manifest(
    path: str | os.PathLike[str],
    *,
    known: Known,
    sets: Sequence[str] = (),
    profile: str | None = None,
    env: Mapping[str, str] | None = None,
) -> LoadedManifest:
    """Return the manifest in the file ``path``.

    ``known`` are the registries' names, ``sets`` the ``key=value`` overrides of ``--set`` in order, ``profile`` the
    profile to choose, ``env`` the environment that ``[vars]`` may read (the process's own unless given).
    Raise ManifestError with every finding, each in its place, where the manifest cannot be accepted.
    """
    name = os.fspath(path)
    reader = Reader()
    root = reader.manifest(name)
    if reader.findings:
        raise ManifestError(tuple(reader.findings))
    problems = _versions(reader.documents)
    chosen, refused = _choose(root, profile)
    overridden, findings = override(chosen, sets)
    result = _evaluate(overridden, known, os.environ if env is None else env, name)
    found = _diagnostics(one_per_cause([*refused, *_profile_keys(root), *result.problems]), result.tree)
    found = [*problems, *findings, *found]
    found += _other_profiles(root, profile, known, result, name, os.environ if env is None else env, found)
    found.sort(key=_order)
    errors = tuple(d for d in found if d.severity == "error")
    if len(errors) > MAX_FINDINGS:
        more = f"{name} has more findings than the {MAX_FINDINGS} that are shown"
        errors = (*errors[:MAX_FINDINGS], Diagnostic("E053", more, help="mend these, and check again"))
    if errors or result.manifest is None:
        raise ManifestError(errors + tuple(d for d in found if d.severity != "error"))
    sources = tuple(Path(p) for p in reader.files)
    return LoadedManifest(result.manifest, Path(name), sources, result.env_read, tuple(found), result.tree)


@frozen
class _Result:
    manifest: Manifest | None
    tree: Node
    problems: list[Problem]
    env_read: Mapping[str, str | None]


def _versions(documents: Iterable[Node]) -> list[Diagnostic]:
    """Each file says which format it is written in, so that one of another format is never merged by mistake."""
    found: list[Diagnostic] = []
    for document in documents:
        node = document.value.get("manifest")
        if node is None:
            # A misspelt `manifest` is E014's: the typo is the one cause.
            if not any(nearest(name, ("manifest",)) for name in document.value if name != "machine"):
                found += _diagnostics([missing(("manifest",))], document)
        elif type(node.value) is not int:
            found += _diagnostics([wrong_type(("manifest",), "an integer", plain(node))], document)
        elif node.value != FORMAT:
            newer = node.value > FORMAT
            remedy = "use a newer vmrun" if newer else f"write manifest = {FORMAT}"
            message = f"manifest format {node.value} is not format {FORMAT}, which this vmrun reads"
            problem = Problem("E018", ("manifest",), message, "written for a newer vmrun" if newer else None, remedy)
            found += _diagnostics([problem], document)
    return found


def _choose(base: Node, profile: str | None) -> tuple[Node, list[Problem]]:
    if profile is None:
        return base, []
    node = find(base, ("profile", profile))
    if node is not None and isinstance(node.value, dict):
        return merge(base, node), []
    table = find(base, ("profile",))
    names = list(table.value) if table is not None and isinstance(table.value, dict) else []
    remedy = f"profiles are {listed(names)}" if names else "the manifest has no [profile.NAME] table"
    label = did_you_mean(nearest(profile, names))
    return base, [Problem("E025", ("profile",), f"unknown profile `{profile}`", label, remedy, part="key")]


def _profile_keys(root: Node) -> list[Problem]:
    """Return what is wrong with profiles that hold what says what a file is."""
    return [
        Problem("E014", key, f"unknown key `{key[2]}` {table_name(key[:2])}", None, "it stands at the top", part="key")
        for key, _ in walk(root)
        if len(key) == 3 and key[0] == "profile" and key[2].removesuffix(APPEND) in WHOLE_FILE
    ]


def _other_profiles(
    base: Node,
    chosen: str | None,
    known: Known,
    result: _Result,
    name: str,
    env: Mapping[str, str],
    found: Sequence[Diagnostic],
) -> list[Diagnostic]:
    """Return what is wrong with the profiles that were not chosen, beyond what is wrong without them."""
    table = find(base, ("profile",))
    if table is None or not isinstance(table.value, dict):
        return []
    # A profile is checked without the others, which are the longest part of a manifest with many.
    alone = Node({k: v for k, v in base.value.items() if k != "profile"}, base.origin)
    if sum(1 for _ in walk(alone)) * len(table.value) > MAX_WORK:
        message = f"{len(table.value)} profiles are too many for a manifest of this size"
        problem = Problem("E006", ("profile",), message, None, "put some into files that extend this one", part="key")
        return _diagnostics([problem], base)
    more: list[Diagnostic] = []
    seen = {(d.code, d.span) for d in found}
    known_already = frozenset(result.problems)
    for other, node in table.value.items():
        if len(more) > MAX_FINDINGS:
            break
        if other == chosen or not isinstance(node.value, dict):
            continue
        changed = _evaluate(merge(alone, node), known, env, name)
        ours = [p for p in changed.problems if p not in known_already]
        for finding in _diagnostics(one_per_cause(ours), changed.tree):
            # What this release does not carry may wait in a profile that nobody chose.
            wanted = finding.severity == "error" and finding.code != "E050"
            if wanted and (finding.code, finding.span) not in seen:
                seen.add((finding.code, finding.span))
                more.append(finding)
    return more


def _evaluate(tree: Node, known: Known, env: Mapping[str, str], name: str) -> _Result:
    from pydantic import ValidationError

    from vmrun.schema.checks import View, run_checks
    from vmrun.schema.models import Manifest
    from vmrun.schema.problems import from_pydantic

    tree, appends = settle(tree)
    problems = [_no_array(key) for key, _ in appends]
    tree, variables = substitute(tree, env)
    problems += variables.problems
    _defaults(tree, name)
    _absolute(tree)
    # `_versions` looks at the format version, file by file.
    values = {**plain(tree), "manifest": FORMAT}
    devices, wrong = _devices(values, tree, known)
    problems += wrong
    manifest = None
    try:
        manifest = Manifest.model_validate({**values, **devices})
    except ValidationError as error:
        problems += from_pydantic(error.errors(include_url=False))
    problems += run_checks(View(values, known))
    return _Result(manifest, tree, problems, variables.env_read)


def _no_array(key: Key) -> Problem:
    target = key[-1][: -len(APPEND)]
    message = f"`{key[-1]}` {table_name(key[:-1])} appends, but `{target}` is no array"
    return Problem("E019", key, message, None, f"write {target} to replace it", part="key")


def _defaults(tree: Node, name: str) -> None:
    if "name" not in tree.value:
        stem = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in Path(name).stem)
        tree.value["name"] = Node(stem[:63].strip("._-") or "machine", tree.origin)


def _absolute(tree: Node) -> None:
    for key, node in walk(tree):
        if isinstance(node.value, str) and node.value and any(matches(p, key) for p in PATHS):
            node.value = str(Path(node.origin.source.folder) / node.value)


def _devices(values: Mapping[str, Any], tree: Node, known: Known) -> tuple[dict[str, Any], list[Problem]]:
    """Return the device tables with their free keys moved to ``properties``, where each is well formed."""
    from vmrun.schema.properties import read_properties

    table = values.get("device")
    if not isinstance(table, dict):
        return {}, []
    problems: list[Problem] = []
    result: dict[str, Any] = {}
    for name, device in table.items():
        if not isinstance(device, dict):
            result[name] = device
            continue
        result[name] = {k: v for k, v in device.items() if k == "kind"}
        kind = device.get("kind")
        if isinstance(kind, str) and kind in known.kinds:
            node = tree.value["device"].value[name]
            folders = {k: n.origin.source.folder for k, n in node.value.items()}
            result[name]["properties"], wrong = read_properties(name, device, known.kinds[kind], folders)
            problems += wrong
    return {"device": result}, problems


def _span(tree: Node, key: Key, part: str) -> Span | None:
    from vmrun.schema.spans import places

    for length in range(len(key), -1, -1):
        node = find(tree, key[:length])
        if node is None:
            continue
        source = node.origin.source
        if length < len(key):
            # Nothing declares the key itself: the table above it is the place.
            part = "value"
        if not source.is_file:
            return _set_span(source, node.origin, part)
        return places(source.name, source.text).find(node.origin.key, part)
    return None


def _set_span(source: Source, origin: Origin, part: str) -> Span:
    """Return a place in the arguments of ``--set``, one a line; its origin's key starts with the line's number."""
    line = int(origin.key[0])
    text = source.text.split("\n")[line - 1]
    split = text.index("=")
    first, last = (1, split + 1) if part == "key" else (split + 2, len(text) + 1)
    return Span(source.name, line, first, line, max(last, first))


def _diagnostics(problems: Iterable[Problem], tree: Node) -> list[Diagnostic]:
    def label(mark: Mark) -> Label:
        return Label(mark.text, _span(tree, mark.key, mark.part), mark.key)

    return [
        Diagnostic(
            p.code,
            p.message,
            p.key,
            _span(tree, p.key, p.part),
            p.label,
            p.help,
            tuple(label(m) for m in p.marks),
            p.severity,
        )
        for p in problems
    ]


def _order(finding: Diagnostic) -> tuple[int, str, int, int]:
    span = finding.span
    return (0, span.file, span.line, span.column) if span else (1, "", 0, 0)
