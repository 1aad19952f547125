"""Makes a plan from a manifest: load it, choose the engine, resolve the artefacts, let the board place everything."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from vmrun.errors import ArtifactError, Diagnostic, ManifestError, PlanError
from vmrun.frozen import evolve, frozen
from vmrun.plan.model import MachinePlan
from vmrun.planning.cache import LookedAt

if TYPE_CHECKING:
    from vmrun.boot.packed import Packed
    from vmrun.boot.source import Source
    from vmrun.images.sources import Progress
    from vmrun.images.store import Store
    from vmrun.plan.files import BootFile, BootFiles
    from vmrun.plan.offer import Offer
    from vmrun.schema.load import LoadedManifest

RUN_PORTS = ("control", "stdin", "stdout", "stderr")
"""Ports of vmrun's init where a command's files are vmrun's own (`vmrun run`)."""
UP_PORTS = ("control",)
"""Ports where the console carries the command's output and only its status comes apart (`vmrun up`)."""
_OFFERS = {"soft": "vmrun.rv64.offer", "kvm": "vmrun.kvm.offer"}
"""Engine name -> the module whose ``offer(why)`` says what it has, without loading its C code."""


@frozen
class How:
    """The arguments of `vmrun.planning.planner.plan_manifest` beside the path."""

    sets: tuple[str, ...] = ()
    profile: str | None = None
    accel: str | None = None
    artifacts: bool = True
    offline: bool = False
    locked: bool = False
    refresh: bool = False
    command: tuple[str, ...] | None = None
    progress: Progress | None = None
    phase: Callable[[str], None] = lambda name: None
    anywhere: bool = False
    warn: Callable[[str], None] = lambda text: None


def plan_fresh(path: str, how: How) -> tuple[MachinePlan, LookedAt]:
    """Return the plan of the manifest in the file ``path``, and what it depends on. Raise as `plan_manifest`."""
    from vmrun.boards import registry
    from vmrun.schema.load import load_manifest

    how.phase("check")
    loaded = load_manifest(path, known=registry.known(), sets=how.sets, profile=how.profile)
    return plan_loaded(loaded, how)


def plan_loaded(loaded: LoadedManifest, how: How) -> tuple[MachinePlan, LookedAt]:
    """Return the plan of a loaded manifest, and what it depends on. Errors are shown where the manifest causes them.

    Raise ManifestError for what the board cannot be, ArtifactError for what cannot be had, HostError for the engine.
    """
    from vmrun.boards import registry
    from vmrun.plan.files import BootFiles

    manifest = loaded.manifest
    board = registry.load(manifest.machine.board)
    offer, lasting = offer_for(how.accel or manifest.machine.accel, board.arch, anywhere=how.anywhere, warn=how.warn)
    ports = ports_of(loaded, how)
    initrd = manifest.boot.initrd
    files = BootFiles(reports=initrd is not None and initrd.busybox)
    looked_at = LookedAt((), (), {}, {})
    try:
        layout = board.layout(manifest, offer, ports)
        if how.artifacts:
            how.phase("fetch")
            files, looked_at = _resolve(loaded, board.arch, layout.modules, ports, how)
        how.phase("plan")
        plan = board.load(layout, manifest, files, offer, how.command)
        if not how.anywhere:
            _bound_ram(plan)
    except PlanError as error:
        raise ManifestError(tuple(loaded.located(finding) for finding in error.diagnostics())) from error
    except ArtifactError as error:
        error.span = loaded.span_of(error.key) if error.key else None
        raise
    return plan, evolve(looked_at, lasting=lasting)


def _bound_ram(plan: MachinePlan) -> None:
    """Raise PlanError E109 where this host has less RAM than the guest is to have."""
    asked = sum(region.size for region in plan.ram)
    host = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if asked > host:
        raise PlanError(
            f"{asked >> 20} MiB of RAM, and this host has {host >> 20} MiB",
            code="E109",
            key=("memory", "size"),
            remedy="set a smaller memory.size",
        )


def offer_for(
    accel: str, arch: str, *, anywhere: bool = False, warn: Callable[[str], None] = lambda text: None
) -> tuple[Offer, bool]:
    """Return what the engine that ``accel`` stands for offers a guest of ``arch``, and whether the choice will last.

    ``warn`` is told, and HostError raised, as by `choose`. With ``anywhere`` this host is not asked: what KVM gives is
    left open, as far as it depends on the host that will run the plan.
    """
    import platform

    from vmrun.planning.engines import choose, reason

    if anywhere and (accel == "kvm" or (accel == "auto" and arch != "riscv64")):
        from vmrun.kvm.offer import nominal

        return nominal(arch, reason("kvm", arch, arch)), True
    choice = choose(accel, arch, platform.machine(), warn)
    offer: Offer = import_module(_OFFERS[choice.engine]).offer(choice.why)
    return offer, choice.lasting


