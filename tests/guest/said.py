"""What a guest with vmrun's init has said where only a serial line listens: its text, and what its frames carry."""

from __future__ import annotations

import subprocess

from vmrun.run.link import Frames


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return the text of QEMU's output, its frames decoded: output as it is, reports as `vmrun: exit 0`."""
    carried: list[bytes] = []

    def take(channel: str, payload: bytes) -> None:
        carried.append(b"vmrun: " + payload + b"\n" if channel == "c" else payload)

    frames = Frames(take, lambda what: carried.append(f"damaged: {what}\n".encode()))
    text = frames.feed(done.stdout) + frames.finish()
    return b"".join((text, b"\n", *carried, done.stderr)).decode("utf-8", "replace")
