"""Trainings that stop early or pause: what they keep, and that all engines agree on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from layersearch.engines.dispatch import make_trainer
from layersearch.engines.lifecycle import InMemory, trained_model
from layersearch.engines.settings import SplitTable, TrainingSettings
from layersearch.engines.training import Training
from layersearch.space.trials import Trial, TrialResult
from losses import sparse_aware_loss

ENGINES = ("compiled", "reference", "stacked")
SETTINGS = TrainingSettings(
    latent_dim=2, epochs=40, batch_size=16, initial_lr=0.03, eta_min=1e-6, weight_decay=1e-3, dropout=0.1, seed=5
)
STOPPING = replace(SETTINGS, patience=3)
TRIALS = [Trial(config, repeat) for config in [(16, 8), (9,), ((20,), (4, 30))] for repeat in range(2)]


@pytest.fixture(scope="module")
def table() -> SplitTable:
    """Returns 100 rows x 7 columns of two-dimensional structure and noise: 60 training, 20 validation, 20 test rows."""
    random = np.random.default_rng(1)
    values = np.maximum(random.normal(size=(100, 2)) @ random.normal(size=(2, 7)), 0)
    values = (values + random.normal(0, 0.3, values.shape)).astype(np.float32)
    values[random.random(values.shape) < 0.03] = np.nan
    order = torch.from_numpy(random.permutation(100))
    return SplitTable(torch.from_numpy(values), order[:60], order[80:], order[60:80])


def run(table: SplitTable, settings: TrainingSettings, engine: str = "compiled") -> list[TrialResult]:
    train = make_trainer(engine, {None: table}, settings)
    return [train(trial) for trial in TRIALS]


def assert_same_bits(one: TrialResult, other: TrialResult) -> None:
    for name in ("train_losses", "test_losses", "validation_losses", "row_errors", "parameters"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for name in ("final_train_loss", "final_test_loss", "best_epoch", "failed_epoch", "is_paused"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_stops_after_so_many_epochs_without_improvement_and_keeps_its_best_weights(
    table: SplitTable, engine: str
) -> None:
    stopped = 0
    for result in run(table, STOPPING, engine):
        losses = result.validation_losses
        assert losses is not None
        assert result.best_epoch
        best = result.best_epoch
        assert losses[best - 1] == losses.min()
        assert len(losses) == len(result.test_losses) == len(result.train_losses) == min(best + 3, 40)
        assert result.final_test_loss == pytest.approx(result.test_losses[best - 1], rel=1e-6)
        stopped += len(losses) < 40
    assert stopped >= 4


def test_the_weights_kept_have_the_loss_of_their_epoch(table: SplitTable) -> None:
    result = run(table, STOPPING)[0]
    model = trained_model(result, table, STOPPING)
    assert table.validation is not None
    assert result.validation_losses is not None
    assert result.best_epoch
    target = table.values[table.validation]
    loss = float(sparse_aware_loss(model(target.nan_to_num(nan=0.0))[0].detach(), target))
    assert loss == pytest.approx(result.validation_losses[result.best_epoch - 1], rel=1e-5)


def test_test_rows_do_not_decide_when_to_stop(table: SplitTable) -> None:
    values = table.values.clone()
    values[table.test] = torch.rand(len(table.test), 7)
    for one, other in zip(run(table, STOPPING), run(replace(table, values=values), STOPPING), strict=True):
        assert one.best_epoch == other.best_epoch
        assert np.array_equal(one.parameters, other.parameters)
        assert one.final_test_loss != other.final_test_loss


def test_validation_rows_do_not_train(table: SplitTable) -> None:
    values = table.values.clone()
    assert table.validation is not None
    values[table.validation] = 0.9
    never = replace(SETTINGS, patience=40)
    for one, other in zip(run(table, never), run(replace(table, values=values), never), strict=True):
        assert np.array_equal(one.train_losses, other.train_losses)
        assert one.validation_losses is not None
        assert other.validation_losses is not None
        assert not np.array_equal(one.validation_losses, other.validation_losses)


def test_a_fall_below_min_delta_is_no_improvement(table: SplitTable) -> None:
    for result in run(table, replace(STOPPING, min_delta=1e9)):
        assert result.best_epoch == 1
        assert len(result.test_losses) == 4
    for strict, lenient in zip(run(table, replace(STOPPING, min_delta=0.01)), run(table, STOPPING), strict=True):
        assert len(strict.test_losses) <= len(lenient.test_losses)


def test_engines_stop_at_the_same_epoch(table: SplitTable) -> None:
    """Only where rounding stays small until then: behind a layer of 4 units it grows a thousandfold in a few steps."""
    settings = replace(STOPPING, epochs=12, min_delta=0.01, patience=2)
    reference = run(table, settings, "reference")[:4]
    for results in (run(table, settings, engine)[:4] for engine in ENGINES if engine != "reference"):
        assert [r.best_epoch for r in results] == [r.best_epoch for r in reference]
        assert [len(r.test_losses) for r in results] == [len(r.test_losses) for r in reference]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("settings", [SETTINGS, STOPPING], ids=["to the end", "early stopping"])
def test_a_trial_that_paused_ends_with_the_bits_of_one_that_did_not(
    table: SplitTable, engine: str, settings: TrainingSettings
) -> None:
    kept = InMemory()
    for trial in TRIALS:
        whole = make_trainer(engine, {None: table}, settings)(trial)
        n_epochs = len(whole.test_losses)
        for pause_after in (2, 5, 13):
            paused = make_trainer(engine, {None: table}, replace(settings, pause_after=pause_after), kept)(trial)
            if pause_after >= n_epochs and n_epochs < settings.epochs:
                assert_same_bits(paused, whole)  # it stopped early before the pause
                break
            assert paused.is_paused
            assert paused.final_test_loss is None
            assert np.array_equal(paused.test_losses, whole.test_losses[:pause_after])
        else:
            assert_same_bits(make_trainer(engine, {None: table}, settings, kept)(trial), whole)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_that_is_further_than_its_pause_is_not_trained_for_it(
    table: SplitTable, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = InMemory()
    trial = TRIALS[0]
    make_trainer(engine, {None: table}, replace(SETTINGS, pause_after=9), kept)(trial)
    state = kept.load(trial)
    assert state
    kept.save(trial, state)
    earlier = make_trainer(engine, {None: table}, replace(SETTINGS, pause_after=4), kept)(trial)
    assert earlier.is_paused
    assert np.array_equal(earlier.test_losses, state.test_losses[:4])
    assert state.epoch == 9


def test_a_paused_training_resumes_without_a_journal(table: SplitTable) -> None:
    together = Training(SETTINGS, {None: table}, "compiled", threads=2)
    paused = {result.trial: result for result in together.run(TRIALS, pause_after=5)}
    assert all(result.is_paused for result in paused.values())
    together.drop(TRIALS[3:])
    assert len(together.states[40]._states) == 3
    whole = dict(zip(TRIALS, run(table, SETTINGS), strict=True))
    for result in together.run(TRIALS[:3]):
        assert_same_bits(result, whole[result.trial])
    assert not together.states[40]._states