def ports_of(loaded: LoadedManifest, how: How) -> tuple[str, ...]:
    """Return the ports of the init that vmrun builds; none where the initrd is somebody else's."""
    initrd = loaded.manifest.boot.initrd
    if initrd is None or not initrd.busybox:
        if how.command is not None:
            raise ManifestError(
                (
                    loaded.located(
                        Diagnostic(
                            "E175",
                            "a command needs the initramfs that vmrun builds, and the manifest has another or none",
                            key=("boot", "initrd"),
                            help="write initrd = { busybox = true } in [boot]",
                        )
                    ),
                )
            )
        return ()
    return UP_PORTS if how.command is None else RUN_PORTS


def _resolve(
    loaded: LoadedManifest, arch: str, modules: tuple[str, ...], ports: tuple[str, ...], how: How
) -> tuple[BootFiles, LookedAt]:
    """Return the files that the manifest names, kernels unpacked, and everything that was looked at for them."""
    from vmrun.images import lease
    from vmrun.images.store import Store
    from vmrun.planning.artifacts import lock_path, resolve_artifacts

    store = Store(verifying=how.locked)
    found = resolve_artifacts(
        loaded,
        arch,
        command=how.command,
        ports=ports,
        drivers=modules,
        store=store,
        offline=how.offline,
        locked=how.locked,
        refresh=how.refresh,
        progress=how.progress,
    )
    _check_disks(loaded)
    files = found.files
    boot, ram = loaded.manifest.boot, loaded.manifest.memory.size
    if files.kernel is not None:
        files = evolve(files, kernel=unpacked(files.kernel, store, boot.protocol, ram))
    loads = [file.path for file in (found.files.kernel, files.kernel, files.initrd) if file is not None]
    resolved = sorted(str(record) for record in (store.root / "index" / "debian").glob("**/*.json"))
    contents = [*map(str, loaded.sources), str(lock_path(loaded)), *loads, *resolved]
    lease.keep(loads)  # before the store lets go of them
    disks = tuple(image.path for _, image in files.disks)
    return files, LookedAt(tuple(dict.fromkeys(contents)), disks, loaded.env_read, store.written)


def _check_disks(loaded: LoadedManifest) -> None:
    from vmrun.planning import disks

    found = [finding for name, disk in loaded.manifest.disk.items() for finding in disks.findings(name, disk)]
    errors = tuple(loaded.located(finding) for finding in found if finding.severity == "error")
    if errors:
        raise ManifestError(errors)


def unpacked(kernel: BootFile, store: Store, protocol: str, ram: int | None = None) -> BootFile:
    """Return the kernel as it lies in ``ram`` bytes of RAM: a compressed one is unpacked into the store, once.

    So is the vmlinux in a bzImage, since a host unpacks it once and a guest would at each boot; unless ``protocol``
    says otherwise, or nothing here can unpack it and ``protocol`` is ``auto``. A flat image is taken as it is. Raise
    PlanError as `packed.unpack`.
    """
    from vmrun.boot import packed
    from vmrun.boot.source import Source

    if protocol == "flat":
        return kernel
    with Source(kernel.path, key=("boot", "kernel"), name=kernel.origin or None) as source:
        how = packed.recognise(source) or _payload(source, protocol)
        if how is None:
            return kernel
        name = f"unpacked/{kernel.sha256}"
        record = store.read_record(name) if kernel.sha256 else None
        known = store.find(str(record["sha256"]), record["size"]) if record else None
        if known is None:
            known = store.put(lambda out: packed.unpack(source, how, out, ram), origin=kernel.origin)
            if kernel.sha256:
                store.write_record(name, {"sha256": known.sha256, "size": known.size})
        return evolve(kernel, path=str(known.path), size=known.size, sha256=known.sha256)


def _payload(source: Source, protocol: str) -> Packed | None:
    """Return the vmlinux inside a bzImage, None where there is none or the image is to unpack itself."""
    from vmrun.boot import bzimage, packed

    if protocol == "bzimage" or not bzimage.is_bzimage(source.read(0, bzimage.HEADER_LIMIT)):
        return None
    try:
        found = bzimage.payload(source)
    except PlanError as error:
        if protocol == "auto" and error.code == "E118":
            return None
        raise
    return found if protocol != "auto" or packed.has_tool(found.method) else None
