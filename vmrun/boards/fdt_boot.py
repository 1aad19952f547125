"""What boards with a devicetree load, and the parts of the tree that are the same for every architecture.

Source: Devicetree Specification v0.4, chapter 3; the dt-schema's chosen.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vmrun.boards import loading
from vmrun.boards.consoles import says
from vmrun.boot.kernel import Kernel
from vmrun.boot.place import place
from vmrun.frozen import frozen
from vmrun.plan.files import BootFiles
from vmrun.plan.model import SEED_SIZE, Blob, RamRegion
from vmrun.tables.fdt import Bytes, Cells64, FdtNode, Strings, Value, encode

if TYPE_CHECKING:
    from vmrun.schema.models import Manifest

Extent = tuple[int, int]
"""A half-open range of guest-physical addresses, in bytes."""

_CMA_SIZE = 128 << 20
"""Bytes that Debian's riscv64 kernel sets aside, from 7.2 on, for devices that need contiguous memory
(CONFIG_CMA_SIZE_MBYTES)."""

_SEED = b"\xa5" * SEED_SIZE
"""Stands where the engine puts randomness when it loads the tree. A kernel that has none yet works out every random
number anew, thousands of them until its init; one that is given some has its generator ready at once."""


@frozen
class Chosen:
    """What a boot loader tells the kernel. ``initrd`` is the range of its bytes, ``stdout`` a node's path."""

    cmdline: str
    stdout: str | None
    initrd: Extent | None


def blobs(
    manifest: Manifest,
    files: BootFiles,
    kernel: Kernel,
    ram: RamRegion,
    low_end: int,
    tree: Callable[[Extent | None], FdtNode],
) -> tuple[Blob, ...]:
    """Return kernel, initrd and devicetree in their places in ``ram`` below ``low_end``.

    ``tree`` builds the devicetree for where the initrd lies (None: there is none). Raise PlanError as `place`.
    """
    size = loading.initrd_size(manifest, files)
    # The tree's size does not depend on where the initrd lies: its addresses have one width.
    draft = encode(tree((0, size) if size else None))
    where = place(kernel, size, len(draft), ram.base, ram.size, low_end)
    fdt = encode(tree((where.initrd, where.initrd + size) if size else None))
    return (
        *loading.kernel_blobs(files.kernel, kernel.segments),
        *loading.initrd_blobs(files, where.initrd, size),
        Blob("fdt", where.fdt, len(fdt), where.fdt_reserve, data=fdt, seed=fdt.rindex(_SEED)),
    )


def memory_words(manifest: Manifest, ram: RamRegion) -> Iterator[str]:
    """Yield the kernel's parameters that follow from how little RAM there is.

    A kernel sets contiguous memory aside for devices that need it (kernel/dma/contiguous.c). None of these boards'
    does, and where that is more than half of RAM, too little is left for the kernel's own tables. Smaller RAM cannot
    hold it beside the kernel, which goes on without.
    """
    if _CMA_SIZE < ram.size < 2 * _CMA_SIZE and not says(manifest, "cma"):
        yield "cma=0"


def memory_node(region: RamRegion) -> FdtNode:
    """Return the node of a region of RAM."""
    props = (("device_type", Strings("memory")), ("reg", Cells64(region.base, region.size)))
    return FdtNode(f"memory@{region.base:x}", props)


def chosen_node(chosen: Chosen) -> FdtNode:
    """Return ``/chosen``."""
    props: list[tuple[str, Value]] = []
    if chosen.cmdline:
        props.append(("bootargs", Strings(chosen.cmdline)))
    if chosen.stdout is not None:
        props.append(("stdout-path", Strings(chosen.stdout)))
    if chosen.initrd is not None:
        start, end = chosen.initrd
        props += [("linux,initrd-start", Cells64(start)), ("linux,initrd-end", Cells64(end))]
    props.append(("rng-seed", Bytes(_SEED)))
    return FdtNode("chosen", tuple(props))


def unit_address(node: FdtNode) -> tuple[int, str]:
    """Return what orders nodes on a bus: the address in the name, then the name."""
    name, _, address = node.name.partition("@")
    return int(address or "0", 16), name
