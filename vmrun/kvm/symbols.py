"""The names of a kernel's code, for reports: out of the System.map beside it, or out of its own ELF symbol table.

Source: System V ABI, chapter 4 (sections, symbol table); Linux scripts/mksysmap.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from vmrun import regular
from vmrun.frozen import frozen

_LINE = re.compile(r"([0-9a-f]{8,16}) [tTwW] (\S+)")
_KERNEL_NAME = re.compile(r"vmlinu[xz]-(.+)")
_MAX_BYTES = 64 << 20
"""No kernel's table of symbols, and no System.map, is larger: what is so says nothing."""

_ELF64_LITTLE = b"\x7fELF\x02\x01"
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SHT_SYMTAB, _SHF_EXECINSTR = 2, 4
_STT_NOTYPE, _STT_FUNC = 0, 2


@frozen
class Symbols:
    """Addresses of code, sorted, and the names that stand at them; the last is the end of the code."""

    addresses: tuple[int, ...]
    names: tuple[str, ...]

    def at(self, address: int) -> str | None:
        """Return ``name+0x12`` for an address inside the kernel's text, None beyond it."""
        at = bisect.bisect_right(self.addresses, address) - 1
        if at < 0 or at + 1 == len(self.addresses):
            return None
        return f"{self.names[at]}+{address - self.addresses[at]:#x}"


def of_kernel(kernel: Path) -> Symbols | None:
    """Return the symbols of the kernel in the file ``kernel``, None where nobody knows them.

    ``vmlinuz-6.1`` has them in ``System.map-6.1`` beside it, unless that is a stub, as Debian's is.
    """
    try:
        named = _KERNEL_NAME.fullmatch(kernel.name)
        beside = kernel.with_name(f"System.map-{named[1]}") if named else None
        if beside is not None and beside.is_file():
            found = read_map(beside)
            if found is not None:
                return found
        return read_elf(kernel)
    except OSError:
        return None  # a report without names is better than none


def read_map(path: Path) -> Symbols | None:
    """Return the text symbols of a System.map, None for a stub. Raise OSError where it cannot be read."""
    with regular.open_file(path) as file:
        text = file.read(_MAX_BYTES).decode("ascii", "replace")
    return _sorted([(int(m[1], 16), m[2]) for m in _LINE.finditer(text)])


def read_elf(path: Path) -> Symbols | None:
    """Return the names of the code in an ELF64, None where it has none. Raise OSError where it cannot be read."""
    with regular.open_file(path) as file:
        head = file.read(_HEADER.size)
        if len(head) < _HEADER.size or not head.startswith(_ELF64_LITTLE):
            return None
        fields = _HEADER.unpack(head)
        at, size, count = fields[6], fields[11], fields[12]
        if size != _SECTION.size:
            return None
        table = _read(file, at, count * size)
        sections = list(_SECTION.iter_unpack(table[: len(table) - len(table) % size]))
        return _sorted([found for section in sections for found in _of_section(file, section, sections)])


def _of_section(file: BinaryIO, section: tuple[int, ...], sections: list[tuple[int, ...]]) -> Iterator[tuple[int, str]]:
    """Yield the code's symbols in ``section``, if it is a symbol table whose strings are there."""
    _, kind, _, _, offset, size, link, *_ = section
    if kind != _SHT_SYMTAB or link >= len(sections):
        return
    names = _read(file, sections[link][4], sections[link][5])
    table = _read(file, offset, size)
    last = (0, 0)
    for name_at, info, _, index, value, length in _SYMBOL.iter_unpack(table[: len(table) - len(table) % _SYMBOL.size]):
        code = index < len(sections) and sections[index][2] & _SHF_EXECINSTR
        if code and info & 15 in (_STT_NOTYPE, _STT_FUNC):
            name = names[name_at : max(names.find(b"\0", name_at), name_at)]
            if name:
                yield value, name.decode("ascii", "replace")
                last = max(last, (value, length))
    if last[1]:
        yield last[0] + last[1], "end"


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    """Return the bytes as far as the file has them, nothing where they cannot be a kernel's."""
    if size > _MAX_BYTES or offset >= 1 << 63:
        return b""
    file.seek(offset)
    return file.read(size)


def _sorted(found: list[tuple[int, str]]) -> Symbols | None:
    """Return the symbols, None for fewer than a beginning and an end."""
    found.sort()
    if len(found) < 2:
        return None
    return Symbols(tuple(address for address, _ in found), tuple(name for _, name in found))
