"""``vmrun check M…``: every finding on each manifest, offline and without an engine.

Status 0: clean, or warnings alone; 1: findings; 2: could not look.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from vmrun.cli.main import CODE_BLIND, CODE_FINDINGS, UNREADABLE
from vmrun.cli.streams import Writing, tell, write
from vmrun.errors import Diagnostic, ManifestError

if TYPE_CHECKING:
    from vmrun.schema.known import Known
    from vmrun.schema.load import LoadedManifest

FORMAT_NAMES = ("full", "concise", "json", "github", "sarif", "junit")
MachineCheck = Callable[["LoadedManifest"], Iterable[Diagnostic]]


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun check``."""
    parser.add_argument("manifests", nargs="+", metavar="M", help="a manifest file")
    parser.add_argument("--output-format", choices=FORMAT_NAMES, default="full", help="how findings are printed")
    parser.add_argument("--no-artifacts", action="store_true", help="do not open what the manifests name")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--profile", metavar="P", help="choose a profile")


def run(args: Namespace) -> int:
    """Check every manifest and print what was found; warnings alone leave the status 0."""
    import gc

    # What follows is mostly imports, which make no garbage: looking for it would be a tenth of a check's time.
    gc.disable()
    try:
        return _check(args)
    finally:
        gc.enable()


def _check(args: Namespace) -> int:
    from vmrun.boards.registry import known
    from vmrun.planning.findings import findings

    def board_checks(loaded: LoadedManifest) -> Iterable[Diagnostic]:
        return findings(loaded, artifacts=not args.no_artifacts)

    names = known()
    results = [(name, check_one(name, names, args.sets, args.profile, (board_checks,))) for name in args.manifests]
    _print(results, args.output_format, args.sets)
    everything = [finding for _, found in results for finding in found]
    if any(f.code in UNREADABLE for f in everything):
        return CODE_BLIND
    return CODE_FINDINGS if any(f.severity == "error" for f in everything) else 0


def check_one(
    name: str, known: Known, sets: list[str], profile: str | None, checks: Iterable[MachineCheck]
) -> tuple[Diagnostic, ...]:
    """Return every finding on one manifest; ``checks`` look at its machine, where it is valid by itself."""
    from vmrun.schema.load import load_manifest

    try:
        loaded = load_manifest(name, known=known, sets=sets, profile=profile)
    except ManifestError as error:
        return error.diagnostics()
    return (*loaded.warnings, *(loaded.located(finding) for check in checks for finding in check(loaded)))


def _print(results: list[tuple[str, tuple[Diagnostic, ...]]], style: str, sets: list[str]) -> None:
    found = [finding for _, findings in results for finding in findings]
    if not found and style in ("full", "concise"):
        _summary(len(results), found)
        return
    from vmrun.schema.sets import NAME, pseudo_text
    from vmrun.ui.diagnostics import Texts, show

    given = {NAME: pseudo_text(sets)}
    if style == "full":
        with Writing():
            show(found, sys.stdout, given)
    else:
        from vmrun.ui.reports import FORMATS, Checked

        checked = [Checked(name, findings) for name, findings in results]
        text = FORMATS[style](checked, Texts(given))
        write(text.encode() if style in ("json", "sarif", "junit") else text)
    if style in ("full", "concise"):
        _summary(len(results), found)


def _summary(manifests: int, found: list[Diagnostic]) -> None:
    """Say on stderr how it went, so that stdout holds findings alone."""

    def count(number: int, what: str) -> str:
        return f"{number} {what}{'' if number == 1 else 's'}"

    errors = sum(f.severity == "error" for f in found)
    words = count(errors, "error") if errors else "no error"
    if len(found) > errors:
        words += f" and {count(len(found) - errors, 'warning')}"
    tell(f"checked {count(manifests, 'manifest')}: {words}")
