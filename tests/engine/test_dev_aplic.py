"""The APLIC by itself and with IMSICs, poked from Python: against a model, at its edges, from threads."""

import pytest
from aia_kit import APLIC, IMSIC
from dev_kit import aia_bench
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.devices.model import set_line
from vmrun.devices.testing import Recorder
from vmrun.errors import HostError

SOURCES = 40
IDS = 63
FILES = 2
SOURCE = st.integers(1, SOURCES)
NUMBER = st.one_of(st.integers(0, SOURCES + 3), st.integers(0, 2**32 - 1))
WORD = st.integers(0, 1)
BITS = st.integers(0, 2**32 - 1)
INACTIVE, DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0 = (
    lib.VMR_APLIC_SM_INACTIVE, lib.VMR_APLIC_SM_DETACHED, lib.VMR_APLIC_SM_EDGE1, lib.VMR_APLIC_SM_EDGE0,
    lib.VMR_APLIC_SM_LEVEL1, lib.VMR_APLIC_SM_LEVEL0,
)  # fmt: skip


class Model:
    """Chapter 4 of the specification, as far as a domain of S-mode that delivers by MSI goes."""

    def __init__(self) -> None:
        self.level = set[int]()
        self.pending = set[int]()
        self.enabled = set[int]()
        self.mode = dict.fromkeys(range(1, SOURCES + 1), INACTIVE)
        self.target = dict.fromkeys(range(1, SOURCES + 1), 0)
        self.on = False
        self.arrived: list[set[int]] = [set() for _ in range(FILES)]

    def active(self, source: int) -> bool:
        return self.mode.get(source, INACTIVE) != INACTIVE

    def input(self, source: int) -> bool:
        mode = self.mode[source]
        return mode >= EDGE1 and (source in self.level) != (mode in (EDGE0, LEVEL0))

    def wire(self, source: int, level: bool) -> None:
        before = self.input(source)
        (self.level.add if level else self.level.discard)(source)
        if self.input(source) and not before:
            self.pending.add(source)
        elif not self.input(source) and self.mode[source] >= LEVEL1:
            self.pending.discard(source)

    def set_pending(self, source: int) -> None:
        if self.active(source) and (self.mode[source] < LEVEL1 or self.input(source)):
            self.pending.add(source)

    def configure(self, source: int, value: int) -> None:
        mode = value & 7
        self.mode[source] = INACTIVE if value & 0x400 or mode in (2, 3) else mode
        if not self.active(source):
            self.pending.discard(source)
            self.enabled.discard(source)
            self.target[source] = 0
        elif self.mode[source] >= LEVEL1:
            (self.pending.add if self.input(source) else self.pending.discard)(source)

    def send(self, target: int) -> None:
        if target >> 18 < FILES and 0 < target & 0x7FF <= IDS:
            self.arrived[target >> 18].add(target & 0x7FF)

    def forward(self) -> None:
        for source in sorted(self.pending & self.enabled) if self.on else ():
            self.pending.discard(source)
            self.send(self.target[source])


class AplicMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.bench = aia_bench(FILES, SOURCES, IDS)
        self.core = self.bench.machine

    def teardown(self) -> None:
        self.core.close()

    def poke(self, offset: int, value: int) -> None:
        self.core.poke(APLIC + offset, 4, value)

    def peek(self, offset: int) -> int:
        value = self.core.peek(APLIC + offset, 4)
        assert value is not None
        return value

    @rule(source=SOURCE, level=st.booleans())
    def wire(self, source: int, level: bool) -> None:
        set_line(self.core.line(source), level)
        self.model.wire(source, level)

    @rule(source=SOURCE, value=st.one_of(st.sampled_from([EDGE1, EDGE0, LEVEL1, LEVEL0, DETACHED]), BITS))
    def configure(self, source: int, value: int) -> None:
        self.poke(4 * source, value)
        self.model.configure(source, value)
        assert self.peek(4 * source) == self.model.mode[source]

    @rule(
        source=SOURCE, hart=st.integers(0, FILES), identity=st.integers(0, IDS + 2), rest=st.sampled_from([0, 0x3F800])
    )
    def aim(self, source: int, hart: int, identity: int, rest: int) -> None:
        value = hart << 18 | identity
        self.poke(lib.VMR_APLIC_TARGET + 4 * (source - 1), value | rest)
        if self.model.active(source):
            self.model.target[source] = value
        assert self.peek(lib.VMR_APLIC_TARGET + 4 * (source - 1)) == self.model.target[source]

    @rule(value=BITS)
    def switch(self, value: int) -> None:
        self.poke(0, value)
        self.model.on = bool(value & lib.VMR_APLIC_DOMAINCFG_IE)
        assert self.peek(0) == 0x80000004 | value & 0x100

    @rule(what=st.sampled_from(["SETIP", "IN_CLRIP", "SETIE", "CLRIE"]), word=WORD, bits=BITS)
    def words(self, what: str, word: int, bits: int) -> None:
        self.poke(getattr(lib, f"VMR_APLIC_{what}") + 4 * word, bits)
        for source in (32 * word + i for i in range(32) if bits >> i & 1):
            self.act(what, source)

    @rule(what=st.sampled_from(["SETIPNUM", "SETIPNUM_LE", "CLRIPNUM", "SETIENUM", "CLRIENUM"]), number=NUMBER)
    def numbers(self, what: str, number: int) -> None:
        self.poke(getattr(lib, f"VMR_APLIC_{what}"), number)
        arrays = {"SETIPNUM": "SETIP", "SETIPNUM_LE": "SETIP", "CLRIPNUM": "IN_CLRIP", "SETIENUM": "SETIE"}
        self.act(arrays.get(what, "CLRIE"), number)
        assert self.peek(getattr(lib, f"VMR_APLIC_{what}")) == 0

    @rule(number=NUMBER)
    def swapped(self, number: int) -> None:
        self.poke(lib.VMR_APLIC_SETIPNUM_BE, int.from_bytes(number.to_bytes(4, "little"), "big"))
        self.model.set_pending(number)

    @rule(hart=st.integers(0, FILES), identity=st.integers(0, IDS + 2))
    def extempore(self, hart: int, identity: int) -> None:
        self.poke(lib.VMR_APLIC_GENMSI, hart << 18 | 0x3F000 | identity)
        self.model.send(hart << 18 | identity)
        assert self.peek(lib.VMR_APLIC_GENMSI) == hart << 18 | identity

    def act(self, what: str, source: int) -> None:
        model = self.model
        if what == "SETIP":
            model.set_pending(source)
        elif what == "IN_CLRIP":
            model.pending.discard(source)
        elif what == "SETIE" and model.active(source):
            model.enabled.add(source)
        elif what == "CLRIE":
            model.enabled.discard(source)

    def set_of(self, base: int) -> set[int]:
        words = [self.peek(base + 4 * i) for i in range(2)]
        return {32 * w + i for w in (0, 1) for i in range(32) if words[w] >> i & 1}

    @invariant()
    def agree(self) -> None:
        self.model.forward()
        assert self.set_of(lib.VMR_APLIC_SETIP) == self.model.pending
        assert self.set_of(lib.VMR_APLIC_SETIE) == self.model.enabled
        assert self.set_of(lib.VMR_APLIC_IN_CLRIP) == {s for s in self.model.mode if self.model.input(s)}
        for file, arrived in enumerate(self.model.arrived):
            word = self.bench.get(file, lib.VMR_ISELECT_EIP)
            assert {i for i in range(64) if word >> i & 1} == arrived


TestAplicAgainstTheModel = AplicMachine.TestCase
TestAplicAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def aplic(machine: CoreMachine, at: int, size: int = 0x4000, sources: int = 1) -> None:
    code = lib.vmr_aplic_new(machine.handle, at, size, sources, machine.messages, ffi.new("vmr_aplic **"))
    machine.check(code, "aplic")


