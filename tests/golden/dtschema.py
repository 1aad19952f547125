"""The kernel's devicetree bindings as one schema for dt-validate, built once and kept in the user's cache.

The bindings come out of Debian's linux-source package, fetched by a private apt client with the host's own sources and
keys; building the schema takes half a minute to two minutes of CPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from patience import patience
from vmrun.images.store import Store

PACKAGE = re.compile(r"linux-source-(\d+)\.(\d+)")
BINDINGS = "Documentation/devicetree/bindings"
TOOLS = ("dt-mk-schema", "dt-validate")


class UnavailableError(Exception):
    """Why there is no schema on this host; the message names what is missing."""


def tool(name: str) -> str:
    """Return the path of a tool of dtschema, beside this Python or on PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise UnavailableError(f"needs {name} (Python package dtschema)")
    return found


def schema() -> Path:
    """Return the schema file, built unless it is there. Raise UnavailableError."""
    for name in TOOLS:
        tool(name)
    package = newest_source_package()
    target = cache() / package.replace("=", "_") / "schema.json"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with Store(cache()).locked("schema"):
            if not target.exists():
                build(package, target)
    return target


def build(package: str, target: Path) -> None:
    """Build the schema of the bindings in ``package``: minutes of work, so one process does it for all."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        bindings = fetch_bindings(package, Path(folder))
        built = Path(folder) / "schema.json"
        run([tool("dt-mk-schema"), "-j", "-o", str(built), str(bindings)], timeout=patience(600))
        built.replace(target)


def cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "vmrun" / "dt-schema"


def newest_source_package() -> str:
    """Return ``package=version`` of the newest linux-source that this host's apt knows."""
    if shutil.which("apt-cache") is None:
        raise UnavailableError("needs apt (for Debian's linux-source package)")
    names = [
        n for n in run(["apt-cache", "pkgnames", "linux-source-"], timeout=patience(60)).split() if PACKAGE.fullmatch(n)
    ]
    if not names:
        raise UnavailableError("needs a linux-source package in apt's lists (apt-get update)")
    newest = max(names, key=lambda n: tuple(map(int, PACKAGE.fullmatch(n).groups())))  # type: ignore[union-attr]
    policy = run(["apt-cache", "policy", newest], timeout=patience(60))
    candidate = re.search(r"Candidate: (\S+)", policy)
    if candidate is None or candidate[1] == "(none)":
        raise UnavailableError(f"needs {newest} in apt's lists (apt-get update)")
    return f"{newest}={candidate[1]}"


def fetch_bindings(package: str, folder: Path) -> Path:
    """Download the package into ``folder``, unpack its bindings, and return their folder."""
    try:
        run(["apt-get", "-q", "download", package], timeout=patience(600), cwd=folder)
    except UnavailableError as error:
        raise UnavailableError(f"needs the network for {package}: {error}") from None
    (deb,) = folder.glob("*.deb")
    run(["dpkg-deb", "-x", str(deb), str(folder)], timeout=patience(300))
    (archive,) = folder.glob("usr/src/*.tar.*")
    run(["tar", "-xf", str(archive), "-C", str(folder), "--wildcards", f"*/{BINDINGS}"], timeout=patience(300))
    (bindings,) = folder.glob(f"*/{BINDINGS}")
    return bindings


def run(command: list[str], *, timeout: int, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        raise UnavailableError(f"{command[0]}: {str(detail).strip().splitlines()[-1]}") from None
    return done.stdout


def validate(dtb: Path, schema_file: Path) -> list[str]:
    """Return dt-validate's findings, one line each, without the file's name and the schema's."""
    done = subprocess.run(
        [tool("dt-validate"), "-m", "-s", str(schema_file), str(dtb)],
        capture_output=True,
        text=True,
        timeout=patience(120),
    )
    lines = (done.stdout + done.stderr).splitlines()
    return [line.removeprefix(f"{dtb}: ") for line in lines if line.strip() and not line.startswith("\tfrom schema")]
