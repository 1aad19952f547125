"""What the KVM engine makes without KVM: CPUID tables, topology, entry state, reports."""

import struct
import sys
import threading
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmrun.cli import doctor
from vmrun.errors import HostError
from vmrun.kvm import capabilities, host, measure, report
from vmrun.kvm.arch import part
from vmrun.kvm.capabilities import Capability
from vmrun.kvm.outcome import FULL, HUNG, NONE, RESTRICTED, SLOW, UNTRIED, MicroGuest, Standing, Try, admit_linux
from vmrun.kvm.symbols import of_kernel, read_map
from vmrun.kvm.vm import Fault
from vmrun.kvm.x86_64 import cpuid, state
from vmrun.kvm.x86_64.cpuid import Leaf
from vmrun.plan import x86_features as features
from vmrun.plan.model import EntryPlan
from vmrun.plan.topology import Topology

SHAPES = st.builds(Topology, st.integers(1, 4), st.integers(1, 9), st.integers(1, 4))
AMD = int.from_bytes(b"Auth", "little")
INTEL = int.from_bytes(b"Genu", "little")


def bit(name: str) -> tuple[tuple[int, int], str, int]:
    function, index, register, number = features.bits()[name]
    return (function, index), register, number


def table_with(*names: str, vendor: int = AMD) -> cpuid.Table:
    """A processor's CPUID with some features and every leaf that topology touches."""
    rows = {
        (0, 0): {"eax": 0x1F, "ebx": vendor},
        (1, 0): {},
        (4, 0): {"eax": 0x121},
        (4, 3): {"eax": 0x163},
        (7, 0): {},
        (7, 1): {},
        (0xB, 0): {},
        (0xD, 0): {"eax": 0x2E7, "ebx": 0x988, "ecx": 0x988},
        (0xD, 1): {},
        (0xD, 2): {"eax": 0x100, "ebx": 0x240},
        (0xD, 5): {"eax": 0x40, "ebx": 0x340},
        (0xD, 6): {"eax": 0x200, "ebx": 0x380},
        (0xD, 7): {"eax": 0x400, "ebx": 0x580},
        (0xD, 9): {"eax": 8, "ebx": 0x980},
        (0x80000001, 0): {},
        (0x80000008, 0): {"ecx": 0x7001},
        (0x8000001D, 0): {"eax": 0x121},
        (0x8000001D, 3): {"eax": 0x163},
        (0x8000001E, 0): {},
    }
    for name in names:
        key, register, number = bit(name)
        rows[key][register] = rows[key].get(register, 0) | 1 << number
    return tuple(Leaf(f, i, *(r.get(x, 0) for x in ("eax", "ebx", "ecx", "edx"))) for (f, i), r in rows.items())


def leaf(table: cpuid.Table, function: int, index: int = 0) -> Leaf:
    return next(one for one in table if (one.function, one.index) == (function, index))


# ---- features --------------------------------------------------------------------------------------------------------


def test_names_are_those_of_the_kernel() -> None:
    """Facts of the processors' manuals, against a slip in the words."""
    want = {
        "fpu": ((1, 0), "edx", 0),
        "pbe": ((1, 0), "edx", 31),
        "sep": ((1, 0), "edx", 11),
        "sse2": ((1, 0), "edx", 26),
        "cx16": ((1, 0), "ecx", 13),
        "x2apic": ((1, 0), "ecx", 21),
        "avx": ((1, 0), "ecx", 28),
        "hypervisor": ((1, 0), "ecx", 31),
        "lm": ((0x80000001, 0), "edx", 29),
        "nx": ((0x80000001, 0), "edx", 20),
        "topoext": ((0x80000001, 0), "ecx", 22),
        "mwaitx": ((0x80000001, 0), "ecx", 29),
        "avx512vl": ((7, 0), "ebx", 31),
        "smap": ((7, 0), "ebx", 20),
        "la57": ((7, 0), "ecx", 16),
        "rdpid": ((7, 0), "ecx", 22),
        "pku": ((7, 0), "ecx", 3),
        "arch_capabilities": ((7, 0), "edx", 29),
        "serialize": ((7, 0), "edx", 14),
        "amx_int8": ((7, 0), "edx", 25),
        "avx512_bf16": ((7, 1), "eax", 5),
        "lam": ((7, 1), "eax", 26),
        "xsaves": ((0xD, 1), "eax", 3),
        "wbnoinvd": ((0x80000008, 0), "ebx", 9),
    }
    assert {name: bit(name) for name in want} == want


