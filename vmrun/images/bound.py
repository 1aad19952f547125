"""How large a file that a guest boots from may be: said before it is read, copied or unpacked."""

from __future__ import annotations

from vmrun.errors import ArtifactError
from vmrun.frozen import frozen
from vmrun.units import format_size

LARGEST = 4 << 30
"""Bytes of the largest file of all: no kernel comes near, with its debugging information either."""
_ELF = b"\x7fELF"


@frozen
class Bound:
    """The bound of a machine with ``ram`` bytes of RAM. What is loaded whole has to fit; of an ELF only a part is."""

    ram: int

    def check(self, name: str, size: int, head: bytes = _ELF) -> None:
        """Raise ArtifactError E264 where the file called ``name``, of ``size`` bytes, cannot be loaded.

        ``head`` are its first bytes, 4 or more; where they are not known yet it may be an ELF.
        """
        if size > LARGEST:
            raise ArtifactError(
                f"{name} has {format_size(size)}, more than any file that a guest boots from",
                code="E264",
                remedy=f"name a file of at most {format_size(LARGEST)}",
            )
        if size > self.ram and not head.startswith(_ELF):
            raise ArtifactError(
                f"{name} has {format_size(size)}, and the machine {format_size(self.ram)} of RAM",
                code="E264",
                remedy="name another file, or set a larger memory.size",
            )
