"""Trains several trials at a time, on threads.

    for result in run_trials(trials, train, threads=2):
        ...

Threads suffice because the compiled engine does not hold the GIL while it trains. They are daemon threads, so the
process does not wait at its end for trainings whose results are no longer needed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue

from layersearch.background import POLL_SECONDS
from layersearch.space.trials import Trial, TrialResult, no_memory_for

Outcome = TrialResult | BaseException | None  # None if memory ran out


def available_cores() -> int:
    """Returns the number of cores that this process may use."""
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
    """Trains all trials and yields their results as they finish.

    If memory runs out, training continues with one thread fewer, and the trial is repeated; a trial that runs out of
    memory while no other is running gets a failed result. When `stops` returns True, only results that are already
    available are yielded. Then, and when the iterator is closed or an exception is raised, waiting trials are dropped,
    and running ones are not waited for.

    Args:
        trials: the trials to train.
        train: trains one trial; called from several threads at once.
        threads: number of trials to train at a time.
        stops: returns whether to stop; called a few times a second.
        on_fewer: called with the remaining number of threads when memory runs out.

    Raises:
        RuntimeError: the system cannot start a single thread.
        BaseException: any exception of `train`, except one about memory.
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
        alone = set(trials) if working == 1 else set()  # trials that run, or will run again, while no other trial does
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
                    _start(train, waiting, done)  # replaces the thread that has just ended
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
    """Starts `n` threads, or fewer if the system allows no more, and returns their number.

    Raises:
        RuntimeError: the system cannot start a single thread.
    """
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
    """Starts a thread that trains waiting trials until it receives None or memory runs out."""

    def work() -> None:
        while (trial := waiting.get()) is not None:
            outcome: Outcome
            try:
                outcome = train(trial)
            except BaseException as error:  # the main thread raises it
                outcome = None if is_out_of_memory(error) else error
            done.put((trial, outcome))
            if outcome is None:
                return

    threading.Thread(target=work, daemon=True, name="trainer").start()


def _next(
    waiting: SimpleQueue[Trial | None], done: SimpleQueue[tuple[Trial, Outcome]], stops: Callable[[], bool]
) -> tuple[Trial, Outcome] | None:
    """Waits for the next finished trial; returns None if `stops` returns True and none is finished."""
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
    """Returns whether an exception means that memory ran out: a MemoryError, or torch's on the CPU or on CUDA."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(text in str(error) for text in ("can't allocate memory", "out of memory", "not enough memory"))
    )
