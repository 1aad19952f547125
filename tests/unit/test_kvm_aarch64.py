"""KVM on arm64 as data: numbers against the kernel's header, features, page sizes, and the walk to a vCPU's code."""

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmrun.errors import HostError
from vmrun.kvm.aarch64 import features, gic, paging, registers
from vmrun.kvm.aarch64.capabilities import TABLE

CROSS = "aarch64-linux-gnu-gcc"
EVERYTHING = {capability.name: 1 for capability in TABLE}


def test_numbers_are_those_of_linux(tmp_path: Path) -> None:
    if shutil.which(CROSS) is None or not Path("/usr/aarch64-linux-gnu/include/asm/kvm.h").exists():
        pytest.skip(f"needs {CROSS} and linux-libc-dev-arm64-cross")
    core = {
        **{f"x{index}": f"regs.regs[{index}]" for index in range(31)},
        "sp": "regs.sp",
        "pc": "regs.pc",
        "pstate": "regs.pstate",
        "sp_el1": "sp_el1",
        "elr_el1": "elr_el1",
        "spsr_el1": "spsr[0]",
    }
    wide = "KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE"
    claims = {f"{wide} | KVM_REG_ARM_CORE_REG({field})": ALL[name] for name, field in core.items()}
    claims |= {
        "ARM64_SYS_REG(3, 0, 1, 0, 0)": registers.SYSTEM["sctlr_el1"],
        "ARM64_SYS_REG(3, 0, 12, 0, 0)": registers.SYSTEM["vbar_el1"],
        "ARM64_SYS_REG(3, 0, 0, 7, 0)": registers.ID_AA64MMFR0_EL1,
        "KVM_DEV_TYPE_ARM_VGIC_V2": gic.V2,
        "KVM_DEV_TYPE_ARM_VGIC_V3": gic.V3,
        "KVM_DEV_TYPE_ARM_VGIC_ITS": gic.ITS,
        "KVM_DEV_ARM_VGIC_GRP_ADDR": gic.GROUP_ADDRESSES,
        "KVM_DEV_ARM_VGIC_GRP_NR_IRQS": gic.GROUP_LINES,
        "KVM_DEV_ARM_VGIC_GRP_CTRL": gic.GROUP_CONTROL,
        "KVM_DEV_ARM_VGIC_CTRL_INIT": gic.INIT,
        "KVM_VGIC_V2_ADDR_TYPE_DIST": gic.V2_DISTRIBUTOR,
        "KVM_VGIC_V2_ADDR_TYPE_CPU": gic.V2_CPU,
        "KVM_VGIC_V3_ADDR_TYPE_DIST": gic.V3_DISTRIBUTOR,
        "KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION": gic.V3_REDISTRIBUTORS,
        "KVM_VGIC_ITS_ADDR_TYPE": gic.ITS_FRAME,
        "KVM_ARM_VCPU_PMU_V3": features.FEATURES[0].bits[0],
        "KVM_ARM_VCPU_SVE": features.FEATURES[1].bits[0],
        "KVM_ARM_VCPU_PTRAUTH_ADDRESS": features.FEATURES[2].bits[0],
        "KVM_ARM_VCPU_PTRAUTH_GENERIC": features.FEATURES[2].bits[1],
    }
    source = "#include <stddef.h>\n#include <linux/kvm.h>\n"
    source += "".join(f'_Static_assert(({text}) == {value}ull, "{text}");\n' for text, value in claims.items())
    (tmp_path / "claims.c").write_text(source)
    done = subprocess.run([CROSS, "-fsyntax-only", "claims.c"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ALL = registers.GENERAL | registers.SYSTEM


# ---- features and pages ----------------------------------------------------------------------------------------------


def test_a_feature_needs_all_its_capabilities() -> None:
    assert features.offered(EVERYTHING) == ("pmu", "sve", "pauth")
    assert features.offered(EVERYTHING | {"KVM_CAP_ARM_PTRAUTH_GENERIC": 0}) == ("pmu", "sve")
    assert features.offered(EVERYTHING | {"KVM_CAP_VCPU_ATTRIBUTES": 0}) == ("sve", "pauth")
    assert features.bits(("pmu", "pauth"), EVERYTHING) == 1 << 3 | 1 << 5 | 1 << 6


@pytest.mark.parametrize(("name", "code"), [("sve", "E327"), ("mte", "E328")])
def test_a_feature_that_is_not_there(name: str, code: str) -> None:
    with pytest.raises(HostError) as caught:
        features.bits((name,), EVERYTHING | {"KVM_CAP_ARM_SVE": 0})
    assert caught.value.code == code and f"`{name}`" in caught.value.message


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        # TGran4, TGran64, TGran16 of ID_AA64MMFR0_EL1 (DDI 0487): 0b1111 is none for the first two, 0 for the last.
        (0x0_0_1 << 20, (4096, 16384, 65536)),
        (0x0_F_0 << 20, (4096,)),
        (0xF_0_0 << 20, (65536,)),
        (0x1_F_2 << 20, (4096, 16384)),
    ],
)
def test_page_sizes(fields: int, sizes: tuple[int, ...]) -> None:
    assert registers.granules(fields | 0xFFFFF) == sizes


