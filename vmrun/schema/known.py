"""What a manifest may name, handed in by whoever knows: boards, engines, and device kinds with their properties.

The schema imports no board and no device; the registries describe themselves with these values.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vmrun.frozen import frozen

PROPERTY_TYPES = ("string", "integer", "boolean", "size", "time", "path")
"""How a device property is written: ``size`` is parsed to bytes, ``time`` to nanoseconds, ``path`` is made absolute."""

PropertyValue = str | int | bool


@frozen
class Property:
    """One property of a device kind as ``[device.NAME]`` may set it.

    ``minimum`` and ``maximum`` bound an integer, size (bytes) or time (nanoseconds), both inclusive;
    ``choices`` closes a string.
    """

    type: str
    doc: str = ""
    required: bool = False
    default: PropertyValue | None = None
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None


@frozen
class KindInfo:
    """A device kind of the registry: one line for a reader, and the properties that it takes."""

    doc: str = ""
    properties: Mapping[str, Property] = MappingProxyType({})


@frozen
class Known:
    """The names that this vmrun carries. ``accels`` are engines without ``auto``."""

    boards: tuple[str, ...]
    kinds: Mapping[str, KindInfo]
    accels: tuple[str, ...] = ("soft",)


EXAMPLE_KNOWN = Known(
    boards=("riscv_virt", "microvm", "virt"),
    kinds=MappingProxyType(
        {
            "goldfish-rtc": KindInfo("real-time clock"),
            "virtio-rng": KindInfo("entropy source"),
        }
    ),
    accels=("soft", "kvm"),
)
"""Names for tests of the schema alone; a command takes them from the registries."""
