"""Drawn errors, intervals, the confidence set of the best, and optimism."""

from __future__ import annotations

import numpy as np
import pytest
from row_errors import draw_row_errors, evidence_of, made_cells, made_configuration
from scipy import stats

from layersearch.table.scoring import scored_part
from layersearch.verdict.evidence import Evidence, collect_evidence
from layersearch.verdict.uncertainty import (
    _spread,
    _spreads,
    confidence_set_of_best,
    draw_errors,
    expected_optimism,
    intervals,
    tied_with_best,
    upper_bounds,
)


def test_drawn_errors_have_the_stated_variance_and_tails() -> None:
    rng = np.random.default_rng(12)
    part = scored_part(made_cells())
    configurations = [made_configuration([draw_row_errors(part, 5, rng=rng)], [part], (n,)) for n in (8, 16, 32)]
    evidence = collect_evidence(configurations, [part])
    errors = draw_errors(evidence, 40_000, rng)
    assert errors.rows.var(axis=0) == pytest.approx(evidence.row_variances * 119 / 117, rel=0.05)
    df = evidence.training_df
    for drawn, variance in zip(errors.training.T, evidence.training_variances, strict=True):
        assert np.quantile(drawn, 0.975) == pytest.approx(stats.t.ppf(0.975, df) * np.sqrt(variance), rel=0.06)
    covariance = np.cov(errors.rows.T)
    expected = evidence.influences @ evidence.influences.T * 119 / 117
    assert covariance == pytest.approx(expected, rel=0.1, abs=0.05 * expected.max())  # the same rows for all
    assert abs(np.corrcoef(errors.training.T)[0, 1]) < 0.02


def test_errors_are_drawn_in_parts_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(13)
    part = scored_part(made_cells(3000))
    evidence = evidence_of(draw_row_errors(part, 2, rng=rng), part)
    errors = draw_errors(evidence, 2000, rng)  # 4,000,000 // 3000 = 1333 at a time
    assert errors.rows.std(axis=0) == pytest.approx(np.sqrt(evidence.row_variances), rel=0.1)
    assert len(np.unique(errors.rows)) == 2000


def test_intervals_are_the_estimate_minus_the_errors() -> None:
    errors = np.arange(1001.0)[:, None] / 1000  # 0 to 1: the estimate is always too high
    assert intervals(np.array([5.0]), errors, 0.9)[0] == pytest.approx([4.05, 4.95])


def test_upper_bounds_hold_together_in_the_stated_share_of_searches() -> None:
    rng = np.random.default_rng(14)
    spread = np.array([0.5, 1.0, 2.0])
    drawn = rng.standard_normal((20_000, 3)) * spread
    hits = []
    for _ in range(2000):
        bounds, reach = upper_bounds(rng.standard_normal(3) * spread, drawn[:5000], 0.95)
        hits.append((bounds >= 0).all())
        assert 1.96 < reach < 2.3  # the normal quantile for one of three at 95 %
    assert np.mean(hits) == pytest.approx(0.95, abs=0.015)


def test_the_best_measured_is_always_tied_and_the_far_worse_never() -> None:
    rng = np.random.default_rng(15)
    losses = np.array([0.0, 0.5, 20.0])
    assert confidence_set_of_best(losses, rng.standard_normal((4000, 3)), 0.95).tolist() == [True, True, False]
    assert confidence_set_of_best(losses[:1], rng.standard_normal((4000, 1)), 0.95).tolist() == [True]


def test_configurations_that_share_all_errors_are_told_apart_by_any_difference() -> None:
    common = np.random.default_rng(16).standard_normal((4000, 1))
    assert confidence_set_of_best(np.array([0.0, 0.001]), common + np.zeros((4000, 2)), 0.95).tolist() == [True, False]
    assert confidence_set_of_best(np.array([0.0, 0.0]), common + np.zeros((4000, 2)), 0.95).tolist() == [True, True]


@pytest.mark.parametrize("n_configurations", [2, 10, 40])
def test_the_tied_set_misses_the_best_of_equals_in_one_of_twenty_searches(n_configurations: int) -> None:
    """Without adjustment for multiplicity, the set would miss the best of 40 equals nearly always."""
    rng = np.random.default_rng(17)
    errors = rng.standard_normal((1000, n_configurations))
    missed = sum(not confidence_set_of_best(rng.standard_normal(n_configurations), errors, 0.95)[0] for _ in range(300))
    assert 3 <= missed <= 30  # 15 expected; four standard errors are 15


