"""The lab's pieces that need neither QEMU nor a mirror."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
import subprocess
import sys
from pathlib import Path

import lab_guests
import lab_host
import pytest
from l1 import pytest_twice
from lab_checkout import Step
from lab_host import extract
from lab_packages import unpack
from lab_run import SKIPPED, _verdict
from lab_table import HOSTS

from patience import patience
from vmrun.errors import ArtifactError

HERE = Path(__file__).parent


def bzimage(payload: bytes) -> bytes:
    """Return the least of a bzImage: four setup sectors, then the payload 16 bytes into the kernel."""
    image = bytearray(5 * 512)
    image[0x1F1] = 4
    image[0x202:0x206] = b"HdrS"
    image[0x248:0x24C] = (16).to_bytes(4, "little")
    image[0x24C:0x250] = (len(payload) + 4).to_bytes(4, "little")
    return bytes(image) + bytes(16) + payload + b"SIZE"


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_the_elf_in_a_bzimage(pack: object) -> None:
    kernel = b"\x7fELF" + os.urandom(1000)
    assert lab_guests.vmlinux(bzimage(pack(kernel))) == kernel  # type: ignore[operator]


@pytest.mark.parametrize("image", [b"", b"MZ" * 400, bzimage(b"nothing known")])
def test_what_is_no_bzimage(image: bytes) -> None:
    with pytest.raises(ArtifactError):
        lab_guests.vmlinux(image)


def test_the_probe_leaves_room_at_its_last_page() -> None:
    for size in (1, 4000, 5000):
        assert len(lab_guests.probe(bytes(size))) % 4096 == 64


@pytest.mark.parametrize("host", HOSTS.values(), ids=lambda host: host.name)
def test_the_table_is_whole(host: object) -> None:
    for peer in host.peers:  # type: ignore[attr-defined]
        assert {form for guest in host.guests for form in guest.forms} >= set(peer.forms)  # type: ignore[attr-defined]
        for field in ("{kernel}", "{initrd}", "{cmdline}", "{ram_mib}", "{cpus}"):
            assert field in peer.argv


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(lab_host.Unable, match="qemu-system-x86_64 is missing: sudo apt-get install"):
        lab_host.need_tools(HOSTS["x86_64"])


def test_a_skip_is_loud_and_no_pass(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, HERE / "lab_run.py", "--out", tmp_path],
        env=os.environ | {"PATH": "/nowhere", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == SKIPPED
    assert done.stderr.startswith("lab: SKIPPED x86_64: ") and done.stderr.count("\n") == 1


STEPS = [Step("tests", ("true",), 1), Step("bench", ("true",), 1)]


@pytest.mark.parametrize(
    ("status", "done", "code"),
    [
        (0, {"tests": 0, "bench": 0}, 0),
        (1, {"tests": 1, "bench": 0}, 1),
        (0, {"tests": 0}, 1),
        (None, {"tests": 0, "bench": 0}, 1),
        (1, {"tests": "timeout", "bench": 0}, 1),
        (None, None, 1),
    ],
)
def test_a_pass_needs_every_steps_word(
    tmp_path: Path, status: int | None, done: dict[str, object] | None, code: int
) -> None:
    if done is not None:
        record = [{"name": name, "status": value, "seconds": 1} for name, value in done.items()]
        (tmp_path / "steps.json").write_text(json.dumps(record))
    assert _verdict(status, STEPS, tmp_path) == code


@pytest.mark.parametrize(
    ("broken", "status", "told"),
    [
        (["once"], 0, ["once"]),
        (["always"], 1, None),
        (["once", "always"], 1, None),
        (["once", "twice", "thrice"], 1, None),
        ([], 0, None),
    ],
)
def test_what_failed_once_is_run_again_and_named(
    broken: list[str], status: int, told: list[str] | None, tmp_path: Path
) -> None:
    """`always` fails each time; others find the second time that they were here before."""
    tests = "".join(
        f"def test_{name}(): assert {name != 'always'} and Path({str(tmp_path / name)!r}).exists() or "
        f"{name != 'always'} and Path({str(tmp_path / name)!r}).touch()\n"
        for name in broken
    )
    (tmp_path / "test_mine.py").write_text(f"from pathlib import Path\ndef test_good(): pass\n{tests}")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    junit = tmp_path / "junit.xml"
    arguments = ["-c", str(tmp_path / "pytest.ini"), "--rootdir", str(tmp_path), "-q", "-p", "no:cacheprovider"]
    assert pytest_twice.main(junit, [*arguments, str(tmp_path / "test_mine.py")], tmp_path) == status
    again = tmp_path / "again.txt"
    found = again.read_text().splitlines() if again.exists() else None
    assert found == (told and [f"{tmp_path}/test_mine.py::test_{name}" for name in told])


def test_a_failure_is_told_with_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "steps.json").write_text(json.dumps([{"name": "tests", "status": 1, "seconds": 1}]))
    (tmp_path / "tests.log").write_text("collected 2 items\n")
    (tmp_path / "junit.xml").write_text(
        '<testsuites><testsuite tests="2" failures="1" errors="0" skipped="0"><testcase classname="m" name="good"/>'
        '<testcase classname="m" name="bad"><failure message="short">line\nE assert 1 == 2</failure></testcase>'
        "</testsuite></testsuites>"
    )
    assert _verdict(1, STEPS, tmp_path) == 1
    said = capsys.readouterr().out
    for words in ("lab: FAILED m::bad", "E assert 1 == 2", "collected 2 items", "2 tests, 1 failures"):
        assert words in said
    assert "m::good" not in said


def test_steps_have_limits_and_leave_results(tmp_path: Path) -> None:
    """The runner of the host, run here: a step that hangs with a child is ended, the next one still runs."""
    source = (HERE / "l1" / "steps.py").read_text().replace('Path("/lab/work")', f"Path({str(tmp_path)!r})")
    (tmp_path / "steps.py").write_text(source)
    steps = [
        {"name": "hangs", "argv": ["sh", "-c", "echo begun; sleep 1000 & sleep 1000"], "limit_s": patience(0.5)},
        {"name": "fails", "argv": ["sh", "-c", "exit 3"], "limit_s": patience(20)},
        {"name": "works", "argv": ["sh", "-c", "echo said; echo kept >$LAB_RESULTS/file"], "limit_s": patience(20)},
    ]
    (tmp_path / "steps.json").write_text(json.dumps(steps))
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(1 << 20)
    done = subprocess.run(
        [sys.executable, tmp_path / "steps.py", tmp_path / "steps.json", disk],
        capture_output=True,
        timeout=patience(60),
    )
    assert done.returncode == 1
    assert b"begun" in done.stdout and b"said" in done.stdout
    (tmp_path / "out").mkdir()
    extract(disk, tmp_path / "out")
    told = {step["name"]: step["status"] for step in json.loads((tmp_path / "out" / "steps.json").read_text())}
    assert told == {"hangs": "timeout", "fails": 3, "works": 0}
    assert (tmp_path / "out" / "file").read_text() == "kept\n"


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
def test_a_package_that_brings_lib_as_a_folder_keeps_usr_merged(tmp_path: Path) -> None:
    content = tmp_path / "content"
    (content / "lib").mkdir(parents=True)
    (content / "lib" / "thing").write_text("x")
    (content / "DEBIAN").mkdir()
    (content / "DEBIAN" / "control").write_text(
        "Package: thing\nVersion: 1\nArchitecture: all\nMaintainer: Nobody <nobody@example.invalid>\nDescription: x\n"
    )
    package = tmp_path / "thing.deb"
    subprocess.run(["dpkg-deb", "-b", content, package], check=True, capture_output=True)
    unpack([package], tmp_path / "tree")
    assert (tmp_path / "tree" / "lib").is_symlink()
    assert (tmp_path / "tree" / "usr" / "lib" / "thing").read_text() == "x"
