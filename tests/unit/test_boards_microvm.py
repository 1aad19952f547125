"""The board microvm: its memory map, what describes it to the guest, its command line, and what it refuses."""

from __future__ import annotations

import struct
from pathlib import Path

import acpi_tools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_kit import laid_out_and_loaded
from x86_kit import MIB, bzimage, vmlinux

from vmrun.boards import registry
from vmrun.cli.main import main
from vmrun.errors import ManifestError, PlanError
from vmrun.frozen import evolve
from vmrun.plan import checks, codec, view
from vmrun.plan.files import BootFile, BootFiles
from vmrun.plan.model import PIO, Blob, DevicePlan, MachinePlan, X86Cpus
from vmrun.plan.offer import Offer
from vmrun.plan.topology import Topology
from vmrun.run import results
from vmrun.schema.load import load_manifest
from vmrun.tables import acpi

GIB = 1 << 30
OFFER = Offer("kvm", "because a test says so", "x86_64", ("avx2", "sse2"), 64, 0, "")
BASE = """
manifest = 1
name = "test"
[machine]
board = "microvm"
TABLES
[memory]
size = "128MiB"
[boot]
kernel = { path = "kernel" }
"""
EVERYTHING = (
    BASE
    + """
[cpu]
count = 4
sockets = 2
threads = 2
features = ["-avx2"]
[console.main]
[console.log]
device = "serial"
[disk.root]
path = "disk.img"
[disk.scratch]
size = "1MiB"
[device.rng]
kind = "virtio-rng"
[device.exit]
kind = "isa-debug-exit"
iobase = 0xf4
iosize = 4
"""
)


def planned(
    folder: Path,
    text: str = BASE,
    *,
    tables: str = "auto",
    kernel: bytes | None = None,
    initrd: int = 0,
    offer: Offer = OFFER,
    ports: tuple[str, ...] = (),
) -> MachinePlan:
    """Return the plan of the manifest ``text`` with a kernel that is no program, and an initrd of a size."""
    path = folder / "m.toml"
    path.write_text(text.replace("TABLES", f'tables = "{tables}"'))
    (folder / "kernel").write_bytes(vmlinux() if kernel is None else kernel)
    loaded = load_manifest(path, known=registry.known())
    file = BootFile(str(folder / "kernel"), (folder / "kernel").stat().st_size, "0" * 64, "a test")
    ramdisk = BootFile(str(folder / "initrd"), initrd, "1" * 64) if initrd else None
    disks = tuple((name, BootFile(disk.path, 0, "")) for name, disk in loaded.manifest.disk.items() if disk.path)
    return laid_out_and_loaded(loaded, BootFiles(file, ramdisk, disks), offer, ports)


def refusal(folder: Path, text: str, **options: object) -> PlanError:
    with pytest.raises(PlanError) as caught:
        planned(folder, text, **options)  # type: ignore[arg-type]
    return caught.value


def data_of(plan: MachinePlan, name: str) -> bytes:
    blob = plan.blob(name)
    assert blob is not None and blob.data is not None
    return blob.data


def table(plan: MachinePlan, name: str) -> bytes:
    return next(found.data for found in view.acpi(plan).tables if found.name == name)


def slots(plan: MachinePlan) -> list[tuple[str, int, int]]:
    return [(d.id, d.base, d.interrupt.number) for d in plan.devices if d.transport and d.interrupt]


# ---- what is where ---------------------------------------------------------------------------------------------------


def test_devices_take_qemus_slots_in_the_manifests_order(tmp_path: Path) -> None:
    assert slots(planned(tmp_path, EVERYTHING, ports=("control",))) == [
        ("disk.root", 0xFEB0_0000, 16),
        ("disk.scratch", 0xFEB0_0200, 17),
        ("console.main", 0xFEB0_0400, 18),
        ("agent", 0xFEB0_0600, 19),
        ("device.rng", 0xFEB0_0800, 20),
    ]