def test_more_confidence_ties_more() -> None:
    rng = np.random.default_rng(18)
    losses, errors = np.linspace(0, 5, 20), rng.standard_normal((4000, 20))
    sizes = [int(confidence_set_of_best(losses, errors, confidence).sum()) for confidence in (0.5, 0.8, 0.95, 0.999)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_more_contenders_than_can_be_tested_all_count_as_tied(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(23)
    losses, errors = np.linspace(0, 20, 40), rng.standard_normal((4000, 40))
    tested = confidence_set_of_best(losses, errors, 0.95)
    monkeypatch.setattr("layersearch.verdict.uncertainty.MOST_COMPARED", 4000 * 2**2)
    screened = confidence_set_of_best(losses, errors, 0.95)
    assert (screened >= tested).all()
    assert 0 < screened.sum() < 20


def test_each_of_hundreds_of_contenders_is_tested_against_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(25)
    losses, errors = 2 * np.abs(rng.standard_normal(400)), rng.standard_normal((1000, 400))
    losses[0] = 0.0
    found = confidence_set_of_best(losses, errors, 0.95)
    for candidate in range(400):
        differences = np.delete(errors[:, [candidate]] - errors, candidate, axis=1)
        spread = differences.std(axis=0)
        lead = (losses[candidate] - np.delete(losses, candidate)) / spread
        assert found[candidate] == (lead.max() <= np.quantile((differences / spread).max(axis=1), 0.95))
    monkeypatch.setattr("layersearch.verdict.uncertainty.MOST_COMPARED", 0)
    assert 300 < found.sum() < confidence_set_of_best(losses, errors, 0.95).sum()  # what the screening alone leaves


def test_spreads_are_those_of_the_differences_however_alike_the_errors_are() -> None:
    rng = np.random.default_rng(26)
    common = rng.standard_normal((500, 1))
    errors = np.hstack([common, common, common + 1e-9 * rng.standard_normal((500, 1)), rng.standard_normal((500, 2))])
    spreads = _spreads(errors)
    for place in range(5):
        assert spreads[place] == pytest.approx(_spread(errors[:, [place]] - errors), rel=1e-9)
    assert spreads[0, 1] == spreads[3, 3] == 1.0  # there is none
    assert spreads[0, 2] == pytest.approx(1e-9, rel=0.1)


@pytest.mark.parametrize("confidence", [0.01, 0.4, 0.5])
def test_the_best_measured_is_tied_with_itself_at_any_confidence(confidence: float) -> None:
    errors = np.random.default_rng(24).standard_normal((1000, 2))
    assert confidence_set_of_best(np.array([0.0, 0.3]), errors, confidence)[0]


def test_of_two_equals_one_is_proven_in_at_most_one_of_twenty_searches() -> None:
    """Either of the two may be wrongly ruled out: without the half error rate in one search of ten."""
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((1000, 2))
    alone = sum(tied_with_best(rng.standard_normal(2), errors, 0.95).sum() == 1 for _ in range(1000))
    assert 25 <= alone <= 75  # 50 expected; three and a half standard errors are 25


def evidence_by_training(losses: list[float], variance: float) -> Evidence:
    count = len(losses)
    return Evidence(np.array(losses), np.zeros((count, 10)), np.full(count, variance), 4.0, 9)


def test_optimism_is_that_of_choosing_the_lowest_of_equals() -> None:
    rng = np.random.default_rng(3)
    evidence = evidence_by_training([7.0] * 5, 0.5)
    rows = np.sqrt(0.5) * rng.standard_normal((40_000, 5))
    expected = 1.163  # of the lowest of five standard normal numbers
    assert expected_optimism(evidence, rows, rng) == pytest.approx(expected, rel=0.02)


def test_there_is_no_optimism_where_one_wins_by_far_and_it_is_never_negative() -> None:
    evidence = evidence_by_training([1.0, 100.0, 200.0], 1e-6)
    assert expected_optimism(evidence, np.full((500, 3), 0.1), np.random.default_rng(4)) == 0
