"""The ranking depends on losses alone, never on the order in which trials finish."""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics

import numpy as np
import pytest
from builders import make_configuration, make_failed_trial, make_trial

from layersearch.space.configurations import Configuration, Variant
from layersearch.space.ranking import ConfigurationResult, ResultCollector, rank_configurations
from layersearch.space.trials import TrialResult

PARAMS = {(8,): 100, (16,): 200, (16, 8): 300, (16, 16): 400}


def trials_of(losses: dict[Configuration, list[float]]) -> list[TrialResult]:
    return [make_trial(config, r, loss=x) for config, repeats in losses.items() for r, x in enumerate(repeats)]


def with_weights(result: TrialResult) -> TrialResult:
    return dataclasses.replace(result, parameters=np.ones(3, np.float32))


def in_folds(losses: np.ndarray, config: Configuration = (8,)) -> list[TrialResult]:
    """Returns the trials of a cross-validated configuration with these losses [R, K]; NaN for a failed trial."""
    return [
        make_failed_trial(config, *where) if np.isnan(loss) else make_trial(config, *where, loss=float(loss))
        for where, loss in np.ndenumerate(losses)
    ]


def configs(ranking: list[ConfigurationResult]) -> list[Configuration]:
    return [entry.config for entry in ranking]


def test_the_lowest_mean_loss_ranks_first() -> None:
    ranking = rank_configurations(trials_of({(8,): [0.1, 0.5], (16,): [0.2, 0.3], (16, 8): [0.4, 0.4]}), PARAMS)
    assert configs(ranking) == [(16,), (8,), (16, 8)]


def test_of_equal_losses_the_smaller_model_ranks_first() -> None:
    sizes: dict[Configuration, int] = {(16,): 300, (8, 8): 400, (32,): 200}
    ranking = rank_configurations(trials_of({(16,): [0.2], (8, 8): [0.1], (32,): [0.2]}), sizes)
    assert configs(ranking) == [(8, 8), (32,), (16,)]


def test_of_equal_losses_and_sizes_the_order_is_still_fixed() -> None:
    trials = trials_of({(16,): [0.2], (8,): [0.2]})
    same_size: dict[Configuration, int] = {(16,): 7, (8,): 7}
    assert configs(rank_configurations(trials, same_size)) == configs(rank_configurations(trials[::-1], same_size))


def test_of_variants_of_the_same_layers_that_failed_alike_the_order_is_still_fixed() -> None:
    variants = [Variant((8,), (("dropout", p), ("normalization", "none"))) for p in (0.3, 0.0)]
    trials = [make_failed_trial(variant, 0, failed_epoch=1) for variant in variants]
    same_size: dict[Configuration, int] = dict.fromkeys(variants, 7)
    assert configs(rank_configurations(trials, same_size)) == configs(rank_configurations(trials[::-1], same_size))


def test_a_configuration_with_one_failed_repeat_ranks_last_and_says_why() -> None:
    trials = [make_failed_trial((8,), 1, failed_epoch=4), *trials_of({(8,): [0.01], (16,): [0.9, 0.9]})]
    ranking = rank_configurations(trials, PARAMS)
    assert configs(ranking) == [(16,), (8,)]
    failed = ranking[1]
    assert failed.status == "failed: not finite at epoch 4 (repeat 2 of 2)"
    assert failed.test_loss_per_repeat == [pytest.approx(0.01), None]
    assert np.isnan(failed.final_test_loss)
    assert failed.final_test_loss_sd is None
    assert ranking[0].status == "ok"


def test_the_order_of_arrival_does_not_matter() -> None:
    trials = trials_of({c: [0.1 + i / 50, 0.1 - i / 70, 0.2] for i, c in enumerate(PARAMS)})
    trials[4] = make_failed_trial(trials[4].trial.config, trials[4].trial.repeat)
    expected = rank_configurations(trials, PARAMS)
    for seed in range(5):
        ranking = rank_configurations(random.Random(seed).sample(trials, len(trials)), PARAMS)
        assert configs(ranking) == configs(expected)
        assert [entry.test_loss_per_repeat for entry in ranking] == [e.test_loss_per_repeat for e in expected]


def test_the_spread_is_the_sample_standard_deviation() -> None:
    losses = [0.31, 0.33, 0.38]
    entry = make_configuration((8,), losses)
    assert entry.final_test_loss == pytest.approx(statistics.mean(losses))
    assert entry.final_test_loss_sd == pytest.approx(statistics.stdev(losses))
    assert make_configuration((8,), [0.3]).final_test_loss_sd is None


def test_curves_have_one_row_a_repeat() -> None:
    entry = make_configuration((8,), [0.3, 0.2], epochs=7)
    assert entry.test_curves.shape == (2, 7)
    assert entry.test_curves[:, -1] == pytest.approx([0.3, 0.2])


