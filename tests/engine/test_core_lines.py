"""Lines and messages as values: who gives them out, what a recorder keeps, what a masked message does."""

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.core.line import CoreLine, nowhere
from vmrun.core.machine import CoreMachine
from vmrun.devices.model import Unconnected, Wires, set_line
from vmrun.devices.testing import RecordedLine, Recorder
from vmrun.errors import HostError

BASE = 0xFEE0_0000


@pytest.mark.parametrize("kind", ["python", "core"])
def test_a_recorder_keeps_the_level_and_counts_edges(kind: str) -> None:
    with CoreMachine() as machine:
        recorder = Recorder(machine, 2)
        seen = RecordedLine()
        line = recorder.line(1) if kind == "core" else seen

        def now() -> tuple[int, int]:
            return (recorder.level(1), recorder.edges(1)) if kind == "core" else (seen.level, seen.edges)

        assert now() == (0, 0)
        line.raise_()
        line.raise_()
        assert now() == (1, 1)
        line.pulse()
        assert now() == (0, 1), "it was high already"
        line.pulse()
        assert now() == (0, 2)
        set_line(line, True)
        line.lower()
        assert now() == (0, 3)
        assert recorder.level(0) == recorder.edges(0) == 0


def test_a_line_to_nowhere_takes_everything() -> None:
    for line in (CoreLine(nowhere()), Unconnected()):
        line.raise_()
        line.lower()
        line.pulse()
    assert lib.vmr_line_raise(Wires().c_line()) is None
    with CoreMachine() as machine:
        assert not Recorder(machine).watch(CoreLine(nowhere()))
        assert Wires(line=Recorder(machine).line()).c_line().ops != ffi.NULL
    with pytest.raises(TypeError, match="RecordedLine"):
        Wires(line=RecordedLine()).c_line()


def test_an_end_of_interrupt_reaches_all_who_watch() -> None:
    with CoreMachine() as machine:
        chip, devices = Recorder(machine, 2), Recorder(machine, 3)
        assert all(devices.watch(chip.line(line), device) for device, line in ((0, 1), (1, 1), (2, 0)))
        chip.end(1)
        chip.end(1)
        assert [devices.ended(pin) for pin in range(3)] == [2, 2, 0]


def test_a_machine_without_a_controller_has_no_lines() -> None:
    with CoreMachine() as machine:
        with pytest.raises(HostError, match="no interrupt controller"):
            machine.line(1)
        assert machine.messages.ops == ffi.NULL and machine.vcpu_lines(9) == []
        assert lib.vmr_msi_send(machine.messages, BASE, 1) == -errno.EINVAL


def test_inputs_of_a_vcpu_are_lines_of_its_own() -> None:
    with CoreMachine() as machine:
        harts = [ffi.new("vmr_vcpu **") for _ in range(2)]
        for hart in harts:
            machine.check(lib.vmr_rv64_new(machine.handle, lib.VMR_RV64_SSTC, 10_000_000, 0, hart), "hart")
        lines = machine.vcpu_lines(9)
        lines[1].raise_()
        machine.vcpu_lines(1)[0].raise_()
        value = ffi.new("uint64_t *")
        seen = [lib.vmr_rv64_get(hart[0], 4096 + 0x144, value) or int(value[0]) for hart in harts]
        assert seen == [1 << 1, 1 << 9]
        for input in (0, 11, 31, 32, 2**32 - 1):
            with pytest.raises(HostError, match=f"no interrupt input {input}"):
                machine.vcpu_lines(input)


class Table:
    def __init__(self, machine: CoreMachine, count: int, to: Any) -> None:
        out = ffi.new("vmr_messages **")
        machine.check(lib.vmr_messages_new(machine.handle, count, to, out), "messages")
        self.handle = out[0]

    def state(self, index: int) -> tuple[int, int, int, int]:
        out = ffi.new("vmr_message *")
        assert lib.vmr_messages_get(self.handle, index, out) == 0
        return int(out.address), int(out.data), int(out.masked), int(out.pending)


