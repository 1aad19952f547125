"""What the format names and this release does not carry yet: one row each, deleted when it is carried.

A manifest that uses such a key is refused with E050, so that nothing that a user wrote is silently left out.
Boards, engines and device kinds have no rows: what the registries hand in is what is carried.
"""

from __future__ import annotations

from vmrun.errors import Key
from vmrun.frozen import frozen

FORMAT_BOARDS = ("microvm", "q35", "virt", "riscv_virt")
"""Boards of the format; one that no registry has is not carried rather than unknown."""
FORMAT_ENGINES = ("kvm", "soft", "qemu")
"""Engines of the format: they can be named, and each has a factor in ``[run.timeouts.scale]``."""


@frozen
class Row:
    """A key (``*``: any name), what it asks for, the values if not all, and what to do instead."""

    key: Key
    what: str
    values: tuple[str, ...] = ()
    remedy: str | None = None


NOT_CARRIED = (
    Row(("net", "*"), "network cards"),
    Row(("share", "*"), "shared folders"),
    Row(("boot", "firmware"), "boot by firmware", remedy="give the image as boot.kernel"),
    Row(("memory", "hugepages"), "huge pages"),
    Row(("memory", "shared"), "shared guest memory"),
    Row(("memory", "prealloc"), "preallocated guest memory"),
    Row(("memory", "numa"), "NUMA nodes"),
    Row(("disk", "*", "format"), "qcow2 images", values=("qcow2",), remedy="convert it: qemu-img convert -O raw"),
)

TEST_ONLY = ("verdict", "budget", "matrix")
"""Tables for `vmrun test`: checked for their shape, and named in a warning, since up and run leave them out."""
