"""What the console shows while trials are trained.

    with Progress(total, quiet=False) as progress:
        progress.update(done, "best so far [64, 64] 0.0379")

On a terminal a live bar; elsewhere a plain line about every tenth of the work.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO


class Progress:
    """Trainings done of all, best so far, time left; nothing where `quiet`."""

    def __init__(self, total: int, *, quiet: bool, stream: TextIO | None = None) -> None:
        self.total = total
        self.done = 0
        self.stream = stream or sys.stdout
        self.started = time.monotonic()
        self.live = self.stream.isatty()
        self.silent = quiet
        self.next_line = self._line_after(0)
        self.bar = None
        if self.live and not quiet:
            from tqdm import tqdm

            self.bar = tqdm(
                total=total, unit="training", file=self.stream, dynamic_ncols=True, smoothing=0.1,
                bar_format="{percentage:3.0f}%|{bar:24}| {n_fmt} of {total_fmt} trainings, {remaining} left{postfix}",
            )  # fmt: skip

    def update(self, best: str) -> None:
        """One more training is done; `best` says what leads."""
        self.done += 1
        if self.bar is not None:
            self.bar.set_postfix_str(best, refresh=False)
            self.bar.update()
        elif not self.silent and self.done >= self.next_line:
            elapsed = time.monotonic() - self.started
            left = elapsed / self.done * (self.total - self.done)
            print(f"  {self.done} of {self.total} trainings, {best}, {left:.0f} s left", file=self.stream, flush=True)
            self.next_line = self._line_after(self.done)

    def _line_after(self, done: int) -> int:
        tenths = done * 10 // self.total + 1
        return -(-self.total * tenths // 10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.close()
