"""F and D arithmetic: the contract, the specification's own tables, both halves of the code against each other, exact
rationals. The host's FPU and QEMU are asked in test_fp_host.py and test_fp_qemu.py."""

from __future__ import annotations

import platform
from fractions import Fraction

import fp_kit as kit
import fp_model as model
import pytest
from fp_kit import DZ, FORMATS, M32, M64, NV, NX, OF, OPS, UF, Op, by_name
from hypothesis import given, settings
from hypothesis import strategies as st

S_NAN, D_NAN = FORMATS["s"].nan, FORMATS["d"].nan
S_SNAN, D_SNAN = FORMATS["s"].infinity + 1, FORMATS["d"].infinity + 1
S_INF, D_INF = FORMATS["s"].infinity, FORMATS["d"].infinity
S_ONE, D_ONE = 0x3F800000, 0x3FF0000000000000
S_NEG, D_NEG = FORMATS["s"].sign, FORMATS["d"].sign
I32_MIN_IN_RD = M64 ^ 0x7FFFFFFF

every_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
rounding_op = pytest.mark.parametrize("op", [op for op in OPS if op.rounds], ids=lambda op: op.name)
soft_or_not = pytest.mark.parametrize("soft", [False, True], ids=["host", "soft"])


def test_header_is_plain_declarations() -> None:
    names = [line.split()[1] for line in kit.declarations().splitlines() if line.startswith("#")]
    assert len(names) == len(set(names))
    assert {f"VMR_FP_{op.name}" for op in OPS} <= set(names)
    library = kit.under_test()
    codes = [library.code(op) for op in OPS]
    assert len(codes) == len(set(codes)) == 42


def test_unknown_operations_and_reserved_modes_are_refused() -> None:
    library = kit.under_test()
    result, flags = library.ffi.new("uint64_t *", 77), library.ffi.new("uint32_t *", 0)
    known = {library.code(op) | soft for op in OPS for soft in (0, kit.SOFT)}
    for code in {*range(600), 1 << 31, M32} - known:
        assert library.lib.vmr_fp_op(code, 0, 1, 2, 3, result, flags) < 0, code
    for rm in (5, 6, 7, 8, M32):
        assert library.lib.vmr_fp_op(library.code(by_name["ADD_D"]), rm, 1, 2, 3, result, flags) < 0
    assert (result[0], flags[0]) == (77, 0)


@every_op
def test_flags_accumulate(op: Op) -> None:
    library = kit.under_test()
    rows = kit.operands(library, op, 20)
    plain = library.run(op, 0, rows)
    for before in (NX, NV | OF, 0x1F):
        kit.assert_same(op, 0, rows, library.run(op, 0, rows, flags=before), kit.with_flags(plain, before))


