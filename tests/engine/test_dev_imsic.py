"""IMSICs poked from Python: one interrupt file against a model, its edges, many senders at once."""

import threading

import pytest
from aia_kit import IMSIC
from dev_kit import aia_bench
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from patience import patience
from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.devices.irq import imsic
from vmrun.errors import HostError

IDS = 127
M64 = 2**64 - 1
IDENTITY = st.integers(0, IDS + 3)
WORD = st.integers(0, 1)
BITS = st.integers(0, M64)
EIDELIVERY, EITHRESHOLD, EIP, EIE = (
    lib.VMR_ISELECT_EIDELIVERY, lib.VMR_ISELECT_EITHRESHOLD, lib.VMR_ISELECT_EIP, lib.VMR_ISELECT_EIE,
)  # fmt: skip


class ImsicMachine(RuleBasedStateMachine):
    """File 1 of two; nothing may happen to file 0."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = aia_bench(2, 1, IDS)
        self.pending, self.enabled = set[int](), set[int]()
        self.delivery = self.threshold = 0

    def teardown(self) -> None:
        self.bench.machine.close()

    def best(self) -> int:
        ready = self.pending & self.enabled
        return min((i for i in ready if not self.threshold or i < self.threshold), default=0)

    @rule(identity=st.one_of(IDENTITY, st.integers(0, 2**32 - 1)), swap=st.booleans())
    def message(self, identity: int, swap: bool) -> None:
        value = int.from_bytes(identity.to_bytes(4, "little"), "big") if swap else identity
        self.bench.machine.poke(IMSIC + 0x1000 + 4 * swap, 4, value)
        if 0 < identity <= IDS:
            self.pending.add(identity)

    @rule(word=WORD, select=st.sampled_from([EIP, EIE]), value=BITS, mask=BITS)
    def modify(self, word: int, select: int, value: int, mask: int) -> None:
        self.bench.set(1, select + 2 * word, value, mask)
        bits = self.pending if select == EIP else self.enabled
        for identity in range(64 * word or 1, 64 * word + 64):
            if mask >> identity % 64 & 1:
                (bits.add if value >> identity % 64 & 1 else bits.discard)(identity)

    @rule(value=BITS)
    def deliver(self, value: int) -> None:
        self.bench.set(1, EIDELIVERY, value)
        self.delivery = value & 1
        assert self.bench.get(1, EIDELIVERY) == self.delivery

    @rule(value=IDENTITY)
    def set_threshold(self, value: int) -> None:
        self.bench.set(1, EITHRESHOLD, value)
        self.threshold = value
        assert self.bench.get(1, EITHRESHOLD) == value

    @rule()
    def claim(self) -> None:
        best = self.best()
        assert lib.vmr_imsic_claim(self.bench.imsic, 1) == best
        self.pending.discard(best)

    @invariant()
    def agree(self) -> None:
        for select, bits in ((EIP, self.pending), (EIE, self.enabled)):
            words = [self.bench.get(1, select + 2 * word) for word in range(2)]
            assert {64 * w + i for w in (0, 1) for i in range(64) if words[w] >> i & 1} == bits
            assert self.bench.get(0, select) == self.bench.get(1, select + 4) == 0
        assert lib.vmr_imsic_top(self.bench.imsic, 1) == self.best()
        assert lib.vmr_imsic_output(self.bench.imsic, 1) == bool(self.delivery and self.best())
        assert lib.vmr_imsic_output(self.bench.imsic, 0) == 0


TestImsicAgainstTheModel = ImsicMachine.TestCase
TestImsicAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@pytest.mark.parametrize("ids", [63, 127, 255, 2047])
def test_the_last_identity_is_there_and_none_behind_it(ids: int) -> None:
    bench = aia_bench(1, 1, ids)
    with bench.machine as machine:
        for word in range(32):
            bench.set(0, EIE + 2 * word, M64)
            there = M64 - 1 if not word else M64 if word <= ids // 64 else 0
            assert bench.get(0, EIE + 2 * word) == there
        machine.poke(IMSIC, 4, ids + 1)
        assert lib.vmr_imsic_top(bench.imsic, 0) == 0
        machine.poke(IMSIC, 4, ids)
        assert lib.vmr_imsic_top(bench.imsic, 0) == ids


def test_registers_that_are_not_there() -> None:
    bench = aia_bench(1, 1, IDS)
    with bench.machine:
        value = ffi.new("uint64_t *")
        for select in range(0x200):
            there = 0x70 <= select < 0x80 or (0x80 <= select <= 0xFF and not select & 1)
            assert lib.vmr_imsic_get(bench.imsic, 0, select, value) == (0 if there else -2)
        for select in (0x71, *range(0x73, 0x80)):
            bench.set(0, select, M64)
            assert bench.get(0, select) == 0
        assert lib.vmr_imsic_get(bench.imsic, 1, EIP, value) == lib.vmr_imsic_top(bench.imsic, 1) == -22


def test_pages_read_zero_and_a_write_elsewhere_is_counted() -> None:
    bench = aia_bench(2, 1, IDS, size=0x3000)
    with bench.machine as machine:
        for offset in (0, 4, 8, 0xFFC, 0x1000, 0x2000):
            assert machine.peek(IMSIC + offset, 4) == 0
        for offset in (8, 0xFFC, 0x1008, 0x2000):
            machine.poke(IMSIC + offset, 4, 1)
        assert bench.wrongs("imsic") == {"write of a reserved offset": 4}
        machine.poke(IMSIC, 2, 1)  # messages are words
        assert bench.get(0, EIP) == 0


def test_no_message_is_lost_among_senders_and_a_claimer() -> None:
    """Each sender sends its own identity, again once it was claimed: every one must come through, every time."""
    senders, rounds = 4, 500
    bench = aia_bench(1, 1, IDS)
    with bench.machine as machine:
        bench.set(0, EIE, M64)
        bench.set(0, EIDELIVERY, 1)
        free = [threading.Semaphore(1) for _ in range(senders)]

        def send(identity: int) -> None:
            for _ in range(rounds):
                assert free[identity - 1].acquire(timeout=patience(20))
                machine.poke(IMSIC, 4, identity)

        threads = [threading.Thread(target=send, args=(i + 1,)) for i in range(senders)]
        for thread in threads:
            thread.start()
        seen = [0] * (senders + 1)
        while sum(seen[1:]) < senders * rounds and any(t.is_alive() for t in threads):
            identity = lib.vmr_imsic_claim(bench.imsic, 0)
            seen[identity] += 1
            if identity:
                free[identity - 1].release()
        for thread in threads:
            thread.join(patience(20))
        while identity := lib.vmr_imsic_claim(bench.imsic, 0):
            seen[identity] += 1
        assert seen[1:] == [rounds] * senders
        assert lib.vmr_imsic_output(bench.imsic, 0) == 0


@pytest.mark.parametrize(
    ("size", "files", "ids"),
    [(0x1000, 1, 0), (0x1000, 1, 64), (0x1000, 1, 2111), (0x1FFF, 2, 63), (0x1000, 0, 63), (0x41000, 65, 63)],
)
def test_imsics_that_cannot_be_are_refused(size: int, files: int, ids: int) -> None:
    with CoreMachine() as machine, pytest.raises(HostError, match="imsic"):
        machine.check(
            lib.vmr_imsic_new(machine.handle, IMSIC, size, files, ids, ffi.NULL, ffi.new("vmr_imsic **")), "x"
        )


def test_indirect_registers_of_c_are_those_declared() -> None:
    ours = {register.name: register.offset for register in imsic.INDIRECT.registers}
    prefix = imsic.INDIRECT.prefix
    assert prefix and ours == {n.removeprefix(prefix): getattr(lib, n) for n in dir(lib) if n.startswith(prefix)}
