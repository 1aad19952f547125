"""The CPU that an x86 guest sees: CPUID built from what KVM supports here, the manifest's features and the topology.

Leaves: Intel SDM vol. 2A, CPUID; AMD64 APM vol. 3, appendix E; KVM's own: Linux
``Documentation/virt/kvm/x86_64/cpuid.rst``.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Any

from vmrun.errors import HostError
from vmrun.frozen import evolve, frozen
from vmrun.images.words import did_you_mean
from vmrun.kvm.host import Kvm, failed
from vmrun.plan import x86_features as features
from vmrun.plan.topology import Topology

MODELS = ("host", "max")
"""What [cpu] ``model`` may be: on KVM both are all that the host's processor and KVM have together."""

_INTEL = int.from_bytes(b"Genu", "little")
_TOPOLOGY = frozenset({0xB, 0x1F, 0x80000026})
_THREADS, _CORES = 1, 2  # level types of leaves 0xb and 0x1f
_BASE_XSTATE = 0b11
_LEGACY_XSAVE = 576  # bytes of the legacy area and the header
_MOST_ENTRIES = 4096


@frozen
class Leaf:
    """What CPUID answers for ``function`` (and ``index`` where ``indexed``)."""

    function: int
    index: int
    eax: int
    ebx: int
    ecx: int
    edx: int
    indexed: bool = False


Table = tuple[Leaf, ...]


def supported(kvm: Kvm) -> Table:
    """Return what this host's KVM can show a guest. Raise HostError E325 where it does not say."""
    from vmrun._core import ffi, lib

    room = 256
    while True:
        rows = ffi.new("vmr_kvm_x86_cpuid[]", room)
        count = lib.vmr_kvm_x86_supported_cpuid(kvm.fd, rows, room)
        if count != -errno.E2BIG or room >= _MOST_ENTRIES:
            break
        room *= 2
    if count < 0:
        raise failed(f"KVM_GET_SUPPORTED_CPUID: {os.strerror(-count)}", -count, "CPU")
    return tuple(Leaf(r.function, r.index, r.eax, r.ebx, r.ecx, r.edx, bool(r.flags & 1)) for r in rows[0:count])


def names(table: Table) -> tuple[str, ...]:
    """Return the names of the features in ``table``, in the order of their bits."""
    known = {(leaf.function, leaf.index): leaf for leaf in table}
    return tuple(
        name
        for name, (function, index, register, bit) in features.bits().items()
        if (leaf := known.get((function, index))) and getattr(leaf, register) >> bit & 1
    )


def offered(table: Table, *, tsc_deadline: bool) -> Table:
    """Return ``table`` with what the in-kernel LAPIC adds, which KVM_GET_SUPPORTED_CPUID leaves to the caller.

    Without IA32_ARCH_CAPABILITIES on other processors than Intel's: KVM always shows it, AMD's kernels expect it not.
    """
    on = {"hypervisor", "x2apic"} | ({"tsc_deadline_timer"} if tsc_deadline else set())
    vendor = next((leaf.ebx for leaf in table if leaf.function == 0), 0)
    return _with(table, on=on, off=set() if vendor == _INTEL else {"arch_capabilities"})


def build(table: Table, changes: Sequence[str], topology: Topology, index: int) -> Table:
    """Return what vCPU ``index`` sees: ``table`` (see `offered`) with ``changes`` (``+name``, ``-name``) and its place.

    Raise HostError E327 for a feature that the host lacks, E328 for one that has no name.
    """
    return place(choose(table, changes), topology, index)


# ---- features --------------------------------------------------------------------------------------------------------


def choose(table: Table, changes: Sequence[str]) -> Table:
    """Return ``table`` with features added and removed. Raise HostError E327 and E328 as `build`."""
    have = frozenset(names(table))
    off: set[str] = set()
    for change in changes:
        name = change.lstrip("+-")
        if name not in features.bits():
            hint = did_you_mean(name, features.bits(), "the names are those of /proc/cpuinfo")
            raise HostError(f"no CPU feature is called `{name}`", code="E328", remedy=hint)
        if change.startswith("-"):
            off |= features.with_dependents(name)
        elif name not in have:
            text = f"this host's CPU and KVM cannot give a guest the feature `{name}`"
            raise HostError(text, code="E327", remedy=f'remove "{change}" from `features` in [cpu]')
    return _with_xstate(_with(table, on=set(), off=off), off & have)


def _with(table: Table, *, on: set[str], off: set[str]) -> Table:
    masks: dict[tuple[int, int], dict[str, tuple[int, int]]] = {}
    for name in on | off:
        function, index, register, bit = features.bits()[name]
        row = masks.setdefault((function, index), {})
        set_, clear = row.get(register, (0, 0))
        row[register] = (set_ | (name in on) << bit, clear | (name in off) << bit)
    return tuple(
        evolve(leaf, **{r: (getattr(leaf, r) | s) & ~c for r, (s, c) in masks[key].items()})
        if (key := (leaf.function, leaf.index)) in masks
        else leaf
        for leaf in table
    )


