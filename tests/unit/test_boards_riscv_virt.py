"""The board riscv_virt: its memory map beside QEMU's, its command line, and what it refuses."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_kit import BASE, OFFER, laid_out_and_loaded, load, planned

from patience import patience
from vmrun.boards import registry
from vmrun.boards.riscv import isa
from vmrun.boards.riscv.fdt import cpus_node
from vmrun.errors import PlanError
from vmrun.frozen import evolve
from vmrun.kvm.offer import nominal as kvm_nominal
from vmrun.plan import codec
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import SEED_SIZE, MachinePlan
from vmrun.plan.offer import Offer
from vmrun.rv64.isa import DEFAULT_EXTENSIONS
from vmrun.tables.fdt import Cells, FdtNode, Strings, decode

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
serial = "root"
[disk.scratch]
size = "1MiB"
[device.rng]
kind = "virtio-rng"
"""
)


def tree_of(plan: MachinePlan) -> FdtNode:
    blob = plan.blob("fdt")
    assert blob is not None and blob.data is not None
    return decode(blob.data)


def refusal(folder: Path, text: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        planned(folder, text)
    return caught.value


def test_devices_take_slots_in_the_manifests_order(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING, ports=("control",))
    slots = [(d.id, d.base, d.interrupt.number) for d in plan.devices if d.transport == "virtio-mmio" and d.interrupt]
    assert slots == [
        ("disk.root", 0x1000_1000, 1),
        ("disk.scratch", 0x1000_2000, 2),
        ("console.main", 0x1000_3000, 3),
        ("agent", 0x1000_4000, 4),
        ("device.rng", 0x1000_5000, 5),
    ]


def test_disks_carry_what_the_manifest_says(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING)
    root, scratch = plan.device("disk.root"), plan.device("disk.scratch")
    assert root is not None and scratch is not None
    assert dict(root.properties) == {"path": str(tmp_path / "disk.img"), "mode": "overlay", "serial": "root"}
    assert dict(scratch.properties) == {"size": 1 << 20}


def test_every_device_of_qemus_machine_stands_where_qemu_has_it(tmp_path: Path) -> None:
    tool = shutil.which("qemu-system-riscv64")
    if tool is None:
        pytest.skip("needs qemu-system-riscv64 (package qemu-system-misc)")
    blob = tmp_path / "qemu.dtb"
    command = [tool, "-M", f"virt,dumpdtb={blob}", "-smp", "2", "-m", "128", "-display", "none"]
    subprocess.run(command, check=True, capture_output=True, timeout=patience(60))
    peers = [node for _, node in decode(blob.read_bytes()).walk()]
    plic_of = {"qemu": "plic@c000000", "vmrun": "interrupt-controller@c000000"}
    for path, node in tree_of(planned(tmp_path, EVERYTHING)).walk():
        if "@" not in node.name or "/soc/" not in path:
            continue
        name = plic_of["qemu"] if node.name == plic_of["vmrun"] else node.name
        (peer,) = [p for p in peers if p.name == name]
        for key in ("compatible", "reg", "interrupts", "riscv,ndev"):
            assert node.prop(key) == peer.prop(key), f"{path}: {key}"


AIA = evolve(OFFER, engine="kvm", irqchips=("aia", "plic"), msi_ids=255, extensions=(*OFFER.extensions, "ssaia"))


def test_an_aia_stands_where_qemu_has_the_one_of_s_mode(tmp_path: Path) -> None:
    tool = shutil.which("qemu-system-riscv64")
    if tool is None:
        pytest.skip("needs qemu-system-riscv64 (package qemu-system-misc)")
    blob = tmp_path / "qemu.dtb"
    command = [tool, "-M", f"virt,aia=aplic-imsic,dumpdtb={blob}", "-smp", "2", "-m", "128", "-display", "none"]
    subprocess.run(command, check=True, capture_output=True, timeout=patience(60))
    peer, ours = decode(blob.read_bytes()), tree_of(planned(tmp_path, EVERYTHING, engine=AIA))
    for path, node in ours.walk():
        if "@" in node.name and "/soc/" in path:
            theirs = peer.find(path.lstrip("/"))
            assert theirs is not None, path
            for key in ("compatible", "reg", "interrupts", "riscv,num-ids", "riscv,num-sources", "#interrupt-cells"):
                if (node.name, key) == ("interrupt-controller@d000000", "reg"):
                    continue  # QEMU's window has room for delivery without IMSICs; KVM's ends before that
                assert node.prop(key) == theirs.prop(key), f"{path}: {key}"
    aplic, imsic = (ours.find(f"soc/interrupt-controller@{at}") for at in ("d000000", "28000000"))
    assert aplic is not None and imsic is not None
    assert aplic.prop("msi-parent") == imsic.prop("phandle")
    assert ours.find("soc").prop("interrupt-parent") == aplic.prop("phandle")  # type: ignore[union-attr]
    assert imsic.prop("interrupts-extended").values[1::2] == (9, 9)  # type: ignore[union-attr]
    assert ours.find("soc/interrupt-controller@c000000") is None


def test_the_manifest_chooses_the_interrupt_controller(tmp_path: Path) -> None:
    chosen = BASE.replace('"riscv_virt"', '"riscv_virt"\nirqchip = "plic"')
    assert {d.kind for d in planned(tmp_path, chosen, engine=AIA).devices} & {"aplic", "imsic", "plic"} == {"plic"}
    assert {d.kind for d in planned(tmp_path, BASE).devices} & {"aplic", "imsic", "plic"} == {"plic"}
    with pytest.raises(PlanError) as caught:
        planned(tmp_path, chosen.replace("plic", "gicv3"))
    assert (caught.value.code, caught.value.key) == ("E136", ("machine", "irqchip"))


def test_an_aia_needs_its_extension(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="without `ssaia`") as caught:
        planned(tmp_path, BASE + '[cpu]\nfeatures = ["-ssaia"]\n', engine=AIA)
    assert (caught.value.code, caught.value.key) == ("E132", ("cpu", "features", "0"))


@pytest.mark.parametrize("engine", [OFFER, evolve(AIA, irqchips=("plic", "aia"))])
def test_the_extension_goes_with_the_aia(engine: Offer, tmp_path: Path) -> None:
    """With a PLIC it is there only where it is asked for, or where the host leaves no choice."""
    aia = BASE.replace('"riscv_virt"', '"riscv_virt"\nirqchip = "aia"')

    def has(text: str, offer: Offer = engine) -> bool:
        return "ssaia" in planned(tmp_path, text, engine=offer).cpu.extensions  # type: ignore[union-attr]

    assert not has(BASE) and not has(BASE + '[cpu]\nmodel = "max"\n') and has(aia)
    assert has(BASE + '[cpu]\nfeatures = ["+ssaia"]\n') and has(aia + '[cpu]\nmodel = "rv64gc"\n')
    assert has(BASE, evolve(engine, fixed=("ssaia",)))


FIXED = evolve(OFFER, engine="kvm", fixed=("i", "m", "a", "c", "zba", "zbb"), blocks=(("zicbom", 64), ("zicboz", 32)))


@pytest.mark.parametrize(
    ("cpu", "words"),
    [
        ('features = ["-zba"]', "cannot take `zba`"),
        ('model = "rv64gc"', "gives every guest `zba`, `zbb`"),
        ('model = "rv64gc_zba"', "gives every guest `zbb`"),
    ],
)
def test_what_a_host_takes_from_nobody_is_in_every_plan(cpu: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=words) as caught:
        planned(tmp_path, f"{BASE}[cpu]\n{cpu}\n", engine=FIXED)
    assert caught.value.code == "E132" and caught.value.key


def test_the_guest_is_told_the_size_of_the_blocks_that_it_has(tmp_path: Path) -> None:
    offer = evolve(FIXED, extensions=(*OFFER.extensions, "zicbom", "zicboz"))
    plan = planned(tmp_path, BASE + '[cpu]\nfeatures = ["-zicboz"]\n', engine=offer)
    hart = tree_of(plan).find("cpus/cpu@0")
    assert hart is not None
    assert (hart.prop("riscv,cbom-block-size"), hart.prop("riscv,cboz-block-size")) == (Cells(64), None)
    assert codec.from_json(codec.to_json(plan)) == plan


def test_where_no_host_was_asked_the_engine_has_the_last_word(tmp_path: Path) -> None:
    nominal = kvm_nominal("riscv64", "a test says so")
    plan = planned(tmp_path, BASE + '[cpu]\nfeatures = ["+zvbb"]\n', engine=nominal)
    assert "zvbb" in plan.cpu.extensions  # type: ignore[union-attr]
    text = BASE.replace('"riscv_virt"', '"riscv_virt"\nirqchip = "aia"')
    assert "ssaia" in planned(tmp_path, text, engine=nominal).cpu.extensions  # type: ignore[union-attr]
    with pytest.raises(PlanError, match="no `q9`"):
        planned(tmp_path, BASE + '[cpu]\nfeatures = ["+q9"]\n', engine=nominal)


@pytest.mark.parametrize("irqchip", ["plic", "aia"])
def test_the_guest_is_the_same_under_kvm_and_under_the_software_core(irqchip: str, tmp_path: Path) -> None:
    """But for what a host's processor is: ISA, MMU and clock, which the plan takes from the offer."""
    text = EVERYTHING.replace('"riscv_virt"', f'"riscv_virt"\nirqchip = "{irqchip}"')
    soft, nominal = planned(tmp_path, text), kvm_nominal("riscv64", "a test says so")
    kvm = planned(tmp_path, text, engine=nominal)
    assert kvm.engine != soft.engine and kvm.cpu != soft.cpu
    alike = evolve(nominal, extensions=OFFER.extensions, mmu=OFFER.mmu, timebase_hz=OFFER.timebase_hz)
    kvm = planned(tmp_path, text, engine=alike)
    assert kvm.blob("fdt") == soft.blob("fdt")
    assert (kvm.devices, kvm.ram, kvm.entry, kvm.cmdline) == (soft.devices, soft.ram, soft.entry, soft.cmdline)


def test_the_seed_is_a_property_of_chosen(tmp_path: Path) -> None:
    blob = planned(tmp_path, EVERYTHING).blob("fdt")
    assert blob is not None and blob.data is not None and blob.seed is not None
    random = bytes(range(SEED_SIZE))
    chosen = decode(blob.data[: blob.seed] + random + blob.data[blob.seed + SEED_SIZE :]).find("chosen")
    assert chosen is not None
    words = [int.from_bytes(random[at : at + 4], "big") for at in range(0, SEED_SIZE, 4)]
    assert chosen.prop("rng-seed") == Cells(*words)


def test_each_hart_has_one_s_mode_context(tmp_path: Path) -> None:
    tree = tree_of(planned(tmp_path, EVERYTHING))
    plic = tree.find("soc/interrupt-controller@c000000")
    assert plic is not None
    contexts = plic.prop("interrupts-extended")
    intcs = [tree.find(f"cpus/cpu@{n}/interrupt-controller") for n in range(2)]
    phandles = [node.prop("phandle") for node in intcs if node is not None]
    assert [Cells(cell) for cell in contexts.values[0::2]] == phandles  # type: ignore[union-attr]
    assert contexts.values[1::2] == (9, 9)  # type: ignore[union-attr]


def test_the_isa_is_announced_in_all_three_forms(tmp_path: Path) -> None:
    hart = tree_of(planned(tmp_path)).find("cpus/cpu@0")
    assert hart is not None
    assert hart.prop("riscv,isa") == Strings("rv64imafdc_zicntr_zicsr_zifencei_zba_zbb_zbs_sstc_svinval")
    assert hart.prop("riscv,isa-base") == Strings("rv64i")
    assert hart.prop("riscv,isa-extensions") == Strings(*DEFAULT_EXTENSIONS)
    assert hart.prop("mmu-type") == Strings("riscv,sv48")


def test_the_cpu_map_names_every_hart(tmp_path: Path) -> None:
    node = cpus_node(evolve(planned(tmp_path).cpu, count=8))
    cores = node.find("cpu-map/cluster0")
    assert cores is not None and len(cores.children) == 8


@pytest.mark.parametrize(
    ("extra", "cmdline", "console"),
    [
        ("", "console=ttyS0 earlycon=sbi", "uart0"),
        ("[console.main]\n", "console=hvc0 earlycon=sbi", "console.main"),
        ('[console.main]\n[console.b]\ndevice = "serial"', "console=ttyS0 console=hvc0 earlycon=sbi", "console.main"),
        ('[console.b]\ndevice = "serial"\n[console.main]', "console=hvc0 console=ttyS0 earlycon=sbi", "uart0"),
        ("[console.a]\n[console.b]\n", "console=hvc1 console=hvc0 earlycon=sbi", "console.a"),
    ],
)
def test_the_command_line_follows_the_consoles(extra: str, cmdline: str, console: str, tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE + extra)
    assert (plan.cmdline, plan.run.console) == (cmdline, console)
    assert tree_of(plan).find("chosen").prop("bootargs") == Strings(cmdline)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "cmdline"),
    [
        ('["console=ttyS0", "quiet"]', "console=ttyS0 quiet earlycon=sbi"),
        ('["earlycon", "x=1"]', "console=hvc0 earlycon x=1"),
        ('["a=1 console=tty0"]', "a=1 console=tty0 earlycon=sbi"),
        ('["xconsole=1"]', "console=hvc0 xconsole=1 earlycon=sbi"),
        ('["quiet", "--", "single"]', "console=hvc0 quiet earlycon=sbi -- single"),
        ('["quiet -- single console=x earlycon"]', "console=hvc0 quiet earlycon=sbi -- single console=x earlycon"),
        ('["--"]', "console=hvc0 earlycon=sbi --"),
        ("""['motd="see console=none here"']""", 'console=hvc0 motd="see console=none here" earlycon=sbi'),
        ("""['motd="a -- b"', "x"]""", 'console=hvc0 motd="a -- b" x earlycon=sbi'),
        ("""['"console=ttyS0 odd" x']""", '"console=ttyS0 odd" x earlycon=sbi'),
        ("""['"--" single']""", 'console=hvc0 earlycon=sbi "--" single'),
        ('["--x", "-- = --"]', "console=hvc0 --x earlycon=sbi -- = --"),
        ('"root=/dev/vda -- x"', "root=/dev/vda -- x"),
        ("""'just "this'""", 'just "this'),
    ],
)
def test_what_the_manifest_says_of_consoles_is_not_said_again(given: str, cmdline: str, tmp_path: Path) -> None:
    text = BASE + f"cmdline = {given}\n[console.main]\n"
    assert planned(tmp_path, text).cmdline == cmdline


