"""``vmrun plan M``: the concrete machine, in one of its forms, or what differs from another one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from vmrun.cli.streams import write
from vmrun.engine.table import CARRIED
from vmrun.errors import HostError

if TYPE_CHECKING:
    from vmrun.plan.model import MachinePlan


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun plan``."""
    parser.add_argument("manifest", metavar="M", help="a manifest, or a saved plan (*.json)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the plan to save: `vmrun up m.plan.json` runs it by itself")
    form.add_argument("--dts", action="store_true", help="the devicetree as source")
    form.add_argument("--dtb", metavar="F", help="write the devicetree blob to the file F, or to stdout for -")
    form.add_argument("--acpi", metavar="DIR", help="write the ACPI tables to files in the folder DIR")
    form.add_argument("--tree", action="store_true", help="the machine as a tree")
    form.add_argument("--diff", metavar="OTHER", help="what differs in another manifest or saved plan; 1 if anything")
    parser.add_argument("--no-artifacts", action="store_true", help="look for no kernel, initrd or disk")
    parser.add_argument("--offline", action="store_true", help="take artefacts from the cache alone")
    parser.add_argument("--locked", action="store_true", help="take nothing but what vmrun.lock pins")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="override a key")
    parser.add_argument("--profile", metavar="P", help="choose a profile")
    parser.add_argument("--accel", metavar="A", help=f"choose the engine: {', '.join(('auto', *CARRIED))}")


def run(args: Namespace) -> int:
    """Print what was asked for. 0, or 1 where --diff finds a difference."""
    from vmrun.plan import codec, view

    plan = _plan(args, args.manifest)
    if args.json:
        write(codec.to_json(plan).encode())
    elif args.dts:
        write(view.dts(plan))
    elif args.dtb is not None:
        _write_dtb(view.dtb(plan), args.dtb)
    elif args.acpi is not None:
        _write_acpi(view.acpi_files(plan), args.acpi)
    elif args.tree:
        write(view.tree(plan))
    elif args.diff is not None:
        from vmrun.plan.diff import diff

        lines = diff(plan, _plan(args, args.diff))
        write("".join(f"{line}\n" for line in lines))
        return 1 if lines else 0
    else:
        write(view.text(plan))
    return 0


def _plan(args: Namespace, path: str) -> MachinePlan:
    from vmrun.planning.how import How
    from vmrun.planning.planner import is_saved, plan_manifest

    # What changes a manifest changes the manifest of a comparison, never the saved plan that it is compared with.
    saved = is_saved(path) and args.diff is not None
    how = How(
        sets=() if saved else tuple(args.sets),
        profile=None if saved else args.profile,
        accel=None if saved else args.accel,
        artifacts=not args.no_artifacts,
        offline=args.offline,
        locked=args.locked,
        anywhere=True,
    )
    return plan_manifest(path, how)


def _write_acpi(files: tuple[tuple[str, bytes], ...], folder: str) -> None:
    from pathlib import Path

    path = folder
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, data in files:
            path = str(Path(folder) / name)
            Path(path).write_bytes(data)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: str, error: OSError) -> HostError:
    return HostError(f"cannot write {path}: {error.strerror}", code="E520", remedy="name a place that you can write to")


def _write_dtb(data: bytes, path: str) -> None:
    if path == "-":
        write(data)
        return
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise _cannot_write(path, error) from None
