"""What each strategy asks for, given the results of what it asked for before."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from builders import make_failed_trial, make_trial

from layersearch.search.history import History
from layersearch.search.plan import rungs
from layersearch.search.strategies import Plan, draw_distinct, everything, follow, halving
from layersearch.space.configurations import Configuration, ParameterCounts, Space, count_parameters
from layersearch.space.ranking import ConfigurationResult, ResultCollector, loss_so_far
from layersearch.space.trials import Trial, TrialResult

SPACE = Space([8, 16, 32, 64, 128], 4)
EPOCHS = 20


def loss_of(config: Configuration) -> float:
    """Returns a loss that is lowest for wide, then for shallow configurations, and different for each."""
    return 0.03 + 0.3 / math.sqrt(config[0]) + 0.01 * len(config) + 0.0001 * sum(config) / 512


class FakeTraining:
    """Makes results up and records what it was asked to train."""

    def __init__(self, fails: Callable[[Trial], bool] = lambda trial: False, stops_after: int = 10**9) -> None:
        self.runs: list[tuple[list[Trial], int | None]] = []
        self.dropped: list[Trial] = []
        self.fails, self.stops_after = fails, stops_after

    def run(self, trials: Sequence[Trial], *, pause_after: int | None = None) -> list[TrialResult]:
        self.runs.append((list(trials), pause_after))
        done = [self._train(trial, pause_after) for trial in trials]
        return done[::-1][: self.stops_after]  # results come in any order

    def drop(self, trials: Sequence[Trial]) -> None:
        self.dropped += trials

    def _train(self, trial: Trial, pause_after: int | None) -> TrialResult:
        if self.fails(trial):
            return make_failed_trial(trial.config, trial.repeat, failed_epoch=2)
        whole = make_trial(trial.config, trial.repeat, loss=loss_of(trial.config), epochs=EPOCHS)
        if pause_after is None:
            return whole
        empty = np.empty(0, np.float32)
        return replace(
            whole,
            train_losses=whole.train_losses[:pause_after],
            test_losses=np.full(pause_after, loss_of(trial.config)),
            final_train_loss=None,
            final_test_loss=None,
            row_errors=empty.reshape(0, 2),
            parameters=empty,
            is_paused=True,
        )


def trials_of(configurations: Sequence[Configuration]) -> list[Trial]:
    return [Trial(config, repeat) for config in configurations for repeat in range(2)]


def followed(plan: Plan, training: FakeTraining | None = None) -> tuple[FakeTraining, ResultCollector, History]:
    training = training or FakeTraining()
    collector = ResultCollector(2, ParameterCounts(24, 3))
    history = History("halving", SPACE.size, EPOCHS, threads=2)
    assert isinstance(training, FakeTraining)
    for _ in follow(plan, training, trials_of, collector, history):  # type: ignore[arg-type]
        pass
    return training, collector, history


def run_halving(training: FakeTraining | None = None) -> tuple[FakeTraining, ResultCollector, History]:
    return followed(halving(SPACE.configurations(), epochs=EPOCHS, min_epochs=2, factor=3), training)


def test_rungs_are_spaced_by_the_factor_and_end_before_the_last_epoch() -> None:
    assert rungs(20, 2, 3) == [2, 6, 18]
    assert rungs(18, 2, 3) == [2, 6]
    assert rungs(5, 5, 2) == []


def test_halving_lets_the_best_third_go_on_at_each_rung() -> None:
    training, collector, _ = run_halving()
    assert [(len(trials) // 2, pause) for trials, pause in training.runs] == [(125, 2), (42, 6), (14, 18), (5, None)]
    best = sorted(SPACE.configurations(), key=loss_of)
    for (trials, _), n in zip(training.runs, (125, 42, 14, 5), strict=True):
        assert {trial.config for trial in trials} == set(best[:n])
    ranking = collector.ranking()
    assert [c.config for c in ranking[:5]] == best[:5]
    assert [c.drop.epoch if c.drop else None for c in ranking] == [None] * 5 + [18] * 9 + [6] * 28 + [2] * 83
    assert ranking[5].failure == f"dropped at epoch 18 (loss {loss_of(best[5]):.4g})"


def test_what_is_dropped_is_forgotten_once() -> None:
    training, _, _ = run_halving()
    assert len(training.dropped) == len(set(training.dropped)) == 2 * 120


def test_halving_drops_what_fails_first_and_does_not_train_it_again() -> None:
    best = min(SPACE.configurations(), key=loss_of)
    training, collector, _ = run_halving(FakeTraining(lambda trial: trial.config == best and trial.repeat == 1))
    assert all(best not in {trial.config for trial in trials} for trials, _ in training.runs[1:])
    assert collector.ranking()[-1].config == best
    assert str(collector.ranking()[-1].failure).startswith("failed: not finite at epoch 2")


def test_a_search_that_is_stopped_asks_for_nothing_more() -> None:
    training, collector, history = run_halving(FakeTraining(stops_after=100))
    assert len(training.runs) == 1
    assert collector.ranking() == []  # 50 configurations have paused, and none is at its end
    assert history.steps == []


def test_the_history_counts_epochs_trained_and_the_best_that_is_finished() -> None:
    _, _, history = run_halving()
    trainings = (125 * 2 + 42 * 4 + 14 * 12 + 5 * 2) * 2 / 20
    assert history.steps[-1].trainings == pytest.approx(trainings)
    assert len(history.steps) == 125 + 42 + 14 + 5
    assert history.tried == 125
    assert history.steps[-6].best_loss is None
    assert history.steps[-1].best_loss == pytest.approx(min(map(loss_of, SPACE.configurations())))
    seconds = 0.1 * 2 * 125 / 2  # each result says 0.1 s, of all its training so far
    assert history.steps[-1].seconds == pytest.approx(seconds)


def test_everything_is_one_batch() -> None:
    training, collector, _ = followed(everything(SPACE.configurations()))
    assert [(len(trials), pause) for trials, pause in training.runs] == [(250, None)]
    assert len(collector.ranking()) == 125


@pytest.mark.parametrize("arrangement", ["decreasing", "any", "asymmetric"])
@pytest.mark.parametrize("n", [1, 7, 30])
def test_random_search_draws_different_configurations_that_depend_on_the_seed_alone(n: int, arrangement: str) -> None:
    space = Space([8, 16, 32], 3, arrangement)
    drawn = draw_distinct(space, n, seed=1)
    assert len(set(drawn)) == min(n, space.size)
    assert set(drawn) <= set(space.configurations())
    assert drawn == draw_distinct(space, n, seed=1)
    assert n < 7 or drawn != draw_distinct(space, n, seed=2)


def test_a_longer_random_search_begins_like_a_shorter_one() -> None:
    assert draw_distinct(SPACE, 125, seed=3)[:10] == draw_distinct(SPACE, 10, seed=3)


def test_random_search_draws_from_a_space_that_nobody_could_list() -> None:
    drawn = draw_distinct(Space(range(4, 2000), 40, "asymmetric"), 20, seed=3)
    assert len(set(drawn)) == 20


def test_loss_so_far_is_a_mean_and_infinite_after_a_failure() -> None:
    trials = [make_trial((8,), 0, loss=0.02), make_trial((8,), 1, loss=0.04)]
    assert loss_so_far(ConfigurationResult((8,), 1, tuple(trials))) == pytest.approx(0.03)
    failed = ConfigurationResult((8,), 1, (trials[0], make_failed_trial((8,), 1)))
    assert loss_so_far(failed) == math.inf


def test_parameter_counts_are_made_where_they_are_asked_for() -> None:
    counts = ParameterCounts(24, 3)
    assert counts[64, 64] == count_parameters(24, 3, (64, 64)) == 12_491
    assert list(counts) == [(64, 64)]
