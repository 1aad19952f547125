"""What every x86 kernel format comes down to, and the boot protocols that they are entered by."""

from __future__ import annotations

from vmrun.boot.kernel import Segment
from vmrun.frozen import frozen

PROTOCOLS = ("bzimage", "elf", "pvh")
"""``bzimage``: the kernel unpacks itself, entered in 64-bit mode. ``elf``: a vmlinux, entered in 64-bit mode with the
same boot parameters. ``pvh``: a vmlinux with a PVH note, entered in 32-bit mode with Xen's start info."""


@frozen
class X86Kernel:
    """A kernel with its place in RAM. ``protocol`` is one of PROTOCOLS, ``about`` is for a reader.

    ``header`` is the setup header of its file, from offset 0x1f1 of the boot parameters on, empty where there is none.
    ``initrd_max`` is the highest address that the initrd's last byte may have, ``cmdline_max`` the longest command line
    in bytes, without its NUL.
    """

    protocol: str
    about: str
    segments: tuple[Segment, ...]
    entry: int
    header: bytes
    initrd_max: int
    cmdline_max: int

    def end(self) -> int:
        """Return the address after everything that the kernel occupies."""
        return max(segment.gpa + segment.reserve for segment in self.segments)