def test_every_word_has_at_most_32_bits() -> None:
    assert all(number < 32 for *_, number in features.bits().values())


def test_a_feature_takes_its_dependents_along() -> None:
    table = cpuid.choose(table_with("xsave", "avx", "avx2", "avx512f", "avx512vl", "fma", "sse2"), ["-avx"])
    assert set(cpuid.names(table)) == {"xsave", "sse2"}
    assert leaf(table, 0xD).eax == 0x203  # x87, SSE and protection keys
    assert leaf(table, 0xD).ecx == 0x988
    assert not [one for one in table if one.function == 0xD and one.index in (2, 5, 6, 7)]


def test_without_avx512_its_state_is_gone() -> None:
    table = cpuid.choose(table_with("xsave", "avx", "avx2", "avx512f"), ["-avx512f"])
    assert leaf(table, 0xD).eax == 0x207
    assert leaf(table, 0xD, 2).eax == 0x100


def test_without_xsave_there_is_no_leaf_of_it() -> None:
    table = cpuid.choose(table_with("xsave", "xsaves", "avx", "pku"), ["-xsave"])
    assert cpuid.names(table) == ()
    assert not [one for one in table if one.function == 0xD]


def test_a_feature_that_is_not_there() -> None:
    with pytest.raises(HostError) as caught:
        cpuid.choose(table_with("sse2"), ["+avx512f"])
    assert caught.value.code == "E327"
    assert cpuid.choose(table_with("sse2"), ["+sse2", "-avx512f"]) == table_with("sse2")


def test_a_feature_without_a_name() -> None:
    with pytest.raises(HostError) as caught:
        cpuid.choose(table_with(), ["-avx512ff"])
    assert caught.value.code == "E328"
    assert "avx512f" in (caught.value.remedy or "")


def test_what_kvm_leaves_to_the_caller() -> None:
    names = cpuid.names(cpuid.offered(table_with("arch_capabilities"), tsc_deadline=True))
    assert set(names) == {"hypervisor", "x2apic", "tsc_deadline_timer"}
    intel = cpuid.offered(table_with("arch_capabilities", vendor=INTEL), tsc_deadline=False)
    assert set(cpuid.names(intel)) == {"hypervisor", "x2apic", "arch_capabilities"}


# ---- topology --------------------------------------------------------------------------------------------------------


@given(SHAPES)
def test_apic_ids_are_distinct_and_say_who_shares(shape: Topology) -> None:
    ids = [shape.apic_id(index) for index in range(shape.count)]
    assert len(set(ids)) == shape.count
    assert ids == sorted(ids)
    for index, id in enumerate(ids):
        socket, core, thread = shape.place(index)
        assert id >> shape.package_shift == socket
        assert id & (1 << shape.thread_bits) - 1 == thread
        assert (socket * shape.cores + core) * shape.threads + thread == index


@given(SHAPES, st.data())
def test_leaves_agree_with_one_another(shape: Topology, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, shape.count - 1))
    table = cpuid.place(table_with("avx"), shape, index)
    id = shape.apic_id(index)
    assert leaf(table, 1).ebx >> 24 == id & 0xFF
    assert leaf(table, 1).edx >> 28 & 1 == (shape.cores * shape.threads > 1)
    for function in (0xB, 0x1F):
        smt, core, end = (leaf(table, function, level) for level in range(3))
        assert (smt.edx, core.edx, end.edx) == (id, id, id)
        assert (smt.ecx, core.ecx, end.ecx) == (0x100, 0x201, 2)
        assert (smt.ebx, core.ebx, end.ebx) == (shape.threads, shape.cores * shape.threads, 0)
        assert smt.eax == shape.thread_bits
        assert id >> core.eax == shape.place(index)[0]
    amd = leaf(table, 0x8000001E)
    assert (amd.eax, amd.ebx >> 8, amd.ecx) == (id, shape.threads - 1, shape.place(index)[0])
    assert (leaf(table, 0x80000008).ecx & 0xFF) + 1 == shape.cores * shape.threads
    assert leaf(table, 4, 0).eax >> 26 == (1 << shape.package_shift - shape.thread_bits) - 1
    assert leaf(table, 4, 3).eax >> 14 & 0xFFF == (1 << shape.package_shift) - 1
    assert leaf(table, 0x8000001D, 3).eax >> 14 & 0xFFF == shape.cores * shape.threads - 1
    assert leaf(table, 0x8000001D, 0).eax >> 14 & 0xFFF == shape.threads - 1
    assert len({(one.function, one.index) for one in table}) == len(table)


