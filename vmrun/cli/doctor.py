"""``vmrun doctor``: what this host can run, found by trying, and what to do where it cannot."""

from __future__ import annotations

import errno
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, TextIO

from vmrun.cli.streams import Writing, write
from vmrun.frozen import as_dict, frozen

if TYPE_CHECKING:
    from vmrun.kvm.outcome import MicroGuest, Standing, Try

_STYLES = {"full": "green", "slow": "yellow", "restricted": "yellow", "none": "red"}


@frozen
class Finding:
    """What one engine can do here: ``verdict`` is full, slow, restricted or none; the rest a line each, or empty."""

    engine: str
    verdict: str
    why: str
    works: str = ""
    remedy: str = ""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun doctor``."""
    parser.add_argument("--json", action="store_true", help="print everything that was found, for a program")
    parser.add_argument("--fresh", action="store_true", help="try KVM again, though this boot's result is known")


def run(args: Namespace) -> int:
    """Print what was found; 0 if something here runs guests, else 1."""
    from vmrun.engine.table import ENGINES
    from vmrun.kvm.probe import look

    standing = look(fresh=args.fresh)
    looks = {"kvm": lambda: _kvm(standing), "soft": _soft}
    # What depends on this host comes first.
    rows = sorted((row for row in ENGINES if row.carried), key=lambda row: not row.native)
    findings = tuple(looks[row.name]() for row in rows)
    if args.json:
        _json(standing, findings)
    else:
        with Writing():
            _show(standing, findings, sys.stdout)
    return 0 if any(finding.verdict != "none" for finding in findings) else 1


def _kvm(standing: Standing) -> Finding:
    return Finding("kvm", standing.verdict, standing.why, standing.works, standing.remedy)


def _soft() -> Finding:
    """Return what the software core does here: it runs everywhere, and where it can it translates."""
    import os

    from vmrun._core import lib

    runs = "riscv64 guests on any host, in software"
    code = -lib.vmr_rv64_jit_probe()
    if not code:
        return Finding("soft", "full", f"{runs}; code that runs often is translated")
    if code == errno.ENOTSUP:
        return Finding("soft", "full", f"{runs}; interpreted, for there is no translator to this host's processor")
    return Finding(
        *("soft", "full"),
        f"{runs}; interpreted, for this host allows no memory that is written and then run: {os.strerror(code)}",
        remedy="let vmrun make executable memory files (sysctl vm.memfd_noexec, SELinux execmem), for it to run faster",
    )


def _json(standing: Standing, findings: tuple[Finding, ...]) -> None:
    import json

    found = {
        "engines": [as_dict(finding) for finding in findings],
        "capabilities": dict(standing.capabilities),
        "kernel_mode": _as_plain(standing.guest),
        "error": standing.error.code if standing.error else None,
    }
    write(json.dumps(found, indent=2) + "\n")


def _as_plain(guest: MicroGuest | None) -> dict[str, object] | None:
    return (
        None
        if guest is None
        else {"speed": guest.speed, "pace": guest.pace, "tries": [as_dict(one) for one in guest.tries]}
    )


def _show(standing: Standing, findings: tuple[Finding, ...], stream: TextIO) -> None:
    from vmrun.ui.view import wants_live

    if wants_live(stream):
        _table(standing, findings, stream)
        return
    for finding in findings:
        stream.write(f"{finding.engine}: {finding.verdict}: {finding.why}\n")
        stream.writelines(f"{finding.engine}: {line}\n" for line in _details(finding))
    stream.writelines(f"kvm: {line}\n" for line in _facts(standing))


def _table(standing: Standing, findings: tuple[Finding, ...], stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("engine", "verdict", "what it runs", title="what this host can run", title_justify="left")
    for finding in findings:
        text = Text("\n".join((finding.why, *_details(finding))))
        table.add_row(finding.engine, Text(finding.verdict, _STYLES[finding.verdict]), text)
    console = Console(file=stream)
    console.print(table)
    for line in _facts(standing):
        console.print(Text(f"kvm: {line}", "dim"))


def _details(finding: Finding) -> list[str]:
    out = [f"still works: {finding.works}"] if finding.works else []
    return out + ([f"remedy: {finding.remedy}"] if finding.remedy else [])


def _word(one: Try) -> str:
    from vmrun.kvm.outcome import UNTRIED

    if one.works is None:
        return "was not tried" if one.why == UNTRIED else "is hidden"
    return "works" if one.works else "fails"


def _facts(standing: Standing) -> list[str]:
    """Return what was measured, and the capabilities that are missing."""
    out = []
    guest = standing.guest
    if guest is not None:
        speed = f"{guest.speed / 1e6:,.1f} million instructions a second"
        tries = ", ".join(f"{one.name} {_word(one)}" for one in guest.tries)
        out.append(f"in kernel mode: {speed}; {tries}")
    answers = dict(standing.capabilities)
    if answers:
        from vmrun.kvm.host import table

        for capability in table():
            if answers[capability.name] < 1:
                need = "required" if capability.required else "optional"
                out.append(f"no {capability.name} ({need}, for {capability.purpose})")
    return out
