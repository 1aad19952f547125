import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmrun
from vmrun.devices import registry
from vmrun.devices.irq import _gic as gic
from vmrun.devices.model import FdtContext, label_of, no_nodes
from vmrun.devices.registers import Bits, Register, RegisterMap
from vmrun.errors import PlanError
from vmrun.plan.model import DevicePlan, Interrupt
from vmrun.tables.fdt import Cells, Cells64, FdtNode, Ref, Strings, encode

KINDS = (
    "acpi-power",
    "aplic",
    "cmos-rtc",
    "gicv2",
    "gicv2-cpu",
    "gicv3",
    "gicv3-its",
    "gicv3-redist",
    "goldfish-rtc",
    "i8042",
    "i8254",
    "imsic",
    "ioapic",
    "isa-debug-exit",
    "lapic",
    "pl011",
    "pl031",
    "pl061",
    "plic",
    "sifive-test",
    "uart16550",
    "virtio-blk",
    "virtio-console",
    "virtio-mmio",
    "virtio-rng",
)
CONTEXT = FdtContext(("cpu0_intc", "cpu1_intc"), clock="apb_pclk")


def plan(kind: str, id: str = "it") -> DevicePlan:
    return DevicePlan(id, kind, 0x1000_1000, registry.load(kind).needs.size, Interrupt(5), None)


def test_every_device_is_found_by_its_kind() -> None:
    assert registry.kinds() == KINDS
    for kind in KINDS:
        device = registry.load(kind)
        assert device.kind == kind and device.doc and "\n" not in device.doc
        assert device.needs.transport in (None, "virtio-mmio")
        assert device.needs.size <= 0x600000 and device.needs.align & (device.needs.align - 1) == 0


@pytest.mark.parametrize(
    "kind", ["", "floppy", "gic", "model", "registry", "testing", "timer", "../errors", "virtio_rng", "Plic", "core"]
)
def test_an_unknown_kind_is_refused(kind: str) -> None:
    with pytest.raises(PlanError) as caught:
        registry.load(kind)
    assert caught.value.code == "E160" and "virtio-rng" in str(caught.value)


