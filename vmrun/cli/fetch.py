"""``vmrun fetch M…``: get what manifests name, and build what is built from it, ahead of time; one line each."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from vmrun.cli.streams import write
from vmrun.errors import ArtifactError, HostError, ManifestError
from vmrun.printable import clean

if TYPE_CHECKING:
    from vmrun.images.store import Store


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun fetch``."""
    parser.add_argument("manifests", nargs="*", metavar="M", help="a manifest file")
    parser.add_argument("--verify", action="store_true", help="first read the whole cache, and drop what is damaged")
    parser.add_argument("--locked", action="store_true", help="take nothing but what vmrun.lock pins")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--profile", metavar="P", help="choose a profile")


def run(args: Namespace) -> int:
    """Fetch for every manifest. 0: all is here; 1: the cache had damage; 2: something cannot be had."""
    from vmrun.images.store import Store

    if not args.manifests and not args.verify:
        raise HostError("vmrun fetch: no manifest is named", code="E502", remedy="vmrun fetch --help")
    store = Store(verifying=args.locked)
    store.sweep()
    damaged = _verify(store) if args.verify else 0
    missing = bool(args.manifests) and not _fetch(args, store)
    return 2 if missing else 1 if damaged else 0


def _verify(store: Store) -> int:
    """Read everything in the store; return how much of it was damaged and is dropped."""
    digests = list(store.digests())
    damaged = [digest for digest in digests if not store.verify(digest)]
    for digest in damaged:
        write(f"damaged, dropped: {digest}\n")
    write(f"verified {len(digests)} files of {clean(str(store.root))}, {len(damaged)} damaged\n")
    return len(damaged)


def _fetch(args: Namespace, store: Store) -> bool:
    """Fetch what every manifest names; return whether all of it is here. What is missing for one stops no other."""
    from vmrun.planning import steps
    from vmrun.planning.how import How
    from vmrun.ui.diagnostics import show
    from vmrun.ui.view import choose

    complete = True
    view = choose(sys.stderr, quiet=False, verbose=False, brief=False)
    how = How(
        sets=tuple(args.sets),
        profile=args.profile,
        locked=args.locked,
        refresh=not args.locked,
        anywhere=True,
        progress=view,
    )
    try:
        for name in args.manifests:
            loaded = steps.loaded_from(name, how)
            try:
                found = steps.fetch(loaded, how, store)
            except (ArtifactError, ManifestError) as error:
                complete = False
                show([loaded.located(finding) for finding in error.diagnostics()], sys.stderr)
                continue
            for line in found.lines():
                write(clean(f"{name}: {line}") + "\n")
    finally:
        view.close()
    return complete
