"""Trials are trained in any order and at the same time, and one that fails or does not fit takes no other with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import make_trial

from layersearch.engines import workers
from layersearch.engines.workers import available_cores, is_out_of_memory, run_trials
from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, TrialResult, no_memory_for

TRIALS = [Trial((number + 1,), 0) for number in range(12)]
PATIENCE = 10.0  # seconds to wait for something that takes milliseconds
Train = Callable[[Trial], TrialResult]


def train(trial: Trial) -> TrialResult:
    """Returns a result at once."""
    return make_trial(trial.config, trial.repeat, trial.fold)


@pytest.fixture(autouse=True)
def _no_thread_is_left_behind() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + PATIENCE
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not set(threading.enumerate()) - before


@pytest.fixture(autouse=True)
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "POLL_SECONDS", 0.01)


def trials_of(results: Sequence[TrialResult] | Iterator[TrialResult]) -> list[Trial]:
    return [result.trial for result in results]


# ------------------------------------------------------------------------------------ all, each once


@pytest.mark.parametrize("threads", [1, 2, 3, 50])
def test_every_trial_is_trained_once_whatever_the_number_of_threads(threads: int) -> None:
    trained: list[Trial] = []

    def note(trial: Trial) -> TrialResult:
        trained.append(trial)
        return train(trial)

    results = trials_of(run_trials(TRIALS, note, threads))
    assert len(results) == len(trained) == len(TRIALS)
    assert set(results) == set(trained) == set(TRIALS)


def test_one_thread_takes_the_trials_in_their_order() -> None:
    assert trials_of(run_trials(TRIALS, train, 1)) == TRIALS
    assert trials_of(run_trials(TRIALS[::-1], train, 1)) == TRIALS[::-1]


def test_no_trials_are_no_work() -> None:
    assert list(run_trials([], train, 4)) == []


def test_as_many_trials_as_there_are_threads_are_trained_at_a_time() -> None:
    together = threading.Barrier(3)

    def meet(trial: Trial) -> TrialResult:
        together.wait(PATIENCE)  # raises if fewer than three come
        return train(trial)

    assert len(list(run_trials(TRIALS, meet, 3))) == len(TRIALS)


def test_results_come_as_they_finish() -> None:
    first_may_end = threading.Event()

    def wait_for_the_others(trial: Trial) -> TrialResult:
        if trial == TRIALS[0]:
            assert first_may_end.wait(PATIENCE)
        return train(trial)

    results = run_trials(TRIALS, wait_for_the_others, 2)
    early = [next(results).trial for _ in TRIALS[1:]]
    first_may_end.set()
    assert early == TRIALS[1:]
    assert trials_of(results) == TRIALS[:1]


# --------------------------------------------------------------------------------------- coming to an end


class Held:
    """A training that ends when it is released, and counts how many have started."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.started: list[Trial] = []

    def __call__(self, trial: Trial) -> TrialResult:
        self.started.append(trial)
        assert self.release.wait(PATIENCE)
        return train(trial)

    def let_go(self) -> None:
        """Releases all trainings and their threads."""
        self.release.set()
        for thread in threading.enumerate():
            if thread.name == "trainer":
                thread.join(PATIENCE)


@pytest.mark.parametrize("fault", [ValueError("broken"), KeyboardInterrupt(), SystemExit(3), OSError(28, "full")])
def test_what_a_training_raises_is_raised_and_the_rest_is_dropped(fault: BaseException) -> None:
    held = Held()

    def fail(trial: Trial) -> TrialResult:
        if trial == TRIALS[1]:
            raise fault
        return held(trial)

    with pytest.raises(type(fault)) as caught:
        list(run_trials(TRIALS, fail, 2))
    held.let_go()
    assert caught.value is fault
    assert len(held.started) <= 2, "the thread that failed may have taken one more"


def test_when_no_more_results_are_taken_the_rest_is_dropped() -> None:
    held = Held()

    def first_at_once(trial: Trial) -> TrialResult:
        return train(trial) if trial == TRIALS[0] else held(trial)

    results = run_trials(TRIALS, first_at_once, 1)
    next(results)
    assert isinstance(results, Generator)
    results.close()
    held.let_go()
    assert len(held.started) <= 1


def test_after_a_stop_finished_results_still_come_and_the_rest_is_not_waited_for() -> None:
    held = Held()
    is_stopping = threading.Event()

    def two_at_once(trial: Trial) -> TrialResult:
        return train(trial) if trial in TRIALS[:2] else held(trial)

    def stops() -> bool:
        if held.started:  # the only thread has finished two trials by now
            is_stopping.set()
        return is_stopping.is_set()

    results = trials_of(run_trials(TRIALS, two_at_once, 1, stops=stops))
    held.let_go()
    assert results == TRIALS[:2]
    assert held.started == TRIALS[2:3]


def test_asked_to_stop_before_the_start_almost_nothing_is_trained() -> None:
    held = Held()
    assert list(run_trials(TRIALS, held, 2, stops=lambda: True)) == []
    held.let_go()
    assert len(held.started) <= 2


def test_whether_to_stop_is_asked_again_and_again_while_nothing_finishes() -> None:
    held = Held()
    asked: list[bool] = []

    def stops() -> bool:
        asked.append(True)
        if len(asked) == 5:
            held.release.set()
        return False

    assert trials_of(run_trials(TRIALS[:1], held, 1, stops=stops)) == TRIALS[:1]
    assert len(asked) >= 5


