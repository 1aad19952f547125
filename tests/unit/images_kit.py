"""What the tests of `vmrun.images` share: packages and modules made here, a file server on the loopback."""

from __future__ import annotations

import contextlib
import io
import lzma
import struct
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

RELEASE = "6.99.1-test-riscv64"
BUSYBOX = b"\x7fELF" + b"\0" * 60 + b"junk\0[\0[[\0ash\0busybox\0cat\0poweroff\0sh\0\0more"


def module(name: str, depends: str = "", softdep: str = "") -> bytes:
    """Return a relocatable ELF-64 object with a .modinfo section."""
    words = [f"name={name}", f"depends={depends}", "license=GPL"] + ([f"softdep={softdep}"] if softdep else [])
    info = b"".join(word.encode() + b"\0" for word in words)
    names = b"\0.modinfo\0.shstrtab\0"
    body = info + names
    offset = 64 + len(body)
    sections = [
        (0,) * 10,
        (1, 1, 2, 0, 64, len(info), 0, 0, 1, 0),
        (10, 3, 0, 0, 64 + len(info), len(names), 0, 0, 1, 0),
    ]
    ident = b"\x7fELF\x02\x01\x01" + b"\0" * 9
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 1, 243, 1, 0, 0, offset, 0, 64, 0, 0, 64, len(sections), 2)
    return header + body + b"".join(struct.pack("<IIQQQQIIQQ", *section) for section in sections)


def deb(path: Path, files: Mapping[str, bytes | None], *, control: str = "", compression: str = "xz") -> Path:
    """Write a .deb with ``files``; None makes a symlink."""
    members = [
        ("debian-binary", b"2.0\n"),
        (f"control.tar.{compression}", tar({"./control": control.encode()}, compression)),
        (f"data.tar.{compression}", tar({f"./{name}": data for name, data in files.items()}, compression)),
    ]
    parts = [b"!<arch>\n"]
    for name, data in members:
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    path.write_bytes(b"".join(parts))
    return path


def tar(files: Mapping[str, bytes | None], compression: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            if data is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "elsewhere"
                archive.addfile(entry)
            else:
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def kernel_files(release: str = RELEASE) -> dict[str, bytes | None]:
    """Return the files of a small kernel package."""
    tree = f"usr/lib/modules/{release}"
    made = {
        "kernel/drivers/virtio/virtio_mmio.ko.xz": module("virtio_mmio"),
        "kernel/drivers/block/virtio_blk.ko.xz": module("virtio_blk"),
        "kernel/drivers/net/virtio_net.ko.xz": module("virtio_net", "net_failover"),
        "kernel/drivers/net/net_failover.ko.xz": module("net_failover", "failover"),
        "kernel/net/core/failover.ko.xz": module("failover"),
        "kernel/fs/ext4/ext4.ko.xz": module("ext4", "jbd2", "pre: crypto-crc32c"),
        "kernel/fs/jbd2/jbd2.ko.xz": module("jbd2", "mbcache-x"),
        "kernel/fs/mbcache-x.ko.xz": module("mbcache_x"),
        "kernel/crypto/crc32c_generic.ko.xz": module("crc32c_generic"),
        "kernel/drivers/gpu/drm/virtio/virtio-gpu.ko.xz": module("virtio_gpu", "drm"),
        "kernel/drivers/gpu/drm/drm.ko.xz": module("drm"),
        "kernel/drivers/usb/usbcore.ko.xz": module("usbcore"),
    }
    files: dict[str, bytes | None] = {
        f"boot/vmlinux-{release}": b"a kernel" * 100,
        f"boot/config-{release}": b"CONFIG_VIRTIO_MMIO=m\n",
        f"boot/System.map-{release}": b"nothing",
        f"{tree}/modules.builtin": b"kernel/drivers/char/virtio_console.ko\n",
        f"{tree}/modules.order": b"",
    }
    return files | {f"{tree}/{name}": lzma.compress(data) for name, data in made.items()}


def control(package: str, version: str, *, depends: str = "", arch: str = "riscv64") -> str:
    lines = [f"Package: {package}", f"Version: {version}", f"Architecture: {arch}", "Maintainer: Nobody <n@example>"]
    return "\n".join([*lines, *([f"Depends: {depends}"] if depends else []), "Description: made by a test"]) + "\n"


@dataclass
class Served:
    """What a server does: ``body`` of each path; ``cut`` ends answers after so many bytes, ``ranges`` obeys Range."""

    body: dict[str, bytes]
    url: str = ""
    etag: str = '"one"'
    ranges: bool = True
    cut: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    status: int = 200
    requests: list[dict[str, str]] = field(default_factory=list)


@contextlib.contextmanager
def server(body: dict[str, bytes]) -> Iterator[Served]:
    """Serve ``body`` on the loopback."""
    served = Served(body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append(dict(self.headers))
            if self.path in served.redirects:
                self.send_response(302)
                self.send_header("Location", served.redirects[self.path])
                self.end_headers()
                return
            data = served.body.get(self.path)
            if data is None or served.status != 200:
                self.send_error(404 if data is None else served.status)
                return
            start = 0
            asked = self.headers.get("Range")
            fresh = self.headers.get("If-Range", served.etag) == served.etag
            if asked and served.ranges and fresh:
                start = int(asked.removeprefix("bytes=").split("-")[0])
                if start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            self.send_header("ETag", served.etag)
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            stop = served.cut.pop(0) if served.cut else len(data)
            self.wfile.write(data[start : start + stop])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield served
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