def test_a_masked_message_stays_pending_and_leaves_once() -> None:
    with CoreMachine() as machine:
        files = Recorder(machine, 2)
        table = Table(machine, 3, files.messages(BASE))
        assert table.state(2) == (0, 0, 1, 0)
        assert lib.vmr_messages_put(table.handle, 2, BASE + 0x1000, 77) == 0
        for _ in range(2):
            assert lib.vmr_messages_raise(table.handle, 2) == 0
        assert table.state(2) == (BASE + 0x1000, 77, 1, 1) and files.edges(1) == 0
        lib.vmr_messages_mask(table.handle, 2, 0)
        assert files.message(1) == (BASE + 0x1000, 77) and files.edges(1) == 1 and table.state(2)[3] == 0
        lib.vmr_messages_raise(table.handle, 2)
        assert files.edges(1) == 2
        for call in (
            lib.vmr_messages_raise(table.handle, 3),
            lib.vmr_messages_put(table.handle, 3, 0, 0),
            lib.vmr_messages_mask(table.handle, 3, 1),
            lib.vmr_messages_get(table.handle, 3, ffi.new("vmr_message *")),
        ):
            assert call == -errno.EINVAL
        with pytest.raises(HostError, match="1 to 2048 messages"):
            Table(machine, 2049, files.messages(BASE))


@given(
    st.lists(st.tuples(st.sampled_from(["raise", "mask", "unmask", "hold", "free"]), st.integers(0, 2)), max_size=40)
)
@settings(max_examples=60, deadline=None)
def test_no_message_is_lost_and_none_is_made(steps: list[tuple[str, int]]) -> None:
    with CoreMachine() as machine:
        files = Recorder(machine, 3)
        table = Table(machine, 3, files.messages(BASE))
        masked, pending, sent, held = [True] * 3, [False] * 3, [0] * 3, False
        for index in range(3):
            lib.vmr_messages_put(table.handle, index, BASE + 0x1000 * index, index)
        for step, index in steps:
            if step == "raise":
                lib.vmr_messages_raise(table.handle, index)
                pending[index] = True
            elif step in ("mask", "unmask"):
                masked[index] = step == "mask"
                lib.vmr_messages_mask(table.handle, index, masked[index])
            else:
                held = step == "hold"
                lib.vmr_messages_hold(table.handle, held)
            for i in range(3):
                if pending[i] and not masked[i] and not held:
                    pending[i] = False
                    sent[i] += 1
            assert [table.state(i)[3] for i in range(3)] == pending and [files.edges(i) for i in range(3)] == sent


def test_a_message_to_nobody_is_dropped() -> None:
    with CoreMachine() as machine:
        files = Recorder(machine, 1)
        place = files.messages(BASE)
        for address in (BASE - 1, BASE + 0x1000, 0, 2**64 - 1):
            assert lib.vmr_msi_send(place, address, 1) == -errno.EINVAL
        assert lib.vmr_msi_send(place, BASE, 1) == 0 and files.edges() == 1


def test_a_table_of_messages_is_saved_and_loaded() -> None:
    with CoreMachine() as machine:
        files = Recorder(machine, 2)
        place = files.messages(BASE)
        one, other = Table(machine, 2, place), Table(machine, 2, place)
        lib.vmr_messages_put(one.handle, 1, BASE + 0x1000, 9)
        lib.vmr_messages_raise(one.handle, 1)
        lib.vmr_messages_hold(one.handle, 1)
        machine.load_state(other.handle, machine.save_state(one.handle, "one"), "other")
        assert other.state(1) == (BASE + 0x1000, 9, 1, 1)
        lib.vmr_messages_mask(other.handle, 1, 0)
        assert files.edges(1) == 0, "they are held"
        lib.vmr_messages_hold(other.handle, 0)
        assert files.message(1) == (BASE + 0x1000, 9) and one.state(1)[3] == 1
