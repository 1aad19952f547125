"""A hart saved in the midst of its work and loaded into another machine goes on as the first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rv64_priv_kit import ALL, CODE, RAM, TIMEBASE
from rv64asm import Asm

from vmrun._core import ffi, lib
from vmrun.core.machine import CoreMachine
from vmrun.core.state import State
from vmrun.errors import HostError
from vmrun.frozen import evolve

RAM_SIZE = 1 << 22
WORK = """
        la t0, trap; csrw stvec, t0; li t0, 0x222; csrw sie, t0; csrsi sstatus, 2
        li t0, 0x6000; csrs sstatus, t0; li t1, 3; fcvt.d.l f1, t1; fcvt.d.l f2, t1
        la s2, data; csrwi stimecmp, 5
loop:   lr.d t2, (s2); addi t2, t2, 7; sc.d t3, t2, (s2); bnez t3, loop
        fmul.d f1, f1, f2; fadd.d f2, f2, f1; fsd f1, 16(s2)
        csrr t4, instret; xor s3, s3, t4; csrr t4, time; add s4, s4, t4
        csrsi sip, 2; addi s5, s5, 1; j loop
        .align 4
trap:   csrr t5, scause; add s6, s6, t5; csrci sip, 2; csrr t6, time; addi t6, t6, 40; csrw stimecmp, t6; sret
        .align 4
data:   .dword 0; .dword 0; .dword 0
"""


def assemble(text: str) -> bytes:
    return bytes(Asm().text(text).assemble(CODE))


class Machine:
    """One hart on virtual time, which passes between its bursts."""

    def __init__(self, isa: int = ALL) -> None:
        self.core = CoreMachine()
        self.core.clock.make_virtual(0)
        self.core.add_ram(RAM, RAM_SIZE)
        out = ffi.new("vmr_vcpu **")
        self.core.check(lib.vmr_rv64_new(self.core.handle, isa, TIMEBASE, 1 << 20, out), "hart")
        self.hart: Any = out[0]

    def boot(self) -> None:
        self.core.write_ram(CODE, assemble(WORK))
        self.core.check(lib.vmr_rv64_boot(self.hart, CODE, 0), "hart")

    def burst(self, instructions: int) -> None:
        left = ffi.new("vmr_exit *")
        self.core.check(lib.vmr_rv64_run(self.hart, instructions, left), "hart")
        assert left.kind == lib.VMR_EXIT_BUDGET
        self.core.clock.advance(3 * 10**9 // TIMEBASE)

    def get(self, register: int) -> int:
        value = ffi.new("uint64_t *")
        assert lib.vmr_rv64_get(self.hart, register, value) == 0
        return int(value[0])

    def save(self) -> State:
        return self.core.save_state(self.hart, "hart 0")

    def load(self, state: State) -> None:
        self.core.load_state(self.hart, state, "hart 0")


@given(st.lists(st.integers(1, 5000), max_size=6), st.lists(st.integers(1, 300), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None)
def test_a_loaded_hart_goes_on_as_the_saved_one(before: list[int], after: list[int]) -> None:
    first, second = Machine(), Machine()
    with first.core, second.core:
        first.boot()
        second.core.write_ram(CODE, bytes(4096))
        second.core.check(lib.vmr_rv64_boot(second.hart, CODE + 4, 7), "hart")
        for count in before:
            first.burst(count)
        second.core.write_ram(RAM, first.core.read_ram(RAM, RAM_SIZE))
        second.core.clock.load(first.core.clock.save())
        second.load(first.save())
        assert second.save() == first.save()
        for count in after:
            first.burst(count)
            second.burst(count)
            assert second.save() == first.save()
        assert second.core.read_ram(RAM, RAM_SIZE) == first.core.read_ram(RAM, RAM_SIZE)


def with_value(state: State, name: str, value: int) -> State:
    assert any(field.name == name for field in state.fields), name
    return evolve(
        state,
        fields=tuple(evolve(f, values=(value, *f.values[1:])) if f.name == name else f for f in state.fields),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", 1), ("pc", CODE + 1), ("priv", 2), ("fflags", 32), ("frm", 8), ("fs", 4), ("sstatus", 1), ("stvec", 2),
        ("satp", 5 << 60), ("scounteren", 8), ("senvcfg", 2), ("sie", 1), ("siselect", 512),
        ("ip", 1), ("hsm", 3), ("hsm", 5), ("sepc", 1),
    ],
)  # fmt: skip
def test_no_hart_can_be_that(name: str, value: int) -> None:
    machine = Machine()
    with machine.core:
        machine.boot()
        machine.burst(100)
        good = machine.save()
        with pytest.raises(HostError) as caught:
            machine.load(with_value(good, name, value))
        assert caught.value.code == "E370" and machine.save() == good


@pytest.mark.parametrize("saved", [False, True])
def test_a_saved_hart_has_lost_its_reservation(saved: bool) -> None:
    """As at any interruption: a store-conditional that fails is tried again."""
    t3, lr_sc = 28, 0x2F
    machine = Machine()
    with machine.core:
        loop = f"li t3, 7; li s2, {RAM + 4096}; lr.d t2, (s2); sc.d t3, t2, (s2)\nend: j end"
        machine.core.write_ram(CODE, assemble(loop))
        machine.core.check(lib.vmr_rv64_boot(machine.hart, CODE, 0), "hart")
        for _ in range(20):
            if machine.core.read_ram(machine.get(32), 1)[0] & 0x7F == lr_sc:
                break
            machine.burst(1)
        machine.burst(1)
        if saved:
            machine.save()
        machine.burst(1)
        assert machine.get(t3) == saved


def test_a_hart_without_floating_point_takes_none() -> None:
    one, other = Machine(), Machine(ALL & ~(lib.VMR_RV64_F | lib.VMR_RV64_D))
    with one.core, other.core:
        one.boot()
        one.burst(30)
        assert one.save()["fs"]
        with pytest.raises(HostError, match="floating point"):
            other.load(one.save())


def test_an_access_that_waits_for_python_is_no_state() -> None:
    class Window:
        def read(self, offset: int, size: int) -> int:
            with pytest.raises(HostError, match="waits for its answer"):
                machine.save()
            machine.core.stop()
            return 0

        def write(self, offset: int, size: int, value: int) -> None:
            raise AssertionError

    machine = Machine()
    with machine.core:
        machine.core.claim(0x1000_0000, 4096, Window())
        machine.core.write_ram(CODE, assemble("li t0, 0x10000000; lw t1, 0(t0)\nend: j end"))
        machine.core.check(lib.vmr_rv64_boot(machine.hart, CODE, 0), "hart")
        assert machine.core.run_vcpu(machine.hart, ffi.new("vmr_exit *")) == lib.VMR_EXIT_STOPPED
        assert machine.save()["priv"] == 1