def test_isa_devices_stand_where_a_pc_has_them(tmp_path: Path) -> None:
    ports = {
        d.id: (d.base, d.size, d.interrupt and d.interrupt.number)
        for d in planned(tmp_path, EVERYTHING).devices
        if d.space == "pio"
    }
    assert ports == {
        "i8042": (0x64, 1, None),
        "rtc": (0x70, 2, 8),
        "uart0": (0x3F8, 8, 4),
        "device.exit": (0xF4, 4, None),
    }


@pytest.mark.parametrize("asked", [False, True])
def test_acpi_tells_of_a_clock_that_the_manifest_asks_for(asked: bool, tmp_path: Path) -> None:
    plan = planned(tmp_path, BASE + ('[device.clock]\nkind = "cmos-rtc"\n' if asked else ""))
    clock = next(device for device in plan.devices if device.kind == "cmos-rtc")
    assert (clock.id, clock.base) == ("device.clock" if asked else "rtc", 0x70), "it is there in any case"
    no_cmos_rtc = struct.unpack_from("<H", table(plan, "FACP"), 109)[0] >> 5 & 1  # ACPI 6.5, 5.2.9.3
    assert no_cmos_rtc == (not asked)
    assert (b"\x41\xd0\x0b\x00" in table(plan, "DSDT")) == asked, "PNP0B00, as EISA writes it"


def test_a_port_is_its_number_with_the_buss_bit(tmp_path: Path) -> None:
    uart = planned(tmp_path).device("uart0")
    assert uart is not None and uart.bus_base == PIO | 0x3F8
    assert DevicePlan("x", "y", 0x1000, 1).bus_base == 0x1000


@pytest.mark.parametrize(
    ("size", "ram"),
    [
        ("128MiB", [(0, 128 * MIB)]),
        ("3GiB", [(0, 3 * GIB)]),
        ("5GiB", [(0, 3 * GIB), (4 * GIB, 2 * GIB)]),
    ],
)
def test_ram_is_split_at_3_gib(tmp_path: Path, size: str, ram: list[tuple[int, int]]) -> None:
    plan = planned(tmp_path, BASE.replace("128MiB", size))
    assert [(region.base, region.size) for region in plan.ram] == ram
    params = data_of(plan, "boot-params").ljust(4096, b"\0")
    entries = [struct.unpack_from("<QQI", params, 0x2D0 + 20 * n) for n in range(params[0x1E8])]
    usable = [(base, size) for base, size, kind in entries if kind == 1]
    assert usable[0] == (0, 0x9FC00) and usable[1] == (MIB, ram[0][1] - MIB) and usable[2:] == ram[1:]
    assert (0xE_0000, 0x2_0000, 2) in entries


def test_the_mp_kernel_gets_a_timer_and_its_devices_on_the_command_line(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING, tables="mptable")
    lines = [line for _, _, line in slots(plan)]
    assert lines == [5, 6, 7, 9], "8 is the RTC's"
    words = plan.cmdline.split()
    assert [word for word in words if word.startswith("virtio_mmio.device=")] == [
        f"virtio_mmio.device=512@{0xFEB0_0000 + 512 * n:#x}:{line}" for n, line in enumerate(lines)
    ]
    assert plan.device("pit") is not None and plan.blob("rsdp") is None and plan.blob("mp-table") is not None
    assert data_of(plan, "boot-params").ljust(4096, b"\0")[0x70:0x78] == bytes(8)
    with pytest.raises(PlanError) as caught:
        view.acpi(plan)
    assert caught.value.code == "E177"


def test_a_kernel_told_to_leave_acpi_alone_gets_the_other_tables(tmp_path: Path) -> None:
    text = BASE.replace("[boot]", '[boot]\ncmdline = ["quiet acpi=off"]')
    assert planned(tmp_path, text).blob("rsdp") is None
    assert planned(tmp_path, text, tables="acpi").blob("rsdp") is not None
    for words in ('motd="x acpi=off y"', "-- acpi=off"):
        other = BASE.replace("[boot]", f"[boot]\ncmdline = ['{words}']")
        assert planned(tmp_path, other).blob("rsdp") is not None


