"""What a manifest names, found, fetched or built: the door between the schema's words and `vmrun.images`.

`wanted` is the one list of it: what is resolved, and what a lock file pins. Errors bear the manifest's key.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.errors import ArtifactError, Key
from vmrun.frozen import frozen
from vmrun.images import initramfs
from vmrun.images import lock as locks
from vmrun.images.bound import Bound
from vmrun.images.resolve import BUSYBOX, KernelArtifact, Resolver
from vmrun.images.sources import CachedFile, DebianSource, PathSource, Source, UrlSource
from vmrun.images.store import Store
from vmrun.plan.files import BootFile, BootFiles

if TYPE_CHECKING:
    from vmrun.images.lock import Lock
    from vmrun.planning.found import Found
    from vmrun.planning.how import How
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Artifact, Disk, Manifest

BUSYBOX_SUITE = "trixie"
"""Where busybox comes from when the kernel is no Debian package: the first suite with all architectures of vmrun."""

DEBIAN_ARCHES = {"riscv64": "riscv64", "aarch64": "arm64", "x86_64": "amd64"}
"""Debian's names of the architectures that boards have."""


@frozen
class Artifacts:
    """The files of a machine. ``files`` is what the board plans with; ``digest_of_inputs`` (hex) names them all."""

    files: BootFiles
    kernel: KernelArtifact | None
    initrd: CachedFile | None
    firmware: CachedFile | None
    disks: tuple[tuple[str, CachedFile], ...]
    digest_of_inputs: str

    def lines(self) -> Iterator[str]:
        """Yield what was found, one line an artefact."""
        named = [("kernel", self.kernel.image if self.kernel else None), ("initrd", self.initrd)]
        named += [("firmware", self.firmware), *((f"disk.{name}", image) for name, image in self.disks)]
        for name, file in named:
            if file is not None:
                digest = f", sha256 {file.sha256}" if file.sha256 else ""
                yield f"{name}: {file.origin}, {file.size} bytes{digest}"


def lock_path(loaded: LoadedManifest) -> Path:
    """Return where the lock file of a manifest stands: beside it."""
    return locks.beside(loaded.path)


@frozen
class Wanted:
    """A source that a manifest names by ``key``. ``part`` is what is taken of it: its ``kernel``, its ``busybox``, or a
    ``file``; ``bound`` says how large that may be, None for what is not loaded whole.
    """

    key: Key
    source: Source
    part: str
    bound: Bound | None


def wanted(manifest: Manifest) -> Iterator[Wanted]:
    """Yield every source of the manifest that a lock file pins, in the order in which they are resolved.

    Disks given by a path are none: their content changes from run to run.
    """
    boot, bound = manifest.boot, Bound(manifest.memory.size)
    if boot.kernel is not None:
        yield Wanted(("boot", "kernel"), source_of(boot.kernel), "kernel", bound)
    if boot.initrd is not None and boot.initrd.busybox:
        yield Wanted(("boot", "initrd"), DebianSource(BUSYBOX, _busybox_suite(manifest)), "busybox", bound)
    elif boot.initrd is not None:
        yield Wanted(("boot", "initrd"), source_of(boot.initrd), "file", bound)
    if boot.firmware is not None:
        yield Wanted(("boot", "firmware"), source_of(boot.firmware), "file", bound)
    for name, disk in manifest.disk.items():
        if disk.url is not None and disk.sha256 is not None:
            yield Wanted(("disk", name, "url"), UrlSource(disk.url, disk.sha256), "file", None)


def resolver_for(arch: str, how: How, store: Store, lock: Lock | None) -> Resolver:
    """Return what resolves sources for a guest of ``arch``, as ``uname -m`` says it, out of ``store``."""
    return Resolver(
        store,
        debian_arch(arch),
        lock=lock,
        locked=how.locked,
        offline=how.offline,
        refresh=how.refresh,
        progress=how.progress,
    )


def debian_arch(arch: str) -> str:
    """Return Debian's name of an architecture that ``uname -m`` calls ``arch``."""
    return DEBIAN_ARCHES.get(arch, arch)


def file_of(resolver: Resolver, want: Wanted) -> CachedFile:
    """Return the file of what is ``wanted``. Raise ArtifactError where it cannot be had."""
    if want.part == "kernel":
        return resolver.kernel(want.source, (), want.bound).image
    if want.part == "busybox" and isinstance(want.source, DebianSource):
        return resolver.busybox(want.source.suite)
    return resolver.file(want.source, want.bound)


