"""Machines on KVM come and go: nothing stays behind; and what the host refuses is said as it should be."""

import errno
import grp
import os
import re
import resource
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from kvm_kit import HLT, SPIN, lab, need_kvm, out

from vmrun._core import lib
from vmrun.core.machine import CoreMachine
from vmrun.core.state import pack, unpack
from vmrun.errors import HostError
from vmrun.frozen import evolve
from vmrun.kvm import capabilities, host
from vmrun.kvm.arch import ARCHES, part
from vmrun.kvm.host import Kvm
from vmrun.kvm.x86_64.vm import X86Vm


@pytest.fixture
def kvm() -> None:
    need_kvm()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def mappings() -> list[str]:
    """Return what is mapped from KVM's files; anonymous mappings come and go with malloc."""
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "kvm" in line and ".so" not in line]


def all_mappings() -> int:
    return len(Path("/proc/self/maps").read_text().splitlines())


def resident_kib() -> int:
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])  # type: ignore[index]


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def test_a_thousand_machines_leave_nothing_behind(kvm: None) -> None:
    def once(index: int) -> None:
        with lab("long", irqchip=None if index % 2 else "kernel") as made:
            made.load(out(0, index & 255) + (HLT if index % 2 else SPIN))
            made.core.start()
            if index % 2:
                assert made.run() == lib.VMR_EXIT_HALT
                assert made.ears.heard == [(0, 1, index & 255)]
            elif index % 10 == 0:
                made.spawn()

    for index in range(20):
        once(index)
    before = descriptors(), mappings(), threads()
    resident, mapped = resident_kib(), all_mappings()
    for index in range(1000):
        once(index)
    assert (descriptors(), mappings(), threads()) == before
    assert mappings() == []
    if "libasan" not in Path("/proc/self/maps").read_text():  # it keeps what was freed for a while
        assert all_mappings() - mapped < 100
        assert resident_kib() - resident < 8 << 10


def test_a_machine_that_fails_half_way_leaves_nothing_behind(kvm: None) -> None:
    before = descriptors()
    with CoreMachine() as core, Kvm() as opened:
        core.add_ram(0, 1 << 20)
        made = X86Vm(core, opened, irqchip=None)
        made.new_vcpu(0)
        with pytest.raises(HostError) as caught:
            made.new_vcpu(0)
        assert (caught.value.call, caught.value.errno) == ("KVM_CREATE_VCPU", errno.EEXIST)
        assert caught.value.code == "E325"
    assert descriptors() == before
    assert mappings() == []


# ---- what the host refuses -------------------------------------------------------------------------------------------


def refused(number: int, monkeypatch: pytest.MonkeyPatch, path: str = "/dev/kvm") -> HostError:
    def fail(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail)
        with pytest.raises(HostError) as caught:
            Kvm(path)
    assert caught.value.errno == number
    assert caught.value.call == "open"
    assert "\n" not in str(caught.value)
    return caught.value


def test_there_is_no_kvm(tmp_path: Path) -> None:
    with pytest.raises(HostError) as caught:
        Kvm(str(tmp_path / "kvm"))
    assert caught.value.code == "E320"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [({"vmx"}, "modprobe kvm_intel"), ({"svm"}, "modprobe kvm_amd"), (set(), "firmware")],
)
def test_what_to_do_without_kvm(flags: set[str], remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"))
    assert remedy in (refused(errno.ENOENT, monkeypatch).remedy or "")


def test_the_module_is_not_behind_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(errno.ENXIO, monkeypatch)
    assert error.code == "E320"
    assert "modprobe" in (error.remedy or "")


@pytest.mark.parametrize(
    ("mode", "group", "remedy"),
    [(0o20660, 1, "usermod -aG"), (0o20600, 0, 'KERNEL=="kvm"'), (0o20660, 0, "65-kvm.rules")],
)
def test_permission(mode: int, group: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "stat", lambda path, **options: SimpleNamespace(st_gid=group, st_uid=0, st_mode=mode))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: SimpleNamespace(gr_name="kvm"))
    error = refused(errno.EACCES, monkeypatch)
    assert error.code == "E321"
    assert remedy in (error.remedy or "")


def test_another_hypervisor_holds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    error = refused(errno.EBUSY, monkeypatch)
    assert error.code == "E322"
    assert "other hypervisor" in (error.remedy or "")


def test_the_file_is_no_kvm() -> None:
    before = descriptors()
    with pytest.raises(HostError, match="KVM_GET_API_VERSION") as caught:
        Kvm("/dev/null")
    assert (caught.value.code, caught.value.errno) == ("E323", errno.ENOTTY)
    assert descriptors() == before


