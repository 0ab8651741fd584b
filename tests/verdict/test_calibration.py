"""A smaller version of `benchmarks/calibration.py`, on the bundled synthetic sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import calibration
import numpy as np
import pytest
from calibration import Count, Population

from layersearch.files import SAMPLE_PATH

SEARCHES = 60
DRAWS = 1500  # of each loss, a third of what the command draws: enough for these bounds


@pytest.fixture(scope="module", autouse=True)
def fewer_draws() -> Iterator[None]:
    """Lets each verdict draw fewer errors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("layersearch.verdict.verdict.n_draws", lambda *_: DRAWS)
        yield


@pytest.fixture(scope="module")
def population() -> Population:
    """Returns 8 configurations, each trained briefly 16 times."""
    settings = replace(calibration.SETTINGS, epochs=3, batch_size=64)
    configurations = [(32,), (24,), (16,), (12,), (8,), (16, 16), (16, 8), (8, 8)]
    return calibration.train_population(SAMPLE_PATH, configurations, 16, settings)


@pytest.fixture(scope="module")
def counts(population: Population) -> dict[int, list[Count]]:
    """Returns simulated searches in which the best 1, 2 or 4 configurations are equal."""
    return {n: calibration.simulate(population.with_equal_best(n), 5, SEARCHES) for n in (1, 2, 4)}


@pytest.mark.parametrize("n_equal", [1, 2, 4])
def test_the_tied_set_holds_the_true_best_and_intervals_cover(counts: dict[int, list[Count]], n_equal: int) -> None:
    """The bounds are three binomial standard errors beyond what is required: 93 %, 5 %, 92 to 98 %."""
    found = counts[n_equal]
    assert np.mean([count.holds_best for count in found]) >= 0.93 - 0.10
    assert np.mean([count.wrongly_proven for count in found]) <= 0.05 + 0.08
    assert 0.88 <= np.mean([count.covered for count in found]) <= 0.995
    assert np.mean([count.near_bounds_hold for count in found]) >= 0.93 - 0.10
    assert np.mean([count.loss_covered for count in found]) >= 0.93 - 0.10
    assert np.mean([count.wrongly_smaller for count in found]) <= 0.05 + 0.08


def test_whole_groups_are_drawn_and_counted(population: Population) -> None:
    found = calibration.simulate(population, 5, SEARCHES, by_group=True)
    assert np.mean([count.holds_best for count in found]) >= 0.93 - 0.10
    assert 0.88 <= np.mean([count.covered for count in found]) <= 0.995


def test_equal_bests_have_equal_truths(population: Population) -> None:
    truth = np.sort(population.with_equal_best(3).truth)
    assert truth[:3] == pytest.approx(np.full(3, truth[0]), rel=1e-6)
    assert truth[3] > truth[0] * 1.001
    assert population.truth.min() == pytest.approx(truth[0])


def test_the_estimated_optimism_is_the_true_one_on_average(counts: dict[int, list[Count]]) -> None:
    found = counts[4]
    true = np.array([count.optimism for count in found])
    estimated = np.array([count.estimated_optimism for count in found])
    noise = 3 * np.sqrt((true.var() + estimated.var()) / len(found))
    assert true.mean() > 0
    assert abs(estimated.mean() - true.mean()) < 0.2 * true.mean() + noise


def test_cross_validated_intervals_cover() -> None:
    classes = calibration.synthetic_population(3000, seed=1)
    settings = replace(calibration.SETTINGS, epochs=3)
    covered, holds, wrong = calibration.fold_coverage(
        classes, [(16,), (8,), (4,)], n_tables=20, n_rows=200, folds=4, repeats=2, settings=settings
    )
    assert covered.mean() >= 0.8
    assert np.mean(holds) >= 0.8
    assert wrong <= 3
