"""Every device of the registry, saved after random accesses and loaded into a fresh one, goes on as the first does.

Two machines have the same RAM and the same virtual time; each device's lines and messages end in recorders.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from dev_kit import RAM, RAM_SIZE
from hypothesis import given, settings
from hypothesis import strategies as st

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.core.state import State, StateField, pack, unpack
from vmrun.devices import registry
from vmrun.devices.model import Live, Wires, in_kernel, set_line
from vmrun.devices.testing import Driver, Memory, Recorder, wait_for
from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.plan.model import DevicePlan, Interrupt

KINDS = tuple(kind for kind in registry.kinds() if registry.load(kind).realize is not in_kernel)
"""KVM keeps the state of the others."""
BASE = 0x1000_0000
PORTS = 0x70
DAY = 1_700_000_000_000_000_000
VCPUS = 2
FILES = 0x2800_0000
SIZES = {"plic": 0x60_0000, "aplic": 0x4000, "imsic": 0x2000}
IMAGE = random.Random(7).randbytes(1 << 16)


class Rig:
    """A machine with one device."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.machine = CoreMachine()
        self.machine.add_ram(RAM, RAM_SIZE)
        self.machine.clock.make_virtual(DAY)
        self.own, self.outputs = Recorder(self.machine), Recorder(self.machine, VCPUS)
        self.asked: list[tuple[str, int]] = []
        self.null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        needs = registry.load(kind).needs
        size = SIZES.get(kind, 0x1000 if needs.space == "mmio" else needs.size)
        properties: dict[str, Any] = {}
        if kind == "virtio-blk":
            (folder / "disk").write_bytes(IMAGE)
            properties = {"path": str(folder / "disk"), "mode": "overlay"}
        elif kind == "virtio-console":
            properties = {"console": True, "ports": ("a", "b")}
        base = BASE if needs.space == "mmio" else PORTS
        plan = DevicePlan(kind, kind, base, size, Interrupt(5), needs.transport, properties, needs.space)
        self.base, self.size = plan.bus_base, size
        wires = Wires(
            line=self.own.line(),
            vcpu_lines=lambda _: [self.outputs.line(index) for index in range(VCPUS)],
            messages=self.outputs.messages(FILES),
            power=lambda what, value: self.asked.append((what, value)),
            streams={(kind, ""): (-1, self.null), (kind, "b"): (-1, self.null)},
            entropy_fd=self.entropy(folder) if kind == "virtio-rng" else -1,
        )
        self.live: Live = registry.load(kind).realize(plan, self.machine, wires)
        self.machine.start()

    def entropy(self, folder: Path) -> int:
        (folder / "seed").write_bytes(bytes(256) * 4096)
        self.seed = os.open(folder / "seed", os.O_RDONLY | os.O_CLOEXEC)
        return self.seed

    def close(self) -> None:
        self.machine.close()
        os.close(self.null)
        if hasattr(self, "seed"):
            os.close(self.seed)

    def settle(self) -> None:
        """Let what other threads do end."""
        flag = {"virtio-blk": "notified", "virtio-console": "task_due"}.get(self.kind)
        if flag is not None:
            wait_for(lambda: not self.live.save()[flag], "the end of the device's work")

    def do(self, step: tuple[Any, ...]) -> object:
        match step:
            case ("read", offset, size):
                return self.machine.peek(self.base + offset % self.size, size)
            case ("write", offset, size, value):
                self.machine.poke(self.base + offset % self.size, size, value & (1 << 8 * size) - 1)
            case ("pass", ns):
                self.machine.clock.advance(ns)
            case ("ram", offset, data):
                self.machine.write_ram(RAM + offset % (RAM_SIZE - 64), data)
            case ("wire", pin, level) if self.kind in ("plic", "aplic"):
                set_line(self.machine.line(1 + pin % 60), level)
            case ("press",) if self.kind == "pl061":
                self.live.press_power()  # type: ignore[attr-defined]
            case ("queue", number):
                self.ring(number)
        self.settle()
        return None

    def ring(self, number: int) -> None:
        """Set a virtio device up as a driver does, with buffers of every sort, and notify."""
        if not self.kind.startswith("virtio-") or self.kind == "virtio-mmio":
            return
        driver = Driver(self.machine, self.base, Memory(self.machine, RAM + 0x10_0000, 0x10_0000))
        driver.negotiate()
        queue = driver.queue(number % (1 if self.kind != "virtio-console" else 8))
        driver.driver_ok()
        self.settle()
        queue.add([driver.place(b"\x05\0\0\0\1\0\1\0" * 2), driver.room(513)])
        queue.add([driver.room(40)])
        driver.notify(queue)

    def seen(self) -> object:
        """Return what others see of it: levels, and the last message of each kind."""
        return (
            self.own.level(),
            [(self.outputs.level(pin), self.outputs.message(pin)) for pin in range(VCPUS)],
            self.machine.read_ram(RAM + 0x10_0000, 0x2000),
            self.asked,
        )


