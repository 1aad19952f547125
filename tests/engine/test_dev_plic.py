import pytest
from dev_kit import PLIC, PlicBench
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.devices.model import set_line
from vmrun.devices.testing import Recorder
from vmrun.errors import HostError

SOURCES = 40
CONTEXTS = 3
SOURCE = st.integers(1, SOURCES)
CONTEXT = st.integers(0, CONTEXTS - 1)


class Model:
    """The specification in a page."""

    def __init__(self) -> None:
        self.level = set[int]()
        self.pending = set[int]()
        self.claimed = set[int]()
        self.priority = dict.fromkeys(range(1, SOURCES + 1), 0)
        self.enabled: list[set[int]] = [set() for _ in range(CONTEXTS)]
        self.threshold = [0] * CONTEXTS

    def gate(self, source: int) -> None:
        if source in self.level and source not in self.claimed:
            self.pending.add(source)

    def best(self, context: int, floor: int) -> int:
        ready = [s for s in self.pending & self.enabled[context] if self.priority[s] > floor]
        return min(ready, key=lambda s: (-self.priority[s], s), default=0)


class PlicMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.bench = PlicBench(SOURCES, CONTEXTS)
        self.core = self.bench.machine

    def teardown(self) -> None:
        self.core.close()

    def poke(self, offset: int, value: int) -> None:
        self.core.poke(PLIC + offset, 4, value)

    def peek(self, offset: int) -> int:
        value = self.core.peek(PLIC + offset, 4)
        assert value is not None
        return value

    def context(self, context: int, register: int) -> int:
        return int(lib.VMR_PLIC_CONTEXT + lib.VMR_PLIC_CONTEXT_STRIDE * context + register)

    @rule(source=SOURCE, level=st.booleans())
    def line(self, source: int, level: bool) -> None:
        set_line(self.core.line(source), level)
        (self.model.level.add if level else self.model.level.discard)(source)
        self.model.gate(source)

    @rule(source=SOURCE, priority=st.integers(0, 2**32 - 1))
    def set_priority(self, source: int, priority: int) -> None:
        self.poke(4 * source, priority)
        self.model.priority[source] = priority & 7
        assert self.peek(4 * source) == priority & 7

    @rule(context=CONTEXT, word=st.integers(0, 1), bits=st.integers(0, 2**32 - 1))
    def enable(self, context: int, word: int, bits: int) -> None:
        offset = lib.VMR_PLIC_ENABLE + lib.VMR_PLIC_ENABLE_STRIDE * context + 4 * word
        self.poke(offset, bits)
        chosen = {32 * word + i for i in range(32) if bits >> i & 1} & set(range(1, SOURCES + 1))
        self.model.enabled[context] -= set(range(32 * word, 32 * word + 32))
        self.model.enabled[context] |= chosen
        assert self.peek(offset) == sum(1 << s % 32 for s in chosen)

    @rule(context=CONTEXT, threshold=st.integers(0, 9))
    def set_threshold(self, context: int, threshold: int) -> None:
        self.poke(self.context(context, lib.VMR_PLIC_THRESHOLD), threshold)
        self.model.threshold[context] = threshold & 7

    @rule(context=CONTEXT)
    def claim(self, context: int) -> None:
        expected = self.model.best(context, 0)
        assert self.peek(self.context(context, lib.VMR_PLIC_CLAIM)) == expected
        if expected:
            self.model.pending.discard(expected)
            self.model.claimed.add(expected)

    @rule(context=CONTEXT, source=st.integers(0, SOURCES + 2))
    def complete(self, context: int, source: int) -> None:
        self.poke(self.context(context, lib.VMR_PLIC_CLAIM), source)
        if source in self.model.enabled[context]:
            self.model.claimed.discard(source)
            self.model.gate(source)

    @invariant()
    def outputs_agree(self) -> None:
        for context in range(CONTEXTS):
            wanted = self.model.best(context, self.model.threshold[context]) != 0
            assert lib.vmr_plic_output(self.bench.plic, context) == self.bench.outputs.level(context) == wanted

    @invariant()
    def pending_agrees(self) -> None:
        words = [self.peek(lib.VMR_PLIC_PENDING + 4 * i) for i in range(2)]
        assert {32 * w + i for w in (0, 1) for i in range(32) if words[w] >> i & 1} == self.model.pending


TestPlicAgainstTheModel = PlicMachine.TestCase
TestPlicAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


def test_a_level_that_stays_is_pending_again_after_completion() -> None:
    b = PlicBench()
    with b.machine as m:
        claim, line = PLIC + 0x200004, m.line(7)
        m.poke(PLIC + 4 * 7, 4, 1)
        m.poke(PLIC + 0x2000, 4, 1 << 7)
        line.raise_()
        assert lib.vmr_plic_output(b.plic, 0) == 1 and lib.vmr_plic_output(b.plic, 1) == 0
        assert m.peek(claim, 4) == 7 and m.peek(claim, 4) == 0
        assert lib.vmr_plic_output(b.plic, 0) == 0
        m.poke(claim, 4, 7)
        assert lib.vmr_plic_output(b.plic, 0) == 1
        line.lower()  # a request that went through is served all the same
        assert m.peek(claim, 4) == 7
        m.poke(claim, 4, 7)
        assert lib.vmr_plic_output(b.plic, 0) == 0


def test_reserved_offsets_are_counted() -> None:
    b = PlicBench()
    with b.machine:
        for offset in (0x1000 + 4 * 3, 0x2000 + 0x80 * 2, 0x2000 + 12, 0x202000, 0x200008, 4 * 96, 0x5FFFFC):
            assert b.machine.peek(PLIC + offset, 4) == 0
            b.machine.poke(PLIC + offset, 4, 1)
        b.machine.poke(PLIC, 4, 1)
        b.machine.poke(PLIC + 0x1000, 4, 1)
        b.machine.poke(PLIC + 0x200004, 4, 96)
        for source in (0, 96, 2**32 - 1):
            with pytest.raises(HostError, match="no input"):
                b.machine.line(source)
        assert b.wrongs("plic") == {
            "read of a reserved offset": 7,
            "write of a reserved or read-only offset": 9,
            "completion of a source that the context has not enabled": 1,
        }


@pytest.mark.parametrize(
    ("size", "sources", "contexts"),
    [(0x600000, 0, 1), (0x600000, 1024, 1), (0x200FFF, 1, 1), (0x600000, 1, 65), (0x600000, 1, 0)],
)
def test_a_plic_that_cannot_be_is_refused(size: int, sources: int, contexts: int) -> None:
    with CoreMachine() as machine, pytest.raises(HostError, match="plic"):
        machine.check(
            lib.vmr_plic_new(machine.handle, PLIC, size, sources, contexts, ffi.NULL, ffi.new("vmr_plic **")), "x"
        )


def test_completion_is_told_to_those_who_watch_their_line() -> None:
    b = PlicBench()
    with b.machine as m:
        claim, line, ends = PLIC + 0x200004, m.line(7), Recorder(m, 2)
        assert ends.watch(line) and ends.watch(m.line(8), 1)
        m.poke(PLIC + 4 * 7, 4, 1)
        m.poke(PLIC + 0x2000, 4, 1 << 7 | 1 << 8)
        line.raise_()
        assert m.peek(claim, 4) == 7 and ends.ended() == 0
        m.poke(claim, 4, 7)
        assert (ends.ended(), ends.ended(1)) == (1, 0)
        m.poke(claim, 4, 96)
        assert ends.ended() == 1, "no completion: the source is not enabled"
