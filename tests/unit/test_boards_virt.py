"""The board virt: its memory map beside QEMU's, its tree, its command line, and what it refuses."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_kit import laid_out_and_loaded
from test_boot_arm64 import image

from patience import patience
from vmrun.boards import registry
from vmrun.boards.arm.fdt import cpus_node
from vmrun.boards.limits import LIMITS
from vmrun.errors import ManifestError, PlanError
from vmrun.frozen import evolve
from vmrun.plan import checks, codec
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import ArmCpus, Interrupt, MachinePlan, mpidr
from vmrun.plan.offer import Offer
from vmrun.plan.topology import Topology
from vmrun.planning.how import How
from vmrun.planning.planner import plan_manifest
from vmrun.schema.load import load_manifest
from vmrun.tables.fdt import Cells, FdtNode, Strings, decode

V3 = Offer("kvm", "a test", "aarch64", ("pmu", "sve"), 64, 0, "", irqchips=("gicv3", "gicv2"), granules=(4096, 65536))
V2 = evolve(V3, irqchips=("gicv2",))
BASE = """
manifest = 1
name = "test"
[machine]
board = "virt"
[memory]
size = "128MiB"
[boot]
kernel = { path = "kernel" }
"""
EVERYTHING = (
    BASE
    + """
[cpu]
count = 2
[console.main]
[console.log]
device = "serial"
log = "serial.log"
[disk.root]
path = "disk.img"
[disk.scratch]
size = "1MiB"
[device.rng]
kind = "virtio-rng"
"""
)


def planned(
    folder: Path, text: str = BASE, *, offer: Offer = V3, ports: tuple[str, ...] = (), kernel: bytes | None = None
) -> MachinePlan:
    (folder / "kernel").write_bytes(image() if kernel is None else kernel)
    path = folder / "m.toml"
    path.write_text(text)
    loaded = load_manifest(path, known=registry.known())
    files = BootFiles(BootFile(str(folder / "kernel"), (folder / "kernel").stat().st_size, "0" * 64, "a test"))
    return laid_out_and_loaded(loaded, files, offer, ports)


def refusal(folder: Path, text: str, *, offer: Offer = V3, kernel: bytes | None = None) -> PlanError:
    with pytest.raises(PlanError) as caught:
        planned(folder, text, offer=offer, kernel=kernel)
    return caught.value


def tree_of(plan: MachinePlan) -> FdtNode:
    blob = plan.blob("fdt")
    assert blob is not None and blob.data is not None
    return decode(blob.data)


def found(tree: FdtNode, path: str) -> FdtNode:
    node = tree.find(path)
    assert node is not None, path
    return node


def names(value: object) -> tuple[str, ...]:
    assert isinstance(value, Strings)
    return value.values


# The machine beside QEMU's.

PEERS = {
    # Our node names are those of the bindings; QEMU's are older.
    "serial": "pl011",
    "rtc": "pl031",
    "gpio": "pl061",
    "interrupt-controller": "intc",
    "msi-controller": "its",
}
SAID = ("reg", "interrupts", "clock-names", "clock-frequency", "#redistributor-regions", "#msi-cells", "enable-method")


@pytest.mark.parametrize(("offer", "version"), [(V3, 3), (V2, 2)])
def test_every_device_stands_where_qemu_has_it(offer: Offer, version: int, tmp_path: Path) -> None:
    tool = shutil.which("qemu-system-aarch64")
    if tool is None:
        pytest.skip("needs qemu-system-aarch64 (package qemu-system-arm)")
    blob = tmp_path / "qemu.dtb"
    machine = f"virt,gic-version={version},dumpdtb={blob}"
    command = [tool, "-M", machine, "-cpu", "max", "-smp", "2", "-m", "128", "-display", "none", "-nic", "none"]
    subprocess.run(command, check=True, capture_output=True, timeout=patience(60))
    peers = {node.name: node for _, node in decode(blob.read_bytes()).walk()}
    compared = 0
    for path, node in tree_of(planned(tmp_path, EVERYTHING, offer=offer)).walk():
        name, at, address = node.name.partition("@")
        peer = peers.get(f"{PEERS.get(name, name)}{at}{address}")
        if not at and name not in ("timer", "pmu", "psci", "apb-pclk"):
            continue
        assert peer is not None, path
        for key in SAID:
            # QEMU says that there is one region, which is what no word means.
            if node.prop(key) is not None or key != "#redistributor-regions":
                assert node.prop(key) == peer.prop(key), f"{path}: {key}"
        if name not in ("cpu", "memory"):
            ours, theirs = names(node.prop("compatible")), names(peer.prop("compatible"))
            assert set(ours) <= set(theirs), f"{path}: {ours} {theirs}"
        compared += 1
    assert compared == {3: 16, 2: 15}[version], (
        "two CPUs, RAM, PSCI, timer, PMU, clock, GIC, ITS, three cells, four slots"
    )


def test_devices_take_slots_in_the_manifests_order(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING, ports=("control",))
    slots = [(d.id, d.base, d.size, d.interrupt) for d in plan.devices if d.transport == "virtio-mmio"]
    assert slots == [
        ("disk.root", 0x0A00_0000, 0x200, Interrupt(16, "edge")),
        ("disk.scratch", 0x0A00_0200, 0x200, Interrupt(17, "edge")),
        ("console.main", 0x0A00_0400, 0x200, Interrupt(18, "edge")),
        ("agent", 0x0A00_0600, 0x200, Interrupt(19, "edge")),
        ("device.rng", 0x0A00_0800, 0x200, Interrupt(20, "edge")),
    ]


def test_thirty_two_devices_have_room_and_one_more_has_none(tmp_path: Path) -> None:
    disks = "".join(f"[disk.d{n}]\nsize = '1MiB'\n" for n in range(32))
    plan = planned(tmp_path, BASE + disks)
    assert plan.devices[-1].base == 0x0A00_3E00 and plan.devices[-1].interrupt == Interrupt(47, "edge")
    error = refusal(tmp_path, BASE + disks + "[disk.more]\nsize = '1MiB'\n")
    assert (error.code, error.key) == ("E108", ("disk", "more"))


def test_the_entry_is_what_linux_asks_for(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING, kernel=image(text_offset=0x80000))
    fdt, kernel = plan.blob("fdt"), plan.blob("kernel")
    assert fdt is not None and kernel is not None and kernel.gpa == 0x4008_0000
    assert plan.entry.pc == kernel.gpa
    assert plan.entry.registers == (("x0", fdt.gpa), ("x1", 0), ("x2", 0), ("x3", 0))
    assert fdt.gpa % 8 == 0 and len(fdt.data or b"") <= 2 << 20


@given(ram=st.integers(64, 8192).map(lambda n: n << 20), initrd=st.integers(1, 500 << 20))
def test_linux_finds_its_initrd(ram: int, initrd: int) -> None:
    """Booting.rst: initrd and kernel in one window of at most 32 GiB that starts at a multiple of 1 GiB."""
    from vmrun.boards.virt import LOW_END, RAM_BASE
    from vmrun.boot.kernel import Kernel, Segment
    from vmrun.boot.place import place

    kernel = Kernel("image", "", (Segment(RAM_BASE, 0, 1 << 20, 32 << 20),), RAM_BASE)
    try:
        where = place(kernel, initrd, 4096, RAM_BASE, ram, LOW_END)
    except PlanError:
        return
    assert RAM_BASE % (1 << 30) == 0
    assert where.initrd >= RAM_BASE and max(where.initrd + initrd, where.fdt) <= RAM_BASE + (32 << 30)


# Interrupt controllers.


def test_a_gicv3_comes_with_its_redistributors_and_its_its(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    windows = {d.id: (d.kind, d.base, d.size) for d in plan.devices if d.kind.startswith("gic")}
    assert windows == {
        "gic": ("gicv3", 0x0800_0000, 0x1_0000),
        "its": ("gicv3-its", 0x0808_0000, 0x2_0000),
        "gicr": ("gicv3-redist", 0x080A_0000, 0xF6_0000),
    }
    assert windows["gicr"][2] >= LIMITS["virt"].vcpus * 0x2_0000, "one for each vCPU that the board can have"
    node = found(tree_of(plan), "interrupt-controller@8000000")
    assert node.prop("reg") == Cells(0, 0x0800_0000, 0, 0x1_0000, 0, 0x080A_0000, 0, 0xF6_0000)
    assert tree_of(plan).prop("interrupt-parent") == node.prop("phandle")


@pytest.mark.parametrize(
    ("offer", "asked", "kind"), [(V3, "auto", "gicv3"), (V3, "gicv2", "gicv2"), (V2, "auto", "gicv2")]
)
def test_the_controller_is_the_manifests_or_the_hosts_best(offer: Offer, asked: str, kind: str, tmp_path: Path) -> None:
    text = BASE.replace("[memory]", f'irqchip = "{asked}"\n[memory]')
    gic = planned(tmp_path, text, offer=offer).device("gic")
    assert gic is not None and gic.kind == kind


def test_a_gicv2_is_told_the_cpus_of_private_interrupts(tmp_path: Path) -> None:
    tree = tree_of(planned(tmp_path, BASE + "[cpu]\ncount = 3\n", offer=V2))
    assert found(tree, "timer").prop("interrupts") == Cells(
        *(cell for number in (13, 14, 11, 10) for cell in (1, number, 0x704))
    )
    assert found(tree, "pmu").prop("interrupts") == Cells(1, 7, 0x704)


@pytest.mark.parametrize(("offer", "remedy"), [(V2, "at most 8"), (V3, "gicv3")])
def test_more_vcpus_than_the_controller_carries_are_refused_in_its_name(
    offer: Offer, remedy: str, tmp_path: Path
) -> None:
    text = BASE.replace("[memory]", 'irqchip = "gicv2"\n[memory]')
    assert planned(tmp_path, text + "[cpu]\ncount = 8\n", offer=offer).cpu.count == 8
    error = refusal(tmp_path, text + "[cpu]\ncount = 9\n", offer=offer)
    assert (error.code, error.key) == ("E106", ("cpu", "count"))
    assert "gicv2" in error.message and "9 vCPUs" in error.message and remedy in (error.remedy or "")


def test_the_refusal_points_into_the_manifest(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(BASE.replace("[memory]", 'irqchip = "gicv2"\n[memory]') + "[cpu]\ncount = 9\n")
    with pytest.raises(ManifestError) as caught:
        plan_manifest(path, How(artifacts=False, anywhere=True))
    (finding,) = caught.value.diagnostics()
    assert finding.span is not None and finding.span.line == 12, finding


# CPUs.


def test_cpus_have_the_mpidrs_that_kvm_gives_them(tmp_path: Path) -> None:
    node = found(tree_of(planned(tmp_path, BASE + "[cpu]\ncount = 40\n")), "cpus")
    cpus = [child for child in node.children if child.name.startswith("cpu@")]
    assert [cpu.prop("reg") for cpu in cpus] == [Cells(mpidr(index)) for index in range(40)]
    assert [cpu.name for cpu in cpus][15:18] == ["cpu@f", "cpu@100", "cpu@101"]
    assert {cpu.prop("enable-method") for cpu in cpus} == {Strings("psci")}


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_the_cpu_map_is_the_topology(sockets: int, cores: int, threads: int) -> None:
    shape = Topology(sockets, cores, threads)
    node = cpus_node(ArmCpus("aarch64", shape.count, "host", (), shape))
    map_node = found(node, "cpu-map")
    assert [child.name for child in map_node.children] == [f"socket{n}" for n in range(sockets)]
    refs: list[str] = []
    for _, leaf in map_node.walk():
        value = leaf.prop("cpu")
        if isinstance(value, Cells):
            refs += [cell.label for cell in value.values if not isinstance(cell, int)]
    assert refs == [f"cpu{index}" for index in range(shape.count)], "threads of a core, cores of a socket side by side"
    deepest = found(map_node, f"socket{sockets - 1}/cluster0/core{cores - 1}")
    assert len(deepest.children) == (threads if threads > 1 else 0)


@pytest.mark.parametrize(
    ("asked", "offered", "have"),
    [
        ("[]", ("pmu", "sve"), ("pmu", "sve")),
        ("[]", (), ()),
        ('["-pmu"]', ("pmu", "sve"), ("sve",)),
        ('["-pauth"]', ("pmu",), ("pmu",)),
        ('["+sve"]', ("pauth", "sve"), ("sve", "pauth")),
        ('["+PMU"]', ("pmu",), ("pmu",)),
    ],
)
def test_features_are_the_hosts_changed_by_the_manifest(
    asked: str, offered: tuple[str, ...], have: tuple[str, ...], tmp_path: Path
) -> None:
    plan = planned(tmp_path, BASE + f"[cpu]\nfeatures = {asked}\n", offer=evolve(V3, extensions=offered))
    assert isinstance(plan.cpu, ArmCpus) and plan.cpu.features == have
    assert (tree_of(plan).find("pmu") is not None) == ("pmu" in have)


def test_what_nobody_has_looked_at_is_left_to_the_engine(tmp_path: Path) -> None:
    offer = evolve(V3, extensions=("pmu",), granules=(4096,), nominal=True)
    plan = planned(tmp_path, BASE + '[cpu]\nfeatures = ["+sve"]\n', offer=offer, kernel=image(flags=3 << 1))
    assert isinstance(plan.cpu, ArmCpus) and plan.cpu.features == ("pmu", "sve")


# The command line.


@pytest.mark.parametrize(
    ("extra", "cmdline", "console"),
    [
        ("", "console=ttyAMA0 EARLY", "uart0"),
        ("[console.main]\n", "console=hvc0 EARLY", "console.main"),
        ('[console.main]\n[console.b]\ndevice = "serial"', "console=ttyAMA0 console=hvc0 EARLY", "console.main"),
        ('[console.b]\ndevice = "serial"\n[console.main]', "console=hvc0 console=ttyAMA0 EARLY", "uart0"),
    ],
)
def test_the_command_line_follows_the_consoles(extra: str, cmdline: str, console: str, tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE + extra)
    expected = cmdline.replace("EARLY", "earlycon=pl011,mmio32,0x9000000")
    assert (plan.cmdline, plan.run.console) == (expected, console)
    chosen = found(tree_of(plan), "chosen")
    assert chosen.prop("bootargs") == Strings(expected)
    assert chosen.prop("stdout-path") == Strings("/serial@9000000")


def test_serial_logs_belong_to_the_boards_uart(tmp_path: Path) -> None:
    assert planned(tmp_path, EVERYTHING).run.logs == (("uart0", str(tmp_path / "serial.log")),)


def test_the_uart_is_wired_to_the_run(tmp_path: Path) -> None:
    from vmrun.run.wiring import consoles

    assert consoles(planned(tmp_path, EVERYTHING)) == ("console.main", "uart0")


# What is refused.


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (BASE + "[cpu]\ncount = 65\n", "E106", "at most 64"),
        (BASE + '[console.a]\ndevice = "serial"\n[console.b]\ndevice = "serial"\n', "E108", "UART"),
        (BASE.replace("128MiB", "256GiB"), "E109", "256GiB"),
        (BASE.replace("128MiB", "1MiB"), "E116", "devicetree"),
        (BASE + f"cmdline = ['{'x' * 2048}']\n", "E107", "2047"),
        (BASE + 'protocol = "pvh"\n', "E119", "pvh"),
        (BASE + '[device.clock]\nkind = "goldfish-rtc"\n', "E131", "goldfish-rtc"),
        (BASE.replace("[memory]", 'tables = "acpi"\n[memory]'), "E133", "acpi"),
        (BASE.replace("[memory]", 'irqchip = "plic"\n[memory]'), "E136", "plic"),
        (BASE + '[cpu]\nmodel = "cortex-a72"\n', "E135", "cortex-a72"),
        (BASE + '[cpu]\nfeatures = ["+pauth"]\n', "E135", "pauth"),
        (BASE + '[cpu]\nfeatures = ["-pmu", "+sme"]\n', "E135", "pmu, sve, pauth"),
    ],
)
def test_what_the_board_cannot_be_is_refused(text: str, code: str, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    assert (error.code, words in str(error)) == (code, True), str(error)
    assert error.key and error.remedy


@pytest.mark.parametrize(
    ("offer", "code"), [(evolve(V3, max_vcpus=1), "E106"), (evolve(V3, irqchips=()), "E136")], ids=["vcpus", "gic"]
)
def test_a_host_with_less_bounds_the_plan(offer: Offer, code: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, BASE + "[cpu]\ncount = 2\n", offer=offer).code == code


@pytest.mark.parametrize(
    ("kernel", "code"),
    [
        (image(flags=2 << 1), "E120"),
        (image(flags=1), "E113"),
        (image(image_size=1 << 40), "E114"),
        (b"\0" * 56 + b"RSC\x05" + b"\0" * 100, "E112"),
    ],
)
def test_a_kernel_that_cannot_run_is_refused_at_its_place(kernel: bytes, code: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, BASE, kernel=kernel)
    assert (error.code, error.key) == (code, ("boot", "kernel"))


# The plan as a whole.


def test_a_board_plans_nothing_that_the_checks_find(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING)
    assert checks.findings(plan, LIMITS["virt"]) == ()
    assert codec.from_json(codec.to_json(plan)) == plan
    windows = sorted((d.base, d.size) for d in plan.devices)
    assert all(low[0] + low[1] <= high[0] for low, high in pairwise(windows))
    assert windows[-1][0] + windows[-1][1] <= plan.ram[0].base


def test_a_packed_kernel_makes_the_plan_of_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "m.toml").write_text(BASE)
    plans = []
    for data in (image(size=12288, machine=0xAA64), gzip.compress(image(size=12288, machine=0xAA64), mtime=0)):
        (tmp_path / "kernel").write_bytes(data)
        plans.append(plan_manifest(tmp_path / "m.toml", How(anywhere=True)))
    plain, unpacked = (plan.blob("kernel") for plan in plans)
    assert plain is not None and unpacked is not None and plain.path != unpacked.path
    assert (plain.gpa, plain.size, plain.reserve) == (unpacked.gpa, unpacked.size, unpacked.reserve)
    assert plans[0].entry == plans[1].entry
