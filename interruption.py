"""Being asked to stop: Ctrl-C, a terminal that closes, a system that shuts down.

with Interruption() as interruption:
    ...                             # a signal raises Interrupted
    interruption.is_deferred = True
    ...                             # now it only sets `status`: whoever trains stops and reports; a second one raises
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has no SIGHUP, others have no SIGBREAK
READER_GONE = 141  # the exit status that shells give for SIGPIPE


class Interrupted(KeyboardInterrupt):
    """The run is to end at once."""


class Interruption:
    """Whether the run was asked to stop, and with which exit status it then ends: 128 and the signal's number."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.is_deferred = False
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # no other may set handlers
            for number in [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]:
                former = signal.getsignal(number)
                if former is not signal.SIG_IGN:  # as under nohup
                    self._former[number] = former
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, former in self._former.items():
            signal.signal(number, former)

    def is_requested(self) -> bool:
        """Whether the run is to come to an end."""
        return self.status is not None

    def request(self, status: int = READER_GONE) -> None:
        """Asks the run to stop and to end with this exit status."""
        self.status = self.status or status

    def _handle(self, number: int, frame: FrameType | None) -> None:
        again = self.is_requested()
        self.request(128 + number)
        if again or not self.is_deferred:
            raise Interrupted
