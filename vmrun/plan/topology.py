"""CPU topology of a guest, and the APIC ids of x86 that follow from it: the CPUID leaves and the MADT must agree."""

from __future__ import annotations

from vmrun.frozen import frozen


@frozen
class Topology:
    """``sockets`` x ``cores`` x ``threads`` vCPUs, each at least 1."""

    sockets: int = 1
    cores: int = 1
    threads: int = 1

    @property
    def count(self) -> int:
        """How many vCPUs there are."""
        return self.sockets * self.cores * self.threads

    @property
    def thread_bits(self) -> int:
        """How many low bits of an APIC id number the threads of a core."""
        return (self.threads - 1).bit_length()

    @property
    def package_shift(self) -> int:
        """How many low bits of an APIC id number the threads of a package."""
        return self.thread_bits + (self.cores - 1).bit_length()

    def place(self, index: int) -> tuple[int, int, int]:
        """Return socket, core and thread of the vCPU with ``index``; threads of a core stand side by side."""
        core, thread = divmod(index, self.threads)
        socket, core = divmod(core, self.cores)
        return socket, core, thread

    def apic_id(self, index: int) -> int:
        """Return the APIC id of vCPU ``index``: fields of whole bits (Intel SDM 3A, 9.9.1), so there may be gaps."""
        socket, core, thread = self.place(index)
        return socket << self.package_shift | core << self.thread_bits | thread
