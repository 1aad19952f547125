"""The value types of a manifest: sizes, times, and texts with a shape, each with its refusal in a person's words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

from pydantic import BeforeValidator, PlainValidator, WithJsonSchema, WrapValidator
from pydantic_core import PydanticCustomError

from vmrun.printable import clean
from vmrun.units import parse_size, parse_time_ns

PAGE = 4096
SECTOR = 512
MAX_SIZE = 1 << 48
"""A bound on every size, in bytes, so that no sum of a few of them leaves 64 bits: 256 TiB."""
MAX_TIME_NS = 366 * 24 * 3600 * 1_000_000_000

SIZE_PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB)\s*$"
TIME_PATTERN = r"^\s*[0-9]+(\.[0-9]+)?\s*(ns|us|ms|s|m|h)\s*$"


def refuse(code: str, message: str, *, label: str) -> NoReturn:
    """Raise what pydantic collects; `vmrun.schema.problems` turns it into a diagnostic of this code."""
    # pydantic takes UTF-8 alone, and a value of --set or of the environment may have other bytes (PEP 383).
    shown = {"code": code, "message": clean(message), "label": clean(label)}
    raise PydanticCustomError("vmrun", "{message}", shown)


def _wants_string(value: object, what: str, example: str) -> str:
    if isinstance(value, str):
        return value
    # The TOML type is named by `problems`, which knows how to say it for every value alike.
    raise PydanticCustomError("vmrun_type", "{expected}", {"expected": what, "help": f'write it as in "{example}"'})


def size_bytes(text: str, *, align: int = 1) -> int:
    """Return the bytes of ``text``; refuse no size, 0, less, more than `MAX_SIZE`, or no multiple of ``align``."""
    if text.strip().startswith("-"):
        refuse("E012", f"`{text}` is a negative size", label="must be more than 0")
    try:
        size = parse_size(text)
    except ValueError as error:
        refuse("E011", f"`{text}` is no size", label=str(error).partition(": ")[2] or str(error))
    if size == 0:
        refuse("E012", f"`{text}` is a size of 0", label="must be more than 0")
    if size > MAX_SIZE:
        refuse("E012", f"`{text}` is more than 256TiB", label="too large")
    if size % align:
        refuse("E013", f"`{text}` is no multiple of {align} bytes", label=f"must be a multiple of {align} bytes")
    return size


def time_ns(text: str) -> int:
    """Return the nanoseconds of ``text``; refuse what is no time, 0, negative or beyond a year."""
    if text.strip().startswith("-"):
        refuse("E012", f"`{text}` is a negative time", label="must be more than 0")
    try:
        value = parse_time_ns(text)
    except ValueError as error:
        refuse("E011", f"`{text}` is no time", label=str(error).partition(": ")[2] or str(error))
    if value == 0:
        refuse("E012", f"`{text}` is a time of 0", label="must be more than 0")
    if value > MAX_TIME_NS:
        refuse("E012", f"`{text}` is more than a year", label="too long")
    return value


def _size_field(align: int) -> Callable[[Any], int]:
    return lambda value: size_bytes(_wants_string(value, "a size", "256MiB"), align=align)


def _text_field(pattern: str, what: str, help_: str, longest: int) -> Callable[[str], str]:
    def check(value: str) -> str:
        text = _wants_string(value, "a string", help_)
        if len(text) > longest:
            refuse("E017", f"{what} of {len(text)} characters", label=f"at most {longest} characters")
        if re.fullmatch(pattern, text) is None:  # compiled at first use, as most texts of the format are rare
            shown = text if len(text) <= 60 else text[:57] + "..."
            refuse("E017", f"`{shown}` is no {what}", label=f'such as "{help_}"')
        return text

    return check


def _text(pattern: str, what: str, example: str, longest: int = 4096) -> Any:
    schema = {"type": "string", "pattern": f"^({pattern})$", "maxLength": longest, "examples": [example]}
    return (BeforeValidator(_text_field(pattern, what, example, longest)), WithJsonSchema(schema))


def _scalar(value: object) -> str | int | float | bool:
    if isinstance(value, (str, int, float, bool)):
        return value
    raise PydanticCustomError("vmrun_type", "{expected}", {"expected": "a string, number or boolean", "help": None})


def _regex(value: object) -> str:
    text = _wants_string(value, "a string", "login:")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets that Python may read otherwise one day
            re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        refuse("E042", f"`{text}` is no regular expression", label=str(error))
    return text


_set_name = _text_field(r"@[a-z0-9][a-z0-9-]*", "name of a set", "@linux-splats", 64)


def _forbidden(value: object) -> str:
    return _set_name(value) if isinstance(value, str) and value.startswith("@") else _regex(value)


_SIZE_SCHEMA = WithJsonSchema({"type": "string", "pattern": SIZE_PATTERN, "examples": ["256MiB", "1GiB"]})

PageSize = Annotated[int, BeforeValidator(_size_field(PAGE)), _SIZE_SCHEMA]
"""A size in bytes, a multiple of 4 KiB, written as ``"256MiB"``."""
DiskSize = Annotated[int, BeforeValidator(_size_field(SECTOR)), _SIZE_SCHEMA]
"""A size in bytes, a multiple of the 512-byte sector."""
Time = Annotated[
    int,
    BeforeValidator(lambda value: time_ns(_wants_string(value, "a time", "20s"))),
    WithJsonSchema({"type": "string", "pattern": TIME_PATTERN, "examples": ["20s", "5m"]}),
]
"""A time in nanoseconds, written as ``"20s"``."""

NAME_PATTERN = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}"
Name = Annotated[str, *_text(NAME_PATTERN, "name", "root", 32)]
MachineName = Annotated[str, *_text(r"[A-Za-z0-9][A-Za-z0-9._-]*", "name", "riscv-micro", 63)]
FilePath = Annotated[str, *_text(r"[^\x00\n\r]+", "path", "rootfs.ext4")]
"""A path, absolute after loading."""
Url = Annotated[str, *_text(r"https?://[!-~]+", "URL of http or https", "https://host.example/image")]
_EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
Sha256 = Annotated[str, *_text(r"[0-9a-fA-F]{64}", "SHA-256 digest", _EMPTY_SHA256, 64)]
# Debian Policy 5.6.7: lower case letters, digits, plus, minus, full stop; at least two characters.
DebianPackage = Annotated[str, *_text(r"[a-z0-9][a-z0-9+.-]+", "Debian package name", "linux-image-riscv64", 128)]
DebianSuite = Annotated[str, *_text(r"[a-z][a-z0-9.-]*(/[a-z0-9.-]+)*", "Debian suite", "trixie", 64)]
# A part of a path that is neither `.` nor `..`, said without look-ahead, which editors' engines may lack.
_PART = r"([^/.\x00\n\r]|\.[^/.\x00\n\r]|\.\.[^/\x00\n\r])[^/\x00\n\r]*"
PackageFile = Annotated[str, *_text(rf"/?{_PART}(/{_PART})*", "file of a package", "boot/vmlinux")]
ModuleName = Annotated[str, *_text(r"[A-Za-z0-9_][A-Za-z0-9_-]*", "kernel module name", "virtio_blk", 64)]
Feature = Annotated[str, *_text(r"[+-][A-Za-z0-9][A-Za-z0-9_.-]*", "CPU feature", "-avx512f", 64)]
CpuModel = Annotated[str, *_text(r"[A-Za-z0-9][A-Za-z0-9_.,+-]*", "CPU model", "host", 512)]
# Linux ends a command line at COMMAND_LINE_SIZE bytes; a line break or NUL would end it silently before.
_LINE = r"[^\x00\n\r\ud800-\udfff]"
_LONGEST_LINE = 4096
_parameter = _text_field(f"{_LINE}+", "kernel parameter", "panic=-1", 2048)
_whole_line = _text_field(f"{_LINE}*", "command line", "panic=-1 quiet", _LONGEST_LINE)


def _cmdline_word(value: str) -> str:
    text = _parameter(value)
    if text.count('"') % 2:
        # lib/cmdline.c, next_arg: a blank in quotes ends no word, so that the rest of the line would be part of it.
        refuse("E052", f"`{text}` has a quote without its other one", label="what follows would be part of this word")
    return text


def _cmdline(value: object, words: Callable[[Any], Any]) -> Any:
    return _whole_line(value) if isinstance(value, str) else words(value)


_QUOTED = r'[^\x00\n\r"]*("[^\x00\n\r"]*"[^\x00\n\r"]*)*'
_WORD_SCHEMA: dict[str, Any] = {"type": "string", "pattern": f"^({_QUOTED})$", "minLength": 1, "maxLength": 2048}
_LINE_SCHEMA: dict[str, Any] = {"type": "string", "pattern": r"^[^\x00\n\r]*$", "maxLength": _LONGEST_LINE}
CmdlineWord = Annotated[str, BeforeValidator(_cmdline_word)]
if TYPE_CHECKING:
    Cmdline = tuple[str, ...] | str
else:
    # In place of a union, whose errors would name each member.
    Cmdline = Annotated[
        tuple[CmdlineWord, ...],
        WrapValidator(_cmdline),
        WithJsonSchema(
            {
                "oneOf": [
                    {"type": "array", "items": {**_WORD_SCHEMA, "examples": ["panic=-1"]}},
                    {**_LINE_SCHEMA, "description": "The whole command line: nothing is derived from the devices."},
                ]
            }
        ),
    ]
"""Parameters, to which those that follow from the devices are added; or as a string the whole line, word for word."""
Argument = Annotated[str, *_text(r"[^\x00]*", "argument", "uname", 131072)]
# virtio 1.2, 5.2.6: VIRTIO_BLK_T_GET_ID answers 20 bytes.
Serial = Annotated[str, *_text(r"[!-~]+", "serial of printable ASCII without blanks", "root-disk", 20)]
Mac = Annotated[str, *_text(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", "MAC address", "52:54:00:12:34:56", 17)]
Text = Annotated[str, *_text(r"[^\x00]+", "text", "login:")]
Scalar = Annotated[
    str | int | float | bool,
    PlainValidator(_scalar),  # in place of a union, whose errors would name each member
    WithJsonSchema({"type": ["string", "integer", "number", "boolean"]}),
]
ForbidSet = Annotated[
    str, BeforeValidator(_forbidden), WithJsonSchema({"type": "string", "examples": ["@linux-splats"]})
]
Regex = Annotated[str, BeforeValidator(_regex), WithJsonSchema({"type": "string", "format": "regex"})]