def interesting(kind: str) -> tuple[int, ...]:
    """Return the offsets of a device's registers."""
    registers = registry.load(kind).registers
    assert registers is not None
    found: list[int] = []
    for register in registers.registers:
        found += [register.offset + (register.stride or register.width) * n for n in range(min(register.count, 8))]
    return tuple(found)


def steps(kind: str) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    offset = st.one_of(st.sampled_from(interesting(kind)), st.integers(0, 0x60_0000))
    value = st.one_of(st.integers(0, 255), st.integers(0, 2**64 - 1), st.sampled_from([1 << n for n in range(32)]))
    width = st.sampled_from([1, 2, 4, 4, 4, 8])
    return st.lists(
        st.one_of(
            st.tuples(st.just("read"), offset, width),
            st.tuples(st.just("write"), offset, width, value),
            st.tuples(st.just("write"), offset, width, value),
            st.tuples(st.just("pass"), st.one_of(st.integers(0, 10**7), st.integers(0, 10**12))),
            st.tuples(st.just("ram"), st.integers(0x10_0000, 0x10_2000), st.binary(min_size=1, max_size=16)),
            st.tuples(st.just("wire"), st.integers(0, 60), st.booleans()),
            st.just(("press",)),
            st.tuples(st.just("queue"), st.integers(0, 7)),
        ),
        max_size=25,
    )


@contextmanager
def rigs(kind: str, folder: Path) -> Iterator[Callable[[], Rig]]:
    made: list[Rig] = []

    def make() -> Rig:
        made.append(Rig(kind, folder))
        return made[-1]

    try:
        yield make
    finally:
        for rig in made:
            rig.close()


def difference(one: State, other: State) -> list[tuple[StateField, StateField]]:
    assert (one.kind, one.version, len(one.fields)) == (other.kind, other.version, len(other.fields))
    return [pair for pair in zip(one.fields, other.fields, strict=True) if pair[0] != pair[1]]