def _with_xstate(table: Table, off: set[str]) -> Table:
    """Return ``table`` without the extended state of features that are off; KVM itself fills in the current size."""
    if "xsave" in off:
        return tuple(leaf for leaf in table if leaf.function != 0xD)
    gone = 0
    for name in off:
        gone |= features.XSTATE.get(name, 0)
    if not gone:
        return table
    kept = [leaf for leaf in table if leaf.function != 0xD or leaf.index < 2 or not gone >> leaf.index & 1]
    parts = [leaf for leaf in kept if leaf.function == 0xD and leaf.index >= 2 and not leaf.ecx & 1]
    size = max([_LEGACY_XSAVE, *(part.ebx + part.eax for part in parts)])
    return tuple(
        evolve(leaf, eax=leaf.eax & ~gone & 0xFFFFFFFF, edx=leaf.edx & ~(gone >> 32), ecx=size)
        if leaf.function == 0xD and leaf.index == 0
        else leaf
        for leaf in kept
    )


# ---- topology --------------------------------------------------------------------------------------------------------


def place(table: Table, topology: Topology, index: int) -> Table:
    """Return ``table`` with the leaves that say where vCPU ``index`` stands."""
    last = next((leaf.eax for leaf in table if leaf.function == 0), 0)
    out = [_placed(leaf, topology, index) for leaf in table if leaf.function not in _TOPOLOGY]
    if last >= 0xB:
        out += _levels(0xB, topology, index)
    if last >= 0x1F:
        out += _levels(0x1F, topology, index)
    return tuple(sorted(out, key=lambda leaf: (leaf.function, leaf.index)))


def _levels(function: int, topology: Topology, index: int) -> list[Leaf]:
    """Return the extended topology: threads of a core, cores of a package, and the end."""
    id = topology.apic_id(index)
    package = topology.cores * topology.threads
    return [
        Leaf(function, 0, topology.thread_bits, topology.threads, _THREADS << 8, id, True),
        Leaf(function, 1, topology.package_shift, package, _CORES << 8 | 1, id, True),
        Leaf(function, 2, 0, 0, 2, id, True),
    ]


def _placed(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    edit = _EDITS.get(leaf.function)
    return edit(leaf, topology, index) if edit else leaf


def _leaf_1(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    """Initial APIC id, ids of a package, and whether a package has more than one (HTT)."""
    ids = min(1 << topology.package_shift, 255)
    ebx = leaf.ebx & 0xFFFF | ids << 16 | (topology.apic_id(index) & 0xFF) << 24
    return evolve(leaf, ebx=ebx, edx=leaf.edx & ~(1 << 28) | (topology.package_shift > 0) << 28)


def _leaf_4(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    """Intel's caches: levels 1 and 2 belong to a core, level 3 to the package; cores of a package in the top bits."""
    if not leaf.eax & 31:
        return leaf
    shift = topology.package_shift if leaf.eax >> 5 & 7 >= 3 else topology.thread_bits
    cores = (1 << topology.package_shift - topology.thread_bits) - 1
    return evolve(leaf, eax=leaf.eax & 0x3FFF | ((1 << shift) - 1 & 0xFFF) << 14 | (cores & 0x3F) << 26)


def _leaf_80000001(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    """AMD's CmpLegacy: more than one logical processor in a package. Reserved on Intel, where it stays 0."""
    return evolve(leaf, ecx=leaf.ecx & ~2 | (leaf.ecx & 2 and topology.package_shift > 0) << 1)


def _leaf_80000008(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    """AMD's core count: processors of a package less 1, and the bits that number them."""
    most = min(topology.cores * topology.threads - 1, 0xFF)
    return evolve(leaf, ecx=leaf.ecx & ~0xF0FF | most | (topology.package_shift & 15) << 12) if leaf.ecx else leaf


def _leaf_8000001d(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    """AMD's caches: as leaf 4, without the cores."""
    if not leaf.eax & 31:
        return leaf
    sharing = topology.cores * topology.threads if leaf.eax >> 5 & 7 >= 3 else topology.threads
    return evolve(leaf, eax=leaf.eax & ~(0xFFF << 14) | (sharing - 1 & 0xFFF) << 14)


def _leaf_8000001e(leaf: Leaf, topology: Topology, index: int) -> Leaf:
    """AMD's place: APIC id, core and its threads, and the node, which is the package."""
    socket, core, _ = topology.place(index)
    ebx = core & 0xFF | topology.threads - 1 << 8
    return evolve(leaf, eax=topology.apic_id(index), ebx=ebx, ecx=socket & 0xFF, edx=0)


_EDITS = {
    1: _leaf_1,
    4: _leaf_4,
    0x80000001: _leaf_80000001,
    0x80000008: _leaf_80000008,
    0x8000001D: _leaf_8000001d,
    0x8000001E: _leaf_8000001e,
}


def rows(table: Table) -> Any:
    """Return ``table`` as ``vmr_kvm_x86_cpuid[]``."""
    from vmrun._core import ffi

    made = ffi.new("vmr_kvm_x86_cpuid[]", len(table))
    for row, leaf in zip(made, table, strict=True):
        row.function, row.index, row.flags = leaf.function, leaf.index, int(leaf.indexed)
        row.eax, row.ebx, row.ecx, row.edx = leaf.eax, leaf.ebx, leaf.ecx, leaf.edx
    return made