@soft_or_not
@pytest.mark.parametrize(
    ("name", "operands", "want"),
    [
        ("ADD_S", (S_INF, S_INF | S_NEG), (S_NAN, NV)),
        ("ADD_D", (D_SNAN, D_ONE), (D_NAN, NV)),
        ("ADD_D", (D_NAN | D_NEG | 5, D_ONE), (D_NAN, 0)),
        ("SUB_D", (D_INF, D_INF), (D_NAN, NV)),
        ("MUL_S", (0, S_INF), (S_NAN, NV)),
        ("DIV_S", (S_ONE, S_NEG), (S_INF | S_NEG, DZ)),
        ("DIV_D", (0, 0), (D_NAN, NV)),
        ("DIV_D", (D_INF, 0), (D_INF, 0)),
        ("SQRT_D", (D_NEG,), (D_NEG, 0)),
        ("SQRT_D", (D_ONE | D_NEG,), (D_NAN, NV)),
        ("FMA_S", (S_INF, 0, S_NAN), (S_NAN, NV)),
        ("FMA_D", (D_INF, D_ONE, D_INF | D_NEG), (D_NAN, NV)),
        ("MIN_D", (0, D_NEG), (D_NEG, 0)),
        ("MAX_D", (D_NEG, 0), (0, 0)),
        ("MIN_S", (S_NAN, S_ONE), (S_ONE, 0)),
        ("MAX_S", (S_ONE, S_SNAN), (S_ONE, NV)),
        ("MAX_D", (D_SNAN, D_NAN | D_NEG), (D_NAN, NV)),
        ("EQ_S", (S_NAN, S_NAN), (0, 0)),
        ("EQ_D", (D_SNAN, D_ONE), (0, NV)),
        ("LT_D", (D_NAN, D_ONE), (0, NV)),
        ("LE_D", (D_NEG, 0), (1, 0)),
        ("LT_D", (D_NEG, 0), (0, 0)),
        ("CVT_S_D", (D_SNAN | D_NEG,), (S_NAN, NV)),
        ("CVT_D_S", (S_NAN | S_NEG | 1,), (D_NAN, 0)),
        ("CVT_S_D", (0x7FEFFFFFFFFFFFFF,), (S_INF, OF | NX)),
        ("CVT_S_D", (1,), (0, UF | NX)),
        ("CVT_D_S", (1,), (0x36A0000000000000, 0)),
    ],
)
def test_special_cases(name: str, operands: tuple[int, ...], want: tuple[int, int], soft: bool) -> None:
    assert kit.under_test().call(by_name[name], 0, *operands, soft=soft) == want


@pytest.mark.parametrize("f", "sd")
def test_every_class(f: str) -> None:
    """Table 11.5, from negative infinity to the quiet NaN."""
    fmt = FORMATS[f]
    normal, subnormal = fmt.bias << fmt.fraction, 1
    outwards = [0, subnormal, normal, fmt.infinity]
    patterns = [fmt.sign | v for v in reversed(outwards)] + outwards + [fmt.infinity + 1, fmt.nan]
    library = kit.under_test()
    for bit, pattern in enumerate(patterns):
        assert library.call(by_name[f"CLASS_{f.upper()}"], 0, pattern) == (1 << bit, 0)


# Table 11.4: lowest, highest, what a NaN and either infinity give; in rd, so a 32-bit result is sign-extended.
SATURATION = {
    "W": (I32_MIN_IN_RD, 0x7FFFFFFF),
    "WU": (0, M64),
    "L": (1 << 63, M64 >> 1),
    "LU": (0, M64),
}


@soft_or_not
@pytest.mark.parametrize("f", "sd")
@pytest.mark.parametrize("to", SATURATION)
@pytest.mark.parametrize("rm", range(5))
def test_conversions_saturate(f: str, to: str, rm: int, soft: bool) -> None:
    fmt, op, library = FORMATS[f], by_name[f"CVT_{to}_{f.upper()}"], kit.under_test()
    low, high = SATURATION[to]
    above, below = [fmt.infinity, fmt.infinity - 1], [fmt.sign | fmt.infinity, fmt.sign | (fmt.infinity - 1)]
    for power in (64, 65, 100):
        above.append((fmt.bias + power) << fmt.fraction)
        below.append(fmt.sign | above[-1])
    nans = [fmt.nan, fmt.infinity + 1, fmt.sign | fmt.nan, fmt.sign | (fmt.infinity + 1), fmt.sign - 1]
    for pattern in above + nans:
        assert library.call(op, rm, pattern, soft=soft) == (high, NV), hex(pattern)
    for pattern in below:
        assert library.call(op, rm, pattern, soft=soft) == (low, NV), hex(pattern)


@soft_or_not
def test_conversions_to_unsigned_around_zero(soft: bool) -> None:
    """What rounds to zero is inexact; what rounds to -1 or lower is invalid, and not inexact as well."""
    library = kit.under_test()
    half, three_quarters, one = 0x3FE0000000000000, 0x3FE8000000000000, D_ONE
    for to in ("WU", "LU"):
        op = by_name[f"CVT_{to}_D"]
        for pattern, invalid_modes in ((1, {2}), (half, {2, 4}), (three_quarters, {0, 2, 4}), (one, {0, 1, 2, 3, 4})):
            for rm in range(5):
                want = (0, NV if rm in invalid_modes else NX)
                assert library.call(op, rm, pattern | D_NEG, soft=soft) == want, (to, rm, hex(pattern))
        assert library.call(op, 0, D_NEG, soft=soft) == (0, 0)