def test_a_training_that_no_one_waits_for_does_not_keep_the_process() -> None:
    held = Held()
    results = run_trials(TRIALS, held, 2, stops=lambda: bool(held.started))
    assert list(results) == []
    trainers = [thread for thread in threading.enumerate() if thread.name == "trainer"]
    held.let_go()
    assert trainers
    assert all(thread.daemon for thread in trainers)


# ---------------------------------------------------------------------------------------------- memory


class Memory:
    """Memory for so many trainings at a time; some trials take all of it, and more than all if `too_large`."""

    def __init__(self, room: int, *, large: Sequence[Trial] = (), too_large: Sequence[Trial] = ()) -> None:
        self.room, self.large, self.too_large = room, large, too_large
        self.lock = threading.Lock()
        self.running = 0
        self.trained: list[Trial] = []

    def __call__(self, trial: Trial) -> TrialResult:
        size = self.room if trial in self.large else 1
        with self.lock:
            if self.running + size > self.room or trial in self.too_large:
                raise MemoryError
            self.running += size
        try:
            time.sleep(0.002)
            self.trained.append(trial)
            return train(trial)
        finally:
            with self.lock:
                self.running -= size


def test_where_memory_is_short_fewer_go_on_and_every_trial_is_trained_once() -> None:
    fewer: list[int] = []
    memory = Memory(1)
    results = list(run_trials(TRIALS, memory, 4, on_fewer=fewer.append))
    assert not any(result.has_failed for result in results)
    assert sorted(memory.trained, key=TRIALS.index) == TRIALS
    assert sorted(trials_of(results), key=TRIALS.index) == TRIALS
    assert fewer == sorted(fewer, reverse=True)
    assert fewer[-1] >= 1
    assert len(set(fewer)) == len(fewer), "each number is told once"


def test_a_trial_that_never_fits_is_a_failed_result_with_its_size_and_the_others_go_on() -> None:
    lost = [TRIALS[0], TRIALS[5], TRIALS[11]]
    results = {result.trial: result for result in run_trials(TRIALS, Memory(3, too_large=lost), 3)}
    assert set(results) == set(TRIALS)
    assert [trial for trial in TRIALS if results[trial].has_failed] == lost
    assert all(results[trial].out_of_memory for trial in lost)
    failed = ConfigurationResult(TRIALS[0].config, 12_000_000, (results[TRIALS[0]],))
    assert failed.failure == "failed: no memory for its 12000000 parameters (192 MB)"


def test_a_trial_that_fits_only_alone_is_trained_in_the_end() -> None:
    large = TRIALS[3:5]
    results = list(run_trials(TRIALS, Memory(3, large=large), 3))
    assert sorted(trials_of(results), key=TRIALS.index) == TRIALS
    assert not any(result.has_failed for result in results)


def test_all_may_fail_to_fit() -> None:
    fewer: list[int] = []
    results = list(run_trials(TRIALS, Memory(1, too_large=TRIALS), 3, on_fewer=fewer.append))
    assert sorted(trials_of(results), key=TRIALS.index) == TRIALS
    assert all(result.out_of_memory for result in results)
    assert fewer == [2, 1]


def test_with_one_thread_no_fewer_are_reported() -> None:
    results = run_trials(TRIALS, Memory(1, too_large=TRIALS[:1]), 1, on_fewer=lambda n: pytest.fail(f"told {n}"))
    assert [result.out_of_memory for result in results] == [True] + 11 * [False]


@pytest.mark.parametrize("threads", [2, 3, 4])
def test_trials_that_run_out_of_memory_together_are_each_tried_alone(threads: int) -> None:
    together = threading.Barrier(threads)
    tried: list[Trial] = []

    def fail_at_first(trial: Trial) -> TrialResult:
        is_first = trial not in tried
        tried.append(trial)
        if is_first:
            together.wait(PATIENCE)
            raise MemoryError
        return train(trial)

    results = list(run_trials(TRIALS[:threads], fail_at_first, threads))
    assert not any(result.has_failed for result in results), "each fits alone"
    assert sorted(tried, key=TRIALS.index) == sorted(2 * TRIALS[:threads], key=TRIALS.index)


def test_memory_that_runs_out_while_stopping_ends_all_the_same() -> None:
    ran_out: list[Trial] = []

    def run_out(trial: Trial) -> TrialResult:
        ran_out.append(trial)
        raise MemoryError

    assert all(r.out_of_memory for r in run_trials(TRIALS, run_out, 2, stops=lambda: len(ran_out) > 3))


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (np._core._exceptions._ArrayMemoryError((10**9,), np.dtype("f4")), True),  # type: ignore[attr-defined]
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (OSError(28, "No space left on device"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_errors_are_known_by_their_kind_and_torchs_by_their_text(error: BaseException, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


def test_a_result_without_memory_holds_nothing() -> None:
    result = no_memory_for(TRIALS[0])
    assert result.has_failed
    assert (result.final_test_loss, result.final_train_loss, result.failed_epoch) == (None, None, None)
    arrays: list[Any] = [result.train_losses, result.test_losses, result.row_errors, result.parameters]
    assert [array.size for array in arrays] == [0, 0, 0, 0]
    assert not replace(result, out_of_memory=False).has_failed


def test_there_is_at_least_one_core() -> None:
    assert available_cores() >= 1
