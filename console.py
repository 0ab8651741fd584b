"""What the command prints, and how long its stages take.

console = Console(quiet=False)
console.say("Engine: compiled")
stopwatch.lap("load")
"""

from __future__ import annotations

import sys
import time


class UsageError(Exception):
    """What was asked for cannot be done; the message is one line that names the flag and the remedy."""


class Console:
    """Prints to stdout unless quiet; the closing summary is printed even then."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """Progress: not for `--quiet`."""
        if not self.quiet:
            print(text, flush=True)

    def notice(self, text: str) -> None:
        """Something the user should know about: on stderr, so that it is not lost in a pipe."""
        if not self.quiet:
            self.warn(text)

    def warn(self, text: str) -> None:
        """What the user must know even when quiet."""
        print(f"Note: {text}", file=sys.stderr, flush=True)

    def summarize(self, text: str) -> None:
        """The closing summary."""
        print(text, flush=True)


class Stopwatch:
    """Seconds spent in each stage, the parts of the results' `timing`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Adds the time since the last lap, or since the stopwatch was made, to `stage`."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now

    def timing(self) -> dict[str, float]:
        """All stages and their total."""
        return {**self.seconds, "total": sum(self.seconds.values())}


def count(number: int, thing: str) -> str:
    """`1 fold`, `5 folds`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
