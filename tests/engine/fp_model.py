"""The same arithmetic in exact rationals: finite operands in, one rounding straight from IEEE 754-2008, clauses 4.3 and
7.4 to 7.6."""

from __future__ import annotations

from fractions import Fraction
from math import floor, isqrt

from fp_kit import FORMATS, NV, NX, OF, UF, Format


def value_of(f: str, bits: int) -> Fraction:
    """The value of a finite pattern."""
    fmt = FORMATS[f]
    exponent = (bits & fmt.infinity) >> fmt.fraction
    fraction = bits & ((1 << fmt.fraction) - 1)
    significand = fraction | (1 << fmt.fraction if exponent else 0)
    magnitude = Fraction(significand) * Fraction(2) ** (max(exponent, 1) - fmt.bias - fmt.fraction)
    return -magnitude if bits & fmt.sign else magnitude


def is_negative(f: str, bits: int) -> bool:
    return bool(bits & FORMATS[f].sign)


def round_to_whole(value: Fraction, rm: int) -> int:
    """To an integer, by the number of a rounding mode."""
    down = floor(value)
    rest = value - down
    if rest == 0:
        return down
    if rm == 0:
        return down + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and down % 2 == 1))
    if rm == 4:
        return down + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and value > 0))
    return {1: down + (value < 0), 2: down, 3: down + 1}[rm]


def _quantum(fmt: Format, magnitude: Fraction, bounded: bool) -> Fraction:
    """The unit in the last place for a magnitude; with the exponent unbounded there are no subnormals."""
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    if bounded:
        exponent = max(exponent, 1 - fmt.bias)
    return Fraction(2) ** (exponent - fmt.fraction)


def rounded(f: str, value: Fraction, rm: int, negative_zero: bool = False) -> tuple[int, int]:
    """Bits and flags of an exact value."""
    fmt = FORMATS[f]
    if value == 0:
        return (fmt.sign if negative_zero else 0), 0
    sign = fmt.sign if value < 0 else 0
    least_normal = Fraction(2) ** (1 - fmt.bias)
    unbounded_quantum = _quantum(fmt, abs(value), False)
    unbounded = abs(round_to_whole(value / unbounded_quantum, rm)) * unbounded_quantum
    if unbounded >= Fraction(2) ** (fmt.bias + 1):
        outwards = rm in (0, 4) or rm == (2 if sign else 3)
        return sign | (fmt.infinity - (not outwards)), OF | NX
    quantum = _quantum(fmt, abs(value), True)
    result = abs(round_to_whole(value / quantum, rm)) * quantum
    flags = 0 if result == abs(value) else NX | (UF if unbounded < least_normal else 0)
    # Patterns of one sign count up with their values: find the one below and step.
    if result < least_normal:
        return sign | int(result / quantum), flags
    own = _quantum(fmt, result, True)
    exponent = own.numerator.bit_length() - own.denominator.bit_length() + fmt.fraction
    return sign | (((exponent + fmt.bias - 1) << fmt.fraction) + int(result / own)), flags


def added(f: str, a: int, b: int, rm: int) -> tuple[int, int]:
    both = is_negative(f, a) and is_negative(f, b)
    either = is_negative(f, a) or is_negative(f, b)
    return rounded(f, value_of(f, a) + value_of(f, b), rm, either if rm == 2 else both)


def multiplied(f: str, a: int, b: int, rm: int) -> tuple[int, int]:
    return rounded(f, value_of(f, a) * value_of(f, b), rm, is_negative(f, a) != is_negative(f, b))


def divided(f: str, a: int, b: int, rm: int) -> tuple[int, int]:
    return rounded(f, value_of(f, a) / value_of(f, b), rm, is_negative(f, a) != is_negative(f, b))


def fused(f: str, a: int, b: int, c: int, rm: int) -> tuple[int, int]:
    signs = (is_negative(f, a) != is_negative(f, b), is_negative(f, c))
    return rounded(f, value_of(f, a) * value_of(f, b) + value_of(f, c), rm, any(signs) if rm == 2 else all(signs))


def rooted(f: str, a: int, rm: int) -> tuple[int, int]:
    """Of a positive operand or a zero. An irrational root gets hundreds of bits and a half."""
    value = value_of(f, a)
    scaled = value * Fraction(4) ** 1400
    assert scaled.denominator == 1
    root = isqrt(scaled.numerator)
    exact = root * root == scaled.numerator
    return rounded(f, (Fraction(root) if exact else root + Fraction(1, 2)) / Fraction(2) ** 1400, rm, is_negative(f, a))


def to_integer(f: str, a: int, bits: int, signed: bool, rm: int) -> tuple[int, int]:
    """As in rd: 32-bit results sign-extended."""
    value = value_of(f, a)
    whole = round_to_whole(value, rm)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    clamped = min(max(whole, low), high)
    flags = NV if clamped != whole else NX if whole != value else 0
    clamped &= (1 << bits) - 1
    return (clamped | -(clamped >> 31 << 31)) & (1 << 64) - 1 if bits == 32 else clamped, flags
