"""Progress: a live bar on a terminal, a few plain lines elsewhere, nothing where the console is quiet."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout

import pytest

from layersearch.console import Console
from layersearch.search.progress import Progress


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, total: int, *, done: int = 0, quiet: bool = False, best: str = "[64, 64] 0.0379") -> str:
    with Progress(total, console=Console(quiet), stream=stream) as progress:
        for number in range(total):
            progress.update(best, is_new=number >= done)
    return stream.getvalue()


@pytest.mark.parametrize("total", [1, 2, 3, 9, 10, 11, 19, 170, 999])
def test_a_pipe_gets_about_ten_plain_lines(total: int) -> None:
    lines = shown(io.StringIO(), total).splitlines()
    assert len(lines) == min(total, 10)
    assert len(set(lines)) == len(lines)
    assert lines[-1] == f"  {total} of {total} trainings, best so far [64, 64] 0.0379"
    assert all("left" in line for line in lines[:-1])
    assert not any("\r" in line for line in lines)


def test_a_line_before_any_configuration_is_finished_names_none() -> None:
    assert shown(io.StringIO(), 1, best="") == "  1 of 1 trainings\n"


def test_a_terminal_gets_a_live_bar_with_count_leader_and_time() -> None:
    text = shown(Terminal(), 19)
    last = text.split("\r")[-1]
    assert "\r" in text
    assert last.startswith("100%|")
    assert "19/19 trainings" in last
    assert last.rstrip("\n ").endswith("left, best [64, 64] 0.0379")
    assert text.endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_shows_nothing(stream: io.StringIO) -> None:
    assert shown(stream, 12, quiet=True) == ""


def test_an_exception_closes_the_bar_and_passes_through() -> None:
    stream = Terminal()
    with pytest.raises(KeyboardInterrupt), Progress(5, console=Console(quiet=False), stream=stream) as progress:  # noqa: PT012 - the work fails
        progress.update("")
        raise KeyboardInterrupt
    assert stream.getvalue().endswith("\n")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_line_of_its_own_stands_alone(stream: io.StringIO) -> None:
    console, out = Console(quiet=False), io.StringIO()
    with redirect_stdout(out), Progress(4, console=console, stream=stream) as progress:
        progress.update("[8] 0.05")
        progress.say("The best 2 of 4 configurations go on")
        progress.update("[8] 0.05")
    text = stream.getvalue() if stream.isatty() else out.getvalue()
    assert re.search(r"(^|[\r\n])The best 2 of 4 configurations go on *\n", text)


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_quiet_says_nothing(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(4, console=Console(quiet=True), stream=stream) as progress:
        progress.say("The best 2 of 4 configurations go on")
        progress.update("", is_new=False)
    assert (stream.getvalue(), capsys.readouterr().out) == ("", "")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_is_not_needed_is_not_waited_for(stream: io.StringIO) -> None:
    with Progress(40, console=Console(quiet=False), stream=stream) as progress:
        for number in range(20):
            if number == 10:
                progress.skip(20)
            progress.update("[8] 0.05")
    assert stream.getvalue().splitlines()[-1].startswith("100%" if stream.isatty() else "  20 of 20 trainings")


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_turns_out_to_be_done_counts_as_done_but_not_as_time(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("layersearch.search.progress.time.monotonic", lambda: next(clock))
    with Progress(20, console=Console(quiet=False), stream=stream) as progress:
        for number in range(20):
            progress.update("[8] 0.05", is_new=number >= 10)
    text = stream.getvalue()
    assert "20/20" in text if stream.isatty() else text.splitlines()[0].startswith("  12 of 20")
    if not stream.isatty():
        assert "about 40 s left" in text.splitlines()[0]  # 2 trainings in 10 s


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_what_an_earlier_run_has_done_counts_as_done_but_not_as_time(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("layersearch.search.progress.time.monotonic", lambda: next(clock))
    text = shown(stream, 20, done=10)
    assert "20/20" in text if stream.isatty() else text.splitlines()[0].startswith("  12 of 20")
    if not stream.isatty():
        assert "about 40 s left" in text.splitlines()[0]  # 2 trainings in 10 s
