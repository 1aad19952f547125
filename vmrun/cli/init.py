"""``vmrun init``: write a first manifest, one that runs as it stands."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from vmrun.cli.streams import tell
from vmrun.errors import HostError
from vmrun.printable import clean

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")

_TEMPLATE = """\
# A virtual machine for vmrun. Boot it:             vmrun up {file}
# Run one command in it:                            vmrun run {file} -- uname -a
# See what it is made of, without running it:       vmrun plan {file}
manifest = 1
name = "{name}"

[machine]
board = "riscv_virt"                 # `vmrun boards` lists them

[cpu]
count = 2

[memory]
size = "256MiB"

[boot]
kernel = {{ debian = "linux-image-riscv64", suite = "trixie" }}   # or {{ path = "Image" }}
initrd = {{ busybox = true }}                                     # built by vmrun: busybox and its own init
cmdline = ["panic=-1"]

[console.main]
device = "virtio"

# [disk.data]
# path = "data.img"
# mode = "overlay"                   # ro | overlay | rw: an overlay leaves no trace

[run]
# Without a command there is a shell on the console; Ctrl-a x quits.
command = ["uname", "-a"]
timeouts = {{ total = "5m" }}
"""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the arguments of ``vmrun init``."""
    parser.add_argument("file", nargs="?", default="machine.toml", metavar="F", help="the manifest (machine.toml)")
    parser.add_argument("--name", metavar="NAME", help="the machine's name; the file's unless given")


def run(args: Namespace) -> int:
    """Write the manifest; a file that is there already is never touched."""
    path = Path(args.file)
    name = args.name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")
    if not _NAME.fullmatch(name):
        raise HostError(f"`{name}` is no name for a machine", code="E515", remedy="use letters, digits, - . and _")
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(_TEMPLATE.format(name=name, file=args.file))
    except FileExistsError:
        raise HostError(f"{path} is there already", code="E516", remedy="name another file") from None
    except OSError as error:
        raise HostError(f"{path} cannot be written: {error.strerror}", code="E516", errno=error.errno) from error
    tell(clean(f"wrote {path}; boot it with: vmrun up {path}"))
    return 0
