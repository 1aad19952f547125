"""The devicetree of a riscv64 machine: CPUs, memory, chosen and the bus; device nodes come from the devices themselves.

Source: Devicetree Specification v0.4, chapter 3; Linux Documentation/devicetree/bindings: riscv/cpus.yaml,
riscv/extensions.yaml, interrupt-controller/riscv,cpu-intc.yaml, cpu/cpu-topology.txt.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmrun.boards.fdt_boot import Chosen, chosen_node, memory_node
from vmrun.plan.model import RamRegion, RiscvCpus
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings, Value


def machine_tree(
    *,
    compatible: str,
    model: str,
    cpu: RiscvCpus,
    ram: Sequence[RamRegion],
    interrupt_parent: str,
    soc: Sequence[FdtNode],
    extra: Sequence[FdtNode],
    aliases: Sequence[tuple[str, str]],
    chosen: Chosen,
) -> FdtNode:
    """Return the root. ``soc`` are the nodes on the bus, ``extra`` those at the root, ``aliases`` (name, path)."""
    return FdtNode(
        "",
        (
            ("#address-cells", Cells(2)),
            ("#size-cells", Cells(2)),
            ("compatible", Strings(compatible)),
            ("model", Strings(model)),
        ),
        (
            chosen_node(chosen),
            *((FdtNode("aliases", tuple((name, Strings(path)) for name, path in aliases)),) if aliases else ()),
            cpus_node(cpu),
            *(memory_node(region) for region in ram),
            *extra,
            FdtNode(
                "soc",
                (
                    ("#address-cells", Cells(2)),
                    ("#size-cells", Cells(2)),
                    ("compatible", Strings("simple-bus")),
                    ("interrupt-parent", Cells(Ref(interrupt_parent))),
                    ("ranges", Empty()),
                ),
                tuple(soc),
            ),
        ),
    )


def intc_label(hart: int) -> str:
    """Return the label of a hart's own interrupt controller, which PLIC contexts refer to."""
    return f"cpu{hart}_intc"


def cpus_node(cpu: RiscvCpus) -> FdtNode:
    """Return ``/cpus``: every hart with its interrupt controller, and the map of one cluster."""
    cores = tuple(FdtNode(f"core{hart}", (("cpu", Cells(Ref(f"cpu{hart}"))),)) for hart in range(cpu.count))
    return FdtNode(
        "cpus",
        (
            ("#address-cells", Cells(1)),
            ("#size-cells", Cells(0)),
            ("timebase-frequency", Cells(cpu.timebase_hz)),
        ),
        (
            *(_hart_node(cpu, hart) for hart in range(cpu.count)),
            FdtNode("cpu-map", (), (FdtNode("cluster0", (), cores),)),
        ),
    )


def _hart_node(cpu: RiscvCpus, hart: int) -> FdtNode:
    intc = FdtNode(
        "interrupt-controller",
        (
            # dtc before 1.7 asks for it of every interrupt controller; the binding does not know it.
            ("#address-cells", Cells(0)),
            ("#interrupt-cells", Cells(1)),
            ("compatible", Strings("riscv,cpu-intc")),
            ("interrupt-controller", Empty()),
        ),
        label=intc_label(hart),
    )
    props: tuple[tuple[str, Value], ...] = (
        ("device_type", Strings("cpu")),
        ("reg", Cells(hart)),
        ("compatible", Strings("riscv")),
        ("status", Strings("okay")),
        # Kernels before 6.6 know only `riscv,isa`; since then the other two are preferred.
        ("riscv,isa", Strings(cpu.isa)),
        ("riscv,isa-base", Strings("rv64i")),
        ("riscv,isa-extensions", Strings(*cpu.extensions)),
        ("mmu-type", Strings(f"riscv,{cpu.mmu}")),
        *((f"riscv,{name.removeprefix('zi')}-block-size", Cells(size)) for name, size in cpu.blocks),
    )
    return FdtNode(f"cpu@{hart:x}", props, (intc,), label=f"cpu{hart}")
