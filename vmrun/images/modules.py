"""The modules of one kernel: names in, the files to load in load order out.

A package carries no modules.dep: what a module needs stands in the module. What is built into the kernel stands in
``modules.builtin``. The modules lie in a *pack*: an uncompressed tar of the store with those files that a virtual
machine may want, the list of all modules of the package, and the built-in ones.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import IO

from vmrun.errors import ArtifactError
from vmrun.frozen import frozen
from vmrun.images.modinfo import SUFFIXES, decompress, normalise, parse
from vmrun.images.sources import CachedFile
from vmrun.images.words import did_you_mean

LIST = "modules.list"
BUILTIN = "modules.builtin"

_USUAL = re.compile(
    r"kernel/(?:arch|block|crypto|fs|lib|mm|net|security|virt)/"
    r"|kernel/drivers/(?:block|char|dax|md|nvdimm|nvme|ptp|rtc|vdpa|vfio|vhost|virt|virtio|watchdog)/"
    r"|kernel/drivers/net/[^/]*\.ko|kernel/drivers/(?:cdrom|scsi)/[^/]*\.ko"
    r"|.*virtio|.*/9p"
)
"""Modules that are kept without being asked for: those without hardware, and drivers of virtual hardware."""


class ModuleMissing(Exception):
    """A module that the package has and the pack has not: ``path`` in the package."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@frozen
class Module:
    """One module to load. ``data`` is the unpacked ELF object; ``depends`` names what is loaded before it."""

    name: str
    path: str
    data: bytes
    depends: tuple[str, ...]


class ModuleSet:
    """The modules of a kernel package: ``pack`` in the store, ``release`` as in ``uname -r``."""

    def __init__(self, pack: CachedFile, release: str) -> None:
        self.pack = pack
        self.release = release

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModuleSet) and (self.pack, self.release) == (other.pack, other.release)

    def __hash__(self) -> int:
        return hash((self.pack, self.release))

    def closure(self, names: Iterable[str]) -> tuple[Module, ...]:
        """Return the modules called ``names`` and all that they need, each after what it needs, in the order asked.

        A built-in one needs no file. Raise ArtifactError E240 for a name that the kernel does not know, E241 for a
        damaged module, ModuleMissing for one that is not in the pack.
        """
        return tuple(_Walk(self).run(names))

    def read(self, path: str) -> bytes:
        """Return the file ``path`` of the pack. Raise ModuleMissing where it is not in it."""
        place = self._index.get(path)
        if place is None:
            raise ModuleMissing(path)
        try:
            with self.pack.path.open("rb") as pack:
                pack.seek(place[0])
                content = pack.read(place[1])
        except OSError as error:
            raise self._damaged(error) from None
        if len(content) != place[1]:
            raise self._damaged("it is cut short")
        return content

    def knows(self, name: str) -> bool:
        """Return whether there is such a module, in a file or built in."""
        plain = normalise(name)
        return plain in self.paths or plain in self.builtin

    @cached_property
    def _index(self) -> Mapping[str, tuple[int, int]]:
        """Offset and size in the pack, in bytes, of every file in it."""
        try:
            with tarfile.open(self.pack.path, "r:") as pack:
                return {member.name: (member.offset_data, member.size) for member in pack}
        except (tarfile.TarError, OSError, EOFError) as error:
            raise self._damaged(error) from None

    def _damaged(self, why: object) -> ArtifactError:
        return ArtifactError(
            f"the cached modules of {self.release} are damaged: {why}",
            code="E212",
            remedy="run `vmrun fetch --verify`, then `vmrun fetch`",
        )

    @cached_property
    def paths(self) -> Mapping[str, str]:
        """The path in the package of every module, by name."""
        return {normalise(path): path for path in self.read(LIST).decode(errors="replace").splitlines()}

    @cached_property
    def builtin(self) -> frozenset[str]:
        """The names of the modules that are part of the kernel's image."""
        return frozenset(normalise(path) for path in self.read(BUILTIN).decode(errors="replace").splitlines())


class _Walk:
    """One walk over the dependencies: depth first, each module once."""

    def __init__(self, modules: ModuleSet) -> None:
        self._modules = modules
        self._done: dict[str, Module | None] = {}
        self._order: list[Module] = []

    def run(self, names: Iterable[str]) -> list[Module]:
        for name in names:
            self._visit(normalise(name), asked_by=None)
        return self._order

    def _visit(self, name: str, asked_by: str | None) -> None:
        if name in self._done:
            return
        self._done[name] = None
        if name in self._modules.builtin:
            return
        path = self._modules.paths.get(name)
        if path is None:
            raise self._unknown(name, asked_by)
        data = decompress(path, self._modules.read(path))
        info = parse(path, data)
        before = info.depends + self._soft(info.pre)
        for needed in before:
            self._visit(needed, asked_by=name)
        loaded = tuple(needed for needed in before if self._done.get(needed) is not None)
        module = Module(name, path, data, loaded)
        self._done[name] = module
        self._order.append(module)
        for wanted in self._soft(info.post):
            self._visit(wanted, asked_by=name)

    def _soft(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(found for name in names for found in _candidates(name) if found in self._modules.paths)

    def _unknown(self, name: str, asked_by: str | None) -> ArtifactError:
        known = {*self._modules.paths, *self._modules.builtin}
        by = f", which {asked_by} needs" if asked_by else ""
        return ArtifactError(
            f"the kernel {self._modules.release} has no module `{name}`{by}",
            code="E240",
            remedy=did_you_mean(name, sorted(known), "list its package's files with `dpkg -c`"),
        )


def is_module(path: str) -> bool:
    """Return whether ``path`` names a module file."""
    return path.endswith(SUFFIXES)


def write_pack(target: IO[bytes], files: Mapping[str, bytes], builtin: bytes, wanted: Iterable[str]) -> None:
    """Write the pack of a package's modules, ``files`` by path from ``kernel/`` on, to ``target``.

    It holds the usual ones, the ``wanted`` names and what these need. The same input gives the same bytes.
    """
    keep = {path for path in files if _USUAL.match(path)}
    by_name = {normalise(path): path for path in files}
    waiting = [by_name[name] for name in map(normalise, wanted) if name in by_name]
    seen: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        info = parse(path, decompress(path, files[path]))
        for name in (*info.depends, *info.pre, *info.post):
            waiting += [by_name[found] for found in _candidates(name) if found in by_name]
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, LIST, "".join(f"{path}\n" for path in sorted(files)).encode())
        _add(archive, BUILTIN, builtin)
        for path in sorted(keep | seen):
            _add(archive, path, files[path])


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _candidates(name: str) -> tuple[str, ...]:
    """Return the modules that a dependency may mean: a soft one may be a crypto alias, as ``crypto-crc32c`` of ext4."""
    plain = name.removeprefix("crypto_")
    return tuple(dict.fromkeys((name, plain, f"{plain}_generic")))
