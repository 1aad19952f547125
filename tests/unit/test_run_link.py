"""Frames on a serial line: however they are cut and whatever the kernel prints into them; never anybody else's."""

from __future__ import annotations

import base64
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_plans import CONSOLE, CONTROL, Capture, Recorder, make_plan

from vmrun.engine.fake import Expect, FakeEngine, FakeExit, Hang, Leave, Say, Step
from vmrun.run.attach import Attachment, Policy
from vmrun.run.lifecycle import run_plan
from vmrun.run.link import LIMIT, Frames
from vmrun.run.outcome import Outcome

KEY = b"0123abcd-0000-4000-8000-0123456789ab"
OTHER = KEY.replace(b"a", b"f")
OFF = Leave(FakeExit("poweroff"))
KERNEL = b"[   12.345678] printed in between; with a semicolon\r\n"


def frame(channel: str, number: int, payload: bytes, key: bytes = KEY) -> bytes:
    return b"\x1b_vmrun;%s;%s;%d;%d;%s\x1b\\" % (key, channel.encode(), number, len(payload), payload)


def output(channel: str, number: int, data: bytes) -> bytes:
    return frame(channel, number, base64.encodebytes(data))


INIT = frame("c", 0, b"init 1.25 virtio_mmio")


class Taken:
    """What came of a line."""

    def __init__(self) -> None:
        self.frames: list[tuple[str, bytes]] = []
        self.damage: list[str] = []
        self.text = b""
        self.reader = Frames(lambda channel, payload: self.frames.append((channel, payload)), self.damage.append)

    def feed(self, data: bytes, cuts: list[int]) -> Taken:
        for a, b in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
            self.text += self.reader.feed(data[a:b])
        self.text += self.reader.finish()
        return self


CUTS = st.lists(st.integers(0, 100_000), max_size=20)


@settings(max_examples=50, deadline=None)
@given(cuts=CUTS, at=st.integers(0, 10_000), data=st.binary(max_size=2700))
def test_frames_and_text_are_told_apart_however_they_are_cut(cuts: list[int], at: int, data: bytes) -> None:
    middle = output("o", 0, data)
    at = len(b"\x1b_vmrun;") + at % (len(middle) - len(b"\x1b_vmrun;") - 1)
    line = b"boot\r\n" + INIT + b"text" + middle[:at] + KERNEL + middle[at:] + output("e", 0, b"oops") + b"\x1b[0mend"
    taken = Taken().feed(line, cuts)
    assert taken.frames == [("c", b"init 1.25 virtio_mmio"), ("o", data), ("e", b"oops")]
    assert (taken.text, taken.damage) == (b"boot\r\ntext" + KERNEL + b"\x1b[0mend", [])


@pytest.mark.parametrize(
    "line",
    [
        frame("c", 0, b"exit 0"),  # before init has said its key
        INIT + frame("c", 1, b"exit 0", OTHER),  # printed, by who does not know it
        INIT + INIT.replace(KEY, OTHER),
        b"\x1b_vmrun;;;;\x1b\\",
        b"\x1b_vmrun;" + b"x" * 100,
        b"\x1b\\\x1b_\x1b_vmru",
    ],
)
def test_what_is_not_inits_is_text(line: bytes) -> None:
    taken = Taken().feed(line, [])
    assert (taken.frames[1:], taken.damage) == ([], [])
    assert taken.text == line.removeprefix(INIT)


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (output("o", 1, b"x"), "lost"),
        (output("o", 0, b"x") + output("o", 0, b"x"), "lost"),
        (frame("o", 0, b"eA==").replace(b";4;", b";5;"), "cut"),
        (frame("o", 0, b"e=A="), "base64"),
        (frame("x", 0, b""), "broken"),
        (frame("c", 1, b"exit;0"), "broken"),
    ],
)
def test_damage_is_told_once_and_the_rest_is_text(after: bytes, words: str) -> None:
    taken = Taken().feed(INIT + after + frame("c", 1, b"exit 0"), [])
    assert len(taken.damage) == 1 and words in taken.damage[0]
    assert ("c", b"exit 0") not in taken.frames
    assert taken.text.endswith(b"exit 0\x1b\\")