def move(first: Rig, second: Rig) -> None:
    """Make ``second`` what ``first`` is: RAM, the clock, the device."""
    second.machine.write_ram(RAM + 0x10_0000, first.machine.read_ram(RAM + 0x10_0000, 0x10_0000))
    second.machine.clock.load(first.machine.clock.save())
    second.live.load(unpack(pack(first.live.save())))


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_loaded_device_goes_on_as_the_saved_one(
    kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    with rigs(kind, tmp_path_factory.mktemp("rig")) as make:
        first, second = make(), make()
        for step in data.draw(steps(kind), label="before"):
            first.do(step)
        move(first, second)
        assert second.live.save() == first.live.save()
        assert second.seen()[:1] == first.seen()[:1]  # type: ignore[index]
        for pin in range(VCPUS):
            assert second.outputs.level(pin) == first.outputs.level(pin)
        first.asked.clear()
        old = [first.outputs.edges(pin) - second.outputs.edges(pin) for pin in range(VCPUS)]
        after = data.draw(steps(kind), label="after")
        for step in after:
            assert second.do(step) == first.do(step), step
            assert second.own.level() == first.own.level(), step
            assert [first.outputs.edges(p) - second.outputs.edges(p) for p in range(VCPUS)] == old, step
        assert second.asked == first.asked
        assert second.machine.read_ram(RAM + 0x10_0000, 0x10_0000) == first.machine.read_ram(RAM + 0x10_0000, 0x10_0000)
        assert difference(second.live.save(), first.live.save()) == []


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_no_state_breaks_a_device(kind: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    with rigs(kind, tmp_path_factory.mktemp("rig")) as make:
        rig = make()
        for step in data.draw(steps(kind), label="before"):
            rig.do(step)
        state = rig.live.save()
        if not state.fields:
            return
        at = data.draw(st.integers(0, len(state.fields) - 1))
        field = state.fields[at]
        index = data.draw(st.integers(0, len(field.values) - 1))
        value = data.draw(st.one_of(st.integers(0, 3), st.integers(0, (1 << 8 * field.width) - 1)))
        changed = evolve(field, values=(*field.values[:index], value, *field.values[index + 1 :]))
        try:
            rig.live.load(evolve(state, fields=(*state.fields[:at], changed, *state.fields[at + 1 :])))
        except HostError as error:
            assert error.code == "E370"
            assert rig.live.save() == state, "nothing was changed"
        for step in data.draw(steps(kind), label="after"):
            rig.do(step)


def test_an_alarm_that_has_passed_is_refused(tmp_path: Path) -> None:
    """The clock looks only at seconds that are new to it, so its timer would be due for ever."""
    with rigs("cmos-rtc", tmp_path) as make:
        rig = make()
        state = rig.live.save()
        passed = evolve(next(field for field in state.fields if field.name == "alarm_s"), values=(state["last_s"],))
        fields = tuple(passed if field.name == "alarm_s" else field for field in state.fields)
        with pytest.raises(HostError, match="an alarm that has passed"):
            rig.live.load(evolve(state, fields=fields))
        assert rig.live.save() == state
        rig.machine.clock.advance(10**9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_of_something_else_is_refused(kind: str, tmp_path: Path) -> None:
    with rigs(kind, tmp_path) as make:
        rig = make()
        state = rig.live.save()
        assert state.kind == kind and state.version == 1
        extra = StateField("extra", 4, (1,))
        for wrong in (
            evolve(state, kind="floppy"),
            evolve(state, version=2),
            evolve(state, fields=(*state.fields, extra)),
            *(
                change
                for field in state.fields[:1]
                for change in (
                    evolve(state, fields=state.fields[1:]),
                    evolve(state, fields=(*state.fields[1:], extra)),
                    evolve(state, fields=(*state.fields[1:], state.fields[-1])),
                    evolve(state, fields=(evolve(field, width=field.width * 2), *state.fields[1:])),
                    evolve(state, fields=(evolve(field, values=(*field.values, 0)), *state.fields[1:])),
                    evolve(state, fields=(evolve(field, values=(1 << 8 * field.width, *field.values[1:])),)),
                )
            ),
        ):
            with pytest.raises(HostError) as caught:
                rig.live.load(wrong)
            assert caught.value.code == "E370"
            assert rig.live.save() == state


@given(st.binary(max_size=200))
@settings(max_examples=200)
def test_any_bytes_are_refused_in_order(data: bytes) -> None:
    with pytest.raises(ValueError):
        unpack(data)


def test_bytes_of_c_are_looked_at_to_the_end(tmp_path: Path) -> None:
    with rigs("uart16550", tmp_path) as make:
        rig = make()
        handle: Any = rig.live.handle  # type: ignore[attr-defined]
        good = pack(rig.live.save())
        for size in (0, 1, 8, 9, 20, len(good) - 1):
            assert lib.vmr_state_load(rig.machine.handle, handle, good[:size], size) < 0
        assert lib.vmr_state_load(rig.machine.handle, handle, good + b"x", len(good) + 1) < 0
        assert lib.vmr_state_load(rig.machine.handle, handle, good, len(good)) == 0
        assert lib.vmr_state_save(rig.machine.handle, ffi.NULL, ffi.NULL, 0) < 0


def test_the_form_in_bytes_loses_nothing() -> None:
    state = State("it", 3, (StateField("a", 1, (1, 255)), StateField("b[1].c", 12, (1 << 95,)), StateField("d", 8, ())))
    assert unpack(pack(state)) == state and state["b[1].c"] == 1 << 95
    with pytest.raises(KeyError):
        state["e"]


def test_devices_of_the_kernel_say_that_it_keeps_their_state() -> None:
    with CoreMachine() as machine:
        live = in_kernel(DevicePlan("io", "ioapic", 0, 0x1000), machine, Wires())
        for call in (live.save, lambda: live.load(State("ioapic", 1))):
            with pytest.raises(HostError, match="kernel keeps its state"):
                call()
