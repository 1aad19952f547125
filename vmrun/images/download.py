"""Downloads by URL: verified by digest, resumed where they broke off, never half there under their final name.

Ranges and validators follow RFC 9110, sections 13.1.5 (If-Range) and 14. What has come so far lies in the store as
``partial/<digest>.part``, with the validator of the server that sent it beside it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

from vmrun import regular
from vmrun.errors import ArtifactError
from vmrun.images.bound import Bound
from vmrun.images.sources import CachedFile, Progress, Silent, UrlSource
from vmrun.images.store import CHUNK, Store
from vmrun.units import format_size

if TYPE_CHECKING:
    import http.client
    import urllib.request

_ATTEMPTS = 4
_TIMEOUT_S = 30.0
_REDIRECTS = 5


class _Lost(Exception):
    """The connection broke; what came so far is worth keeping."""


class _NoRange(Exception):
    """The server has no byte as far behind as was asked for."""


def resolve(
    source: UrlSource,
    store: Store,
    *,
    origin: str | None = None,
    progress: Progress | None = None,
    offline: bool = False,
    bound: Bound | None = None,
) -> CachedFile:
    """Return the file behind ``source.url``, from the store or from the network; ``origin`` is what people call it.

    Raise ArtifactError: E220 the server refuses, E221 unreachable or broken off (what came is kept for the next run),
    E222 another digest, E223 no URL that can be fetched, E260 not in the store and ``offline``, E264 larger than
    ``bound`` says: a server may send without an end.
    """
    scheme = _scheme(source.url)
    digest = source.sha256.lower()
    shown = origin or _shown(source.url)
    found = store.find(digest, origin=shown)
    if found is not None:
        return found
    if offline:
        raise ArtifactError(f"{shown} is not in the cache", code="E260", remedy="run `vmrun fetch` with a network")
    with store.locked(f"url {digest}"):
        found = store.find(digest, origin=shown)
        if found is not None:
            return found
        if scheme == "file":
            return _copy(source.url, digest, store, bound)
        return _Transfer(source.url, digest, shown, store, progress or Silent(), bound).run()


def small(url: str, *, limit: int) -> bytes:
    """Return the file behind ``url``, at most ``limit`` bytes, which something else than a digest vouches for.

    Raise ArtifactError E220, E221 or E223.
    """
    import http.client

    _scheme(url)
    try:
        with _open(url, {}) as response:
            data: bytes = response.read(limit + 1)
    except (_Lost, http.client.HTTPException, OSError) as error:
        raise _unreachable(url, _reason(error)) from None
    if len(data) > limit:
        raise ArtifactError(f"{_shown(url)} is larger than it can be", code="E220", remedy="check the address")
    return data


def _copy(url: str, digest: str, store: Store, bound: Bound | None) -> CachedFile:
    from urllib.request import url2pathname

    from vmrun.images import hostfile

    path = Path(url2pathname(urlsplit(url).path))
    found = hostfile.inspect(path, bound)
    try:
        handle = regular.open_file(path)
    except OSError as error:
        raise hostfile.unreadable(path, error) from None
    with handle:

        def write(target: IO[bytes]) -> None:
            left = found.st_size
            while left and (chunk := handle.read(min(CHUNK, left))):
                target.write(chunk)
                left -= len(chunk)

        return store.put(write, sha256=digest, origin=url)


class _Transfer:
    """One download into one partial file."""

    def __init__(
        self, url: str, digest: str, shown: str, store: Store, progress: Progress, bound: Bound | None = None
    ) -> None:
        self.url = url
        self.shown = shown
        self.digest = digest
        self.store = store
        self.progress = progress
        self.bound = bound
        self.part = store.folder("partial") / f"{digest}.part"
        self.record = f"partial/{digest}"

    def run(self) -> CachedFile:
        """Download, resume as often as it helps, verify."""
        resumed = self._size() > 0
        while True:
            self._fetch()
            try:
                found = self.store.adopt(self.part, sha256=self.digest, origin=self.shown)
            except ArtifactError as error:
                self._forget()
                if error.code != "E222" or not resumed:
                    raise
                resumed = False  # the first half may be of an older file: once more, from its beginning
                continue
            self.store.remove_record(self.record)
            return found

    def _fetch(self) -> None:
        """Bring the partial file to its full size, or raise."""
        attempts = _ATTEMPTS
        while True:
            before = self._size()
            try:
                self._receive(before)
                return
            except _Lost as lost:
                now = self._size()
                attempts = _ATTEMPTS if now > before else attempts - 1
                if attempts == 0 or now == 0:
                    kept = f"; {format_size(now)} are kept and the next run resumes there" if now else ""
                    raise _unreachable(self.url, f"{lost}{kept}") from None
            except OSError as error:
                self._forget()
                raise self.store.unusable(error) from None

    def _receive(self, start: int) -> None:
        """Make one request, from byte ``start`` on, and append what comes."""
        import http.client

        try:
            response = _open(self.url, self._headers(start))
        except _NoRange:
            self._forget()
            start = 0
            response = _open(self.url, {})
        with response:
            if response.status == 206 and _range_start(response.headers.get("Content-Range")) != start:
                self._forget()
                raise _Lost("the server answers with another range than asked for")
            if response.status != 206:
                start = 0
            length = response.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            self._check_size(total or 0)
            self._remember(response)
            self.progress.start(self.shown, total)
            try:
                with self.part.open("r+b" if start else "wb") as handle:
                    handle.seek(start)
                    done = start
                    while True:
                        try:
                            chunk = response.read(CHUNK)
                        except (http.client.HTTPException, OSError) as error:
                            raise _Lost(f"the connection broke off ({_reason(error)})") from None
                        if not chunk:
                            break
                        handle.write(chunk)
                        done += len(chunk)
                        self._check_size(done)
                        self.progress.advance(done)
                    handle.truncate()
                    handle.flush()
                    os.fsync(handle.fileno())
            finally:
                self.progress.finish()
            if total is not None and done < total:
                raise _Lost(f"the connection ended after {done} of {total} bytes")

    def _check_size(self, size: int) -> None:
        if self.bound is None:
            return
        try:
            self.bound.check(self.shown, size)
        except ArtifactError:
            self._forget()
            raise

    def _headers(self, start: int) -> dict[str, str]:
        if not start:
            return {}
        headers = {"Range": f"bytes={start}-"}
        record = self.store.read_record(self.record)
        validator = record.get("validator") if record and record.get("url") == self.url else None
        if isinstance(validator, str) and validator.isprintable():
            headers["If-Range"] = validator
        return headers

    def _remember(self, response: http.client.HTTPResponse) -> None:
        # A weak validator (W/…) promises no equal bytes and must not stand in If-Range.
        etag = response.headers.get("ETag", "")
        validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
        self.store.write_record(self.record, {"url": self.url, "validator": validator or None})

    def _size(self) -> int:
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self.store.unusable(error) from None

    def _forget(self) -> None:
        try:
            self.part.unlink(missing_ok=True)
        except OSError as error:
            raise self.store.unusable(error) from None
        self.store.remove_record(self.record)


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Return the answer to one request. Raise ArtifactError E220 where it is a refusal, _Lost where there is none."""
    import http.client
    import urllib.error
    import urllib.request

    always = {"User-Agent": "vmrun", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers={**always, **headers})
    try:
        response: http.client.HTTPResponse = _opener().open(request, timeout=_TIMEOUT_S)
        return response
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and "Range" in headers:
            raise _NoRange from None
        if 300 <= error.code < 400:
            why = f"redirected more than {_REDIRECTS} times, or to no http address"
            remedy = "give the final address"
        else:
            why = f"the server answers {error.code} {error.reason}"
            remedy = "check the address" if error.code < 500 else "try again later, or name another server"
        raise ArtifactError(f"cannot fetch {_shown(url)}: {why}", code="E220", remedy=remedy) from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _Lost(_reason(error)) from None


