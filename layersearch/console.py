"""Prints what the command says, and measures how long its stages take.

console = Console(quiet=False)
console.say("Engine: compiled")
stopwatch.lap("load")
"""

from __future__ import annotations

import errno
import io
import os
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

NARROWEST = 40  # characters; a terminal that says less does not know
READER_IS_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO)  # a pipe, a terminal


class Console:
    """Prints the progress, unless it is quiet, and the closing summary.

    Output that cannot be printed does not make the command fail; the rest of it is dropped. If the reader of the output
    has gone, `on_gone` is called. Any other reason, such as a full disk, is kept in `error`.
    """

    def __init__(self, quiet: bool, on_gone: Callable[[], None] = lambda: None) -> None:
        self.quiet = quiet
        self.error: OSError | None = None
        self._on_gone = on_gone

    def say(self, text: str) -> None:
        """Prints progress, unless quiet."""
        if not self.quiet:
            self.summarize(text)

    def notice(self, text: str) -> None:
        """Prints something the user should know to stderr, where a pipe does not swallow it; nothing if quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Prints something the user must know to stderr, even if quiet."""
        with self.printing(sys.stderr):
            print(fitted(f"Note: {text}", sys.stderr), file=sys.stderr, flush=True)

    def summarize(self, text: str) -> None:
        """Prints a part of the closing summary, even if quiet."""
        with self.printing(sys.stdout):
            print(fitted(text, sys.stdout), flush=True)

    @contextmanager
    def saying_if_slow(self, seconds: float, text: str) -> Iterator[None]:
        """Prints the text as progress if what is done within takes longer than so many seconds."""
        timer = threading.Timer(seconds, self.say, [text])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def printing(self, stream: TextIO) -> Iterator[None]:
        """Guards code that prints to `stream`: if that fails, the stream is redirected to the null device."""
        try:
            yield
        except OSError as error:
            with suppress(OSError, ValueError):  # what is buffered must go somewhere
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if error.errno in READER_IS_GONE:
                self._on_gone()
            else:
                self.error = error


def fitted(text: str, stream: TextIO) -> str:
    """Returns the text with long lines broken between words for a terminal; unchanged for a file or a pipe."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # no terminal, closed, or none at all
        return text
    if width < NARROWEST:
        return text
    return "\n".join(_broken(line, width) if len(line) > width else line for line in text.split("\n"))


def _broken(line: str, width: int) -> str:
    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, replace_whitespace=False
    )


class Stopwatch:
    """Measures the seconds spent in each stage, which become the `timing` of the results."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap, or since the stopwatch was made, to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def timing(self) -> dict[str, float]:
        """Returns the seconds of all stages and their total."""
        return {**self.seconds, "total": sum(self.seconds.values())}


@contextmanager
def any_text() -> Iterator[None]:
    """Makes stdout take any character within the block, so that a console without ± is no reason to fail."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # it may be gone
            stream.reconfigure(errors=before)
