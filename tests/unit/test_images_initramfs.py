"""The initramfs: what is in it, byte for byte the same, and a command that survives every quoting."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from images_kit import BUSYBOX
from test_images_cpio import headers

from patience import patience
from vmrun.errors import ArtifactError
from vmrun.images import initramfs
from vmrun.images.initramfs import InitramfsSpec, ModuleFile, build, command_script

SPEC = InitramfsSpec(
    BUSYBOX,
    "6.1-test",
    (ModuleFile("failover", b"ko1"), ModuleFile("virtio_net", b"ko2", ("failover",))),
    ("/bin/sh", "-c", "echo 'hi'"),
    "box",
    ("control", "stdout"),
)


def files(spec: InitramfsSpec) -> dict[str, bytes]:
    return {name: content for name, _, content in headers(build(spec))}


def test_contents() -> None:
    found = files(SPEC)
    assert found["init"] == initramfs.init_script()
    assert found["bin/busybox"] == BUSYBOX
    assert found["bin/sh"] == found["bin/cat"] == b"busybox"
    assert found["vmrun/modules"] == b"failover virtio_net\n"
    assert found["vmrun/ports"] == b"control stdout\n"
    assert found["vmrun/hostname"] == b"box\n"
    assert found["vmrun/command"] == b"exec '/bin/sh' '-c' 'echo '\\''hi'\\'''\n"
    assert found["lib/modules/6.1-test/modules.dep"] == b"failover.ko:\nvirtio_net.ko: failover.ko\n"
    assert found["lib/modules/6.1-test/virtio_net.ko"] == b"ko2"
    devices = {name: fields for name, fields, _ in headers(build(SPEC)) if name.startswith("dev/")}
    assert found["dev/console"] == b"null", "which opens before any console driver is there"
    assert (devices["dev/null"]["rdevmajor"], devices["dev/null"]["rdevminor"]) == (1, 3)


def test_shell_and_no_modules() -> None:
    found = files(InitramfsSpec(BUSYBOX, ""))
    assert "vmrun/command" not in found
    assert found["vmrun/modules"] == found["vmrun/ports"] == b"\n"
    assert not [name for name in found if name.startswith("lib/modules")]


def test_every_parent_is_there() -> None:
    found = files(SPEC)
    assert all(name.rpartition("/")[0] in found for name in found if "/" in name)


def test_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change here means that archives in caches are out of date: count `initramfs.REVISION` up, then mend this."""
    assert build(SPEC) == build(SPEC)
    monkeypatch.setattr(initramfs, "init_script", lambda: b"#!/bin/sh\n")  # the real one is keyed by its own digest
    assert (initramfs.REVISION, hashlib.sha256(build(SPEC)).hexdigest()[:16]) == (3, "946c085ea4ab9dc0")


def test_applets() -> None:
    assert initramfs.applets(BUSYBOX) == ("[", "[[", "ash", "busybox", "cat", "poweroff", "sh")
    for bad in (b"", b"\x7fELF", b"[\0[[\0", b"[\0[[\0sh", b"[\0[[\0" + b"zz\0sh\0", b"[\0[[\0../../x\0sh\0"):
        with pytest.raises(ArtifactError) as caught:
            initramfs.applets(bad)
        assert caught.value.code == "E263"


@pytest.mark.parametrize("argv", [(), ("",), ("a", "b\0c")])
def test_commands_that_cannot_be(argv: tuple[str, ...]) -> None:
    with pytest.raises(ArtifactError) as caught:
        command_script(argv)
    assert caught.value.code == "E262"


def test_bad_words() -> None:
    with pytest.raises(ArtifactError):
        build(InitramfsSpec(BUSYBOX, "", hostname="two\nlines"))
    with pytest.raises(ValueError, match="no port `nonsense`"):
        build(InitramfsSpec(BUSYBOX, "", ports=("nonsense",)))


shells = [shell for shell in (["dash"], ["busybox", "sh"]) if shutil.which(shell[0])]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=40).map(lambda data: data.replace(b"\0", b"'")), max_size=5))
def test_every_byte_reaches_the_command(arguments: list[bytes]) -> None:
    if not shells:
        pytest.skip("needs dash or busybox")
    script = command_script(("printf", "%s\\n", *map(os.fsdecode, arguments)))
    for shell in shells:
        done = subprocess.run([*shell, "-c", script], capture_output=True, check=True, timeout=patience(20))
        assert done.stdout == (b"".join(a + b"\n" for a in arguments) or b"\n")


def test_init_is_a_shell_script() -> None:
    if not shells:
        pytest.skip("needs dash or busybox")
    for shell in shells:
        subprocess.run([*shell, "-n"], input=initramfs.init_script(), check=True, timeout=patience(20))
