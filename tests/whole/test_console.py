"""What cannot be printed never stops the program by itself, and what takes how long is added up."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from layersearch.console import Console, Stopwatch, any_text
from layersearch.words import count


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Both ends of a pipe, the second to be written to."""
    reading, writing = os.pipe()
    stream = os.fdopen(writing, "w", encoding="utf-8")
    yield reading, stream
    stream.close()


@pytest.fixture
def full_disk() -> Iterator[TextIO]:
    """A stream that has no room left."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w", encoding="utf-8") as stream:
        yield stream


def test_quiet_leaves_the_summary_and_what_must_be_known(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("progress")
    console.notice("worth knowing")
    console.warn("must be known")
    console.summarize("summary")
    assert capsys.readouterr() == ("summary\n", "Note: must be known\n")


def test_otherwise_everything_is_printed_notes_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=False)
    console.say("progress")
    console.notice("worth knowing")
    assert capsys.readouterr() == ("progress\n", "Note: worth knowing\n")


TIED = "  tied (95 %): [64, 64] 12491 parameters · [64, 64, 64] 21067 · [64] 3915"
PATH = "/" + 70 * "x"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(
    ("columns", "text", "shown"),
    [
        (60, TIED, "  tied (95 %): [64, 64] 12491 parameters · [64, 64, 64]\n    21067 · [64] 3915"),
        (60, f"Results saved: {PATH}\nshort", f"Results saved:\n  {PATH}\nshort"),
        (80, TIED, TIED),
        (0, TIED, TIED),
    ],
    ids=["words", "a word longer than the terminal", "wide enough", "unknown"],
)
def test_on_a_terminal_long_lines_are_broken_between_words(
    columns: int, text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl
    import struct
    import termios

    reading, writing = os.openpty()
    fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        Console(quiet=False).summarize(text)
        read = os.read(reading, 4096).decode()
    os.close(reading)
    assert read.replace("\r\n", "\n") == shown + "\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_reader_that_is_gone_is_told_and_the_rest_is_dropped(
    name: str, pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, stream = pipe
    monkeypatch.setattr(sys, name, stream)
    gone: list[None] = []
    console = Console(quiet=False, on_gone=lambda: gone.append(None))
    print_to = console.summarize if name == "stdout" else console.warn
    print_to("read")
    assert os.read(reading, 100).endswith(b"read\n")
    os.close(reading)
    assert not gone
    print_to("lost")
    print_to("dropped")
    assert len(gone) == 1
    assert console.error is None
    stream.flush()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_full_disk_is_remembered_and_the_rest_is_dropped(
    name: str, full_disk: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, name, full_disk)
    console = Console(quiet=False, on_gone=lambda: pytest.fail("nobody is gone"))
    print_to = console.summarize if name == "stdout" else console.warn
    print_to("lost")
    print_to("dropped")
    assert console.error is not None
    assert console.error.strerror == "No space left on device"
    full_disk.flush()


def test_a_stream_that_is_no_file_may_fail_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Failing())
    gone: list[None] = []
    Console(quiet=False, on_gone=lambda: gone.append(None)).say("lost")
    assert gone


def test_there_may_be_no_stdout_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    console = Console(quiet=False)
    console.say("nowhere")
    assert console.error is None


def test_any_text_can_be_printed_within_and_the_stream_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="ascii", errors="strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with any_text():
        print("±", end="")
    assert written.getvalue() == b"\\xb1"
    assert stream.errors == "strict"


def test_a_stopwatch_adds_up_the_laps_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 3.0, 6.0])
    monkeypatch.setattr("layersearch.console.time.perf_counter", lambda: next(clock))
    stopwatch = Stopwatch()
    for stage in ("load", "train", "load"):
        stopwatch.lap(stage)
    assert stopwatch.timing() == {"load": 4.0, "train": 2.0, "total": 6.0}


def test_one_is_counted_without_an_s() -> None:
    assert [count(number, "fold") for number in (0, 1, 2)] == ["0 folds", "1 fold", "2 folds"]
