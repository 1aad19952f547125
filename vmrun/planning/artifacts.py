"""What a manifest names, found, fetched or built: the door between the schema's words and `vmrun.images`.

`resolve_artifacts` is the one place that knows both. Its errors bear the manifest's key.
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
from vmrun.images.sources import CachedFile, DebianSource, PathSource, Progress, Source, UrlSource
from vmrun.images.store import Store
from vmrun.plan.files import BootFile, BootFiles

if TYPE_CHECKING:
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


def resolve_artifacts(
    loaded: LoadedManifest,
    arch: str,
    *,
    command: tuple[str, ...] | None = None,
    ports: Sequence[str] = (),
    drivers: Sequence[str] = (),
    store: Store | None = None,
    offline: bool = False,
    locked: bool = False,
    refresh: bool = False,
    progress: Progress | None = None,
    resolver: Resolver | None = None,
) -> Artifacts:
    """Return the files of the manifest for a board of ``arch`` (``riscv64``, ``aarch64``, ``x86_64``).

    ``command`` replaces the manifest's; ``ports`` are those of `vmrun.images.initramfs.PORTS` that the built init waits
    for; ``drivers`` names modules that the machine's devices need, loaded where the kernel has them as modules.
    ``locked`` takes nothing but what ``vmrun.lock`` pins, ``offline`` nothing but what the store has, ``refresh`` looks
    for newer Debian packages. Raise ArtifactError with the key of what cannot be had.
    """
    manifest = loaded.manifest
    store = store or Store(verifying=locked)
    debian_arch = DEBIAN_ARCHES.get(arch, arch)
    if resolver is None:
        lock = locks.read(lock_path(loaded))
        resolver = Resolver(
            store, debian_arch, lock=lock, locked=locked, offline=offline, refresh=refresh, progress=progress
        )
    wanted = manifest.boot.modules
    bound = Bound(manifest.memory.size)
    kernel = None
    if manifest.boot.kernel is not None:
        with at_key(("boot", "kernel")):
            kernel = resolver.kernel(source_of(manifest.boot.kernel), wanted, bound)
    initrd, built = None, False
    if manifest.boot.initrd is not None:
        built = manifest.boot.initrd.busybox
        if built:
            initrd = _build(manifest, resolver, store, kernel, command or manifest.run.command, ports, drivers)
        else:
            with at_key(("boot", "initrd")):
                initrd = resolver.file(source_of(manifest.boot.initrd), bound)
    firmware = None
    if manifest.boot.firmware is not None:
        with at_key(("boot", "firmware")):
            firmware = resolver.file(source_of(manifest.boot.firmware), bound)
    disks = tuple(_disks(manifest.disk, resolver))
    files = BootFiles(
        _boot_file(kernel.image) if kernel else None,
        _boot_file(initrd) if initrd else None,
        tuple((name, _boot_file(image)) for name, image in disks),
        reports=built,
    )
    return Artifacts(files, kernel, initrd, firmware, disks, _digest(kernel, initrd, firmware, disks))


def named_sources(manifest: Manifest) -> Iterator[tuple[Key, Source]]:
    """Yield the key and the source of everything that a lock file pins: all but the disks given by a path."""
    boot = manifest.boot
    for name, artifact in (("kernel", boot.kernel), ("initrd", boot.initrd), ("firmware", boot.firmware)):
        if artifact is boot.initrd and boot.initrd is not None and boot.initrd.busybox:
            yield ("boot", name), DebianSource(BUSYBOX, _busybox_suite(manifest))
        elif artifact is not None:
            yield ("boot", name), source_of(artifact)
    for name, disk in manifest.disk.items():
        if disk.url is not None and disk.sha256 is not None:
            yield ("disk", name), UrlSource(disk.url, disk.sha256)


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
    command: tuple[str, ...] | None,
    ports: Sequence[str],
    drivers: Sequence[str],
) -> CachedFile:
    """Return the initramfs of the manifest, built unless these very inputs were built before."""
    boot = manifest.boot
    with at_key(("boot", "initrd")):
        busybox = resolver.busybox(_busybox_suite(manifest))
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


def _disks(disks: dict[str, Disk], resolver: Resolver) -> Iterator[tuple[str, CachedFile]]:
    from vmrun.images import hostfile

    for name, disk in disks.items():
        with at_key(("disk", name, "path" if disk.path else "url")):
            if disk.path is not None:
                # A disk's content changes from run to run and may be large: it is looked at, never digested.
                path = Path(disk.path).absolute()
                yield name, CachedFile(path, "", hostfile.inspect(path).st_size, str(path))
            elif disk.url is not None and disk.sha256 is not None:
                yield name, resolver.file(UrlSource(disk.url, disk.sha256))


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