def test_a_guest_that_is_no_linux_gets_its_words_alone(tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE + 'cmdline = ""\n[console.main]\n')
    assert plan.cmdline == "" and plan.run.console == "console.main"
    assert tree_of(plan).find("chosen").prop("bootargs") is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("size", "more", "cmdline"),
    [
        ("128MiB", "", "console=ttyS0 earlycon=sbi"),
        ("192MiB", "", "cma=0 console=ttyS0 earlycon=sbi"),
        ("192MiB", 'cmdline = ["cma=8M"]\n', "console=ttyS0 cma=8M earlycon=sbi"),
        ("256MiB", "", "console=ttyS0 earlycon=sbi"),
    ],
)
def test_contiguous_memory_takes_no_more_than_half(size: str, more: str, cmdline: str, tmp_path: Path) -> None:
    assert planned(tmp_path, BASE.replace("128MiB", size) + more).cmdline == cmdline


def test_a_flat_image_is_entered_where_the_manifest_says_so(tmp_path: Path) -> None:
    def plan(protocol: str) -> MachinePlan:
        loaded = load(tmp_path, BASE + f'protocol = "{protocol}"\n')
        (tmp_path / "u-boot.bin").write_bytes(bytes.fromhex("6f000000") + bytes(range(256)))
        files = BootFiles(BootFile(str(tmp_path / "u-boot.bin"), 260, "0" * 64, "a test"))
        return laid_out_and_loaded(loaded, files, OFFER)

    assert plan("flat").entry.pc == 0x8020_0000
    for protocol, code, words in (("auto", "E110", "of no known format"), ("pvh", "E119", "no protocol `pvh`")):
        with pytest.raises(PlanError, match=words) as caught:
            plan(protocol)
        assert caught.value.code == code


