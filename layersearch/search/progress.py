"""Shows the progress of a search on the console.

    with Progress(total, console=console) as progress:
        progress.update("[64, 64] 0.0379")

A terminal shows a progress bar. A file or a pipe gets a line after about every tenth of the trainings.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Self, TextIO

from layersearch.console import Console


class Progress:
    """Shows the number of trainings done, the best configuration so far and the time left, unless `console.quiet`.

    Args:
        total: number of trainings.
        console: prints the messages.
        stream: receives the bar or the lines of progress; standard output by default.
    """

    def __init__(self, total: int, *, console: Console, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = self.done_before = 0  # `done_before` counts those of an earlier run
        self.console = console
        self.stream = stream or sys.stdout
        self.started = time.monotonic()
        self.next_line = self._line_after(0)
        self.bar = None
        if not console.quiet and total:
            with console.printing(self.stream):
                self.bar = self._bar()

    def _bar(self) -> Any:
        """Returns a progress bar, or None if the stream is not a terminal."""
        if not (self.stream and self.stream.isatty()):
            return None
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # tqdm's monitor thread fails when the terminal closes
        return tqdm(
            total=self.total,
            file=self.stream,
            dynamic_ncols=True,
            smoothing=0.1,
            bar_format="{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} trainings, {remaining} left{postfix}",
        )

    def another(self, total: int) -> Progress:
        """Returns a progress for a second stage of `total` trainings on the same console."""
        return Progress(total, console=self.console, stream=self.stream)

    def say(self, text: str) -> None:
        """Prints a message, above the bar if there is one."""
        if self.bar is None:
            self.console.say(text)
            return
        with self.console.printing(self.stream):
            self.bar.write(text, file=self.stream)

    def skip(self, n: int) -> None:
        """Subtracts `n` trainings, which turned out to be unnecessary, from the total."""
        self.total -= n
        self.next_line = self._line_after(self.done)
        if self.bar is not None:
            self.bar.total = self.total

    def update(self, best: str, *, is_new: bool = True) -> None:
        """Counts one more training as done.

        Args:
            best: name and loss of the best configuration so far; empty if there is none.
            is_new: whether this run did the training; only then does it count in the estimate of the time left.
        """
        self.done += 1
        if not is_new:
            self.done_before += 1
            self.next_line = self._line_after(self.done)
            if self.bar is not None:
                self.bar.initial = self.bar.n = self.done
            return
        with self.console.printing(self.stream):
            self._show(best)

    def _show(self, best: str) -> None:
        if self.bar is not None:
            self.bar.set_postfix_str(f"best {best}" if best else "", refresh=False)
            self.bar.update()
        elif not self.console.quiet and self.done >= self.next_line:
            leader = f", best so far {best}" if best else ""
            print(f"  {self.done} of {self.total} trainings{leader}{self._time_left()}", file=self.stream, flush=True)
            self.next_line = self._line_after(self.done)

    def _time_left(self) -> str:
        if self.done == self.total:
            return ""
        seconds = (time.monotonic() - self.started) / (self.done - self.done_before) * (self.total - self.done)
        return f", about {seconds:.0f} s left" if seconds < 100 else f", about {seconds / 60:.0f} min left"

    def _line_after(self, done: int) -> int:
        tenths = done * 10 // max(self.total, 1) + 1
        return -(-self.total * tenths // 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            with self.console.printing(self.stream):
                self.bar.close()
            self.bar = None