def test_boxes() -> None:
    boxes = kit.host().lib
    for value in (0, 1, S_ONE, S_NAN, S_SNAN, M32):
        assert boxes.box(value) == M32 << 32 | value
        assert boxes.unbox(M32 << 32 | value) == value
        for upper in (0, 1, M32 - 1, M32 >> 1, 0x80000000):
            assert boxes.unbox(upper << 32 | value) == S_NAN


# The host's FPU and integers give the same bits and flags ------------------------------------------------------------


@rounding_op
def test_both_halves_agree(op: Op) -> None:
    library = kit.under_test()
    rows = kit.random_operands(op, 2500 if len(op.operands) > 1 else 3000, seed=2)
    for rm in op.modes:
        soft = library.run(op, rm, rows, soft=True)
        kit.assert_same(op, rm, rows, library.run(op, rm, rows), soft)
        if rm < 2:
            kit.assert_same(op, rm, rows, library.run(op, rm, rows, flags=NX), kit.with_flags(soft, NX))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="sets x86-64's MXCSR")
@rounding_op
def test_a_host_that_flushes_subnormals_changes_nothing(op: Op) -> None:
    library, host = kit.under_test(), kit.host()
    rows = kit.operands(library, op)
    entry = library.ffi.addressof(library.lib, "vmr_fp_ops")
    flushing = kit.Library(host.ffi, _Flushing(host, int(library.ffi.cast("intptr_t", entry))))
    for rm in (0, 1):
        want = kit.with_flags(library.run(op, rm, rows, soft=True), NX)
        kit.assert_same(op, rm, rows, flushing.run(op, rm, rows, flags=NX), want)


class _Flushing:
    """A library whose vmr_fp_ops runs the one under test with MXCSR's FTZ and DAZ set."""

    def __init__(self, host: kit.Library, entry: int) -> None:
        self._lib, self._entry = host.lib, host.ffi.cast("void *", entry)

    def vmr_fp_ops(self, *arguments: object) -> int:
        status: int = self._lib.flushing_fp_ops(self._entry, *arguments)
        return status

    def __getattr__(self, name: str) -> object:
        return getattr(self._lib, name)


def test_without_the_hosts_fpu() -> None:
    library, integers = kit.under_test(), kit.compiled("integers.so", "-DVMR_FP_HOST=0")
    for op in OPS:
        rows = kit.operands(library, op)
        kit.assert_same(op, 0, rows, integers.run(op, 0, rows, flags=NX), library.run(op, 0, rows, flags=NX))


# Exact rationals ------------------------------------------------------------------------------------------------------


def finite(f: str) -> st.SearchStrategy[int]:
    fmt = FORMATS[f]
    exponents = st.one_of(st.integers(0, 3), st.integers(fmt.bias - 70, fmt.bias + 70), st.integers(0, 2 * fmt.bias))
    fractions = st.one_of(
        st.integers(0, 3),
        st.integers(-3, -1),
        st.integers(0, fmt.fraction - 1).map(lambda n: 1 << n),
        st.integers(0, M64),
    )
    return st.builds(
        lambda s, e, m: s * fmt.sign | e << fmt.fraction | (m & ((1 << fmt.fraction) - 1)),
        st.integers(0, 1),
        exponents,
        fractions,
    )


@st.composite
def format_and_finite(draw: st.DrawFn) -> tuple[str, list[int]]:
    f = draw(st.sampled_from("sd"))
    return f, [draw(finite(f)) for _ in range(3)]


modes = st.integers(0, 4)