def test_a_kind_loads_its_own_file_and_no_engine() -> None:
    script = """
import sys
from vmrun.devices import registry
registry.kinds()
assert not [m for m in sys.modules if m.startswith("vmrun.devices.") and m not in
            ("vmrun.devices.registry", "vmrun.devices.model", "vmrun.devices.registers")], "kinds() imported a device"
registry.load("virtio-rng")
devices = {m for m in sys.modules if m.startswith("vmrun.devices.virtio.")}
assert devices == {"vmrun.devices.virtio.virtio_rng", "vmrun.devices.virtio.virtio_mmio"}, devices
assert "vmrun._core" not in sys.modules and "pydantic" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(vmrun.__file__).parents[1])


def test_every_code_that_devices_raise_is_explained() -> None:
    folder = Path(vmrun.__file__).parent
    catalogue = tomllib.loads((folder / "catalogue/devices.toml").read_text())
    texts = [p.read_text() for room in ("devices", "core") for p in folder.glob(f"{room}/**/*.py")]
    raised = {f"E{n}" for n in range(100, 600) if any(f'"E{n}"' in text for text in texts)}
    assert set(catalogue) <= raised
    assert raised <= {code for file in folder.glob("catalogue/*.toml") for code in tomllib.loads(file.read_text())}
    assert all(entry["title"] and entry["text"].strip() for entry in catalogue.values())


@pytest.mark.parametrize("kind", [kind for kind in KINDS if registry.load(kind).fdt is not no_nodes])
def test_nodes_stand_where_the_device_stands(kind: str) -> None:
    device = registry.load(kind)
    nodes = device.fdt(plan(kind), CONTEXT)
    (node,) = nodes.soc
    assert node.name.endswith("@10001000")
    assert node.prop("reg") == Cells64(0x1000_1000, device.needs.size)
    if device.needs.trigger:
        assert node.prop("interrupts") == Cells(5)
    if device.compatible:
        assert node.prop("compatible") == Strings(*device.compatible)
    labels = (*CONTEXT.hart_intcs, CONTEXT.clock)
    others = tuple(FdtNode(label, (("x", Cells(1)),), label=label) for label in labels)
    assert encode(FdtNode("", (), (*others, *nodes.soc, *nodes.root)))


GIC_PARTS = (
    DevicePlan("gic", "gicv3", 0x800_0000, 0x10000),
    DevicePlan("its", "gicv3-its", 0x808_0000, 0x20000),
    DevicePlan("gicr0", "gicv3-redist", 0x80A_0000, 0x40000),
    DevicePlan("gicr1", "gicv3-redist", 0x40_0000_0000, 0x40000),
)


@pytest.mark.parametrize("regions", [1, 2])
def test_a_gicv3_is_one_node_of_its_parts(regions: int) -> None:
    placed = GIC_PARTS[: 2 + regions]
    (node,) = registry.load("gicv3").fdt(placed[0], FdtContext(placed=placed)).soc
    windows = [(part.base, part.size) for part in (placed[0], *placed[2:])]
    assert node.prop("reg") == Cells64(*(cell for window in windows for cell in window))
    assert node.prop("#redistributor-regions") == (Cells(2) if regions == 2 else None)
    (its,) = node.children
    assert (its.name, its.prop("reg")) == ("msi-controller@8080000", Cells64(0x808_0000, 0x20000))


def test_a_gicv2_is_one_node_of_its_parts() -> None:
    placed = (DevicePlan("gic", "gicv2", 0x800_0000, 0x10000), DevicePlan("gicc", "gicv2-cpu", 0x801_0000, 0x10000))
    (node,) = registry.load("gicv2").fdt(placed[0], FdtContext(placed=placed)).soc
    assert node.prop("reg") == Cells64(0x800_0000, 0x10000, 0x801_0000, 0x10000)


def test_a_gics_lines_have_three_cells() -> None:
    assert gic.line(Interrupt(16, "edge")) == (0, 16, 1) and gic.line(Interrupt(1)) == (0, 1, 4)
    assert gic.private(14) == (1, 14, 4) and gic.private(14, 8) == (1, 14, 0xFF04)


def test_the_power_key_is_on_a_line_of_the_gpio() -> None:
    (keys,) = registry.load("pl061").fdt(plan("pl061", "gpio"), CONTEXT).root
    (key,) = keys.children
    assert key.prop("gpios") == Cells(Ref("gpio"), 3, 0) and key.prop("linux,code") == Cells(116)


def test_the_plic_has_one_context_a_hart() -> None:
    node = registry.load("plic").fdt(plan("plic", "plic"), CONTEXT).soc[0]
    assert node.prop("interrupts-extended") == Cells(Ref("cpu0_intc"), 9, Ref("cpu1_intc"), 9)
    assert node.prop("riscv,ndev") == Cells(95) and node.label == "plic"


def test_the_power_switch_is_driven_by_syscon() -> None:
    nodes = registry.load("sifive-test").fdt(plan("sifive-test", "test"), CONTEXT)
    found = {node.name: (node.prop("regmap"), node.prop("offset"), node.prop("value")) for node in nodes.root}
    assert found == {
        "poweroff": (Cells(Ref("test")), Cells(0), Cells(0x5555)),
        "reboot": (Cells(Ref("test")), Cells(0), Cells(0x7777)),
    }


def test_labels_hold_what_labels_can() -> None:
    assert label_of(plan("plic", "device.a-b.ä")) == "device_a_b__"


@pytest.mark.parametrize("kind", KINDS)
def test_registers_of_c_are_those_declared(kind: str) -> None:
    """Offsets and bits stand in the C header and in the declaration: they must be the same, and none may be missing."""
    from vmrun._core import lib

    registers = registry.load(kind).registers
    if registers is None or registers.prefix is None:
        return
    constants = {n.removeprefix(registers.prefix): getattr(lib, n) for n in dir(lib) if n.startswith(registers.prefix)}
    for register in registers.registers:
        where = constants.pop(register.name, None)
        if where is None:  # an array in an array: PLIC contexts
            outer, _, inner = register.name.partition("_")
            where = constants[outer] + constants.pop(inner)
        assert where == register.offset, register.name
        stride = constants.pop(f"{register.name}_STRIDE", None)
        assert stride is None or stride % register.width == 0
        for bits in register.fields:
            mask = constants.pop(f"{register.name}_{bits.name}", None)
            assert mask is None or mask == bits.mask, (register.name, bits.name)
    left = {n for n in constants if not n.startswith(("IIR_", "SM_"))}
    assert left <= {"DLL", "DLM", "CONTEXT", "CONTEXT_STRIDE", "PRIORITY_MAX", "ENABLE_STRIDE", "PAGE"}


def test_status_bits_of_virtio_are_those_declared() -> None:
    from vmrun._core import lib
    from vmrun.devices.virtio.virtio_mmio import REGISTERS

    for bits in REGISTERS.named("STATUS").fields:
        assert getattr(lib, f"VMR_VIRTIO_STATUS_{bits.name}") == bits.mask
    for bits in REGISTERS.named("INTERRUPT_STATUS").fields:
        assert getattr(lib, f"VMR_VIRTIO_INT_{bits.name}") == bits.mask
    assert REGISTERS.named("MAGIC").reset == lib.VMR_VIRTIO_MAGIC


LCR = Register("LCR", 3, 1, "rw", 0, (Bits("WLS", 0, 1), Bits("DLAB", 7)))


def test_a_register_decodes_and_prints() -> None:
    assert LCR.decode(0x83) == (("WLS", 3), ("DLAB", 1))
    assert LCR.format(0x83) == "LCR=0x83 (WLS=3 DLAB=1)"
    assert LCR.format(0x64) == "LCR=0x64 (bit[2]=1 bits[6:5]=3)"
    assert LCR.format(0) == "LCR=0x0"
    assert Register("SCR", 7, 1, "rw").format(255) == "SCR=0xff"
    with pytest.raises(KeyError):
        LCR.field("nothing")


@given(st.integers(0, 2**64 - 1))
def test_decoding_loses_no_bit(value: int) -> None:
    total = 0
    for name, number in LCR.decode(value):
        if name.startswith("bit"):
            low = int(name.split("[")[1].rstrip("]").split(":")[-1])
            total |= number << low
        else:
            total |= number << LCR.field(name).low
    assert total == value


def test_an_offset_finds_its_register() -> None:
    array = RegisterMap(
        "s", (Register("A", 0, 4, "rw", count=4, stride=8), Register("R", 4, 4, "ro"), Register("W", 4, 4, "wo"))
    )
    assert array.at(17) == (array.named("A"), 2)
    assert array.at(4) == (array.named("R"), 0)
    assert array.at(4, write=True) == (array.named("W"), 0)
    assert array.at(12) is None and array.at(32) is None
    with pytest.raises(KeyError):
        array.named("B")
