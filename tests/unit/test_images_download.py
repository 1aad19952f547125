"""Downloads: verified, resumed, and never half there."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from pathlib import Path

import pytest
from images_kit import server

from vmrun.errors import ArtifactError
from vmrun.images import download
from vmrun.images.sources import UrlSource
from vmrun.images.store import Store

DATA = os.urandom(1 << 16) * 40  # 2.5 MiB: several reads
DIGEST = hashlib.sha256(DATA).hexdigest()


class Log:
    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def start(self, label: str, total: int | None) -> None:
        self.calls.append(("start", total))

    def advance(self, done: int) -> None:
        self.calls.append(("advance", done))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def parts(store: Store) -> list[Path]:
    return list(store.root.glob("partial/*"))


def test_fetches_once(tmp_path: Path) -> None:
    store, log = Store(tmp_path), Log()
    with server({"/f": DATA}) as web:
        source = UrlSource(f"{web.url}/f", DIGEST.upper())
        found = download.resolve(source, store, progress=log)
        assert found.path.read_bytes() == DATA
        assert download.resolve(source, store).path == found.path
        assert len(web.requests) == 1
    assert log.calls[0] == ("start", len(DATA))
    assert log.calls[-2:] == [("advance", len(DATA)), ("finish", None)]
    assert not parts(store)
    assert download.resolve(source, store, offline=True).path == found.path


def test_resumes_in_one_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with server({"/f": DATA}) as web:
        web.cut = [1_000_000, 500_000]
        assert download.resolve(UrlSource(f"{web.url}/f", DIGEST), store).path.read_bytes() == DATA
        ranges = [request.get("Range") for request in web.requests]
        assert ranges == [None, "bytes=1000000-", "bytes=1500000-"]
        assert web.requests[1]["If-Range"] == '"one"'


def test_resumes_in_the_next_run(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with server({"/f": DATA}) as web:
        source = UrlSource(f"{web.url}/f", DIGEST)
        web.cut = [1_000_000, 0, 0, 0, 0, 0]
        with pytest.raises(ArtifactError) as caught:
            download.resolve(source, store)
        assert caught.value.code == "E221"
        assert "resumes" in str(caught.value)
        assert [p.stat().st_size for p in parts(store)] == [1_000_000]
        assert store.find(DIGEST) is None
        web.cut, web.requests = [], []
        assert download.resolve(source, store).path.read_bytes() == DATA
        assert web.requests[0]["Range"] == "bytes=1000000-"
    assert not parts(store)


def test_changed_file_starts_anew(tmp_path: Path) -> None:
    store = Store(tmp_path)
    new = DATA[::-1]
    with server({"/f": DATA}) as web:
        web.cut = [1_000_000, 0, 0, 0, 0, 0]
        source = UrlSource(f"{web.url}/f", hashlib.sha256(new).hexdigest())
        with pytest.raises(ArtifactError):
            download.resolve(source, store)
        web.cut, web.etag, web.body = [], '"two"', {"/f": new}
        assert download.resolve(source, store).path.read_bytes() == new


def test_server_without_validator_that_mixes_two_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    new = DATA[::-1]
    with server({"/f": DATA}) as web:
        web.cut = [1_000_000, 0, 0, 0, 0, 0]
        source = UrlSource(f"{web.url}/f", hashlib.sha256(new).hexdigest())
        with pytest.raises(ArtifactError):
            download.resolve(source, store)
        web.cut, web.body = [], {"/f": new}  # the same ETag for other bytes
        assert download.resolve(source, store).path.read_bytes() == new


def test_server_that_ignores_ranges(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with server({"/f": DATA}) as web:
        web.ranges, web.cut = False, [1_000_000]
        assert download.resolve(UrlSource(f"{web.url}/f", DIGEST), store).path.read_bytes() == DATA


def test_part_that_is_longer_than_the_file(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.folder("partial") / f"{DIGEST}.part").write_bytes(DATA + b"more")
    with server({"/f": DATA}) as web:
        assert download.resolve(UrlSource(f"{web.url}/f", DIGEST), store).path.read_bytes() == DATA


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_wrong_digest(tmp_path: Path, size: int) -> None:
    store = Store(tmp_path)
    wrong = b"x" * size
    with server({"/f": wrong}) as web, pytest.raises(ArtifactError) as caught:
        download.resolve(UrlSource(f"{web.url}/f", DIGEST), store)
    assert caught.value.code == "E222"
    assert DIGEST in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert not parts(store)
    assert list(store.digests()) == []


@pytest.mark.parametrize(("status", "code"), [(404, "E220"), (403, "E220"), (500, "E220")])
def test_refusals(tmp_path: Path, status: int, code: str) -> None:
    with server({"/f": DATA}) as web:
        web.status = status
        with pytest.raises(ArtifactError, match=str(status)) as caught:
            download.resolve(UrlSource(f"{web.url}/f", DIGEST), Store(tmp_path))
    assert caught.value.code == code


def test_redirects(tmp_path: Path) -> None:
    with server({"/f": DATA}) as web:
        web.redirects = {"/a": "/b", "/b": "/f", "/loop": "/loop", "/file": "file:///etc/passwd"}
        assert download.resolve(UrlSource(f"{web.url}/a", DIGEST), Store(tmp_path)).size == len(DATA)
        for path in ("/loop", "/file"):
            with pytest.raises(ArtifactError, match="redirected") as caught:
                download.resolve(UrlSource(web.url + path, "0" * 64), Store(tmp_path))
            assert caught.value.code == "E220"


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://user:secret@127.0.0.1:{taken.getsockname()[1]}/kernel"
        with pytest.raises(ArtifactError) as caught:
            download.resolve(UrlSource(url, DIGEST), Store(tmp_path))
    assert caught.value.code == "E221"
    assert "/kernel" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_offline(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="vmrun fetch") as caught:
        download.resolve(UrlSource("https://example.invalid/f", DIGEST), Store(tmp_path), offline=True)
    assert caught.value.code == "E260"


@pytest.mark.parametrize(
    "url", ["ftp://h/f", "nonsense", "http://", "http://[::1", "http://h:port/f", "http://a b/c", "http://h/\n"]
)
def test_no_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        download.resolve(UrlSource(url, DIGEST), Store(tmp_path))
    assert caught.value.code == "E223"


def test_file_url(tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(DATA)
    url = (tmp_path / "a file").as_uri()
    assert download.resolve(UrlSource(url, DIGEST), Store(tmp_path / "c")).path.read_bytes() == DATA
    with pytest.raises(ArtifactError) as caught:
        download.resolve(UrlSource(url + "x", "0" * 64), Store(tmp_path / "c"))
    assert caught.value.code == "E201"


def test_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    real = Path.open

    class Full:
        def __init__(self, handle: object) -> None:
            self.handle = handle

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None:
            self.handle.close()  # type: ignore[attr-defined]

        def seek(self, place: int) -> None:
            pass

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(path: Path, *args: object, **more: object) -> object:
        handle = real(path, *args, **more)  # type: ignore[call-overload]
        return Full(handle) if path.suffix == ".part" else handle

    monkeypatch.setattr(Path, "open", opened)
    with server({"/f": DATA}) as web, pytest.raises(ArtifactError, match="No space left") as caught:
        download.resolve(UrlSource(f"{web.url}/f", DIGEST), store)
    assert caught.value.code == "E211"
    assert not parts(store)
    assert list(store.digests()) == []
