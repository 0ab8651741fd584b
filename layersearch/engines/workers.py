"""Running trials, as many at a time as there are cores.

    for result in run_trials(trials, train, threads=2):
        ...

Plain threads: the compiled engine holds no lock while it trains. They never outlive the process, so that nobody
waits for a training that no one wants any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from layersearch.space.trials import Trial, TrialResult, no_memory_for

POLL_SECONDS = 0.2  # between two looks at whether to stop; Windows delivers Ctrl-C only between waits
Outcome = TrialResult | BaseException | None  # None: there was no memory for it


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_trials(
    trials: Sequence[Trial],
    train: Callable[[Trial], TrialResult],
    threads: int,
    *,
    stops: Callable[[], bool] = lambda: False,
    on_fewer: Callable[[int], None] = lambda threads: None,
) -> Iterator[TrialResult]:
    """Trains all trials, `threads` at a time, and yields results as they finish.

    Where memory does not suffice, one thread fewer goes on, and `on_fewer` is told how many; a trial that does not even
    fit alone is a failed result. `stops` is asked a few times a second; once it is true only what is done already still
    comes. That, closing the iterator, or an exception, drops the trials that have not started and does not wait for
    the others.
    """
    if not trials or stops():
        return
    waiting: SimpleQueue[Trial | None] = SimpleQueue()
    done: SimpleQueue[tuple[Trial, Outcome]] = SimpleQueue()
    for trial in trials:
        waiting.put(trial)
    working = 0
    try:
        working = _start_many(min(threads, len(trials)), train, waiting, done)
        alone = set(trials) if working == 1 else set()  # the trials that have nothing beside them when they are tried
        missing = len(trials)
        while missing:
            finished = _next(waiting, done, stops)
            if finished is None:
                return
            trial, outcome = finished
            if outcome is None:
                if working > 1:
                    working -= 1
                    on_fewer(working)
                else:
                    _start(train, waiting, done)  # instead of the one that has just given up
                if trial not in alone:
                    alone |= {trial} if working == 1 else set()
                    waiting.put(trial)
                    continue
                outcome = no_memory_for(trial)
            if isinstance(outcome, BaseException):
                raise outcome
            missing -= 1
            yield outcome
    finally:
        _drop(waiting)
        for _ in range(working):
            waiting.put(None)


def _start_many(
    n: int,
    train: Callable[[Trial], TrialResult],
    waiting: SimpleQueue[Trial | None],
    done: SimpleQueue[tuple[Trial, Outcome]],
) -> int:
    """Starts as many threads as the system allows, up to `n`; returns how many. Raises RuntimeError if it is none."""
    for started in range(n):
        try:
            _start(train, waiting, done)
        except RuntimeError:
            if not started:
                raise
            return started
    return n


def _start(
    train: Callable[[Trial], TrialResult],
    waiting: SimpleQueue[Trial | None],
    done: SimpleQueue[tuple[Trial, Outcome]],
) -> None:
    """A thread that trains what waits until it gets None, or runs out of memory."""

    def work() -> None:
        while (trial := waiting.get()) is not None:
            outcome: Outcome
            try:
                outcome = train(trial)
            except BaseException as error:  # for the main thread to raise
                outcome = None if is_out_of_memory(error) else error
            done.put((trial, outcome))
            if outcome is None:
                return

    threading.Thread(target=work, daemon=True, name="trainer").start()


def _next(
    waiting: SimpleQueue[Trial | None], done: SimpleQueue[tuple[Trial, Outcome]], stops: Callable[[], bool]
) -> tuple[Trial, Outcome] | None:
    """The next that is done; None if none is and it is time to stop."""
    while True:
        stopping = stops()
        if stopping:
            _drop(waiting)
        try:
            return done.get(block=not stopping, timeout=POLL_SECONDS)
        except Empty:
            if stopping:
                return None


def _drop(waiting: SimpleQueue[Trial | None]) -> None:
    while True:
        try:
            waiting.get_nowait()
        except Empty:
            return


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: Python's and NumPy's MemoryError, or what torch raises on the CPU and on CUDA."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("can't allocate memory", "out of memory", "not enough memory"))
    )
