"""``vmrun explain [CODE]``: what a diagnostic's code means, or all of them. 0 shown, 2 unknown code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmrun.cli.streams import tell, write
from vmrun.printable import clean


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun explain``."""
    parser.add_argument("code", nargs="?", metavar="CODE", help="such as E014; every code unless given")


def run(args: Namespace) -> int:
    """Print one entry of the catalogue, or the title of each."""
    from vmrun.ui.catalogue import catalogue

    entries = catalogue()
    if args.code is None:
        write("".join(f"{e.code}  {e.title}\n" for e in entries.values()))
        return 0
    code = args.code.upper()
    if code not in entries:
        import difflib

        near = difflib.get_close_matches(code, entries, n=3, cutoff=0.6)
        hint = f"did you mean {', '.join(near)}?" if near else "`vmrun explain` lists them all"
        tell(f"error: no diagnostic has the code {clean(args.code)}; {hint}")
        return 2
    write(f"{code}: {entries[code].title}\n\n{entries[code].text}\n")
    return 0