# ---- translation -----------------------------------------------------------------------------------------------------


class Tables:
    """Translation tables as a kernel would write them: pages and blocks of one granule."""

    def __init__(self, shift: int, bits: int, high: bool) -> None:
        self.shift, self.bits, self.high = shift, bits, high
        self.words: dict[int, int] = {}
        self.free = 1 << 30
        self.root = self._table()

    def _table(self) -> int:
        self.free += 1 << self.shift
        return self.free - (1 << self.shift)

    def map(self, address: int, gpa: int, last: int) -> None:
        stride = self.shift - 3
        table, first = self.root, 4 - -(-(self.bits - self.shift) // stride)
        for level in range(first, last + 1):
            below = self.shift + stride * (3 - level)
            at = table + 8 * ((address & (1 << self.bits) - 1) >> below & (1 << stride) - 1)
            if level == last:
                self.words[at] = gpa & -(1 << below) | (3 if level == 3 else 1)
            else:
                table = self.words.setdefault(at, self._table() | 3) & ~3

    def registers(self) -> dict[str, int]:
        granule = {12: (0, 2), 14: (2, 1), 16: (1, 3)}[self.shift][self.high]
        size = 64 - self.bits
        tcr = granule << 30 | size << 16 if self.high else granule << 14 | size
        return {"sctlr_el1": 1, "tcr_el1": tcr, "ttbr0_el1": 0, "ttbr1_el1": 0} | {
            f"ttbr{int(self.high)}_el1": self.root | 1
        }


@given(
    st.sampled_from([(12, 39), (12, 48), (14, 36), (14, 47), (16, 42), (16, 48)]),
    st.booleans(),
    st.integers(0, (1 << 64) - 1),
    st.integers(0, (1 << 40) - 1),
    st.sampled_from([2, 3]),
)
def test_the_walk_finds_what_is_mapped(regime: tuple[int, int], high: bool, address: int, gpa: int, last: int) -> None:
    shift, bits = regime
    tables = Tables(shift, bits, high)
    address &= (1 << bits) - 1
    if high:
        address |= (1 << 64) - (1 << bits)
    tables.map(address, gpa, last)
    below = shift + (shift - 3) * (3 - last)
    found = paging.translate(tables.registers(), address, tables.words.get)
    assert found == gpa & -(1 << below) | address & (1 << below) - 1
    other = address ^ 1 << below
    assert paging.translate(tables.registers(), other, tables.words.get) is None


def test_the_walk_ends_where_nothing_is() -> None:
    tables = Tables(12, 48, False)
    tables.map(0x1000, 0x4000_0000, 3)
    off = tables.registers() | {"sctlr_el1": 0}
    assert paging.translate(off, 0x1234, tables.words.get) == 0x1234, "the MMU is off"
    assert paging.translate(tables.registers(), 0x1234, lambda gpa: None) is None, "tables beside RAM"
    at = next(at for at, word in tables.words.items() if word & ~0xFFF == 0x4000_0000)
    tables.words[at] &= ~2
    assert paging.translate(tables.registers(), 0x1234, tables.words.get) is None, "a reserved descriptor"
    reserved = tables.registers() | {"tcr_el1": 3 << 14 | 16}
    assert paging.translate(reserved, 0x1234, tables.words.get) is None, "a granule that does not exist"