def test_one_vcpu_is_alone() -> None:
    table = cpuid.place(table_with("ht"), Topology(), 0)
    assert leaf(table, 1).edx >> 28 & 1 == 0
    assert leaf(table, 0x80000001).ecx & 2 == 0


# ---- entry -----------------------------------------------------------------------------------------------------------


def test_long_mode_follows_from_the_registers() -> None:
    made = state.entry_state(EntryPlan(0x1000200, (("cr0", 0x80000011), ("efer", 0x500), ("cr3", 0x9000), ("rsi", 7))))
    assert made.segments["cs"] == state.Segment(0, 0xFFFFFFFF, 0x10, 0xA09B)
    assert made.segments["ds"] == state.Segment(0, 0xFFFFFFFF, 0x18, 0xC093)
    assert (made.registers["rip"], made.registers["rsi"], made.registers["rflags"]) == (0x1000200, 7, 2)


def test_protected_mode_follows_from_cr0() -> None:
    made = state.entry_state(EntryPlan(0x100000, (("cr0", 0x11), ("gdt.base", 0x500), ("gdt.limit", 31))))
    assert made.segments["cs"].access == 0xC09B
    assert (made.registers["gdt_base"], made.registers["gdt_limit"]) == (0x500, 31)


def test_real_mode_splits_the_address() -> None:
    reset = state.entry_state(EntryPlan(0xFFFFFFF0, ()))
    assert reset.segments["cs"] == state.Segment(0xFFFF0000, 0xFFFF, 0xF000, 0x9B)
    assert reset.registers["rip"] == 0xFFF0
    assert state.entry_state(EntryPlan(0x7C00, ())).registers["rip"] == 0x7C00
    placed = state.entry_state(EntryPlan(0x10, (("cs.base", 0x90200), ("cs.selector", 0x9020))))
    assert (placed.registers["rip"], placed.segments["cs"].base) == (0x10, 0x90200)


@pytest.mark.parametrize("name", ["x10", "cs.limit", "gdt.selector", "a0", "apic", ""])
def test_a_register_that_x86_does_not_have(name: str) -> None:
    with pytest.raises(HostError) as caught:
        state.entry_state(EntryPlan(0, ((name, 1),)))
    assert caught.value.code == "E310"


# ---- the micro-guest's clock -----------------------------------------------------------------------------------------


class Host:
    """A payload on a clock that is told what everything costs: an entry, a round of the guest's loop and of Python's, a
    disturbance now and then; and how much slower everything is."""

    per_round = 2

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        entry_ns: float,
        round_ns: float,
        *,
        disturbed: Container[int] = (),
        python_ns: float = 20,
        slower: float = 1,
    ) -> None:
        self.looks, self.now_ns = 0, 0.0
        self._entry_ns, self._round_ns, self._python_ns = entry_ns, round_ns, python_ns
        self._disturbed, self._slower = disturbed, slower
        monkeypatch.setattr(measure.time, "thread_time_ns", lambda: round(self.now_ns))
        monkeypatch.setattr(measure, "_python", self._python)

    def _pass(self, cost_ns: float) -> bool:
        self.looks += 1
        self.now_ns += self._slower * cost_ns + (40_000_000 if self.looks in self._disturbed else 0)
        return True

    def loop(self, rounds: int) -> bool:
        return self._pass(self._entry_ns + rounds * self._round_ns)

    def _python(self, rounds: int) -> bool:
        return self._pass(rounds * self._python_ns)

    def attempts(self) -> list[Try]:
        return []


MS = 1_000_000


FOUR_OF_FIVE = frozenset(look for look in range(2, 300) if look % 5 != 1)


