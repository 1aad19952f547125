"""The door to /dev/kvm. Whatever it refuses becomes a HostError: the call, the errno, the capability, what to do."""

from __future__ import annotations

import errno
import os
import stat
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vmrun.errors import HostError
from vmrun.kvm import capabilities
from vmrun.kvm.arch import part

if TYPE_CHECKING:
    from vmrun.core.machine import CoreMachine

DEVICE = "/dev/kvm"
UDEV_RULE = 'KERNEL=="kvm", GROUP="kvm", MODE="0660", OPTIONS+="static_node=kvm"'

_VIRTUALIZATION = {"vmx": "Intel VT-x", "svm": "AMD-V"}
_REMEDIES = {
    errno.EMFILE: "raise the limit of open files: `ulimit -n`",
    errno.ENFILE: "the whole host is out of open files: fs.file-max",
    errno.ENOMEM: "free memory on the host, or give the guest less",
    errno.EBUSY: "stop the other hypervisor (VirtualBox, VMware): it holds the processor's virtualization",
    errno.EEXIST: "give the guest fewer vCPUs, or each its own number",
    errno.EPERM: "a sandbox forbids the call: allow ioctls on /dev/kvm there",
}


class Kvm:
    """An open /dev/kvm. ``fd`` is its descriptor until the ``with`` block ends."""

    def __init__(self, path: str = DEVICE) -> None:
        """Open ``path``.

        Raise HostError E320 where there is no KVM, E321 without permission, E322 where it cannot be opened, E323 where
        it is no KVM that vmrun knows.
        """
        try:
            self.fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _refused(path, error) from error
        try:
            self._check_version(path)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Kvm:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor; machines that were made from it live on. Idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _check_version(self, path: str) -> None:
        version = _lib().vmr_kvm_version(self.fd)
        if version < 0:
            text = f"{path} is no KVM: KVM_GET_API_VERSION: {os.strerror(-version)}"
            remedy = "remove what stands there and load the kvm module"
            raise HostError(text, code="E323", errno=-version, call="KVM_GET_API_VERSION", remedy=remedy)
        if version != capabilities.API_VERSION:
            text = f"{path} speaks version {version} of the KVM interface, vmrun {capabilities.API_VERSION}"
            raise HostError(text, code="E323", call="KVM_GET_API_VERSION", remedy="run a kernel of Linux's own line")

    def capability(self, number: int) -> int:
        """Return what KVM_CHECK_EXTENSION says: 0 no, otherwise yes or how much; below 0 is -errno."""
        return int(_lib().vmr_kvm_capability(self.fd, number))

    @cached_property
    def capabilities(self) -> dict[str, int]:
        """What KVM answers to each capability that the engine asks for, by name."""
        return capabilities.ask(self.capability, table())

    def require(self, vcpus: int = 1) -> None:
        """Raise HostError E324 unless all that the engine needs is there, E326 for more vCPUs than KVM takes."""
        lacking = capabilities.missing(self.capabilities, table())
        if lacking:
            first = lacking[0]
            others = f" (nor {', '.join(c.name for c in lacking[1:])})" if lacking[1:] else ""
            raise HostError(
                f"this host's KVM has no {first.name}, which is for {first.purpose}{others}",
                code="E324",
                call="KVM_CHECK_EXTENSION",
                capability=first.name,
                remedy=first.remedy,
            )
        most = self.capabilities["KVM_CAP_MAX_VCPUS"]
        if vcpus > most:
            raise HostError(
                f"the plan has {vcpus} vCPUs, and this host's KVM takes {most}",
                code="E326",
                capability="KVM_CAP_MAX_VCPUS",
                remedy="lower `count` in [cpu]",
            )


def table() -> tuple[capabilities.Capability, ...]:
    """Return the capabilities for this host's architecture. Raise HostError E329 where vmrun has no KVM engine."""
    own: tuple[capabilities.Capability, ...] = part("capabilities").TABLE
    return capabilities.COMMON + own


