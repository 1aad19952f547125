"""The files that a plan is made from, resolved: what a board needs to know of them, wherever they came from."""

from __future__ import annotations

from vmrun.frozen import frozen


@frozen
class BootFile:
    """A file on this host: ``path`` absolute, ``size`` in bytes, ``sha256`` in hex, ``origin`` in words."""

    path: str
    size: int
    sha256: str
    origin: str = ""


@frozen
class BootFiles:
    """What the guest boots. None is what the manifest does not name, or what was not looked for.

    ``disks`` are (name, image), in the manifest's order; ``reports`` says that the initrd was built by vmrun, so that
    its init reports the command's status.
    """

    kernel: BootFile | None = None
    initrd: BootFile | None = None
    disks: tuple[tuple[str, BootFile], ...] = ()
    reports: bool = False
