"""The one way from a manifest to its plan: lay out, resolve, load. Every verb that looks at a machine goes it.

`vmrun up`, `run` and `plan` go all of it and raise the first error; `check` goes all of it offline and collects;
`fetch` goes as far as the files; `lock` pins what is resolved here (`vmrun.planning.artifacts.wanted`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vmrun.errors import Diagnostic, ManifestError, PlanError
from vmrun.frozen import evolve, frozen
from vmrun.plan.files import BootFiles
from vmrun.planning.cache import LookedAt
from vmrun.planning.found import Found

if TYPE_CHECKING:
    from vmrun.boards.board import Board, Layout
    from vmrun.boot.packed import Packed
    from vmrun.boot.source import Source
    from vmrun.images.lock import Lock
    from vmrun.images.store import Store
    from vmrun.plan.files import BootFile
    from vmrun.plan.model import MachinePlan
    from vmrun.plan.offer import Offer
    from vmrun.planning.artifacts import Artifacts
    from vmrun.planning.how import How
    from vmrun.schema.load import LoadedManifest

RUN_PORTS = ("control", "stdin", "stdout", "stderr")
"""Ports of vmrun's init where a command's files are vmrun's own (`vmrun run`)."""
UP_PORTS = ("control",)
"""Ports where the console carries the command's output and only its status comes apart (`vmrun up`)."""


@frozen
class LaidOut:
    """The first step's result: the machine without its files, and the engine's offer that it was laid out for.

    ``lasting`` is False where another look at this host may give another offer.
    """

    layout: Layout
    offer: Offer
    ports: tuple[str, ...]
    lasting: bool


@frozen
class Made:
    """What came of a manifest. ``plan`` is None where it cannot be planned, which only collected findings leave to say;
    ``artifacts`` is None where no file was looked for.
    """

    plan: MachinePlan | None
    artifacts: Artifacts | None
    looked_at: LookedAt
    findings: tuple[Diagnostic, ...]


def loaded_from(path: str, how: How) -> LoadedManifest:
    """Return the manifest in the file ``path`` as ``how`` overrides it. Raise ManifestError."""
    from vmrun.boards import registry
    from vmrun.schema.load import load_manifest

    how.phase("check")
    return load_manifest(path, known=registry.known(), sets=how.sets, profile=how.profile)


def make(loaded: LoadedManifest, how: How) -> Made:
    """Go the whole way. Errors are shown where the manifest causes them, or collected as ``how`` says.

    Raise ManifestError for what the board cannot be, ArtifactError for what cannot be had, HostError for the engine.
    """
    found = Found(loaded, how)
    board = _board(loaded)
    laid = _lay_out(loaded, board, how, found)
    lock = lock_of(loaded, found)
    initrd = loaded.manifest.boot.initrd
    files, artifacts = BootFiles(reports=initrd is not None and initrd.busybox), None
    looked_at = LookedAt((), (), {}, {})
    if how.artifacts:
        from vmrun.images.store import Store
        from vmrun.planning.artifacts import resolve, resolver_for

        how.phase("fetch")
        store = Store(verifying=how.locked)
        artifacts = resolve(loaded, how, found, store, resolver_for(board.arch, how, store, lock), *_of_guest(laid))
        found.settle()
        files = _unpack(artifacts.files, loaded, store, found)
        looked_at = _looked_at(loaded, store, artifacts.files, files)
    how.phase("plan")
    plan = None
    if laid is not None:
        with found.at("machine"):
            plan = board.load(laid.layout, loaded.manifest, files, laid.offer, how.command)
            if not how.anywhere:
                _bound_ram(plan)
        looked_at = evolve(looked_at, lasting=laid.lasting)
    return Made(plan, artifacts, looked_at, found.all())


def fetch(loaded: LoadedManifest, how: How, store: Store) -> Artifacts:
    """Go as far as the files, which are those that `make` will plan with; return them. Raise as `make`."""
    from vmrun.planning.artifacts import resolve, resolver_for

    found = Found(loaded, how)
    board = _board(loaded)
    laid = _lay_out(loaded, board, how, found)
    resolver = resolver_for(board.arch, how, store, lock_of(loaded, found))
    artifacts = resolve(loaded, how, found, store, resolver, *_of_guest(laid))
    found.settle()
    return artifacts


def _board(loaded: LoadedManifest) -> Board:
    from vmrun.boards import registry

    return registry.load(loaded.manifest.machine.board)


def _lay_out(loaded: LoadedManifest, board: Board, how: How, found: Found) -> LaidOut | None:
    """The first step. Return None where it cannot be taken, and ``found`` collects why."""
    from vmrun.boards.takes import refusals
    from vmrun.planning.engines import offer_for

    manifest = loaded.manifest
    with found.at("machine"):
        accel = how.accel or manifest.machine.accel
        offer, lasting = offer_for(accel, board.arch, anywhere=how.anywhere, warn=how.warn)
        ports = ports_of(loaded, how)
        for error in refusals(manifest, board, offer):
            found.add("machine", error.diagnostics())
        found.settle()
        if not found.all():
            return LaidOut(board.layout(manifest, offer, ports), offer, ports, lasting)
    return None


def lock_of(loaded: LoadedManifest, found: Found) -> Lock:
    """Return the lock beside the manifest, empty where there is none; one that makes no sense ``found`` is told."""
    from vmrun.images import lock as locks

    path = locks.beside(loaded.path)
    with found.at("lock"):
        return locks.read(path)
    return locks.Lock(path, {})


def _of_guest(laid: LaidOut | None) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Return what a built initramfs follows from beside the manifest: ports, and modules (None: nobody knows them)."""
    return (laid.ports, laid.layout.modules) if laid is not None else ((), None)


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


def _unpack(files: BootFiles, loaded: LoadedManifest, store: Store, found: Found) -> BootFiles:
    """Return ``files`` with the kernel as it lies in RAM."""
    manifest = loaded.manifest
    if files.kernel is not None:
        with found.at("machine"):
            return evolve(files, kernel=unpacked(files.kernel, store, manifest.boot.protocol, manifest.memory.size))
        return evolve(files, kernel=None)
    return files


def _looked_at(loaded: LoadedManifest, store: Store, named: BootFiles, used: BootFiles) -> LookedAt:
    """Return what a plan depends on that was made of the files ``used``, found for those that are ``named``."""
    from vmrun.images import lease
    from vmrun.planning.artifacts import lock_path

    loads = [file.path for file in (named.kernel, used.kernel, used.initrd) if file is not None]
    resolved = sorted(str(record) for record in (store.root / "index" / "debian").glob("**/*.json"))
    contents = [*map(str, loaded.sources), str(lock_path(loaded)), *loads, *resolved]
    lease.keep(loads)  # before the store lets go of them
    disks = tuple(image.path for _, image in used.disks)
    return LookedAt(tuple(dict.fromkeys(contents)), disks, loaded.env_read, store.written)


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
