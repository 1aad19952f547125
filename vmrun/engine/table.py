"""The one table of engines: which there are, what they run, and the modules that have what a plan and a run ask for.

Engines stand above this package, so their modules are named here and imported by who asks for one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vmrun.frozen import frozen

if TYPE_CHECKING:
    from vmrun.engine.seam import Engine
    from vmrun.plan.offer import Offer


@frozen
class Row:
    """One engine by its ``name``.

    ``guests`` are the architectures that it runs, as ``uname -m`` says them; a ``native`` one runs, of these, those of
    its host's own architecture, and what it offers depends on the host. ``offers`` names the module that tells what it
    offers without loading the engine, ``builds`` the module that has the engine as ``ENGINE``. ``scale`` is its key in
    ``[run.timeouts.scale]``, "" for one that has none. ``lacks`` says why this release does not have the engine, "" for
    one that it has. A ``public`` one can be named by a manifest; another by who calls vmrun, for tests.
    """

    name: str
    guests: tuple[str, ...]
    native: bool = False
    offers: str = ""
    builds: str = ""
    scale: str = ""
    lacks: str = ""
    public: bool = True

    @property
    def carried(self) -> bool:
        """Whether this release has the engine, for a manifest to name."""
        return self.public and not self.lacks

    def offer(self, why: str, arch: str, *, anywhere: bool = False) -> Offer:
        """Return what a guest of ``arch`` is offered; with ``anywhere`` without a look at this host.

        ``why`` is the reason for this engine in one line. Raise HostError where a native engine cannot be used here.
        """
        module = import_module(self.offers)
        found: Offer = module.offer(why) if self.native and not anywhere else module.nominal(arch, why)
        return found

    def engine(self) -> Engine:
        """Return the engine itself."""
        found: Engine = import_module(self.builds).ENGINE
        return found


_ALL = ("riscv64", "x86_64", "aarch64")

ENGINES = (
    Row("soft", ("riscv64",), offers="vmrun.rv64.offer", builds="vmrun.rv64.engine", scale="soft"),
    Row("kvm", _ALL, native=True, offers="vmrun.kvm.offer", builds="vmrun.kvm.engine", scale="kvm"),
    Row("qemu", _ALL, scale="qemu", lacks="this release of vmrun does not drive QEMU"),
    Row("fake", _ALL, offers="vmrun.engine.fake", builds="vmrun.engine.fake", public=False),
)

CARRIED = tuple(row.name for row in ENGINES if row.carried)
"""Engines that a manifest can name."""


def find(name: str) -> Row | None:
    """Return the row of the engine called ``name``, None where there is none."""
    return next((row for row in ENGINES if row.name == name), None)


def scale_of(name: str) -> str:
    """Return the key in ``[run.timeouts.scale]`` of the engine called ``name``, "" where it has none."""
    row = find(name)
    return row.scale if row is not None else ""