def _unreachable(url: str, why: str) -> ArtifactError:
    return ArtifactError(
        f"cannot fetch {_shown(url)}: {why}",
        code="E221",
        remedy="check the network, the proxy and the host's name, then run again",
    )


def _opener() -> urllib.request.OpenerDirector:
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        max_redirections = _REDIRECTS
        max_repeats = _REDIRECTS

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        Redirects(),
    ):
        opener.add_handler(handler)
    return opener


def _scheme(url: str) -> str:
    """Return the scheme of an address that can be fetched. Raise ArtifactError E223 for any other."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https", "file") or not (parts.hostname or parts.scheme == "file"):
            raise ValueError("only http, https and file addresses can be")
        if not url.isprintable() or " " in url or (parts.port is not None and parts.port == 0):
            raise ValueError("it has a blank, or a port that is none")
        return parts.scheme
    except ValueError as error:
        raise ArtifactError(
            f"cannot fetch `{_shown(url)}`: {error}",
            code="E223",
            remedy="write a full address, as in https://host/file",
        ) from None


def _range_start(value: str | None) -> int | None:
    unit, _, rest = (value or "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else None


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", error)
    if isinstance(inner, OSError) and inner.strerror:
        return inner.strerror
    return str(inner) or type(inner).__name__


def _shown(url: str) -> str:
    """Return the address as it may be printed: without a password."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if "@" in parts.netloc else url