def test_serial_logs_belong_to_the_boards_uart(tmp_path: Path) -> None:
    assert planned(tmp_path, EVERYTHING).run.logs == (("uart0", str(tmp_path / "serial.log")),)


def test_timeouts_are_scaled_for_the_engine(tmp_path: Path) -> None:
    run = planned(tmp_path, BASE + '[run]\ntimeouts = { boot = "2s", total = "1m", scale = { soft = 1.5 } }\n').run
    assert (run.boot_ns, run.idle_ns, run.total_ns) == (3_000_000_000, None, 90_000_000_000)


def test_a_clock_of_the_manifest_is_the_boards_clock(tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE + '[device.clock]\nkind = "goldfish-rtc"\n')
    (clock,) = [d for d in plan.devices if d.kind == "goldfish-rtc"]
    assert (clock.id, clock.base) == ("device.clock", 0x101000)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (BASE + "[cpu]\ncount = 9\n", "E106", "at most 8"),
        (BASE + "".join(f"[disk.d{n}]\nsize = '1MiB'\n" for n in range(9)), "E108", "d8"),
        (BASE + '[console.a]\ndevice = "serial"\n[console.b]\ndevice = "serial"\n', "E108", "UART"),
        (BASE + '[device.a]\nkind = "goldfish-rtc"\n[device.b]\nkind = "goldfish-rtc"\n', "E108", "device.b"),
        (BASE.replace("128MiB", "2TiB"), "E109", "2TiB"),
        (BASE.replace("128MiB", "2MiB"), "E114", "2MiB"),
        (BASE + f"cmdline = ['{'x' * 1024}']\n", "E107", "1023"),
        (BASE + '[cpu]\nmodel = "rv64gcv"\n', "E132", "`v`"),
        (BASE + '[cpu]\nmodel = "x86"\n', "E132", "rv64"),
        (BASE + '[cpu]\nmodel = "rv64i"\n', "E132", "i, m, a"),
        (BASE + '[cpu]\nfeatures = ["-m"]\n', "E132", "without `m`"),
        (BASE + '[cpu]\nfeatures = ["-f"]\n', "E132", "`d` needs `f`"),
        (BASE + '[cpu]\nfeatures = ["+zvbb"]\n', "E132", "zvbb"),
    ],
)
def test_what_the_board_cannot_be_is_refused(text: str, code: str, words: str, tmp_path: Path) -> None:
    error = refusal(tmp_path, text)
    assert (error.code, words in str(error)) == (code, True), str(error)
    assert error.key and error.remedy


