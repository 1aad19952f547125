"""The devicetree of an arm64 machine: CPUs with their timers and firmware calls, memory, chosen, the bus's clock.

What has registers on the bus describes itself. Timers, PMU and PSCI are the CPUs' own and have none, so they stand
here; what KVM is told of them is the same private interrupts.

Source: Devicetree Specification v0.4, chapter 3; Linux Documentation/devicetree/bindings: arm/cpus.yaml, arm/psci.yaml,
arm/pmu.yaml, timer/arm,arch_timer.yaml, clock/fixed-clock.yaml, cpu/cpu-topology.txt.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from vmrun.boards.fdt_boot import Chosen, chosen_node, memory_node
from vmrun.devices.irq import _gic as gic
from vmrun.plan import ppi
from vmrun.plan.model import ArmCpus, RamRegion, mpidr
from vmrun.plan.topology import Topology
from vmrun.tables.fdt import Cells, Empty, FdtNode, Ref, Strings

CLOCK = "apb_pclk"
"""The label of the clock that peripherals hang on."""
_CLOCK_HZ = 24_000_000


def machine_tree(
    *,
    compatible: str,
    model: str,
    cpu: ArmCpus,
    ram: Sequence[RamRegion],
    controller: str,
    ppi_cpus: int,
    devices: Sequence[FdtNode],
    aliases: Sequence[tuple[str, str]],
    chosen: Chosen,
) -> FdtNode:
    """Return the root. ``controller`` is the interrupt controller's label, ``aliases`` are (name, path).

    ``ppi_cpus`` are the CPUs of a GICv2, which is told them with each private interrupt; 0 for a later one.
    """
    return FdtNode(
        "",
        (
            ("#address-cells", Cells(2)),
            ("#size-cells", Cells(2)),
            ("compatible", Strings(compatible)),
            ("model", Strings(model)),
            ("interrupt-parent", Cells(Ref(controller))),
            # arm64 takes devices for incoherent unless it is told (Documentation/devicetree/bindings, dma-coherent).
            ("dma-coherent", Empty()),
        ),
        (
            chosen_node(chosen),
            FdtNode("aliases", tuple((name, Strings(path)) for name, path in aliases)),
            cpus_node(cpu),
            *(memory_node(region) for region in ram),
            _psci_node(),
            _timer_node(ppi_cpus),
            *((_pmu_node(ppi_cpus),) if "pmu" in cpu.features else ()),
            _clock_node(),
            *devices,
        ),
    )


def cpus_node(cpu: ArmCpus) -> FdtNode:
    """Return ``/cpus``: every vCPU by its MPIDR, and the map of their topology."""
    return FdtNode(
        "cpus",
        (("#address-cells", Cells(1)), ("#size-cells", Cells(0))),
        (*(_cpu_node(index) for index in range(cpu.count)), _map_node(cpu.topology)),
    )


def _cpu_node(index: int) -> FdtNode:
    address = mpidr(index)
    props = (
        ("device_type", Strings("cpu")),
        ("compatible", Strings("arm,armv8")),
        ("reg", Cells(address)),
        ("enable-method", Strings("psci")),
    )
    return FdtNode(f"cpu@{address:x}", props, label=f"cpu{index}")


def _map_node(topology: Topology) -> FdtNode:
    """Return ``cpu-map``: sockets of one cluster each; a core of one thread names its CPU itself."""
    places = [(*topology.place(index), index) for index in range(topology.count)]
    sockets = []
    for socket, in_socket in groupby(places, key=lambda place: place[0]):
        cores = []
        for core, in_core in groupby(in_socket, key=lambda place: place[1]):
            leaves = [(thread, (("cpu", Cells(Ref(f"cpu{index}"))),)) for _, _, thread, index in in_core]
            if len(leaves) == 1:
                cores.append(FdtNode(f"core{core}", leaves[0][1]))
            else:
                threads = tuple(FdtNode(f"thread{thread}", props) for thread, props in leaves)
                cores.append(FdtNode(f"core{core}", (), threads))
        sockets.append(FdtNode(f"socket{socket}", (), (FdtNode("cluster0", (), tuple(cores)),)))
    return FdtNode("cpu-map", (), tuple(sockets))


def _psci_node() -> FdtNode:
    compatible = Strings("arm,psci-1.0", "arm,psci-0.2")
    return FdtNode("psci", (("compatible", compatible), ("method", Strings("hvc"))))


def _timer_node(ppi_cpus: int) -> FdtNode:
    order = (ppi.TIMER_SECURE, ppi.TIMER_PHYSICAL, ppi.TIMER_VIRTUAL, ppi.TIMER_HYPERVISOR)
    props = (
        ("compatible", Strings("arm,armv8-timer")),
        ("interrupts", Cells(*(cell for number in order for cell in gic.private(number, ppi_cpus)))),
        ("always-on", Empty()),
    )
    return FdtNode("timer", props)


def _pmu_node(ppi_cpus: int) -> FdtNode:
    props = (("compatible", Strings("arm,armv8-pmuv3")), ("interrupts", Cells(*gic.private(ppi.PMU, ppi_cpus))))
    return FdtNode("pmu", props)


def _clock_node() -> FdtNode:
    props = (
        ("compatible", Strings("fixed-clock")),
        ("#clock-cells", Cells(0)),
        ("clock-frequency", Cells(_CLOCK_HZ)),
        ("clock-output-names", Strings("clk24mhz")),
    )
    return FdtNode("apb-pclk", props, label=CLOCK)
