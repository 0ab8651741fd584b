"""Handles the signals of Ctrl-C, of a closing terminal and of a system shutdown.

with Interruption() as interruption:
    ...                             # a signal ends the process at once, since no results could be lost yet
    interruption.is_deferred = True
    ...                             # a first signal sets `status`, which trainings poll; a second one raises
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, Self

from layersearch.errors import Interrupted
from layersearch.words import PROG

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # Windows has no SIGHUP, others have no SIGBREAK
READER_GONE = 141  # the exit status of shells for SIGPIPE
ONCE_SECONDS = 0.3  # further signals within this time are ignored, since `timeout` and shells send each one twice
RETRY_SECONDS = 0.05
WORDS = f"{PROG}: interrupted\n"


class Interruption:
    """Records whether the run was asked to stop, and the exit status it ends with: 128 plus the signal's number."""

    def __init__(self, *, is_guest: bool = False) -> None:
        """Prepares the handlers, which the `with` block installs.

        Args:
            is_guest: whether the process belongs to another program and must not be ended. Then only Ctrl-C is handled.
        """
        self._is_guest = is_guest
        self.status: int | None = None
        self.is_deferred = False
        self._signalled: float | None = None  # time of the last signal, on the monotonic clock
        self._retry: threading.Timer | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # other threads may not set handlers
            names = ("SIGINT",) if self._is_guest else SIGNALS
            for number in [getattr(signal, name) for name in names if hasattr(signal, name)]:
                former = signal.getsignal(number)
                if former not in (signal.SIG_IGN, None):  # SIG_IGN: as under nohup; None: not set by Python
                    self._former[number] = former
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._retry:
            self._retry.cancel()
        for number, former in self._former.items():
            signal.signal(number, former)

    def is_requested(self) -> bool:
        """Returns whether the run was asked to stop."""
        return self.status is not None

    def request(self, status: int = READER_GONE) -> None:
        """Asks the run to stop and to end with this exit status, unless it was asked before."""
        self.status = self.status or status

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.request(128 + number)
        if not self.is_deferred and self._is_guest:
            raise KeyboardInterrupt
        if not self.is_deferred:  # no exception is raised, since it may be lost or do damage within an import
            with suppress(OSError):
                os.write(2, WORDS.encode())  # not `print`, which is not reentrant
            os._exit(self.status or 1)
        now = time.monotonic()
        if self._signalled is None or now - self._signalled < ONCE_SECONDS:
            self._signalled = self._signalled or now
        elif _is_importing(frame):
            self._retry = threading.Timer(RETRY_SECONDS, signal.raise_signal, [number])
            self._retry.daemon = True
            self._retry.start()
        else:
            self._signalled = now  # the next ONCE_SECONDS are left for cleaning up
            raise KeyboardInterrupt if self._is_guest else Interrupted


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