def test_an_engine_with_fewer_harts_bounds_the_board(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="at most 1"):
        planned(tmp_path, BASE + "[cpu]\ncount = 2\n", engine=evolve(OFFER, max_vcpus=1))


def test_the_isa_of_the_manifest_is_what_the_guest_is_told(tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE + '[cpu]\nmodel = "rv64gc_zbb"\nfeatures = ["-c", "+zba"]\n')
    assert plan.cpu.isa == "rv64imafd_zicntr_zicsr_zifencei_zba_zbb"


@given(st.lists(st.sampled_from([*"imafdcvh", "zba", "zicsr", "zve32x", "sstc", "svinval", "xtheadba"]), min_size=1))
def test_isa_strings_read_back(names: list[str]) -> None:
    assert isa.parse(isa.isa_string(names)) == isa.canonical(names)


@given(st.text(max_size=30))
def test_any_isa_string_is_read_or_refused(text: str) -> None:
    try:
        isa.parse(text)
    except ValueError as error:
        assert "\n" not in text or str(error)


def test_registries_name_what_manifests_may_use() -> None:
    known = registry.known()
    assert known.boards == ("riscv_virt", "microvm", "virt")
    assert {"virtio-rng", "goldfish-rtc"} <= set(known.kinds)
    assert {"plic", "virtio-blk", "virtio-mmio", "lapic", "acpi-power", "gicv3", "pl011"}.isdisjoint(known.kinds)
    with pytest.raises(PlanError, match="no board"):
        registry.load("q35")