@pytest.mark.parametrize(
    ("costs", "speed", "verdict"),
    [
        ({"entry_ns": 2_000, "round_ns": 2}, 10**9, FULL),
        # An entry of a millisecond, and of half a second, in front of code that runs as fast as any.
        ({"entry_ns": 1 * MS, "round_ns": 2}, 10**9, FULL),
        ({"entry_ns": 500 * MS, "round_ns": 2}, 10**9, FULL),
        # Hardware that a translator emulates, as Python finds it too, on a machine that is slow and busy.
        ({"entry_ns": 1 * MS, "round_ns": 20, "python_ns": 400, "slower": 2.5}, 40_000_000, FULL),
        ({"entry_ns": 1 * MS, "round_ns": 20, "python_ns": 400, "slower": 60}, 1_666_667, SLOW),
        # Four looks of five are disturbed, whichever those are.
        ({"entry_ns": 2_000, "round_ns": 2, "disturbed": FOUR_OF_FIVE}, 10**9, FULL),
        # An emulator of a million instructions a second stays one, quiet, disturbed or on a slow machine.
        ({"entry_ns": 50_000, "round_ns": 2_000}, 10**6, RESTRICTED),
        ({"entry_ns": 5 * MS, "round_ns": 2_000, "disturbed": FOUR_OF_FIVE}, 10**6, RESTRICTED),
        ({"entry_ns": 5 * MS, "round_ns": 2_000, "slower": 2.5}, 400_000, RESTRICTED),
    ],
)
def test_a_costly_entry_or_a_busy_host_is_no_emulator(
    monkeypatch: pytest.MonkeyPatch, costs: dict[str, Any], speed: int, verdict: str
) -> None:
    found = measure._speed(Host(monkeypatch, **costs))
    assert found == pytest.approx(speed, rel=0.01)
    guest = measure._judge(found, FAST.tries, measure._pace(), out_of_time=False)
    assert Standing("x86_64", None, (), guest).verdict == verdict


def test_a_loop_that_costs_no_time_is_not_endless(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(monkeypatch, 10**12, 0)
    assert measure._speed(host) is not None
    assert host.looks < 100


def test_what_was_stopped_has_failed_only_where_it_had_its_time() -> None:
    hung = (Try("x87", False, "p", HUNG), Try("xsave", False, "p", "it traps"), Try("cx16", True, "p"))
    assert measure._judge(10**9, hung, 1, out_of_time=False).tries == hung
    busy = measure._judge(None, hung[::2], 1, out_of_time=True)
    assert busy.tries == (Try("x87", None, "p", UNTRIED), hung[2]) and busy.speed == 0
    assert Standing("x86_64", None, (), busy).verdict == SLOW and not busy.lasting
    assert [one.name for one in measure._judge(10**9, hung, 1, out_of_time=True).lacking] == ["xsave"]
    broken = measure._judge(None, (), 1, out_of_time=False)
    assert Standing("x86_64", None, (), broken).verdict == RESTRICTED and broken.lasting


def test_a_guest_that_hangs_is_stopped_by_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_PATIENCE_NS", 1)
    stopped = threading.Event()
    with measure._Watchdog(stopped.set) as watchdog:
        while not stopped.is_set():
            pass
    assert not watchdog.out_of_time


def test_a_host_without_time_is_told_from_a_guest_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_LIMIT_S", 0.0)
    stopped = threading.Event()
    with measure._Watchdog(stopped.set) as watchdog:
        stopped.wait()
    assert watchdog.out_of_time


# ---- reports ---------------------------------------------------------------------------------------------------------

CX16 = b"\x48\x0f\xc7\x0f"
EMULATION = Fault(
    2, 17, 1, (1, *(int.from_bytes((b"\x04" + CX16).ljust(16, b"\0")[i : i + 8], "little") for i in (0, 8)))
)


def scene(fault: Fault, code: bytes = b"\x0f\x0b\x90") -> report.Scene:
    return report.Scene(1, fault, {"pc": 0xFFFFFFFF81000010, "rax": 1}, 0xFFFFFFFF81000010, code, "x86-64")


def test_registers_of_a_vcpu_that_was_reset_are_not_shown() -> None:
    fallen = report.Scene(0, Fault(1, 8, 0, ()), {"pc": 0xFFFFFFF0, "rax": 0}, 0xFFFFFFF0, b"", "x86-16")
    assert report.is_reset(fallen)
    assert "reset its registers" in report.summary(fallen)
    assert not any("rax" in line for line in report.lines(fallen))
    assert not report.is_reset(scene(Fault(1, 8, 0, ())))


def test_kvms_own_bytes_come_first() -> None:
    assert report.instruction_bytes(scene(EMULATION)) == CX16
    assert report.instruction_bytes(scene(Fault(2, 17, 1, (0, 0, 0)))) == b"\x0f\x0b\x90"
    assert report.instruction_bytes(scene(Fault(2, 17, 1, (1, 0, 0)))) == b"\x0f\x0b\x90"
    assert len(report.instruction_bytes(scene(Fault(2, 17, 1, (1, 0xFF, 0)), b""))) == 15


def test_one_line_says_all(tmp_path: Path) -> None:
    symbols_file = tmp_path / "System.map"
    symbols_file.write_text(
        "ffffffff81000000 T startup_64\nffffffff81000008 t slab_update\nffffffff81000030 D data\n"
        "ffffffff81000040 T _etext\nnonsense\n"
    )
    symbols = read_map(symbols_file)
    assert symbols is not None
    line = report.summary(scene(EMULATION), symbols)
    assert "vCPU 1" in line
    assert "internal error 1" in line
    assert "0xffffffff81000010 (slab_update+0x8)" in line
    assert "48 0f c7 0f" in line
    assert symbols.at(0x1000) is None
    assert symbols.at(0xFFFFFFFF81000041) is None
    whole = report.lines(scene(EMULATION), symbols)
    assert whole[0] == line
    assert any("KVM_EXIT_INTERNAL_ERROR" in one for one in whole)
    assert any("rax 0000000000000001" in one for one in whole)


def elf(*symbols: tuple[int, str, int], strings_at: int = 3) -> bytes:
    """An ELF of sections alone: none, code, a symbol table of (address, name, type), its strings."""
    strings, table = b"\0", bytes(24)
    for address, name, kind in symbols:
        table += struct.pack("<IBBHQQ", len(strings), 0x10 | kind, 0, 1, address, 0x10)
        strings += name.encode() + b"\0"
    sections = [
        bytes(64),
        struct.pack("<IIQQQQIIQQ", 0, 1, 6, 0xFFFFFFFF81000000, 64, 0, 0, 0, 16, 0),
        struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, 64 + 4 * 64, len(table), strings_at, 0, 8, 24),
        struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64 + 4 * 64 + len(table), len(strings), 0, 0, 1, 0),
    ]
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 2, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, len(sections), 3
    )
    return head + b"".join(sections) + table + strings


