"""A training resumes where it stopped, and nothing that the journal holds is trained again."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from builders import make_failed_trial
from journals import open_here
from made_tables import low_rank_table
from trainings import ENGINES, SETTINGS, TRIALS, by_trial, same_bits

from layersearch.engines import compiled, lifecycle, reference, training
from layersearch.engines.compiled import compiled_trainer
from layersearch.engines.dispatch import make_trainer
from layersearch.engines.kernel import step as kernel
from layersearch.engines.settings import SplitTable, nominal_seconds
from layersearch.engines.training import Training
from layersearch.engines.workers import run_trials
from layersearch.journal.records import Key
from layersearch.space.trials import Trial, TrialResult, TrialState
from models import flatten


@pytest.fixture(scope="module")
def table() -> SplitTable:
    return low_rank_table()


class Kept:
    """Keeps copies of all states that were saved, and one to resume from."""

    def __init__(self, start: TrialState | None = None) -> None:
        self.start = start
        self.saved: list[TrialState] = []

    def load(self, trial: Trial) -> TrialState | None:
        return deepcopy(self.start)

    def save(self, trial: Trial, state: TrialState) -> None:
        self.saved.append(deepcopy(state))

    def remove(self, trial: Trial) -> None:
        pass


@pytest.fixture
def every_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves a state after every epoch."""
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(compiled, "CALL_SECONDS", 0.0)


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_trial_that_goes_on_from_any_epoch_ends_with_the_same_bits(
    table: SplitTable, engine: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, dropout=dropout)
    whole, kept = make_trainer(engine, {None: table}, settings)(TRIALS[0]), Kept()
    assert same_bits(whole, make_trainer(engine, {None: table}, settings, kept)(TRIALS[0]))
    assert [state.epoch for state in kept.saved] == [1, 2, 3], "not after the last"
    for state in kept.saved:
        again = Kept(state)
        assert same_bits(whole, make_trainer(engine, {None: table}, settings, again)(TRIALS[0]))
        assert [later.epoch for later in again.saved] == list(range(state.epoch + 1, 4)), "it really went on"


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_that_diverges_after_it_went_on_has_its_whole_curve(table: SplitTable, engine: str) -> None:
    kept = Kept()
    whole = make_trainer(engine, {None: table}, SETTINGS, kept)(TRIALS[0])
    state = kept.saved[1]
    state.parameters[:] = np.inf
    failed = make_trainer(engine, {None: table}, SETTINGS, Kept(state))(TRIALS[0])
    assert failed.failed_epoch == 3
    assert np.array_equal(failed.test_losses, whole.test_losses[:2])
    assert np.array_equal(failed.train_losses, whole.train_losses[:2])


@pytest.mark.usefixtures("every_epoch")
@pytest.mark.parametrize("engine", ENGINES)
def test_the_seconds_of_a_trial_are_those_of_all_its_parts(table: SplitTable, engine: str) -> None:
    kept = Kept()
    make_trainer(engine, {None: table}, SETTINGS, kept)(TRIALS[0])
    state = replace(kept.saved[0], seconds=1000.0)
    again = Kept(state)
    assert 1000 < make_trainer(engine, {None: table}, SETTINGS, again)(TRIALS[0]).seconds < 2000
    assert 1000 < again.saved[0].seconds < 2000


