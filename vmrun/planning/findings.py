"""What `vmrun check` finds by opening what a manifest names: its plan, its disks, its kernel's drivers.

It needs no network and no engine: what is not in the cache yet is taken for right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vmrun.errors import ArtifactError, Diagnostic, HostError, PlanError
from vmrun.images.bound import Bound
from vmrun.plan.files import BootFile, BootFiles
from vmrun.planning import disks

if TYPE_CHECKING:
    from vmrun.images.lock import Lock
    from vmrun.images.resolve import KernelArtifact, Resolver
    from vmrun.plan.model import DevicePlan, MachinePlan
    from vmrun.schema.load import LoadedManifest
    from vmrun.schema.models import Manifest

_NOT_HERE = "E260"
"""The code of an artefact that only a network can bring."""


def findings(loaded: LoadedManifest, artifacts: bool = True) -> list[Diagnostic]:
    """Return what is wrong with the machine of a valid manifest; without ``artifacts`` no file is opened."""
    manifest = loaded.manifest
    found: list[Diagnostic] = []
    kernel, initrd = None, None
    lock = _lock(loaded, found)
    if artifacts:
        found += [d for name, disk in manifest.disk.items() for d in disks.findings(name, disk)]
        kernel, initrd = _kernel(manifest, found, lock), _initrd(manifest, found, lock)
    try:
        plan = _plan(loaded, kernel, initrd)
    except (PlanError, HostError) as error:
        return found + list(error.diagnostics())
    if kernel is not None and kernel.config is not None:
        found += _drivers(manifest, plan, kernel.config.path)
    return found


def _plan(loaded: LoadedManifest, kernel: KernelArtifact | None, initrd: BootFile | None) -> MachinePlan:
    from vmrun.boards import registry
    from vmrun.images.store import Store
    from vmrun.planning.making import How, offer_for, ports_of, unpacked

    manifest = loaded.manifest
    board = registry.load(manifest.machine.board)
    offer, _ = offer_for(manifest.machine.accel, board.arch, anywhere=True)
    image = None
    if kernel is not None:
        found = kernel.image
        file = BootFile(str(found.path), found.size, found.sha256, found.origin)
        image = unpacked(file, Store(), manifest.boot.protocol, manifest.memory.size)
    layout = board.layout(manifest, offer, ports_of(loaded, How()))
    return board.load(layout, manifest, BootFiles(image, initrd), offer)


def _lock(loaded: LoadedManifest, found: list[Diagnostic]) -> Lock | None:
    """Return the lock beside the manifest; one that makes no sense is a finding, since no run would take it."""
    from vmrun.images import lock as locks

    try:
        return locks.read(locks.beside(loaded.path))
    except ArtifactError as error:
        found += error.diagnostics()
        return None


def _resolver(manifest: Manifest, lock: Lock | None) -> Resolver:
    from vmrun.boards import registry
    from vmrun.images.resolve import Resolver
    from vmrun.images.store import Store
    from vmrun.planning.artifacts import DEBIAN_ARCHES

    arch = registry.load(manifest.machine.board).arch
    return Resolver(Store(), DEBIAN_ARCHES.get(arch, arch), lock=lock, offline=True)


def _kernel(manifest: Manifest, found: list[Diagnostic], lock: Lock | None) -> KernelArtifact | None:
    from vmrun.planning.artifacts import source_of

    if manifest.boot.kernel is None:
        return None
    try:
        return _resolver(manifest, lock).kernel(source_of(manifest.boot.kernel), bound=Bound(manifest.memory.size))
    except ArtifactError as error:
        found += _told(error, "kernel")
        return None


def _initrd(manifest: Manifest, found: list[Diagnostic], lock: Lock | None) -> BootFile | None:
    from vmrun.planning.artifacts import source_of

    initrd = manifest.boot.initrd
    if initrd is None or initrd.busybox:
        return None
    try:
        file = _resolver(manifest, lock).file(source_of(initrd), Bound(manifest.memory.size))
    except ArtifactError as error:
        found += _told(error, "initrd")
        return None
    return BootFile(str(file.path), file.size, file.sha256, file.origin)


def _told(error: ArtifactError, name: str) -> Iterator[Diagnostic]:
    if error.code != _NOT_HERE:
        yield Diagnostic(error.code, error.message, error.key or ("boot", name), help=error.remedy)


def _drivers(manifest: Manifest, plan: MachinePlan, config: Path) -> Iterator[Diagnostic]:
    """Yield what the kernel's configuration lacks for the devices that the manifest names."""
    from vmrun.boards.linux import setting, symbols
    from vmrun.devices import registry as devices

    try:
        text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    blobs = [blob.name for blob in plan.blobs]
    for device in plan.devices:
        key = _named(manifest, device)
        if key is None:
            continue
        for kind in filter(None, (device.transport, device.kind)):
            driver = devices.load(kind).driver
            module = driver.module if driver is not None else None
            for symbol in symbols(kind, blobs):
                finding = _driver(manifest, device, module, symbol, setting(text, symbol))
                if finding is not None:
                    yield Diagnostic(*finding[:2], key, label=finding[2], help=finding[3], severity=finding[4])


def _named(manifest: Manifest, device: DevicePlan) -> tuple[str, ...] | None:
    """Return the table of the manifest that asks for the device, None for what the board has anyway."""
    from vmrun.boards.consoles import UART_ID

    table, _, name = device.id.partition(".")
    if name:
        return (table, name)
    if device.id == UART_ID:
        return next((("console", n) for n, c in manifest.console.items() if c.device == "serial"), None)
    return None


def _driver(
    manifest: Manifest, device: DevicePlan, module: str | None, symbol: str, value: str | None
) -> tuple[str, str, str, str, str] | None:
    """Return code, message, label, help and severity where the kernel does not drive the device by itself."""
    if value == "y":
        return None
    if value == "m" and module is not None:
        initrd = manifest.boot.initrd
        if initrd is not None and initrd.busybox:
            return None  # the built initramfs loads what the devices need
        return (
            "E151",
            f"the kernel drives `{device.id}` by the module {module}, which the initrd has to load",
            f"{symbol}=m",
            "build the initrd: write initrd = { busybox = true } in [boot]",
            "warning",
        )
    return (
        "E150",
        f"the kernel has no driver for `{device.id}`: {symbol} is not set in its configuration",
        f"needs {symbol}",
        "choose another device or another kernel",
        "error",
    )
