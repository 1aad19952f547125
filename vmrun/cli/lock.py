"""``vmrun lock M…``: pin every artefact by digest in vmrun.lock, beside the manifest; ``--check`` compares, offline."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.cli.streams import write
from vmrun.errors import Diagnostic
from vmrun.printable import clean

if TYPE_CHECKING:
    from vmrun.images.lock import Lock, Pin
    from vmrun.images.sources import Source
    from vmrun.schema.load import LoadedManifest


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun lock``."""
    parser.add_argument("manifests", nargs="+", metavar="M", help="a manifest file")
    parser.add_argument("--check", action="store_true", help="write nothing: say what is not pinned, or differs")
    parser.add_argument("--prune", action="store_true", help="drop pins that none of these manifests names")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--profile", metavar="P", help="choose a profile")


def run(args: Namespace) -> int:
    """Pin, or check the pins. 0: done, or clean; 1: findings; errors that keep vmrun from looking are raised."""
    from vmrun.boards import registry
    from vmrun.planning.artifacts import lock_path
    from vmrun.planning.how import How
    from vmrun.planning.steps import loaded_from

    how = How(sets=tuple(args.sets), profile=args.profile)
    by_lock: dict[Path, list[tuple[LoadedManifest, str]]] = {}
    for name in args.manifests:
        loaded = loaded_from(name, how)
        arch = registry.load(loaded.manifest.machine.board).arch
        by_lock.setdefault(lock_path(loaded), []).append((loaded, arch))
    if args.check:
        return _check(by_lock)
    for path, manifests in by_lock.items():
        _write(path, manifests, prune=args.prune)
    return 0


def _write(path: Path, manifests: list[tuple[LoadedManifest, str]], *, prune: bool) -> None:
    from vmrun.images import lock as locks

    old = locks.read(path)
    found: dict[str, Pin] = {}
    for loaded, arch in manifests:
        found.update(_pins(path, loaded, arch))
    pins = found if prune else {**old.pins, **found}
    if pins != old.pins or not path.exists():
        locks.write(path, pins)
    for key in sorted(found):
        pin = found[key]
        state = "new" if key not in old.pins else "kept" if old.pins[key] == pin else "changed"
        write(clean(f"{path}: {key} {pin.version or pin.sha256[:16]} ({state})") + "\n")


def _pins(path: Path, loaded: LoadedManifest, arch: str) -> dict[str, Pin]:
    """Return the pins of a manifest as its artefacts are now, whatever an older lock says."""
    from vmrun.images.lock import Lock
    from vmrun.images.store import Store
    from vmrun.planning.artifacts import at_key, debian_arch, resolver_for, wanted
    from vmrun.planning.how import How
    from vmrun.ui.view import choose

    empty = Lock(path, {})
    view = choose(sys.stderr, quiet=False, verbose=False, brief=False)
    try:
        resolver = resolver_for(arch, How(refresh=True, progress=view), Store(), None)
        pins: dict[str, Pin] = {}
        for want in wanted(loaded.manifest):
            with at_key(want.key):
                found = resolver.pins(want.source, want.bound)
                pins.update((empty.key(part, debian_arch(arch)), pin) for part, pin in found)
        return pins
    finally:
        view.close()


def _check(by_lock: dict[Path, list[tuple[LoadedManifest, str]]]) -> int:
    from vmrun.images import lock as locks
    from vmrun.ui.diagnostics import show

    findings: list[Diagnostic] = []
    for path, manifests in by_lock.items():
        lock = locks.read(path)
        for loaded, arch in manifests:
            findings += [loaded.located(finding) for finding in _differences(lock, loaded, arch)]
    show(findings, sys.stderr)
    return 1 if findings else 0


def _differences(lock: Lock, loaded: LoadedManifest, arch: str) -> tuple[Diagnostic, ...]:
    """Return a finding for everything that is not pinned, or no longer what is pinned, here or in the cache.

    Nothing is fetched for it.
    """
    from vmrun.images.store import Store
    from vmrun.planning.artifacts import debian_arch, file_of, resolver_for, wanted
    from vmrun.planning.found import Found
    from vmrun.planning.how import How

    how = How(offline=True, locked=True, stand_in=True, collect=True)
    found = Found(loaded, how)
    resolver = resolver_for(arch, how, Store(verifying=True), lock)
    for want in wanted(loaded.manifest):
        with found.at("files", want.key):
            _require_pins(lock, want.source, debian_arch(arch))
            file_of(resolver, want)
    return found.all()


def _require_pins(lock: Lock, source: Source, arch: str) -> None:
    """Raise ArtifactError where ``source``, or a part of it, is not pinned."""
    from vmrun.images.sources import DebianSource

    pin = lock.pin(source, arch, required=True)
    if isinstance(source, DebianSource) and pin is not None:
        for part in pin.parts:
            lock.pin(DebianSource(part, source.suite), arch, required=True)
