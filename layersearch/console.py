"""Prints the messages of the command, and measures the duration of its stages.

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

NARROWEST = 40  # characters; a smaller reported width is taken as unknown
READER_IS_GONE = (errno.EPIPE, errno.EIO, errno.ENXIO)  # the pipe or the terminal was closed


class Console:
    """Prints the progress, unless quiet, and the closing summary.

    A failure to print does not stop the command; further output is discarded. If the reader has closed the output,
    `on_gone` is called. Any other failure, such as a full disk, is stored in `error`.
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
        """Prints a note to stderr, which is seen even if stdout goes into a pipe; nothing if quiet."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """Prints an important note to stderr, even if quiet."""
        with self.printing(sys.stderr):
            print(fitted(f"Note: {text}", sys.stderr), file=sys.stderr, flush=True)

    def summarize(self, text: str) -> None:
        """Prints part of the closing summary to stdout, even if quiet."""
        with self.printing(sys.stdout):
            print(fitted(text, sys.stdout), flush=True)

    @contextmanager
    def saying_if_slow(self, seconds: float, text: str) -> Iterator[None]:
        """Prints the text as progress if the block takes longer than this many seconds."""
        timer = threading.Timer(seconds, self.say, [text])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def printing(self, stream: TextIO) -> Iterator[None]:
        """Handles failures to print to `stream` within the block by redirecting the stream to the null device."""
        try:
            yield
        except OSError as error:
            with suppress(OSError, ValueError):  # otherwise flushing the buffer at exit would fail again
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if error.errno in READER_IS_GONE:
                self._on_gone()
            else:
                self.error = error


def fitted(text: str, stream: TextIO) -> str:
    """Wraps lines that are too long for the terminal; text for a file or a pipe is returned unchanged."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError, AttributeError):  # the stream is not a terminal, is closed, or is None
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
    """Measures the seconds spent in each stage, which the results report as `timing`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap (at first: since the start) to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def timing(self) -> dict[str, float]:
        """Returns the seconds of each stage and their total."""
        return {**self.seconds, "total": sum(self.seconds.values())}


@contextmanager
def any_text() -> Iterator[None]:
    """Lets stdout escape characters that its encoding lacks, such as ±, within the block, instead of raising."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper):
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # the stream may be closed
            stream.reconfigure(errors=before)
