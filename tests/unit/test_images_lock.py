"""vmrun.lock: what it pins, the same bytes each time, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmrun.errors import ArtifactError
from vmrun.images import lock
from vmrun.images.lock import Lock, Pin
from vmrun.images.sources import DebianSource, PathSource, UrlSource

PINS = {
    "url:https://h/a": Pin("a" * 64, 5),
    "debian:trixie:riscv64:linux-image-riscv64": Pin("b" * 64, 7, "linux-image-6-riscv64", "6.12-1", "pool/x.deb"),
    'path:sub/we"ird\n\\name': Pin("c" * 64, 0),
}


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "vmrun.lock"
    lock.write(path, PINS)
    assert lock.read(path) == Lock(path, PINS)
    assert lock.text(PINS) == lock.text(dict(reversed(PINS.items()))) == path.read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["vmrun.lock"]


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.just(Pin("d" * 64, 3, version="1"))))
def test_any_key_comes_back(pins: dict[str, Pin]) -> None:
    import tomli

    assert set(tomli.loads(lock.text(pins)).get("artifact", {})) == set(pins)


def test_keys(tmp_path: Path) -> None:
    held = Lock(tmp_path / "m" / "vmrun.lock", {})
    assert held.key(PathSource(tmp_path / "build" / "Image"), "riscv64") == "path:../build/Image"
    assert held.key(UrlSource("https://h/a", "0" * 64), "riscv64") == "url:https://h/a"
    assert held.key(DebianSource("p", "trixie"), "arm64") == "debian:trixie:arm64:p"


def test_no_file_pins_nothing(tmp_path: Path) -> None:
    held = lock.read(tmp_path / "vmrun.lock")
    source = UrlSource("https://h/a", "0" * 64)
    assert held.pin(source, "riscv64") is None
    with pytest.raises(ArtifactError, match="vmrun lock") as caught:
        held.pin(source, "riscv64", required=True)
    assert caught.value.code == "E250"


HEAD = "version = 1\n[artifact.x]\n"


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "",
        "version = 2",
        "version = 1\nartifact = 3",
        "version = 1\n[artifact]\nx = 1",
        HEAD + "size = 1",
        HEAD + f'sha256 = "{"A" * 64}"\nsize = 1',
        HEAD + f'sha256 = "{"a" * 64}"',
        HEAD + f'sha256 = "{"a" * 64}"\nsize = -1',
        HEAD + f'sha256 = "{"a" * 64}"\nsize = true',
        HEAD + f'sha256 = "{"a" * 64}"\nsize = 1\nversion = 3',
        HEAD + f'sha256 = "{"a" * 64}"\nsize = 1\nother = "x"',
        "\xff",
    ],
)
def test_files_that_are_no_lock(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vmrun.lock"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match="vmrun lock") as caught:
        lock.read(path)
    assert caught.value.code == "E252"
    assert "\n" not in caught.value.message


def test_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "vmrun.lock").mkdir()
    for use in (lambda: lock.read(tmp_path / "vmrun.lock"), lambda: lock.write(tmp_path / "vmrun.lock", PINS)):
        with pytest.raises(ArtifactError) as caught:
            use()
        assert caught.value.code == "E252"
    assert [p.name for p in tmp_path.iterdir()] == ["vmrun.lock"]