def test_what_is_reserved_reads_zero_and_a_write_of_it_is_counted() -> None:
    bench = aia_bench(1, SOURCES, IDS)
    with bench.machine as machine:
        offsets = (0x1000, 0x1BC0, 0x1BC8, 0x1C80, 0x1CD8, 0x1D80, 0x1F80, 0x1FE0, 0x2008, 0x2FFC)
        for offset in offsets:
            assert machine.peek(APLIC + offset, 4) == 0
            machine.poke(APLIC + offset, 4, 0xFFFFFFFF)
            assert machine.peek(APLIC + offset, 4) == 0
        for offset in (4 * (SOURCES + 1), 0xFFC, 0x3000 + 4 * (SOURCES + 1), 0x3FFC, 0x1C08, 0x1E7C):  # of no source
            machine.poke(APLIC + offset, 4, 5)
            assert machine.peek(APLIC + offset, 4) == 0
        for source in (0, SOURCES + 1, 2**32 - 1):
            with pytest.raises(HostError, match="no input"):
                machine.line(source)
        assert bench.wrongs("aplic") == {"write of a reserved offset": len(offsets)}


def test_a_handlers_last_word_is_told_to_those_who_watch_a_level() -> None:
    bench = aia_bench(1, SOURCES, IDS)
    with bench.machine as machine:
        ends = Recorder(machine, 2)
        assert ends.watch(machine.line(3)) and ends.watch(machine.line(4), 1)
        machine.poke(APLIC + 4 * 3, 4, LEVEL1)
        machine.poke(APLIC + 4 * 4, 4, EDGE1)
        machine.line(3).raise_()
        for told, (register, number) in enumerate(
            ((lib.VMR_APLIC_SETIPNUM, 3), (lib.VMR_APLIC_SETIPNUM_LE, 3), (lib.VMR_APLIC_SETIPNUM_BE, 3 << 24)), 1
        ):
            machine.poke(APLIC + register, 4, number)
            assert ends.ended() == told
        for register, number in ((lib.VMR_APLIC_SETIPNUM, 4), (lib.VMR_APLIC_CLRIPNUM, 3), (lib.VMR_APLIC_SETIPNUM, 9)):
            machine.poke(APLIC + register, 4, number)
        assert (ends.ended(), ends.ended(1)) == (3, 0), "an edge has no end"


def test_messages_leave_by_the_place_that_the_aplic_was_given() -> None:
    with CoreMachine() as machine:
        files = Recorder(machine, 2)
        place = files.messages(0x2800_0000)
        machine.check(lib.vmr_aplic_new(machine.handle, APLIC, 0x4000, 9, place, ffi.new("vmr_aplic **")), "aplic")
        machine.poke(APLIC + lib.VMR_APLIC_GENMSI, 4, 1 << 18 | 33)
        assert files.message(1) == (0x2800_1000, 33) and files.message(0) is None
        machine.poke(APLIC + lib.VMR_APLIC_GENMSI, 4, 2 << 18 | 33)
        assert machine.guest_errors() == [("aplic", "message to a hart that is not there", 1)]


def test_a_message_to_no_hart_is_counted() -> None:
    bench = aia_bench(1, SOURCES, IDS)
    with bench.machine as machine:
        machine.poke(APLIC + lib.VMR_APLIC_GENMSI, 4, 1 << 18 | 5)
        machine.poke(APLIC + lib.VMR_APLIC_GENMSI, 4, 0xFFFC0005)
        machine.poke(APLIC + lib.VMR_APLIC_GENMSI, 4, 5)
        assert bench.wrongs("aplic") == {"message to a hart that is not there": 2}
        assert bench.get(0, lib.VMR_ISELECT_EIP) == 1 << 5


def test_an_aplic_without_imsics_drops_messages() -> None:
    with CoreMachine() as machine:
        aplic(machine, APLIC)
        machine.poke(APLIC + lib.VMR_APLIC_GENMSI, 4, 5)
        assert machine.guest_errors() == [("aplic", "message to a hart that is not there", 1)]


@pytest.mark.parametrize(("size", "sources"), [(0x4000, 0), (0x4000, 1024), (0x3FFF, 1)])
def test_an_aplic_that_cannot_be_is_refused(size: int, sources: int) -> None:
    with CoreMachine() as machine, pytest.raises(HostError, match="aplic"):
        aplic(machine, APLIC, size, sources)


def test_a_machine_has_one_interrupt_controller() -> None:
    bench = aia_bench(1, SOURCES, IDS)
    with bench.machine as machine, pytest.raises(HostError, match="interrupt controller already"):
        aplic(machine, IMSIC + 0x100000)
