"""AML's statements and operators, one function each, for the bodies of methods and the values in them.

Source: ACPI Specification 6.5, section 20.2.5.3 and 20.2.5.4 (encoding), 19.6 (meaning). A target of None drops the
result; ``vmrun.tables.aml`` checks and encodes what is built here.
"""

from __future__ import annotations

from vmrun.tables.aml import Op, Path, Term, Word

_PREFIXED = 0x5B00


def store(value: Term, target: Term) -> Op:
    """``target = value``."""
    return Op(0x70, (value, target))


def copy_object(value: Term, target: Term) -> Op:
    """Put ``value`` into ``target``, type and all."""
    return Op(0x9D, (value, target))


def returns(value: Term) -> Op:
    """``Return (value)``."""
    return Op(0xA4, (value,))


def break_out() -> Op:
    """Leave the innermost ``While``."""
    return Op(0xA5)


def notify(target: Path, value: Term) -> Op:
    """Tell the system of an event of ``target`` (codes: section 5.6.6)."""
    return Op(0x86, (target, value))


def add(one: Term, other: Term, target: Term | None = None) -> Op:
    """``one + other``, also stored to ``target``."""
    return Op(0x72, (one, other, target))


def subtract(one: Term, other: Term, target: Term | None = None) -> Op:
    """``one - other``, also stored to ``target``."""
    return Op(0x74, (one, other, target))


def multiply(one: Term, other: Term, target: Term | None = None) -> Op:
    """``one * other``, also stored to ``target``."""
    return Op(0x77, (one, other, target))


def shift_left(value: Term, count: Term, target: Term | None = None) -> Op:
    """``value << count``, also stored to ``target``."""
    return Op(0x79, (value, count, target))


def shift_right(value: Term, count: Term, target: Term | None = None) -> Op:
    """``value >> count``, also stored to ``target``."""
    return Op(0x7A, (value, count, target))


def bit_and(one: Term, other: Term, target: Term | None = None) -> Op:
    """``one & other``, also stored to ``target``."""
    return Op(0x7B, (one, other, target))


def bit_or(one: Term, other: Term, target: Term | None = None) -> Op:
    """``one | other``, also stored to ``target``."""
    return Op(0x7D, (one, other, target))


def bit_xor(one: Term, other: Term, target: Term | None = None) -> Op:
    """``one ^ other``, also stored to ``target``."""
    return Op(0x7F, (one, other, target))


def bit_not(value: Term, target: Term | None = None) -> Op:
    """``~value``, also stored to ``target``."""
    return Op(0x80, (value, target))


def increment(target: Term) -> Op:
    """``target += 1``."""
    return Op(0x75, (target,))


def decrement(target: Term) -> Op:
    """``target -= 1``."""
    return Op(0x76, (target,))


def index(source: Term, position: Term, target: Term | None = None) -> Op:
    """Return a reference to element ``position`` of a buffer, package or string."""
    return Op(0x88, (source, position, target))


def dereference(reference: Term) -> Op:
    """Return what ``reference`` stands for."""
    return Op(0x83, (reference,))


def size_of(value: Term) -> Op:
    """Return the number of bytes or elements of ``value``."""
    return Op(0x87, (value,))


def logical_and(one: Term, other: Term) -> Op:
    """``one && other``."""
    return Op(0x90, (one, other))


def logical_or(one: Term, other: Term) -> Op:
    """``one || other``."""
    return Op(0x91, (one, other))


def logical_not(value: Term) -> Op:
    """``!value``."""
    return Op(0x92, (value,))


def equal(one: Term, other: Term) -> Op:
    """``one == other``."""
    return Op(0x93, (one, other))


def greater(one: Term, other: Term) -> Op:
    """``one > other``."""
    return Op(0x94, (one, other))


def less(one: Term, other: Term) -> Op:
    """``one < other``."""
    return Op(0x95, (one, other))


def acquire(mutex: Path, timeout_ms: int = 0xFFFF) -> Op:
    """Take ``mutex``; 0xFFFF waits for ever, and only then may the result be left unread."""
    return Op(_PREFIXED | 0x23, (mutex, Word(timeout_ms)))


def release(mutex: Path) -> Op:
    """Give ``mutex`` back."""
    return Op(_PREFIXED | 0x27, (mutex,))


def sleep_ms(milliseconds: Term) -> Op:
    """Let the processor do other things meanwhile."""
    return Op(_PREFIXED | 0x22, (milliseconds,))