def resolve(
    loaded: LoadedManifest,
    how: How,
    found: Found,
    store: Store,
    resolver: Resolver,
    ports: Sequence[str] = (),
    drivers: Sequence[str] | None = (),
) -> Artifacts:
    """Return the files of the manifest, through ``resolver`` and ``store``.

    ``ports`` are those of `vmrun.images.initramfs.PORTS` that the built init waits for; ``drivers`` names modules that
    the machine's devices need, loaded where the kernel has them as modules. None says that nobody knows them, and no
    initramfs is built. What cannot be had ``found`` is told, or raises as ArtifactError, with its key.
    """
    manifest = loaded.manifest
    kernel = None
    got: dict[Key, CachedFile] = {}
    for want in wanted(manifest):
        with found.at("disks" if want.key[0] == "disk" else "files", want.key):
            if want.part == "kernel":
                kernel = resolver.kernel(want.source, manifest.boot.modules, want.bound)
            else:
                got[want.key] = file_of(resolver, want)
    initrd = got.get(("boot", "initrd"))
    boot = manifest.boot
    built = boot.initrd is not None and boot.initrd.busybox
    if built:
        busybox, initrd = initrd, None
        if busybox is not None and drivers is not None and (kernel is not None or boot.kernel is None):
            with found.at("files", ("boot", "initrd")):
                command = how.command or manifest.run.command
                initrd = _build(manifest, resolver, store, kernel, busybox, command, ports, drivers)
    disks = tuple(_disks(manifest.disk, got, found))
    files = BootFiles(
        _boot_file(kernel.image) if kernel else None,
        _boot_file(initrd) if initrd else None,
        tuple((name, _boot_file(image)) for name, image in disks),
        reports=built,
    )
    firmware = got.get(("boot", "firmware"))
    return Artifacts(files, kernel, initrd, firmware, disks, _digest(kernel, initrd, firmware, disks))


def source_of(artifact: Artifact) -> Source:
    """Return what an artefact's table of a manifest means."""
    if artifact.path is not None:
        return PathSource(Path(artifact.path))
    if artifact.url is not None and artifact.sha256 is not None:
        return UrlSource(artifact.url, artifact.sha256)
    if artifact.debian is not None and artifact.suite is not None:
        return DebianSource(artifact.debian, artifact.suite, artifact.file)
    raise ArtifactError("no source is named", code="E200", remedy="give path, or url and sha256, or debian and suite")


def _build(
    manifest: Manifest,
    resolver: Resolver,
    store: Store,
    kernel: KernelArtifact | None,
    busybox: CachedFile,
    command: tuple[str, ...] | None,
    ports: Sequence[str],
    drivers: Sequence[str],
) -> CachedFile:
    """Return the initramfs of the manifest, built unless these very inputs were built before."""
    boot = manifest.boot
    origin = f"initramfs of {manifest.name}"
    inputs = [
        initramfs.REVISION,
        hashlib.sha256(initramfs.init_script()).hexdigest(),
        busybox.sha256,
        kernel.image.sha256 if kernel else "",
        kernel.version if kernel else "",
        boot.modules,
        tuple(drivers),
        command,
        manifest.name,
        tuple(ports),
    ]
    name = "initramfs/" + hashlib.sha256(json.dumps(inputs).encode()).hexdigest()
    record = store.read_record(name)
    if record is not None:
        found = store.find(str(record.get("sha256")), record.get("size"), origin=origin)
        if found is not None:
            return found
    with at_key(("boot", "modules")):
        source = source_of(boot.kernel) if boot.kernel is not None else None
        loaded = resolver.modules(source, boot.modules, drivers) if source is not None else ()
    if command is not None:
        with at_key(("run", "command")):
            initramfs.command_script(command)
    with at_key(("boot", "initrd")):
        data = initramfs.build(
            initramfs.InitramfsSpec(
                store.read(busybox),
                kernel.release if kernel else "",
                tuple(initramfs.ModuleFile(m.name, m.data, m.depends) for m in loaded),
                command,
                manifest.name,
                tuple(ports),
            )
        )
    built = store.put_bytes(data, origin=origin)
    store.write_record(name, {"sha256": built.sha256, "size": built.size})
    return built


def _busybox_suite(manifest: Manifest) -> str:
    initrd, kernel = manifest.boot.initrd, manifest.boot.kernel
    suite = (initrd.suite if initrd else None) or (kernel.suite if kernel else None) or BUSYBOX_SUITE
    return suite.partition("-backports")[0]


def _disks(disks: dict[str, Disk], got: dict[Key, CachedFile], found: Found) -> Iterator[tuple[str, CachedFile]]:
    """Yield the disks that have an image, in order. What is wrong with an image is told `found`."""
    from vmrun.images import hostfile
    from vmrun.planning import disks as images

    for name, disk in disks.items():
        file = got.get(("disk", name, "url"))
        if disk.path is not None:
            with found.at("disks", ("disk", name, "path")):
                # A disk's content changes from run to run and may be large: it is looked at, never digested.
                path = Path(disk.path).absolute()
                file = CachedFile(path, "", hostfile.inspect(path).st_size, str(path))
        if file is not None or disk.path is None:
            found.add("disks", images.findings(name, disk))
        if file is not None:
            yield name, file


def _boot_file(file: CachedFile) -> BootFile:
    return BootFile(str(file.path), file.size, file.sha256, file.origin)


def _digest(
    kernel: KernelArtifact | None,
    initrd: CachedFile | None,
    firmware: CachedFile | None,
    disks: tuple[tuple[str, CachedFile], ...],
) -> str:
    image = kernel.image if kernel else None
    files = [(file.sha256, file.size) if file else None for file in (image, initrd, firmware)]
    named = [(name, str(file.path), file.sha256, file.size) for name, file in disks]
    return hashlib.sha256(json.dumps([files, named]).encode()).hexdigest()


@contextlib.contextmanager
def at_key(key: Key) -> Iterator[None]:
    """Say in an ArtifactError that comes out of the block which key of the manifest it is about."""
    try:
        yield
    except ArtifactError as error:
        if error.key is None:
            error.key = key
        raise