def test_every_required_capability_is_asked_for(kvm: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for capability in host.table():
        if not capability.required:
            continue
        with Kvm() as opened:
            opened.capabilities[capability.name] = 0
            with pytest.raises(HostError) as caught:
                opened.require()
            error = caught.value
            assert (error.code, error.call, error.capability) == ("E324", "KVM_CHECK_EXTENSION", capability.name)
            assert capability.purpose in error.message
            assert error.remedy


def test_wanted_capabilities_may_be_missing(kvm: None) -> None:
    with Kvm() as opened:
        for capability in host.table():
            if not capability.required:
                opened.capabilities[capability.name] = 0
        opened.require()


def test_more_vcpus_than_kvm_takes(kvm: None) -> None:
    with Kvm() as opened:
        opened.require(opened.capabilities["KVM_CAP_MAX_VCPUS"])
        with pytest.raises(HostError) as caught:
            opened.require(opened.capabilities["KVM_CAP_MAX_VCPUS"] + 1)
        assert (caught.value.code, caught.value.capability) == ("E326", "KVM_CAP_MAX_VCPUS")


def test_the_limit_of_open_files(kvm: None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Kvm() as opened, CoreMachine() as core:
        core.add_ram(0, 1 << 20)
        spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        os.close(spare)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, hard))
        try:
            with pytest.raises(HostError) as caught:
                X86Vm(core, opened)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (caught.value.call, caught.value.errno) == ("KVM_CREATE_VM", errno.EMFILE)
    assert "ulimit -n" in (caught.value.remedy or "")


def test_ram_that_kvm_does_not_take(kvm: None) -> None:
    with Kvm() as opened, CoreMachine() as core:
        core.add_ram((1 << 62) - (1 << 20), 1 << 20)
        with pytest.raises(HostError) as caught:
            X86Vm(core, opened)
        assert caught.value.call == "KVM_SET_USER_MEMORY_REGION"
        assert caught.value.capability == "KVM_CAP_USER_MEMORY"


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ENOMEM, errno.EMFILE, errno.EPERM, errno.EINVAL])
def test_a_failed_call_names_everything(number: int) -> None:
    error = host.failed(f"KVM_CREATE_VCPU: {os.strerror(number)}", number, "vCPU 1")
    assert (error.code, error.call, error.errno) == ("E325", "KVM_CREATE_VCPU", number)
    assert error.capability == "KVM_CAP_MAX_VCPUS"
    assert errno.errorcode[number] in error.message
    assert error.remedy


def test_an_architecture_without_kvm_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="s390x"))
    with pytest.raises(HostError) as caught:
        host.table()
    assert caught.value.code == "E329"


def test_capability_numbers_are_those_of_linux() -> None:
    header = Path("/usr/include/linux/kvm.h")
    if not header.exists():
        pytest.skip("needs /usr/include/linux/kvm.h (linux-libc-dev)")
    numbers = dict(re.findall(r"^#define (KVM_CAP_\w+)\s+(\d+)", header.read_text(), re.MULTILINE))
    for arch in ARCHES:
        for capability in (*capabilities.COMMON, *part("capabilities", arch).TABLE):
            assert int(numbers[capability.name]) == capability.number, capability.name


def test_machines_side_by_side_on_threads(kvm: None) -> None:
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(5):
                with lab("long", irqchip=None) as made:
                    made.load(out(0, index) * 20 + HLT)
                    assert made.run() == lib.VMR_EXIT_HALT
                    assert made.ears.heard == [(0, 1, index)] * 20
        except BaseException as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_a_saved_vcpu_goes_on_in_another_machine(kvm: None) -> None:
    code = b"\x48\xff\xc0" * 3 + HLT + b"\x48\xff\xc0" * 2 + HLT  # inc rax ...
    with lab(irqchip=None) as first, lab(irqchip=None) as second:
        for made in (first, second):
            made.load(code)
        assert first.run() == lib.VMR_EXIT_HALT
        state = first.vm.save(0)
        second.vm.load(0, unpack(pack(state)))
        assert second.vm.save(0) == state and state["rax"] == 3 and state["cs.access"]
        assert second.run() == lib.VMR_EXIT_HALT
        stopped = second.vm.save(0)
        assert stopped["rax"] == 5
        wrong = evolve(state, fields=(*state.fields[:-1], evolve(state.fields[-1], values=(2,))))
        for bad in (wrong, evolve(state, fields=state.fields[1:]), evolve(state, kind="kvm-riscv64")):
            with pytest.raises(HostError) as caught:
                second.vm.load(0, bad)
            assert caught.value.code == "E370" and second.vm.save(0) == stopped