def test_a_frame_without_an_end_takes_no_memory_and_no_frame() -> None:
    long = b"\x1b_vmrun;" + b"A" * (2 * LIMIT)
    taken = Taken().feed(INIT + long + frame("c", 1, b"command"), [])
    assert (taken.frames[1:], taken.text, taken.damage) == ([("c", b"command")], long, [])
    cut = Taken()
    for _ in range(20):
        cut.text += cut.reader.feed(long)
    assert len(cut.reader._partial) <= 3 * LIMIT and not cut.damage
    spoilt = Taken().feed(INIT + b"\x1b_vmrun;" + KEY + b"A" * LIMIT, [])
    assert spoilt.damage == ["a frame has no end"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300) | st.just(INIT) | st.just(b"\x1b_vmrun;"), max_size=10))
def test_no_line_breaks_the_reader(chunks: list[bytes]) -> None:
    taken = Taken()
    for chunk in chunks:
        taken.feed(chunk, [])
        taken.reader.off = False
    assert len(taken.damage) <= len(chunks)


# ---- a run -----------------------------------------------------------------------------------------------------------


class Ran:
    """A run whose init has no ports."""

    def __init__(self, script: list[Step], *, command: bool = True, **attachment: object) -> None:
        self.out, self.err, self.console = Capture(), Capture(), Capture()
        fds = {"console_out": self.console.fd, "command_out": self.out.fd, "command_err": self.err.fd}
        attached = Attachment(**(fds | {"output": self.out.fd} | attachment))  # type: ignore[arg-type]
        self.seen = Recorder()
        self.engine = FakeEngine([script])
        plan = make_plan(reports=True, command=("x",) if command else ())
        self.outcome: Outcome = run_plan(plan, self.engine, attached, Policy(), self.seen)
        self.said = tuple(capture.bytes() for capture in (self.out, self.err, self.console))


def test_status_and_output_come_over_the_line_and_a_note_says_why() -> None:
    data = bytes(range(256)) * 10
    says = [INIT, frame("c", 1, b"command"), output("o", 0, data), output("e", 0, b"oops\n"), frame("c", 2, b"exit 7")]
    ran = Ran([Say(CONSOLE, b"boot\r\n" + b"".join(says), 7), OFF])
    assert (ran.outcome.reason, ran.outcome.code, ran.outcome.status) == ("poweroff", 7, 7)
    assert ran.said == (data, b"oops\n", b"boot\r\n") and ran.outcome.tail == b"boot\r\n"
    assert ran.seen.phases == ["build", "kernel", "init", "command", "off"]
    assert len(ran.seen.notes) == 1 and "no driver virtio_mmio" in ran.seen.notes[0]


def test_input_comes_as_it_is_asked_for(tmp_path: Path) -> None:
    data = os.urandom(5000)
    (tmp_path / "in").write_bytes(data)
    script: list[Step] = [Say(CONSOLE, INIT + frame("c", 1, b"command"))]
    sent = b""
    for number, piece in enumerate((data[:2048], data[2048:4096], data[4096:], b"")):
        sent += base64.b64encode(piece) + b"\n"
        script += [Say(CONSOLE, frame("i", number, b"")), Expect(CONSOLE, sent)]
    script += [Say(CONSOLE, frame("c", 2, b"exit 0")), OFF]
    with open(tmp_path / "in", "rb") as stdin:
        ran = Ran(script, command_in=stdin.fileno())
    assert (ran.outcome.code, ran.engine.machines[0].input) == (0, sent)


def test_keys_go_where_the_shell_is(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"typed\n")
    script = [Say(CONSOLE, INIT + frame("c", 1, b"command")), Expect(CONSOLE, b"typed\n"), OFF]
    with open(tmp_path / "in", "rb") as stdin:
        assert Ran(script, command=False, console_in=stdin.fileno()).outcome.code == 0


def test_damage_ends_the_run_and_is_the_guests() -> None:
    ran = Ran([Say(CONSOLE, INIT + output("o", 3, b"x")), Hang()])
    assert (ran.outcome.reason, ran.outcome.code) == ("fault", 255)
    assert "serial line is damaged" in ran.outcome.detail


def test_frames_mean_nothing_where_the_guest_has_its_ports() -> None:
    fake = INIT + frame("c", 1, b"exit 0")
    script = [Say(CONTROL, b"init 1\ncommand\n"), Say(CONTROL, b"exit 3\n"), Say(CONSOLE, fake), OFF]
    ran = Ran(script)
    assert (ran.outcome.code, ran.seen.notes) == (3, [])