def _check(name: str, f: str, rm: int, operands: tuple[int, ...], want: tuple[int, int]) -> None:
    library, op = kit.under_test(), by_name[f"{name}_{f.upper()}"]
    for soft in (False, True):
        for before in (0, NX):
            got = library.call(op, rm, *operands, flags=before, soft=soft)
            assert got == (want[0], want[1] | before), (name, f, kit.ROUNDING[rm], [hex(v) for v in operands])


@settings(max_examples=300, deadline=None)
@given(format_and_finite(), modes)
def test_rational_sum_and_product(drawn: tuple[str, list[int]], rm: int) -> None:
    f, (a, b, _) = drawn
    _check("ADD", f, rm, (a, b), model.added(f, a, b, rm))
    _check("SUB", f, rm, (a, b ^ FORMATS[f].sign), model.added(f, a, b, rm))
    _check("MUL", f, rm, (a, b), model.multiplied(f, a, b, rm))


@settings(max_examples=300, deadline=None)
@given(format_and_finite(), modes)
def test_rational_quotient_and_root(drawn: tuple[str, list[int]], rm: int) -> None:
    f, (a, b, _) = drawn
    if model.value_of(f, b):
        _check("DIV", f, rm, (a, b), model.divided(f, a, b, rm))
    positive = a & ~FORMATS[f].sign
    _check("SQRT", f, rm, (positive,), model.rooted(f, positive, rm))


@settings(max_examples=300, deadline=None)
@given(format_and_finite(), modes, st.booleans(), st.integers(-2, 2))
def test_rational_fused_multiply_add(drawn: tuple[str, list[int]], rm: int, cancel: bool, off: int) -> None:
    f, (a, b, c) = drawn
    fmt = FORMATS[f]
    product, _ = model.multiplied(f, a, b, 1)
    if cancel and 2 < product & ~fmt.sign < fmt.infinity - 2:
        c = (product ^ fmt.sign) + off
    _check("FMA", f, rm, (a, b, c), model.fused(f, a, b, c, rm))


@settings(max_examples=200, deadline=None)
@given(finite("d"), finite("s"), modes)
def test_rational_conversions_between_formats(d: int, s: int, rm: int) -> None:
    _check("CVT_S", "d", rm, (d,), model.rounded("s", model.value_of("d", d), rm, model.is_negative("d", d)))
    _check("CVT_D", "s", rm, (s,), model.rounded("d", model.value_of("s", s), rm, model.is_negative("s", s)))


@st.composite
def near_integers(draw: st.DrawFn) -> tuple[str, int]:
    """Values whose integer part has 0 to 66 bits, most of them with a fraction."""
    f = draw(st.sampled_from("sd"))
    fmt = FORMATS[f]
    exponent = draw(st.integers(fmt.bias - 3, fmt.bias + 66))
    return f, (draw(finite(f)) & ~fmt.infinity) | exponent << fmt.fraction


@settings(max_examples=500, deadline=None)
@given(near_integers(), modes)
def test_rational_conversions_to_integers(drawn: tuple[str, int], rm: int) -> None:
    f, a = drawn
    for to, bits, signed in (("W", 32, True), ("WU", 32, False), ("L", 64, True), ("LU", 64, False)):
        _check(f"CVT_{to}", f, rm, (a,), model.to_integer(f, a, bits, signed, rm))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, M64), st.integers(0, 63), modes)
def test_rational_conversions_from_integers(value: int, shift: int, rm: int) -> None:
    value >>= shift
    for f in "SD":
        for kind, bits, signed in (("W", 32, True), ("WU", 32, False), ("L", 64, True), ("LU", 64, False)):
            number = value & (1 << bits) - 1
            if signed and number >> (bits - 1):
                number -= 1 << bits
            library, op = kit.under_test(), by_name[f"CVT_{f}_{kind}"]
            want = model.rounded(f.lower(), Fraction(number), rm)
            for soft in (False, True):
                assert library.call(op, rm, value & (1 << bits) - 1, soft=soft) == want, (op.name, number)
                got = library.call(op, rm, value & (1 << bits) - 1, flags=NX, soft=soft)
                assert got == (want[0], want[1] | NX), (op.name, number)
