from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import special, stats

from layersearch.space.ranking import ConfigurationResult
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import MAX_UNITS, ScoredPart, count_units, scored_part
from layersearch.verdict.evidence import collect_evidence, loss_and_influences, moderated_variances
from layersearch.verdict.uncertainty import (
    _spread,
    _spreads,
    confidence_set_of_best,
    draw_errors,
    estimate_optimism,
    intervals,
    probabilities_of_being_best,
)
from losses import sum_weights

N_ROWS, N_COLUMNS = 120, 6


def made_cells(n_rows: int = N_ROWS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    observed = N_COLUMNS - rng.integers(0, 2, n_rows)
    return np.stack([rng.integers(0, 4, n_rows), observed], axis=1)


def loss_of(errors: np.ndarray, cells: np.ndarray) -> float:
    return float(errors.sum(axis=0) @ np.array(sum_weights(*cells.sum(axis=0).tolist())))


def made_configuration(
    errors_by_part: Sequence[np.ndarray], parts: Sequence[ScoredPart], config: tuple[int, ...] = (8,)
) -> ConfigurationResult:
    """From errors [R, N_part, 2] of each part; one part means no folds."""
    trials = []
    for repeat in range(len(errors_by_part[0])):
        for fold, (errors, part) in enumerate(zip(errors_by_part, parts, strict=True)):
            loss = loss_of(errors[repeat], part.cells)
            trial = Trial(config, repeat, fold if len(parts) > 1 else None)
            curve = np.array([loss])
            trials.append(TrialResult(trial, curve, curve, loss, loss, errors[repeat], np.empty(0, np.float32), 1.0))
    return ConfigurationResult(config, 100, tuple(trials))


def draw_row_errors(
    part: ScoredPart, repeats: int, *, mean: float = 0.04, luck: float = 0.05, rng: np.random.Generator
) -> np.ndarray:
    """[R, N, 2]: rows differ, and each training has a luck of its own."""
    difficulty = rng.gamma(2.0, 0.5, len(part.cells))
    training = 1 + luck * rng.standard_normal(repeats)
    noise = rng.gamma(20.0, 0.05, (repeats, len(part.cells)))
    level = mean * training[:, None] * difficulty * noise  # [R, N]
    return np.asarray(level[..., None] * part.cells)


def test_influences_are_the_derivatives_of_the_loss_by_the_rows_weights() -> None:
    rng = np.random.default_rng(1)
    part = scored_part(made_cells())
    errors = draw_row_errors(part, 3, rng=rng)
    evidence = collect_evidence([made_configuration([errors], [part])], [part])

    def weighted_loss(weights: np.ndarray) -> float:
        return loss_of(errors.mean(axis=0) * weights[:, None], part.cells * weights[:, None])

    step = 1e-4
    unbiased = np.sqrt(N_ROWS / (N_ROWS - 1))
    for row in (0, 17, 119):
        direction = np.eye(N_ROWS)[row] * step
        slope = (weighted_loss(1 + direction) - weighted_loss(1 - direction)) / (2 * step)
        assert evidence.influences[0, row] == pytest.approx(unbiased * slope, rel=1e-5)


def test_row_variance_is_what_a_bootstrap_over_rows_finds() -> None:
    rng = np.random.default_rng(2)
    part = scored_part(made_cells())
    errors = draw_row_errors(part, 4, rng=rng)
    row_variance = collect_evidence([made_configuration([errors], [part])], [part]).row_variances[0]
    resampled = []
    for _ in range(4000):
        rows = rng.integers(0, N_ROWS, N_ROWS)
        resampled.append(loss_of(errors.mean(axis=0)[rows], part.cells[rows]))
    assert row_variance == pytest.approx(np.var(resampled), rel=0.1)


def test_whole_groups_are_resampled() -> None:
    """Rows that are copies of each other tell no more than one of them."""
    rng = np.random.default_rng(3)
    few = scored_part(made_cells(30))
    errors = draw_row_errors(few, 2, rng=rng)
    copies, groups = np.repeat(np.arange(30), 4), np.repeat(np.arange(30), 4)
    part = scored_part(few.cells[copies], groups)
    expected = collect_evidence([made_configuration([errors], [few])], [few])
    found = collect_evidence([made_configuration([errors[:, copies]], [part])], [part])
    assert count_units([part]) == 30
    assert found.row_variances == pytest.approx(expected.row_variances, rel=1e-5)
    ungrouped = scored_part(few.cells[copies])
    assert (
        collect_evidence([made_configuration([errors[:, copies]], [ungrouped])], [ungrouped]).row_variances
        < 0.3 * found.row_variances
    )


def test_group_numbers_may_have_gaps_and_any_order() -> None:
    rng = np.random.default_rng(4)
    cells, groups = made_cells(), rng.permutation(np.repeat(np.arange(40), 3))
    renamed = rng.permutation(1000)[:40][groups]
    errors = draw_row_errors(scored_part(cells), 2, rng=rng)
    one, other = (
        collect_evidence([made_configuration([errors], [part])], [part]).row_variances
        for part in (scored_part(cells, groups), scored_part(cells, renamed))
    )
    assert one == pytest.approx(other)


def test_folds_are_weighed_as_the_mean_of_their_losses() -> None:
    rng = np.random.default_rng(5)
    parts = [scored_part(made_cells(n, seed=n)) for n in (50, 60, 70)]
    errors = [draw_row_errors(part, 2, rng=rng) for part in parts]
    configuration = made_configuration(errors, parts)
    evidence = collect_evidence([configuration], parts)
    expected = np.mean([[loss_of(e[r], p.cells) for e, p in zip(errors, parts, strict=True)] for r in range(2)])
    assert evidence.losses[0] == pytest.approx(expected)
    assert evidence.influences.shape == (1, 180)
    alone = [
        collect_evidence([made_configuration([e], [p])], [p]).row_variances[0]
        for e, p in zip(errors, parts, strict=True)
    ]
    assert evidence.row_variances[0] == pytest.approx(sum(alone) / 9, rel=0.02)  # of a mean of three


def test_more_rows_than_can_be_resampled_are_bundled_with_the_same_variance() -> None:
    rng = np.random.default_rng(6)
    part = scored_part(made_cells(5 * MAX_UNITS))
    errors = draw_row_errors(part, 2, rng=rng)
    evidence = collect_evidence([made_configuration([errors], [part])], [part])
    assert evidence.influences.shape == (1, MAX_UNITS)
    few = [
        loss_and_influences([errors.mean(axis=0)[rows]], [scored_part(part.cells[rows])])[1]
        for rows in np.split(np.arange(5 * MAX_UNITS), 5)
    ]
    expected = np.mean([(influence**2).sum() for influence in few]) / 5
    assert evidence.row_variances[0] == pytest.approx(expected, rel=0.1)


def test_training_variance_leaves_out_what_rows_explain() -> None:
    """Trainings that differ in nothing but their errors on single rows have no luck of their own."""
    rng = np.random.default_rng(7)
    part = scored_part(np.full((2000, 2), 5))
    without = [made_configuration([draw_row_errors(part, 6, luck=0.0, rng=rng)], [part]) for _ in range(20)]
    with_luck = [made_configuration([draw_row_errors(part, 6, luck=0.05, rng=rng)], [part]) for _ in range(20)]
    assert collect_evidence(without, [part]).training_variances.mean() < 0.1 * (0.05 * 0.04) ** 2 / 6
    luck = np.sqrt(collect_evidence(with_luck, [part]).training_variances * 6) / 0.04
    assert luck.mean() == pytest.approx(0.05, rel=0.15)


def test_nothing_is_known_of_training_after_one_training_each() -> None:
    rng = np.random.default_rng(8)
    part = scored_part(made_cells())
    single = [made_configuration([draw_row_errors(part, 1, rng=rng)], [part]) for _ in range(3)]
    evidence = collect_evidence(single, [part])
    assert evidence.training_df == 0
    assert not evidence.training_variances.any()


def test_variances_are_moderated_as_in_limma() -> None:
    """Against the definition: the prior is where mean and variance of log F agree with their expectation."""
    rng = np.random.default_rng(9)
    true_prior_df, df = 12.0, 4
    variances = 2.0 * true_prior_df / rng.chisquare(true_prior_df, 4000) * rng.chisquare(df, 4000) / df
    moderated, new_df = moderated_variances(variances, df, 4000 * df, np.ones(4000))
    assert new_df == pytest.approx(true_prior_df + df, rel=0.1)
    slope, intercept = np.polyfit(variances, moderated, 1)
    assert slope == pytest.approx(df / new_df, rel=1e-6)
    prior_df = new_df - df
    prior = intercept * new_df / prior_df
    assert prior == pytest.approx(2.0, rel=0.05)
    centred = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    assert special.polygamma(1, prior_df / 2) == pytest.approx(
        centred.var(ddof=1) - special.polygamma(1, df / 2), rel=1e-5
    )


def test_equal_variances_are_pooled() -> None:
    rng = np.random.default_rng(10)
    estimates = np.exp(0.1 * rng.standard_normal(20))  # differ by far less than 4 degrees of freedom would make them
    moderated, df = moderated_variances(estimates, 4, 80, np.ones(20))
    assert df == 80
    assert moderated == pytest.approx(np.full(20, moderated[0]))


def test_variances_are_moderated_relative_to_the_losses() -> None:
    rng = np.random.default_rng(11)
    variances, losses = rng.chisquare(4, 30) / 4, rng.uniform(0.03, 0.09, 30)
    relative, df = moderated_variances(variances, 4, 120, np.ones(30))
    scaled, same_df = moderated_variances(variances * losses**2, 4, 120, losses)
    assert same_df == pytest.approx(df)
    assert scaled == pytest.approx(relative * losses**2)


@pytest.mark.parametrize("variances", [[0.0], [1e-6], [0.0, 0.0], [0.0, 1e-6]])
def test_a_single_variance_is_left_as_it_is(variances: list[float]) -> None:
    moderated, df = moderated_variances(np.array(variances), 3, 6, np.full(len(variances), 0.04))
    assert moderated.tolist() == variances
    assert df == 3


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
    evidence = collect_evidence([made_configuration([draw_row_errors(part, 2, rng=rng)], [part])], [part])
    errors = draw_errors(evidence, 2000, rng)  # 4,000,000 // 3000 = 1333 at a time
    assert errors.rows.std(axis=0) == pytest.approx(np.sqrt(evidence.row_variances), rel=0.1)
    assert len(np.unique(errors.rows)) == 2000


def test_intervals_are_the_estimate_minus_the_errors() -> None:
    errors = np.arange(1001.0)[:, None] / 1000  # 0 to 1: the estimate is always too high
    assert intervals(np.array([5.0]), errors, 0.9)[0] == pytest.approx([4.05, 4.95])


def test_probabilities_of_being_best_add_up_and_follow_the_losses() -> None:
    rng = np.random.default_rng(14)
    losses = np.array([1.0, 1.0, 3.0, 100.0])
    found = probabilities_of_being_best(losses, rng.standard_normal((20_000, 4)))
    assert found.sum() == pytest.approx(1)
    assert found[0] == pytest.approx(found[1], abs=0.02)
    assert 0.01 < found[2] < 0.2
    assert found[3] == 0


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
    """Multiplicity: with a pointwise critical value 40 equals would miss it nearly always."""
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


def test_optimism_is_that_of_choosing_the_lowest_of_equals() -> None:
    """Of 8 equals with standard error s the lowest lies about 1.42 s below the truth."""
    rng = np.random.default_rng(19)
    part = scored_part(np.full((200, 2), 5))
    found, true = [], []
    for _ in range(60):
        difficulty = draw_row_errors(part, 1, luck=0.0, rng=rng)
        luck = 1 + 0.05 * rng.standard_normal((8, 5))
        configurations = [
            made_configuration([difficulty * own[:, None, None]], [part], (n,)) for n, own in enumerate(luck, start=1)
        ]
        configurations.sort(key=lambda c: c.final_test_loss)
        evidence = collect_evidence(configurations, [part])
        errors = draw_errors(evidence, 500, rng)
        optimism = estimate_optimism(configurations, part, evidence, errors)
        assert optimism is not None
        found.append(optimism)
        true.append(evidence.losses.mean() - evidence.losses[0])
    assert np.mean(found) == pytest.approx(np.mean(true), rel=0.25)


def test_there_is_no_optimism_where_one_wins_by_far() -> None:
    rng = np.random.default_rng(20)
    part = scored_part(np.full((200, 2), 5))
    configurations = [
        made_configuration([draw_row_errors(part, 5, mean=mean, rng=rng)], [part], (n,))
        for n, mean in enumerate((0.01, 0.1, 0.1), start=1)
    ]
    evidence = collect_evidence(configurations, [part])
    optimism = estimate_optimism(configurations, part, evidence, draw_errors(evidence, 500, rng))
    assert optimism is not None
    assert abs(optimism) < 0.02 * evidence.losses[0]


def test_a_loss_of_zero_has_no_variance_and_disturbs_no_other() -> None:
    variances, losses = np.array([0.0, 1e-8, 2e-8, 3e-8]), np.array([0.0, 0.04, 0.04, 0.04])
    moderated, _ = moderated_variances(variances, 4, 16, losses)
    assert moderated[0] == 0
    assert (moderated[1:] > 0).all()


@pytest.mark.parametrize(("folds", "groups_each"), [(5, 2), (5, 3), (3, 8)])
def test_few_groups_in_a_fold_do_not_hide_their_variance(folds: int, groups_each: int) -> None:
    """Influences are centred in each fold, which takes a degree of freedom from each."""
    rng = np.random.default_rng(21)
    cells = np.full((groups_each, 2), 5)
    parts = [scored_part(cells) for _ in range(folds)]
    losses, variances = [], []
    for _ in range(300):
        errors = [0.04 * rng.gamma(4, 0.25, (1, groups_each, 1)).repeat(2, axis=2) * cells for _ in parts]
        evidence = collect_evidence([made_configuration(errors, parts)], parts)
        losses.append(evidence.losses[0])
        variances.append(evidence.row_variances[0])
        assert evidence.row_df == folds * (groups_each - 1)
    assert np.mean(variances) == pytest.approx(np.var(losses), rel=0.2)


def test_folds_of_a_single_group_vary_around_their_common_loss() -> None:
    """Leave one group out: the losses of the folds are all that tells how groups differ."""
    rng = np.random.default_rng(25)
    parts = [scored_part(np.full((4, 2), 5), np.zeros(4)) for _ in range(6)]
    levels = rng.uniform(0.1, 0.3, 6)
    errors = [np.full((2, 4, 2), 5 * level) for level in levels]
    evidence = collect_evidence([made_configuration(errors, parts)], parts)
    assert evidence.row_variances[0] == pytest.approx(levels.var(ddof=1) / 6)
    assert evidence.row_df == 5


def test_a_single_group_leaves_the_rows_variance_unknown() -> None:
    part = scored_part(np.full((6, 2), 5), np.zeros(6))
    assert not collect_evidence([made_configuration([np.full((2, 6, 2), 0.2)], [part])], [part]).is_known


def test_single_trainings_of_few_configurations_have_their_whole_variance() -> None:
    """What is taken off for the folds' difficulty is given back: 1 - 1/C of the variance would be left."""
    rng = np.random.default_rng(22)
    parts = [scored_part(np.full((50, 2), 5)) for _ in range(5)]
    found = []
    for _ in range(100):
        luck = 0.04 * (1 + 0.05 * rng.standard_normal((3, 5)))
        configurations = [
            made_configuration([np.full((1, 50, 2), 5 * level) for level in own], parts, (n,))
            for n, own in enumerate(luck, start=1)
        ]
        found.append(collect_evidence(configurations, parts).training_variances.mean())
    assert np.mean(found) * 5 == pytest.approx((0.05 * 0.04) ** 2, rel=0.15)


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


def test_optimism_needs_rows_to_hold_back() -> None:
    part = scored_part(np.full((6, 2), 5), np.zeros(6))
    configurations = [made_configuration([np.full((2, 6, 2), 0.2)], [part], (n,)) for n in (1, 2)]
    evidence = collect_evidence(configurations, [part])
    errors = draw_errors(evidence, 100, np.random.default_rng(0))
    assert estimate_optimism(configurations, part, evidence, errors) is None