@pytest.mark.parametrize(
    ("engine", "module", "each_epoch"),
    [("compiled", kernel, "train_epochs"), ("reference", reference, "dropout_masks")],
)
def test_the_state_is_saved_once_a_minute(
    table: SplitTable, engine: str, module: Any, each_epoch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    work = getattr(module, each_epoch)

    def take_25_seconds(*arguments: Any) -> Any:
        now[0] += 25
        return work(*arguments)

    monkeypatch.setattr(module, each_epoch, take_25_seconds)
    monkeypatch.setattr(lifecycle, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(compiled, "CALL_SECONDS", 0.0)
    kept = Kept()
    result = make_trainer(engine, {None: table}, replace(SETTINGS, epochs=8), kept)(TRIALS[0])
    assert [state.epoch for state in kept.saved] == [3, 6]
    assert [state.seconds for state in kept.saved] == [75, 150]
    assert result.seconds == 200


def test_each_call_of_the_kernel_takes_about_as_long_as_asked_for(
    table: SplitTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans: list[int] = []
    work = kernel.train_epochs

    def note(*arguments: Any) -> int:
        finished: int = work(*arguments)
        spans.append(finished)
        return finished

    monkeypatch.setattr(kernel, "train_epochs", note)
    settings = replace(SETTINGS, epochs=8)
    model = lifecycle.build_model(TRIALS[0], table.input_dim, settings)
    an_epoch = nominal_seconds("compiled", flatten(model).size, 81, replace(settings, epochs=1))
    monkeypatch.setattr(compiled, "CALL_SECONDS", 3.5 * an_epoch)
    compiled_trainer(table, settings)(TRIALS[0])
    assert spans == [3, 3, 2]


@pytest.fixture
def kept_training(table: SplitTable, tmp_path: Path) -> Iterator[Training]:
    """Returns a `Training` with a journal."""
    with open_here(tmp_path) as journal:
        yield Training(SETTINGS, {None: table}, "compiled", 2, journal)


def test_what_the_journal_holds_comes_first_and_is_not_trained_again(
    kept_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = by_trial(list(kept_training.run(TRIALS[2:4])))
    trained: list[Trial] = []

    def note(trials: Sequence[Trial], *arguments: Any, **options: Any) -> Iterator[TrialResult]:
        trained.extend(trials)
        yield from run_trials(trials, *arguments, **options)

    monkeypatch.setattr(training, "run_trials", note)
    results = list(kept_training.run(TRIALS))
    assert [result.trial for result in results[:2]] == TRIALS[2:4]
    assert trained == TRIALS[:2] + TRIALS[4:]
    for result in results[:2]:
        assert same_bits(result, replace(first[result.trial], parameters=result.parameters))
    assert not set(TRIALS) & set(kept_training.kept(TRIALS, factor=2)), "longer trainings are others"


def test_a_result_is_in_the_journal_before_it_is_handed_on(kept_training: Training) -> None:
    assert kept_training.journal
    for result in kept_training.run(TRIALS, factor=2):
        assert kept_training.journal.find(Key(result.trial, 2 * SETTINGS.epochs)) is not None
        assert result.parameters.size


def test_when_the_last_result_was_taken_all_are_on_the_disk(
    kept_training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kept_training.journal
    file, sizes = kept_training.journal._file, []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size) if fd == file.fileno() else None)
    list(kept_training.run(TRIALS))
    assert sizes[-1] == kept_training.journal.path.stat().st_size


@pytest.mark.parametrize(("limit", "are_kept"), [(0.0, True), (60.0, False)])
def test_weights_are_kept_if_training_again_would_take_long(
    kept_training: Training, monkeypatch: pytest.MonkeyPatch, limit: float, are_kept: bool
) -> None:
    monkeypatch.setattr(lifecycle, "CHECKPOINT_SECONDS", limit)
    results = by_trial(list(kept_training.run(TRIALS)))
    for trial, again in kept_training.kept(TRIALS).items():
        assert same_bits(again, results[trial] if are_kept else replace(results[trial], parameters=np.empty(0)))


def test_weights_that_were_not_kept_are_made_again_and_kept_from_then_on(kept_training: Training) -> None:
    whole = list(kept_training.run(TRIALS[:1]))[0]  # noqa: RUF015 - the generator is to come to its end
    for _ in range(2):
        bare = kept_training.kept(TRIALS[:1])[TRIALS[0]]
        again = kept_training.with_weights(bare)
        assert again is not None
        assert same_bits(again, whole)
    assert bare.parameters.size


def test_a_training_that_is_to_stop_makes_no_weights_again(kept_training: Training) -> None:
    (result,) = kept_training.run(TRIALS[:1])
    stopped = replace(kept_training, stops=lambda: True)
    bare = replace(result, parameters=np.empty(0, dtype=np.float32))
    held = threading.Event()
    with mock.patch.object(training, "make_trainer", return_value=lambda trial: held.wait(10) and result):
        assert stopped.with_weights(bare) is None
        held.set()
    assert stopped.with_weights(result) is result


def test_a_failed_training_has_no_weights_to_be_made_again(kept_training: Training) -> None:
    failed = make_failed_trial((9,))
    assert kept_training.with_weights(failed) is failed
