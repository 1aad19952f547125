"""KVM on riscv64 as data: numbers against the kernel's header, a plan against a host, and the walk to a hart's code."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmrun.boards.riscv.isa import canonical, parse
from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.kvm.riscv64 import aia, isa, registers
from vmrun.kvm.riscv64.isa import Have
from vmrun.kvm.riscv64.paging import read_virtual, translate
from vmrun.kvm.riscv64.registers import Register
from vmrun.kvm.riscv64.vm import IN_KERNEL, RUNNABLE, STOPPED
from vmrun.plan.model import RiscvCpus

CROSS = "riscv64-linux-gnu-gcc"
INCLUDE = Path("/usr/riscv64-linux-gnu/include")


def claims() -> dict[str, int]:
    """What the tables claim: C expression -> number. The last identifier of each is looked for in the header."""
    wide = "KVM_REG_RISCV | KVM_REG_SIZE_U64 | "
    found = {f"{wide}KVM_REG_RISCV_ISA_EXT | KVM_RISCV_ISA_EXT_{n.upper()}": registers.isa(n) for n in registers.ISA}
    found |= {f"{wide}KVM_REG_RISCV_SBI_EXT | KVM_RISCV_SBI_EXT_{n.upper()}": registers.sbi(n) for n in registers.SBI}
    for kind, names, make in (
        ("CONFIG", registers.CONFIG, registers.config),
        ("CSR", registers.CSRS, registers.csr),
        ("TIMER", registers.TIMER, registers.timer),
    ):
        found |= {f"{wide}KVM_REG_RISCV_{kind} | KVM_REG_RISCV_{kind}_REG({name})": make(name) for name in names}
    for name in registers.CORE:
        field = name if name == "mode" else f"regs.{name}"
        found[f"{wide}KVM_REG_RISCV_CORE | KVM_REG_RISCV_CORE_REG({field})"] = registers.core(name)
    return {text: register.id for text, register in found.items()} | {
        "KVM_DEV_TYPE_RISCV_AIA": aia.KIND,
        "KVM_DEV_RISCV_AIA_GRP_CONFIG": aia._CONFIG,
        "KVM_DEV_RISCV_AIA_GRP_ADDR": aia._ADDRESS,
        "KVM_DEV_RISCV_AIA_GRP_CTRL": aia._CONTROL,
        "KVM_DEV_RISCV_AIA_CONFIG_IDS": aia._IDS,
        "KVM_DEV_RISCV_AIA_CONFIG_SRCS": aia._SOURCES,
        "KVM_DEV_RISCV_AIA_CONFIG_HART_BITS": aia._HART_BITS,
        "KVM_DEV_RISCV_AIA_ADDR_APLIC": aia._APLIC,
        "KVM_DEV_RISCV_AIA_CTRL_INIT": aia._INIT,
        "KVM_DEV_RISCV_IMSIC_SIZE": aia.IMSIC_SIZE,
        "KVM_MP_STATE_RUNNABLE": RUNNABLE,
        "KVM_MP_STATE_STOPPED": STOPPED,
    }


def last_word(claim: str) -> str:
    return re.findall(r"\w+", claim)[-1]


def headers(include: Path) -> str:
    names = ("asm/kvm.h", "asm/ptrace.h", "linux/kvm.h")
    return "\n".join((include / name).read_text() for name in names)


def test_numbers_are_those_of_linux(tmp_path: Path) -> None:
    """What an older header does not have yet is left out; nothing that it has may be missing here."""
    if shutil.which(CROSS) is None or not (INCLUDE / "asm/kvm.h").exists():
        pytest.skip(f"needs {CROSS} and linux-libc-dev-riscv64-cross")
    text = headers(INCLUDE)
    words = set(re.findall(r"\w+", text))
    known = {claim: value for claim, value in claims().items() if last_word(claim) in words}
    assert len(known) > 60
    source = "#include <stddef.h>\n#include <linux/kvm.h>\n"
    source += "".join(f'_Static_assert(({claim}) == {value}ull, "{claim}");\n' for claim, value in known.items())
    (tmp_path / "claims.c").write_text(source)
    command = [CROSS, "-fsyntax-only", f"-I{INCLUDE}", "claims.c"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = set(re.findall(r"\bKVM_RISCV_(?:ISA|SBI)_EXT_(?!ID\b|MAX\b)\w+", text))
    assert listed <= {last_word(claim) for claim in known}


def test_names_are_those_of_isa_strings() -> None:
    assert len(set(registers.ISA)) == len(registers.ISA) and len(set(registers.SBI)) == len(registers.SBI)
    letters = "".join(name for name in registers.ISA if len(name) == 1)
    assert parse("_".join((f"rv64{letters}", *(n for n in registers.ISA if len(n) > 1)))) == canonical(registers.ISA)
    assert set(registers.BLOCKS) <= set(registers.ISA)
    assert {f"{name}_block_size" for name in registers.BLOCKS} <= set(registers.CONFIG)


def test_what_the_kernel_serves_are_devices() -> None:
    from vmrun.devices import registry

    assert set(registry.kinds()) >= IN_KERNEL


# ---- a plan for this host --------------------------------------------------------------------------------------------

HAVE = Have(("i", "m", "a", "c", "zba", "zicbom"), "sv48", 10_000_000, (("zicbom", 64),))
CPU = RiscvCpus("riscv64", 1, ("i", "m", "a", "c", "zba"), "rv64imac_zba", "sv39", 10_000_000)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"extensions": ("i", "zbb", "zvbb")}, "E327", "`zbb`, `zvbb`"),
        ({"timebase_hz": 24_000_000}, "E331", "24000000 Hz, and this host's runs at 10000000 Hz"),
        ({"mmu": "sv57"}, "E331", "at most sv48"),
        ({"mmu": "sv99"}, "E331", "sv99"),
        ({"blocks": (("zicbom", 32),)}, "E331", "32 bytes for `zicbom`, and this host has 64"),
    ],
)
def test_a_plan_for_another_host_is_refused(change: dict[str, object], code: str, words: str) -> None:
    isa.require(CPU, HAVE)
    with pytest.raises(HostError) as caught:
        isa.require(evolve(CPU, **change), HAVE)
    assert (caught.value.code, words in caught.value.message) == (code, True), caught.value.message
    assert caught.value.remedy


class Switches:
    """A vCPU whose registers are a dictionary; KVM takes no extension of ``fixed`` away."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, values: dict[Register, int], fixed: tuple[str, ...] = ()
    ) -> None:
        self.values = {register.id: value for register, value in values.items()}
        stuck = {registers.isa(name).id for name in fixed}

        def put(vcpu: object, number: int, value: int) -> int:
            if number not in self.values or (number in stuck and not value):
                return -22
            self.values[number] = value
            return 0

        def get(vcpu: object, number: int, out: list[int]) -> int:
            out[0] = self.values.get(number, 0)
            return 0 if number in self.values else -2

        fake = type("Lib", (), {"vmr_kvm_get_reg": staticmethod(get), "vmr_kvm_set_reg": staticmethod(put)})
        monkeypatch.setattr(isa, "lib", fake)

    def check(self, code: int, what: str) -> None:
        assert code >= 0, what

    def has(self, register: Register) -> int:
        return self.values[register.id]


