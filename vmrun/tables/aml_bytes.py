"""The byte forms under AML: integers, lengths, names, EISA ids, UUIDs.

Source: ACPI Specification 6.5, section 20.2. Each function raises ValueError for what its form cannot say.
"""

from __future__ import annotations

import re

MAX_PACKAGE = (1 << 28) - 1
"""Largest PkgLength, its own bytes counted (section 20.2.4)."""
ONES = (1 << 64) - 1
"""ASL's ``Ones``, and what a true comparison yields."""

_PATH = re.compile(r"(\\|\^*)((?:[A-Z_][A-Z0-9_]{0,3}(?:\.[A-Z_][A-Z0-9_]{0,3})*)?)")
_SEGMENT = re.compile(r"[A-Z_][A-Z0-9_]{0,3}")
_EISA = re.compile(r"([A-Z]{3})([0-9A-F]{4})")
_UUID = re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def constant(value: int) -> bytes:
    """Return the shortest encoding of an integer (section 20.2.3). Raise ValueError beyond 64 bits."""
    if isinstance(value, bool) or not 0 <= value <= ONES:
        raise ValueError(f"AML integer {value}: not in 0..2**64-1")
    if value < 2:
        return bytes([value])
    if value == ONES:
        return b"\xff"
    for opcode, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4)):
        if value < 1 << 8 * size:
            return bytes([opcode]) + value.to_bytes(size, "little")
    return b"\x0e" + value.to_bytes(8, "little")


def package_length(size: int, *, counts_itself: bool = True) -> bytes:
    """Return the PkgLength before ``size`` bytes of content, or, for the width of a field, of ``size`` bits as it is.

    One byte holds 6 bits; else its low 4 bits are the lowest and 1 to 3 bytes follow (section 20.2.4).
    """
    for more in range(4):
        total = size + (more + 1 if counts_itself else 0)
        if total < (1 << 6 if not more else 1 << 4 + 8 * more):
            if not more:
                return bytes([total])
            return bytes([more << 6 | total & 0xF]) + (total >> 4).to_bytes(more, "little")
    raise ValueError(f"AML package of {size} bytes: over the {MAX_PACKAGE} that a PkgLength can say")


def name_string(text: str) -> bytes:
    """Return a NameString (section 20.2.2): prefix, then no, one, two or up to 255 padded segments."""
    match = _PATH.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"AML name `{text}`: not `\\` or `^`s, then segments of 1 to 4 of A-Z 0-9 _ with dots between")
    prefix, rest = match[1].encode("ascii"), match[2]
    segments = [segment.ljust(4, "_").encode("ascii") for segment in rest.split(".")] if rest else []
    if not segments:
        return prefix + b"\0"
    if len(segments) > 255:
        raise ValueError(f"AML name of {len(segments)} segments: at most 255")
    lead = {1: b"", 2: b"\x2e"}.get(len(segments), bytes([0x2F, len(segments)]))
    return prefix + lead + b"".join(segments)


def eisa_id(text: str) -> int:
    """Return the number of a compressed EISA id (section 19.6.37): 5 bits a letter, 4 a digit, bytes swapped."""
    match = _EISA.fullmatch(text)
    if match is None:
        raise ValueError(f"EISA id `{text}`: not three letters A-Z and four digits 0-9 A-F")
    first, second, third = (ord(letter) - 0x40 for letter in match[1])
    number = (first << 10 | second << 5 | third) << 16 | int(match[2], 16)
    return int.from_bytes(number.to_bytes(4, "big"), "little")


def uuid_bytes(text: str) -> bytes:
    """Return a UUID as ``ToUUID`` lays it out: the first three groups little-endian, the rest as written."""
    if _UUID.fullmatch(text) is None:
        raise ValueError(f"UUID `{text}`: not 8-4-4-4-12 hex digits")
    raw = bytes.fromhex(text.replace("-", ""))
    return raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]


def name_segment(name: str) -> bytes:
    """Return a NameSeg: four characters, padded. Raise ValueError for a name of wrong form."""
    if _SEGMENT.fullmatch(name) is None:
        raise ValueError(f"AML name `{name}`: not 1 to 4 of A-Z 0-9 _, no digit first")
    return name.ljust(4, "_").encode("ascii")