NAMED = elf((0xFFFFFFFF81000000, "startup_64", 0), (0xFFFFFFFF81000008, "slab_update", 2), (0xFFFFFFFF81000009, "x", 1))


def test_a_vmlinux_names_its_own_code(tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinux-6.1"
    kernel.write_bytes(NAMED)
    found = of_kernel(kernel)
    assert found is not None
    assert found.at(0xFFFFFFFF81000010) == "slab_update+0x8"
    assert found.at(0xFFFFFFFF81000018) is None
    (tmp_path / "System.map-6.1").write_text("ffffffffffffffff B The real System.map is elsewhere\n")
    assert of_kernel(kernel) == found
    (tmp_path / "System.map-6.1").write_text("ffffffff81000000 T _stext\nffffffff81000040 T _etext\n")
    beside = of_kernel(kernel)
    assert beside is not None
    assert beside.at(0xFFFFFFFF81000010) == "_stext+0x10"


def test_a_kernel_that_nobody_names(tmp_path: Path) -> None:
    kernel = tmp_path / "bzImage"
    assert of_kernel(kernel) is None
    for content in (b"", b"MZ" * 100, elf(), elf((1, "a", 2), strings_at=9), NAMED[:70]):
        kernel.write_bytes(content)
        assert of_kernel(kernel) is None


@given(st.binary(max_size=40), st.integers(0, len(NAMED)))
def test_a_damaged_elf_is_no_traceback(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    kernel = tmp_path_factory.getbasetemp() / "damaged"
    kernel.write_bytes(NAMED[:at] + noise + NAMED[at + len(noise) :])
    found = of_kernel(kernel)
    assert found is None or len(found.addresses) == len(found.names)


def test_without_capstone_there_are_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert report.disassemble(CX16, 0, "x86-64") == ["48 0f c7 0f"]


def test_with_capstone_there_are_words() -> None:
    pytest.importorskip("capstone", reason="needs the package capstone (the extra `report`)")
    assert report.disassemble(CX16 + b"\x90", 0, "x86-64", 2) == [
        "48 0f c7 0f  cmpxchg16b xmmword ptr [rdi]",
        "90  nop",
    ]


@pytest.mark.parametrize("code", range(7))
def test_every_fault_has_words(code: int) -> None:
    for data in ((), (1, 2, 3)):
        text = report.cause(Fault(code, 8, 0, data))
        assert text
        assert "\n" not in text


# ---- the verdict -----------------------------------------------------------------------------------------------------

FAST = MicroGuest(1_000_000_000, (Try("x87", True, "p"), Try("xsave", None, "p")))


EMULATED = MicroGuest(700_000, FAST.tries, 50_000_000)


@pytest.mark.parametrize(
    ("standing", "verdict", "insists"),
    [
        (Standing("x86_64", None, (), FAST), FULL, "runs"),
        (Standing("riscv64", None), FULL, "runs"),
        (Standing("x86_64", None, (), MicroGuest(12_000_000, FAST.tries, 2_000_000)), SLOW, "warned"),
        (Standing("x86_64", None, (), MicroGuest(0, ())), SLOW, "warned"),
        (Standing("x86_64", None, (), EMULATED), RESTRICTED, "warned"),
        (Standing("x86_64", None, (), MicroGuest(10**9, (Try("cmpxchg16b", False, "p", "y"),))), RESTRICTED, "E330"),
        (Standing("x86_64", None, (), MicroGuest(700_000, (Try("x87", False, "p", "y"),))), RESTRICTED, "E330"),
        (Standing("x86_64", HostError("no", code="E320", remedy="r")), NONE, "E320"),
    ],
)
def test_verdicts(standing: Standing, verdict: str, insists: str) -> None:
    assert standing.verdict == verdict
    assert "\n" not in standing.why
    assert bool(standing.remedy) == (verdict != FULL)
    auto = {FULL: "runs", SLOW: "warned", RESTRICTED: "E330", NONE: "E320"}[verdict]
    for insisting, expected in ((False, auto), (True, insists)):
        try:
            line = admit_linux(standing, insists=insisting)
            assert "\n" not in line
            found = "warned" if line else "runs"
        except HostError as error:
            found = error.code
        assert found == expected


def test_only_what_is_proven_lasts() -> None:
    assert FAST.lasting
    assert MicroGuest(700_000, (Try("x87", False, "p", "y"),)).lasting
    assert not EMULATED.lasting
    assert not MicroGuest(12_000_000, FAST.tries, 2_000_000).lasting
    assert not MicroGuest(10**9, (Try("x87", None, "p", UNTRIED),)).lasting


# ---- capabilities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "own"),
    [
        ("x86_64", "IRQCHIP HLT SET_TSS_ADDR SET_IDENTITY_MAP_ADDR EXT_CPUID"),
        ("aarch64", "IRQCHIP ONE_REG DEVICE_CTRL ARM_PSCI_0_2"),
        ("riscv64", "ONE_REG MP_STATE"),
    ],
)
def test_what_no_machine_uses_is_required_of_no_host(arch: str, own: str) -> None:
    """Neither irqfd, ioeventfd, routes nor messages: devices raise lines, and doorbells are exits."""
    table = capabilities.COMMON + part("capabilities", arch).TABLE
    required = {capability.name for capability in table if capability.required}
    assert required == {f"KVM_CAP_{name}" for name in ("USER_MEMORY", "IMMEDIATE_EXIT", "MAX_VCPUS", *own.split())}
    assert len({capability.name for capability in table}) == len(table)
    assert not capabilities.missing({c.name: int(c.required) for c in table}, table)


def test_the_doctor_calls_optional_what_a_host_may_lack(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (Capability("KVM_CAP_A", 1, True, "all"), Capability("KVM_CAP_B", 2, False, "some"))
    monkeypatch.setattr(host, "table", lambda: table)
    assert doctor._facts(Standing("x86_64", None, (("KVM_CAP_A", 0), ("KVM_CAP_B", 0)))) == [
        "no KVM_CAP_A (required, for all)",
        "no KVM_CAP_B (optional, for some)",
    ]