def host(monkeypatch: pytest.MonkeyPatch) -> Switches:
    on = {registers.isa(name): 1 for name in HAVE.extensions}
    off = {registers.isa("h"): 0, registers.sbi("dbcn"): 0}
    sizes = {registers.config("zicbom_block_size"): 64, registers.config("zicboz_block_size"): 32}
    rest = {registers.config("satp_mode"): 9, registers.timer("frequency"): 10_000_000}
    return Switches(monkeypatch, on | off | sizes | rest, fixed=("i", "m", "a", "c"))


def test_what_a_host_has_is_read_and_what_nobody_can_be_without(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = host(monkeypatch)
    have = isa.read(vm, None)  # type: ignore[arg-type]
    assert (sorted(have.extensions), have.mmu, have.timebase_hz) == (sorted(HAVE.extensions), "sv48", 10_000_000)
    assert have.blocks == (("zicbom", 64),)
    assert set(isa.fixed(None, have)) == {"i", "m", "a", "c"}


def test_a_hart_loses_what_the_plan_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    vm = host(monkeypatch)
    isa.shape(None, CPU, HAVE)
    isa.add_firmware(vm, None)  # type: ignore[arg-type]
    assert [vm.has(registers.isa(name)) for name in ("zba", "zicbom")] == [1, 0]
    assert vm.has(registers.sbi("dbcn")) == 1
    with pytest.raises(HostError, match="takes from no guest") as caught:
        isa.shape(None, evolve(CPU, extensions=("i", "m", "a")), HAVE)
    assert caught.value.code == "E327"


# ---- the walk to a hart's code ---------------------------------------------------------------------------------------

ROOT, RAM_END = 0x1000, 0x20_0000
LEAF, BRANCH = 0xCF, 1  # D, A, X, W, R, V; V
MODES = {8: 3, 9: 4, 10: 5}


class Ram:
    """Page tables and pages below 2 MiB; elsewhere is no RAM."""

    def __init__(self) -> None:
        self.data = bytearray(RAM_END)
        self.free = ROOT + 0x1000

    def read(self, gpa: int, size: int) -> bytes:
        if gpa + size > RAM_END:
            raise HostError("no RAM", code="E350")
        return bytes(self.data[gpa : gpa + size])

    def map(self, levels: int, address: int, gpa: int, leaf_level: int = 0, flags: int = LEAF) -> None:
        table = ROOT
        for level in reversed(range(leaf_level, levels)):
            at = table + 8 * (address >> 12 + 9 * level & 511)
            if level == leaf_level:
                struct.pack_into("<Q", self.data, at, gpa >> 12 << 10 | flags)
            elif not self.data[at] & 1:
                struct.pack_into("<Q", self.data, at, self.free >> 12 << 10 | BRANCH)
                table, self.free = self.free, self.free + 0x1000
            else:
                table = int.from_bytes(self.data[at : at + 8], "little") >> 10 << 12


def satp(mode: int) -> int:
    return mode << 60 | ROOT >> 12


@given(mode=st.sampled_from(list(MODES)), leaf=st.integers(0, 2), data=st.data())
def test_an_address_is_found_through_tables_of_every_depth(mode: int, leaf: int, data: st.DataObject) -> None:
    bits, size = 12 + 9 * MODES[mode], 1 << 12 + 9 * leaf
    low = data.draw(st.integers(0, (1 << bits - 1) - 1))
    address = low if data.draw(st.booleans()) else (1 << 64) - 1 - low
    gpa = data.draw(st.integers(0, 1 << 20)) * size
    ram = Ram()
    ram.map(MODES[mode], address, gpa, leaf)
    assert translate(ram.read, satp(mode), address) == gpa + address % size
    assert translate(ram.read, satp(mode), address ^ size) is None
    assert translate(ram.read, satp(mode), address ^ 1 << bits) is None, "not canonical"


def test_a_contiguous_range_of_64_kib() -> None:
    ram = Ram()
    ram.map(3, 0x4_5000, 0x18_8000, flags=LEAF | 1 << 63)  # 16 pages at 0x180000, whose size is in bit 3 of the number
    assert translate(ram.read, satp(8), 0x4_5678) == 0x18_5678


@pytest.mark.parametrize("mode", [1, 7, 11])
def test_a_mode_that_is_not_known_leads_nowhere(mode: int) -> None:
    assert translate(Ram().read, satp(mode), 0x1000) is None


def test_without_paging_an_address_is_itself() -> None:
    assert translate(Ram().read, 0, 0x1234) == 0x1234


def test_code_is_read_across_pages_as_far_as_it_goes() -> None:
    ram = Ram()
    ram.map(3, 0x4000, 0x10_0000)
    ram.map(3, 0x5000, 0x18_0000)
    ram.data[0x10_0FFE:0x10_1000], ram.data[0x18_0000:0x18_0002] = b"\x13\x05", b"\x10\x00"
    assert read_virtual(ram.read, satp(8), 0x4FFE, 4) == b"\x13\x05\x10\x00"
    assert read_virtual(ram.read, satp(8), 0x5FFE, 4) == bytes(2)
    assert read_virtual(ram.read, satp(8), 0x9000, 4) == b""
    assert read_virtual(ram.read, 0, RAM_END, 4) == b""
