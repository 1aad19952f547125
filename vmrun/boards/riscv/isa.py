"""RISC-V ISA strings: the names of extensions, their canonical order, and what a manifest asks of an engine's offer.

Source: RISC-V Unprivileged ISA, chapter "ISA Extension Naming Conventions"; Linux
Documentation/devicetree/bindings/riscv/extensions.yaml (lower case, ``_`` between multi-letter names).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vmrun.errors import Key, PlanError
from vmrun.plan.offer import Offer

_SINGLE = "iemafdqlcbkjtpvnh"
_MULTI = re.compile(r"[zsx][a-z0-9]+")
_NEEDS = {
    "d": ("f",),
    "v": ("d",),
    "zacas": ("a",),
    "zcb": ("zca",),
    "zcd": ("zca", "d"),
    "zcmop": ("zca",),
    "zfa": ("f",),
    "zfh": ("f",),
    "zfhmin": ("f",),
}
"""Extension -> those that it is made of, or builds on, as their own chapters say."""
_LINUX_NEEDS = ("i", "m", "a")
"""Linux ignores a hart without them (arch/riscv/kernel/cpu.c, riscv_early_of_processor_hartid)."""
_IMPLIED = ("zicntr", "zicsr", "zifencei")
"""Parts of `i` in ISA strings from before they had names of their own (extensions.yaml, riscv,isa)."""


def canonical(extensions: Iterable[str]) -> tuple[str, ...]:
    """Return the extensions, each once, in canonical order: letters, then Z by its second letter, S, X by name."""
    return tuple(sorted(set(extensions), key=_rank))


def _rank(name: str) -> tuple[int, int, str]:
    if len(name) == 1:
        return 0, _SINGLE.find(name), name
    if name[0] == "z":
        return 1, _SINGLE.find(name[1]) % 64, name
    return {"s": 2}.get(name[0], 3), 0, name


def isa_string(extensions: Iterable[str]) -> str:
    """Return the ``riscv,isa`` form: ``rv64imafdc_zicsr_zba``."""
    names = canonical(extensions)
    letters = "".join(name for name in names if len(name) == 1)
    return "_".join([f"rv64{letters}", *(name for name in names if len(name) > 1)])


def parse(text: str) -> tuple[str, ...]:
    """Return the extensions of an ISA string; ``g`` stands for imafd_zicsr_zifencei. Raise ValueError in words."""
    lower = text.lower()
    if not lower.startswith("rv64"):
        raise ValueError(f"`{text}` is no ISA string of RV64: it starts with rv64")
    first, *rest = lower[4:].split("_")
    names: list[str] = []
    for letter in first:
        if letter == "g":
            names += [*"imafd", "zicsr", "zifencei"]
        elif letter in _SINGLE:
            names.append(letter)
        else:
            raise ValueError(f"`{letter}` in `{text}` is no single-letter extension")
    for name in rest:
        if not _MULTI.fullmatch(name) and not (len(name) == 1 and name in _SINGLE):
            raise ValueError(f"`{name}` in `{text}` is no extension")
        names.append(name)
    return canonical(names)


def choose(
    offer: Offer,
    model: str | None,
    features: Iterable[str],
    needed: tuple[str, ...] = (),
    spare: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return the guest's extensions: ``model`` (None, ``host`` and ``max``: all that is offered; else an ISA string),
    then ``features`` (``+name``, ``-name``) in order. ``needed`` are those that the machine's other hardware needs,
    ``spare`` those of hardware that it lacks: they are there only where they are asked for by name.

    Raise PlanError E132 for what the engine does not have, or what Linux, the machine or another extension needs.
    """
    have = canonical((*offer.extensions, *needed) if offer.nominal else offer.extensions)
    key: Key = ("cpu", "model")
    if model in (None, "host", "max"):
        chosen = set(have).difference(spare)
    else:
        try:
            chosen = {*parse(model or ""), *_IMPLIED, *needed}
        except ValueError as error:
            raise _refused(str(error), key, 'write "max", or an ISA string such as "rv64gc_zba"') from None
        _require(chosen, have, offer, key)
        if not chosen.issuperset(_LINUX_NEEDS):
            raise _refused(f"`{model}` lacks one of i, m, a, which every riscv64 Linux needs", key, "write rv64gc, say")
    for index, feature in enumerate(features):
        name, where = feature[1:].lower(), ("cpu", "features", str(index))
        if feature[0] == "+":
            _require({name}, have, offer, where)
            chosen.add(name)
        elif name in (*_LINUX_NEEDS, *_IMPLIED, *needed):
            raise _refused(f"a guest cannot be without `{name}`", where, "leave it out")
        elif name in offer.fixed:
            raise _refused(f"this host's {offer.engine} cannot take `{name}` from a guest", where, "leave it out")
        else:
            _require({name}, have, offer, where)
            chosen.discard(name)
    _check_whole(chosen, have, offer)
    return canonical(chosen)


def _check_whole(chosen: set[str], have: tuple[str, ...], offer: Offer) -> None:
    for name in canonical(chosen):
        for needed in _NEEDS.get(name, ()):
            if needed in have and needed not in chosen:
                raise _refused(f"`{name}` needs `{needed}`", ("cpu",), f"remove `{name}` as well")
    given = canonical(set(offer.fixed) - chosen)
    if given:
        listed = ", ".join(f"`{name}`" for name in given)
        raise _refused(
            f"this host's {offer.engine} gives every guest {listed} as well",
            ("cpu", "model"),
            f'write "max", or "{isa_string((*chosen, *given))}"',
        )


def _require(names: set[str], have: tuple[str, ...], offer: Offer, key: Key) -> None:
    """Look names up in what is offered; where no host was asked, the engine does when it builds the machine."""
    missing = () if offer.nominal else canonical(names - set(have))
    wrong = [name for name in canonical(names) if not _MULTI.fullmatch(name) and name not in tuple(_SINGLE)]
    if missing or wrong:
        listed = ", ".join(f"`{name}`" for name in missing or wrong)
        raise _refused(f"the {offer.engine} engine has no {listed}", key, f"it has {isa_string(have)}")


def _refused(message: str, key: Key, remedy: str) -> PlanError:
    return PlanError(message, code="E132", key=key, remedy=remedy)