def test_the_mp_kernels_devices_are_the_kernels_not_inits(tmp_path: Path) -> None:
    text = EVERYTHING.replace("[boot]", '[boot]\ncmdline = ["quiet", "--", "single"]')
    line = planned(tmp_path, text, tables="mptable").cmdline
    assert line.endswith(" -- single") and "virtio_mmio.device=" in line


# ---- what describes it -----------------------------------------------------------------------------------------------


def test_every_table_says_the_same_processors(tmp_path: Path) -> None:
    text = BASE + "[cpu]\ncount = 12\nsockets = 2\ncores = 3\nthreads = 2\n"
    plan = planned(tmp_path, text)
    ids = [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]
    madt, entries, at = table(plan, "APIC"), [], 44
    while at < len(madt):
        entries.append(madt[at : at + madt[at + 1]])
        at += madt[at + 1]
    assert [entry[3] for entry in entries if entry[0] == 0] == ids
    assert [entry[2] for entry in entries if entry[0] == 1] == [14]
    mp = data_of(plan, "mp-table")
    assert [mp[44 + 20 * n + 1] for n in range(12)] == ids and mp[44] == 0
    assert table(plan, "DSDT").count(b"ACPI0007") == 12


def test_the_fadt_names_the_power_switch(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    fadt, power = table(plan, "FACP"), plan.device("power")
    assert power is not None and power.base == 0xFEA0_0200
    assert struct.unpack_from("<Q", fadt, 116 + 4) == (power.base + 2,) and fadt[128] == 0x42
    assert struct.unpack_from("<Q", fadt, 244 + 4) == (power.base,)
    assert struct.unpack_from("<Q", fadt, 256 + 4) == (power.base + 1,)
    assert struct.unpack_from("<I", fadt, 112)[0] & 1 << 20, "hardware-reduced"


@pytest.mark.parametrize("text", [BASE, EVERYTHING], ids=["small", "everything"])
def test_iasl_has_nothing_to_say(tmp_path: Path, text: str) -> None:
    for name, data in acpi.file_names(view.acpi(planned(tmp_path, text))):
        if name != "rsdp.dat":
            assert acpi_tools.same_but_for_the_maker(data, acpi_tools.through_iasl(data, tmp_path)[1]), name


def test_acpiexec_loads_the_namespace(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING + '[device.clock]\nkind = "cmos-rtc"\n')
    (tmp_path / "dsdt.dat").write_bytes(table(plan, "DSDT"))
    commands = "namespace;evaluate \\_SB.VR03._CRS;evaluate \\_SB.COM1._CRS;evaluate \\_SB.RTC._HID;quit"
    said = acpi_tools.run("acpiexec", "-b", commands, "dsdt.dat", cwd=tmp_path)
    for name in ("C003", "VR00", "VR03", "COM1", "RTC"):
        assert name in said
    assert "AE_" not in said and said.count("Evaluation of") == 3, said


# ---- the entry -------------------------------------------------------------------------------------------------------


def test_long_mode_comes_with_its_tables(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    registers = dict(plan.entry.registers)
    assert plan.entry.pc == 16 * MIB + 0x10
    assert registers["cr0"] & 0x8000_0001 == 0x8000_0001 and registers["efer"] == 0x500 and registers["cr4"] == 0x20
    names = {plan_blob.gpa: plan_blob.name for plan_blob in plan.blobs}
    assert names[registers["cr3"]] == "pml4" and names[registers["gdt.base"]] == "gdt"
    assert names[registers["rsi"]] == "boot-params" and registers["gdt.limit"] == 31
    (pdpt,) = struct.unpack("<Q", data_of(plan, "pml4"))
    (pd,) = struct.unpack("<Q", data_of(plan, "pdpt"))
    assert (names[pdpt & ~0xFFF], names[pd & ~0xFFF]) == ("pdpt", "pd")
    pages = struct.unpack("<512Q", data_of(plan, "pd"))
    assert all(page & ~0xFFF == number * 2 * MIB and page & 0x83 == 0x83 for number, page in enumerate(pages))
    descriptors = struct.unpack("<4Q", data_of(plan, "gdt"))
    assert descriptors[:2] == (0, 0)
    assert descriptors[2] >> 53 & 1 and descriptors[2] >> 47 & 1, "64-bit code, present"


def test_pvh_starts_with_its_start_info(tmp_path: Path) -> None:
    text = BASE.replace("[boot]", '[boot]\nprotocol = "pvh"\ninitrd = { path = "initrd" }')
    plan = planned(tmp_path, text, initrd=5000)
    registers = dict(plan.entry.registers)
    assert plan.entry.pc == 16 * MIB + 0x20 and registers["cr0"] & 0x8000_0001 == 1
    info = data_of(plan, "start-info")
    magic, version, _, count, modules, line, rsdp, memory, ranges = struct.unpack_from("<IIIIQQQQI", info)
    assert (magic, version, count, rsdp) == (0x336EC578, 1, 1, 0xE_0000)
    base = registers["rbx"]
    initrd = plan.blob("initrd")
    assert initrd is not None
    assert struct.unpack_from("<QQ", info, modules - base) == (initrd.gpa, 5000)
    assert struct.unpack_from("<QQI", info, memory - base) == (0, 0x9FC00, 1) and ranges == 3
    blob = plan.blob("cmdline")
    assert blob is not None and blob.gpa == line and blob.data == plan.cmdline.encode() + b"\0"
    assert plan.blob("boot-params") is None


def test_a_bzimage_brings_its_own_header(tmp_path: Path) -> None:
    image = bzimage()
    text = BASE.replace("[boot]", '[boot]\ninitrd = { path = "initrd" }')
    plan = planned(tmp_path, text, kernel=image, initrd=MIB)
    params = data_of(plan, "boot-params").ljust(4096, b"\0")
    kernel, initrd = plan.blob("kernel"), plan.blob("initrd")
    assert kernel is not None and initrd is not None
    assert (kernel.gpa, kernel.offset, kernel.reserve, plan.entry.pc) == (16 * MIB, 1024, 2 * MIB, 16 * MIB + 0x200)
    assert params[0x202:0x206] == b"HdrS" and params[0x210] == 0xFF and params[0x211] & 1
    assert params[0x230:0x238] == image[0x230:0x238], "the kernel's own fields"
    assert struct.unpack_from("<II", params, 0x218) == (initrd.gpa, MIB)
    assert struct.unpack_from("<Q", params, 0x70) == (0xE_0000,)
    assert initrd.gpa + initrd.size == 128 * MIB


@pytest.mark.parametrize(
    ("extra", "cmdline", "console"),
    [
        ("", "pci=off console=ttyS0", "uart0"),
        ("[console.a]\n", "pci=off console=hvc0 earlycon=uart8250,io,0x3f8", "console.a"),
        ('[console.a]\ndevice = "serial"\n[console.b]\n', "pci=off console=hvc0 console=ttyS0", "uart0"),
    ],
)
def test_the_command_line_follows_from_the_consoles(tmp_path: Path, extra: str, cmdline: str, console: str) -> None:
    plan = planned(tmp_path, BASE + extra)
    assert (plan.cmdline, plan.run.console) == (cmdline, console)


# ---- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extra", "code", "key", "words"),
    [
        ("[cpu]\ncount = 65\n", "E106", ("cpu", "count"), "at most 64"),
        ('[cpu]\nmodel = "Skylake"\n', "E135", ("cpu", "model"), "Skylake"),
        ('[cpu]\nfeatures = ["-aes", "+amx_tile"]\n', "E135", ("cpu", "features", "1"), "amx_tile"),
        ('[cpu]\nfeatures = ["-sse2"]\n', "E135", ("cpu", "features", "0"), "cannot be without"),
        ('[cpu]\nfeatures = ["-avx512"]\n', "E135", ("cpu", "features", "0"), "no CPU feature is called `avx512`"),
        ('[device.clock]\nkind = "goldfish-rtc"\n', "E131", ("device", "clock", "kind"), "no place"),
        ('[device.exit]\nkind = "isa-debug-exit"\niobase = 0x3f8\n', "E101", ("device", "exit"), "uart0"),
        ('[device.exit]\nkind = "isa-debug-exit"\niobase = 0xffff\n', "E104", ("device", "exit"), "no window"),
        ("".join(f'[disk.d{n}]\nsize = "1MiB"\n' for n in range(9)), "E108", ("disk", "d8"), "has 8"),
        ('[console.a]\ndevice = "serial"\n[console.b]\ndevice = "serial"\n', "E108", ("console", "b"), "one UART"),
    ],
)
def test_what_the_board_cannot_be(tmp_path: Path, extra: str, code: str, key: tuple[str, ...], words: str) -> None:
    error = refusal(tmp_path, BASE + extra)
    assert (error.code, error.key) == (code, key) and words in str(error), str(error)


@pytest.mark.parametrize(
    ("old", "new", "code", "key"),
    [
        ("TABLES", 'tables = "fdt"', "E133", ("machine", "tables")),
        ("128MiB", "600GiB", "E109", ("memory", "size")),
        ("128MiB", "16MiB", "E114", ("boot", "kernel")),
        ("[boot]", '[boot]\nprotocol = "bzimage"', "E119", ("boot", "protocol")),
        ("[boot]", f'[boot]\ncmdline = ["{"x" * 2047}"]', "E107", ("boot", "cmdline")),
    ],
)
def test_what_the_manifest_cannot_ask(tmp_path: Path, old: str, new: str, code: str, key: tuple[str, ...]) -> None:
    error = refusal(tmp_path, BASE.replace(old, new))
    assert (error.code, error.key) == (code, key) and error.remedy


def test_a_host_with_fewer_vcpus_bounds_the_plan(tmp_path: Path) -> None:
    error = refusal(tmp_path, BASE + "[cpu]\ncount = 3\n", offer=evolve(OFFER, max_vcpus=2))
    assert error.code == "E106" and "at most 2" in error.message


def test_riscv_virt_has_none_of_it(tmp_path: Path) -> None:
    from vmrun.rv64.offer import offer

    text = BASE.replace("microvm", "riscv_virt")
    for old, new, code in (
        ("TABLES", 'tables = "acpi"', "E133"),
        ("TABLES", "[cpu]\ncount = 2\nsockets = 2", "E134"),
        ("[boot]", '[boot]\nprotocol = "pvh"', "E119"),
    ):
        path = tmp_path / "m.toml"
        path.write_text(text.replace(old, new).replace("TABLES", ""))
        loaded = load_manifest(path, known=registry.known())
        with pytest.raises(PlanError) as caught:
            laid_out_and_loaded(loaded, BootFiles(), offer("a test"))
        assert caught.value.code == code and caught.value.key


def test_a_topology_that_does_not_multiply_is_the_schemas(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="E038"):
        planned(tmp_path, BASE + "[cpu]\ncount = 4\nsockets = 3\n")


def test_drivers_are_those_of_the_devices(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(EVERYTHING.replace("TABLES", ""))
    loaded = load_manifest(path, known=registry.known())
    layout = registry.load("microvm").layout(loaded.manifest, OFFER, ("control",))
    assert layout.modules == ("virtio_mmio", "virtio_blk", "virtio_console", "virtio_rng")


# ---- the saved form --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tables", ["acpi", "mptable"])
def test_a_saved_plan_reads_back_equal(tmp_path: Path, tables: str) -> None:
    plan = planned(tmp_path, EVERYTHING, tables=tables, ports=("control",))
    again = codec.from_json(codec.to_json(plan))
    assert again == plan
    assert checks.findings(again, registry.load("microvm").limits) == ()


@settings(max_examples=50, deadline=None)
@given(
    sockets=st.integers(1, 4),
    cores=st.integers(1, 4),
    threads=st.integers(1, 4),
    features=st.lists(st.sampled_from(["-avx", "+avx2", "-sse3"]), max_size=3),
)
def test_cpus_survive_the_saved_form(sockets: int, cores: int, threads: int, features: list[str]) -> None:
    count = sockets * cores * threads
    cpu = X86Cpus("x86_64", count, "host", tuple(features), Topology(sockets, cores, threads))
    plan = evolve(_EMPTY, cpu=cpu)
    assert codec.from_json(codec.to_json(plan)).cpu == cpu


def test_an_edited_plan_is_looked_at(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING)
    limits = registry.load("microvm").limits
    uart = plan.device("uart0")
    assert uart is not None and isinstance(plan.cpu, X86Cpus)

    def codes(**changes: object) -> list[str]:
        return [error.code for error in checks.findings(evolve(plan, **changes), limits)]

    def moved(**changes: object) -> tuple[DevicePlan, ...]:
        return tuple(evolve(d, **changes) if d is uart else d for d in plan.devices)

    assert codes() == []
    assert codes(devices=moved(base=0x64)) == ["E101"], "another's port"
    assert codes(devices=moved(base=0xFFFA)) == ["E104"], "beyond the last port"
    assert codes(devices=moved(base=0xFEB0_0000 & 0xFFFF)) == [], "a port is no address of memory"
    assert codes(cpu=evolve(plan.cpu, topology=Topology(1, 3, 1))) == ["E106"]
    assert codes(cpu=evolve(plan.cpu, topology=Topology(4, 0, 1))) == ["E106"]
    assert codes(blobs=(*plan.blobs, Blob("x", 0x7000, 1, 1, data=b"x"))) == ["E101"], "over the boot parameters"


def test_views_name_ports_and_processors(tmp_path: Path) -> None:
    plan = planned(tmp_path, EVERYTHING)
    text = view.text(plan)
    assert "4 x x86_64 host -avx2, 2 sockets x 1 core x 2 threads" in text
    assert "I/O ports" in text and "0x03f8 0x03ff uart0" in text
    assert "vCPU 3" in view.tree(plan) and "port 0x3f8" in view.tree(plan)
    with pytest.raises(PlanError, match="E176"):
        view.dtb(plan)


# ---- what comes out --------------------------------------------------------------------------------------------------

FILES = {"rsdp.dat", "dsdt.dat", "facp.dat", "apic.dat", "xsdt.dat", "acpidump.txt"}


def test_the_tables_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "m.toml"
    manifest.write_text(BASE.replace("TABLES", ""))
    to = tmp_path / "a" / "b"
    assert main(["plan", str(manifest), "--no-artifacts", "--acpi", str(to)]) == 0
    assert {path.name for path in to.iterdir()} == FILES and (to / "dsdt.dat").read_bytes()[:4] == b"DSDT"
    assert main(["plan", str(manifest), "--no-artifacts", "--acpi", str(manifest)]) == 2
    assert "E520" in capsys.readouterr().err
    assert main(["plan", str(manifest), "--no-artifacts", "--acpi", str(to), "--set", "machine.tables=mptable"]) == 1
    assert "E177" in capsys.readouterr().err


def test_a_run_keeps_its_tables(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    results.write_acpi(tmp_path, plan)
    assert {path.name for path in (tmp_path / "acpi").iterdir()} == FILES
    broken = tuple(evolve(b, data=b"x" * b.size) if b.name == "acpi" else b for b in plan.blobs)
    (tmp_path / "other").mkdir()
    results.write_acpi(tmp_path / "other", evolve(plan, blobs=broken))
    assert list((tmp_path / "other").iterdir()) == []


def _empty() -> MachinePlan:
    from vmrun.plan.model import PLAN_FORMAT, EntryPlan, RunPlan

    cpu = X86Cpus("x86_64", 1, "host", (), Topology())
    return MachinePlan(PLAN_FORMAT, "t", "microvm", "kvm", "", cpu, (), (), (), EntryPlan(0, ()), "", RunPlan())


_EMPTY = _empty()
