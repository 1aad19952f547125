"""The newc archive: what other cpio programs read out of it, and that the same entries give the same bytes."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patience import patience
from vmrun.images import cpio

SAMPLE = (
    cpio.directory("dev"),
    cpio.character_device("dev/console", 5, 1),
    cpio.regular("init", b"#!/bin/sh\n", 0o755),
    cpio.symlink("bin", "usr/bin"),
    cpio.fifo("pipe"),
    cpio.directory("usr"),
    cpio.directory("usr/bin", 0o1777),
    cpio.regular("usr/bin/x", b""),
)


def headers(data: bytes) -> list[tuple[str, dict[str, int], bytes]]:
    """Read an archive by the format's description: name, fields, content of each entry up to the trailer."""
    names = ("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize", "devmajor", "devminor")
    names += ("rdevmajor", "rdevminor", "namesize", "check")
    found, at = [], 0
    while True:
        assert at % 4 == 0
        assert data[at : at + 6] == b"070701"
        values = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        fields = dict(zip(names, values, strict=True))
        name = data[at + 110 : at + 110 + fields["namesize"] - 1]
        assert data[at + 109 + fields["namesize"]] == 0
        body = (at + 110 + fields["namesize"] + 3) // 4 * 4
        if name == b"TRAILER!!!":
            assert body == len(data)
            return found
        content = data[body : body + fields["filesize"]]
        assert len(content) == fields["filesize"]
        found.append((name.decode(), fields, content))
        at = (body + fields["filesize"] + 3) // 4 * 4


def test_fields() -> None:
    found = headers(cpio.archive(SAMPLE))
    names = [name for name, _, _ in found]
    assert names == ["bin", "dev", "dev/console", "init", "pipe", "usr", "usr/bin", "usr/bin/x"]
    assert [fields["ino"] for _, fields, _ in found] == list(range(1, 9))
    assert all(fields["uid"] == fields["gid"] == fields["mtime"] == fields["check"] == 0 for _, fields, _ in found)
    by_name = {name: (fields, content) for name, fields, content in found}
    assert (by_name["dev/console"][0]["rdevmajor"], by_name["dev/console"][0]["rdevminor"]) == (5, 1)
    assert stat.S_ISCHR(by_name["dev/console"][0]["mode"])
    assert stat.S_ISFIFO(by_name["pipe"][0]["mode"])
    assert by_name["usr/bin"][0]["mode"] == stat.S_IFDIR | 0o1777
    assert by_name["bin"][1] == b"usr/bin"
    assert by_name["init"][1] == b"#!/bin/sh\n"


def test_order_of_entries_does_not_matter() -> None:
    assert cpio.archive(SAMPLE) == cpio.archive(reversed(SAMPLE))


def test_parents_come_first() -> None:
    # `a-b` sorts before `a/c` by bytes, but no parent may come after its child.
    names = ["a/c", "a-b", "a", "a/b/c", "a/b"]
    found = [name for name, _, _ in headers(cpio.archive(cpio.directory(name) for name in names))]
    assert all(found.index(str(Path(name).parent)) < found.index(name) for name in found if "/" in name)


@pytest.mark.parametrize("name", ["", "/init", "../x", "a/../b", "./a", "a//b", "a/", "a\0b", "TRAILER!!!", "x" * 4096])
def test_names_that_no_archive_has(name: str) -> None:
    with pytest.raises(ValueError, match=r"archive|ends"):
        cpio.archive([cpio.regular(name, b"")])


def test_twice_and_bad_links() -> None:
    with pytest.raises(ValueError, match="twice"):
        cpio.archive([cpio.regular("a", b""), cpio.directory("a")])
    for target in ("", "x" * 4096):
        with pytest.raises(ValueError, match="target"):
            cpio.archive([cpio.symlink("a", target)])


letters = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"])
part = st.text(letters, min_size=1, max_size=20)
names = st.lists(part.filter(lambda p: p not in (".", "..")), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(names.filter(lambda n: n != "TRAILER!!!"), st.binary(max_size=50), max_size=8))
def test_every_content_comes_back(files: dict[str, bytes]) -> None:
    found = headers(cpio.archive(cpio.regular(name, data) for name, data in files.items()))
    assert {name: content for name, _, content in found} == files


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.from_regex(r"[a-zA-Z0-9._][a-zA-Z0-9._-]{0,9}", fullmatch=True), st.binary(max_size=9)))
def test_cpio_reads_it(files: dict[str, bytes]) -> None:
    program = shutil.which("cpio")
    if program is None:
        pytest.skip("needs cpio")
    files = {name: data for name, data in files.items() if name not in (".", "..")}
    data = cpio.archive(cpio.regular(name, data) for name, data in files.items())
    listed = subprocess.run(
        [program, "-t", "--quiet"], input=data, capture_output=True, check=True, timeout=patience(20)
    )
    assert sorted(listed.stdout.decode().split("\n")[:-1]) == sorted(files)
    assert not listed.stderr


def test_cpio_unpacks_it(tmp_path: Path) -> None:
    program = shutil.which("cpio")
    if program is None:
        pytest.skip("needs cpio")
    entries = [entry for entry in SAMPLE if not stat.S_ISCHR(entry.mode)]
    subprocess.run(
        [program, "-i", "-m", "--quiet"], input=cpio.archive(entries), cwd=tmp_path, check=True, timeout=patience(20)
    )
    assert (tmp_path / "init").read_bytes() == b"#!/bin/sh\n"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin").readlink() == Path("usr/bin")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "init").stat().st_mtime == 0