def test_the_best_trained_repeat_is_chosen_without_the_test_rows() -> None:
    trials = trials_of({(8,): [0.1, 0.2, 0.3]})
    train_losses = [0.9, 0.5, 0.7]
    trials = [dataclasses.replace(t, final_train_loss=x) for t, x in zip(trials, train_losses, strict=True)]
    assert rank_configurations(trials, PARAMS)[0].best_trained.trial.repeat == 1


ARRIVALS = list(itertools.permutations([(c, r) for c in [(8,), (16,), (16, 8)] for r in range(2)]))


@pytest.mark.parametrize("failing", [None, (8,), (16,)])
def test_weights_stay_only_with_the_leader_and_the_unfinished(failing: Configuration | None) -> None:
    loss = {(8,): 0.1, (16,): 0.2, (16, 8): 0.3}
    for arrivals in ARRIVALS[::7]:
        collector = ResultCollector(2, PARAMS)
        finished: dict[Configuration, int] = dict.fromkeys(loss, 0)
        for config, repeat in arrivals:
            fails = config == failing and repeat == 0
            result = make_failed_trial(config) if fails else with_weights(make_trial(config, repeat, loss=loss[config]))
            collector.add(result)
            finished[config] += 1
            done = [c for c, count in finished.items() if count == 2 and c != failing]
            leader = min(done, key=lambda c: loss[c], default=None)
            assert (collector.best.config if collector.best else None) == leader
            holders = {t.trial.config for entry in collector.ranking() for t in entry.trials if t.parameters.size}
            assert leader is None or leader in holders
            assert holders <= {c for c, count in finished.items() if count < 2} | {leader}


def test_the_collector_ranks_as_if_all_had_come_at_once() -> None:
    trials = [with_weights(t) for t in trials_of({c: [0.3 - i / 50, 0.2] for i, c in enumerate(PARAMS)})]
    collector = ResultCollector(2, PARAMS)
    for result in reversed(trials):
        collector.add(result)
    ranking, expected = collector.ranking(), rank_configurations(trials, PARAMS)
    assert configs(ranking) == configs(expected)
    assert [e.final_test_loss for e in ranking] == [e.final_test_loss for e in expected]
    assert collector.best is not None
    assert collector.best.config == ranking[0].config
    assert all(t.parameters.size for t in ranking[0].trials)


def test_the_collector_has_no_best_where_all_fail() -> None:
    collector = ResultCollector(1, PARAMS)
    for config in PARAMS:
        collector.add(make_failed_trial(config))
    assert collector.best is None
    assert len(collector.ranking()) == len(PARAMS)


# With folds: a repeat's loss is the mean over its folds.


FOLD_LOSSES = np.array([[0.1, 0.2, 0.6], [0.4, 0.4, 0.4]])


def test_losses_have_a_row_a_repeat_and_a_column_a_fold_in_whatever_order_they_come() -> None:
    (entry,) = rank_configurations(in_folds(FOLD_LOSSES)[::-1], PARAMS)
    assert (entry.repeats, entry.folds, entry.is_cross_validated) == (2, 3, True)
    np.testing.assert_allclose(entry.losses, FOLD_LOSSES)
    assert entry.test_loss_per_repeat == pytest.approx([0.3, 0.4])
    assert entry.train_loss_per_repeat == pytest.approx([0.97 * 0.3, 0.97 * 0.4])
    assert entry.final_test_loss == pytest.approx(0.35)
    assert entry.final_test_loss_sd == pytest.approx(statistics.stdev([0.3, 0.4]))
    assert entry.test_curves.shape == (6, 20)


def test_without_folds_losses_have_one_column() -> None:
    entry = make_configuration((8,), [0.3, 0.2])
    assert (entry.folds, entry.is_cross_validated) == (1, False)
    np.testing.assert_allclose(entry.losses, [[0.3], [0.2]])


@pytest.mark.parametrize(
    ("shape", "where"),
    [((2, 3), " (repeat 2 of 2, fold 3 of 3)"), ((1, 3), " (fold 3 of 3)"), ((2, 1), " (repeat 2 of 2, fold 1 of 1)")],
)
def test_a_failure_names_its_repeat_and_fold(shape: tuple[int, int], where: str) -> None:
    losses = np.full(shape, 0.2)
    losses[-1, -1] = np.nan
    (entry,) = rank_configurations(in_folds(losses), PARAMS)
    assert entry.status == f"failed: not finite at epoch 3{where}"
    assert entry.test_loss_per_repeat[-1] is None
    assert entry.train_loss_per_repeat[-1] is None
    assert entry.final_test_loss_sd is None


def test_a_single_training_that_fails_names_no_repeat() -> None:
    assert rank_configurations([make_failed_trial((8,))], PARAMS)[0].status == "failed: not finite at epoch 3"


def test_the_collector_waits_for_every_fold() -> None:
    trials = in_folds(FOLD_LOSSES)
    collector = ResultCollector(len(trials), PARAMS)
    for result in trials:
        assert collector.best is None
        collector.add(result)
    assert collector.best is not None
    assert collector.best.final_test_loss == pytest.approx(0.35)