def _lib() -> Any:
    """Return the C core. Raise HostError E329 where it was built without KVM."""
    from vmrun._core import lib

    if not hasattr(lib, "vmr_kvm_new"):
        raise HostError(
            f"this vmrun was built without KVM for {os.uname().machine}",
            code="E329",
            remedy="install the wheel for this architecture",
        )
    return lib


def check(core: CoreMachine, code: int, what: str) -> None:
    """Raise HostError E325 with the ioctl, errno, capability and remedy if ``code`` is negative."""
    if code >= 0:
        return
    from vmrun._core import ffi, lib

    text = ffi.string(lib.vmr_machine_error(core.handle)).decode("utf-8", "replace")
    raise failed(text or os.strerror(-code), -code, what)


def failed(text: str, number: int, what: str) -> HostError:
    """Return the error for a call that failed with errno ``number``; ``text`` begins with the call's name."""
    call = text.partition(":")[0]
    needed = capabilities.behind(call, table())
    remedy = _REMEDIES.get(number) or (needed.remedy if needed else "`vmrun doctor` says what this host's KVM can do")
    shown = f"{what}: {text} ({errno.errorcode.get(number, number)}{f', {needed.name}' if needed else ''})"
    name = needed.name if needed else None
    return HostError(shown, code="E325", errno=number, call=call, capability=name, remedy=remedy)


# ---- why it does not open --------------------------------------------------------------------------------------------


def _refused(path: str, error: OSError) -> HostError:
    number = error.errno or 0
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        why, remedy = _absent(path, number)
        return HostError(why, code="E320", errno=number, call="open", remedy=remedy)
    if number in (errno.EACCES, errno.EPERM):
        why, remedy = _forbidden(path, number)
        return HostError(why, code="E321", errno=number, call="open", remedy=remedy)
    why = f"{path} cannot be opened: {error.strerror}"
    remedy = _REMEDIES.get(number, "look at `dmesg | grep kvm`")
    return HostError(why, code="E322", errno=number, call="open", remedy=remedy)


def _absent(path: str, number: int) -> tuple[str, str]:
    if number != errno.ENOENT:
        return (
            f"{path} is there, but no KVM behind it: {os.strerror(number)}",
            "`modprobe kvm_intel` or `modprobe kvm_amd`",
        )
    machine = os.uname().machine
    if machine != "x86_64":
        return f"there is no {path}", "boot a kernel with KVM on a processor with virtualization (arm64: in EL2)"
    found = next((name for flag, name in _VIRTUALIZATION.items() if flag in _cpu_flags()), None)
    if found is None:
        return (
            f"there is no {path}, and this processor shows no virtualization",
            "switch on VT-x or AMD-V in the firmware; in a virtual machine, nested virtualization in its hypervisor",
        )
    module = "kvm_intel" if found == "Intel VT-x" else "kvm_amd"
    return (
        f"there is no {path}, though the processor has {found}",
        f"`modprobe {module}`; in a container, `--device {path}`",
    )


def _cpu_flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            return frozenset(next((line.split() for line in lines if line.startswith("flags")), ()))
    except OSError:
        return frozenset()


def _forbidden(path: str, number: int) -> tuple[str, str]:
    """Return why this user may not open ``path``, and what makes it so."""
    import grp

    why = f"{path} may not be opened by this user: {os.strerror(number)}"
    try:
        found = Path(path).stat()
        group = grp.getgrgid(found.st_gid).gr_name
    except (OSError, KeyError):
        return why, f"run as a user who may open {path}"
    if found.st_gid and found.st_mode & stat.S_IWGRP:
        return f"{why} (it is for the group {group})", f"`sudo usermod -aG {group} $USER`, then log in again"
    return (
        f"{why} (owner {found.st_uid}, group {group}, mode {stat.S_IMODE(found.st_mode):04o})",
        f"put `{UDEV_RULE}` into /etc/udev/rules.d/65-kvm.rules, `udevadm trigger`, and join the group kvm",
    )
