"""Which Debian mirror this host's apt is set up with: its sources files (sources.list(5)) read, one entry chosen."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vmrun.errors import ArtifactError
from vmrun.frozen import frozen

SUITES = ("bookworm", "trixie", "forky", "sid", "oldstable", "stable", "testing", "unstable", "experimental")
"""The suites that are worth naming to a person who misspelt one."""

_FAMILIES = re.compile(
    r"(?:buster|bullseye|bookworm|trixie|forky|duke|sid|oldoldstable|oldstable|stable|testing|unstable|experimental)"
    r"(?:-updates|-backports|-backports-sloppy|-proposed-updates)?"
)
_USABLE = re.compile(r"(?:https?|ftp|file|mirror\+[a-z]+|tor\+https?)://?[^\s]+|mirror://[^\s]+|mirror\+file:/[^\s]+")


@frozen
class AptEntry:
    """One binary entry of a sources file."""

    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def mirror(etc: Path = Path("/etc/apt"), environ: dict[str, str] | None = None) -> str:
    """Return the address of a Debian archive: ``$VMRUN_DEBIAN_MIRROR``, or else that of this host's own apt set-up.

    Raise ArtifactError E230 where neither names one.
    """
    named = (os.environ if environ is None else environ).get("VMRUN_DEBIAN_MIRROR", "").strip()
    if named:
        if not _USABLE.fullmatch(named):
            raise ArtifactError(
                f"VMRUN_DEBIAN_MIRROR is `{named}`, which is no address of a mirror",
                code="E230",
                remedy="give a whole address, such as https://mirror.example/debian",
            )
        return named
    best = max(entries(etc), key=_fitness, default=None)
    if best is None or _fitness(best) < 0:
        raise ArtifactError(
            "this host's apt names no mirror of the Debian archive",
            code="E230",
            remedy="name one in the environment: VMRUN_DEBIAN_MIRROR=https://…/debian",
        )
    return best.uri


def entries(etc: Path) -> Iterator[AptEntry]:
    """Yield the enabled ``deb`` entries of ``sources.list`` and ``sources.list.d`` in apt's order."""
    try:
        parts = sorted((etc / "sources.list.d").iterdir())
    except OSError:
        parts = []
    for path in (etc / "sources.list", *parts):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            yield from _one_line(text)
        elif path.suffix == ".sources":
            yield from _deb822(text)


def _one_line(text: str) -> Iterator[AptEntry]:
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^\]]*)\]\s*)?(\S+)\s+([^#]+)", line)
        if match is None:
            continue
        options = dict(word.partition("=")[::2] for word in (match[1] or "").split())
        suite, *components = match[3].split()
        yield AptEntry(match[2], (suite,), tuple(components), options.get("signed-by", ""))


def _deb822(text: str) -> Iterator[AptEntry]:
    for stanza in re.split(r"\n[ \t]*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        joined = re.sub(r"\n[ \t]+", " ", stanza)
        pairs = (line.partition(":") for line in joined.splitlines())
        fields = {key.strip().lower(): value.strip() for key, _, value in pairs}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        suites, components = (tuple(fields.get(key, "").split()) for key in ("suites", "components"))
        for uri in fields.get("uris", "").split():
            yield AptEntry(uri, suites, components, fields.get("signed-by", ""))


def _fitness(entry: AptEntry) -> int:
    """Return how sure it is that the entry serves the whole Debian archive; negative where it does not."""
    families = sum(1 for suite in entry.suites if _FAMILIES.fullmatch(suite))
    if not families or "main" not in entry.components or not _USABLE.fullmatch(entry.uri):
        return -1
    if "security" in entry.uri or "raspbian" in entry.uri or "raspberrypi" in entry.uri:
        return -1
    by_debian = "debian-archive" in entry.signed_by
    base = any("-" not in suite for suite in entry.suites)
    return 4 * by_debian + 2 * base + (entry.uri.rstrip("/").endswith("/debian"))
