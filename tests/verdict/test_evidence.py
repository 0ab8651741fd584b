"""The variances of measured losses, by rows and by training."""

from __future__ import annotations

import numpy as np
import pytest
from row_errors import N_ROWS, draw_row_errors, evidence_of, loss_of, made_cells, made_configuration

from layersearch.table.scoring import MAX_UNITS, count_units, scored_part
from layersearch.verdict.evidence import collect_evidence, loss_and_influences


def test_influences_are_the_derivatives_of_the_loss_by_the_rows_weights() -> None:
    rng = np.random.default_rng(1)
    part = scored_part(made_cells())
    errors = draw_row_errors(part, 3, rng=rng)
    evidence = evidence_of(errors, part)

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
    row_variance = evidence_of(errors, part).row_variances[0]
    resampled = []
    for _ in range(4000):
        rows = rng.integers(0, N_ROWS, N_ROWS)
        resampled.append(loss_of(errors.mean(axis=0)[rows], part.cells[rows]))
    assert row_variance == pytest.approx(np.var(resampled), rel=0.1)


def test_whole_groups_are_resampled() -> None:
    """Rows that are copies of each other are as informative as one of them."""
    rng = np.random.default_rng(3)
    few = scored_part(made_cells(30))
    errors = draw_row_errors(few, 2, rng=rng)
    copies, groups = np.repeat(np.arange(30), 4), np.repeat(np.arange(30), 4)
    part = scored_part(few.cells[copies], groups)
    expected = evidence_of(errors, few)
    found = evidence_of(errors[:, copies], part)
    assert count_units([part]) == 30
    assert found.row_variances == pytest.approx(expected.row_variances, rel=1e-5)
    ungrouped = scored_part(few.cells[copies])
    assert evidence_of(errors[:, copies], ungrouped).row_variances < 0.3 * found.row_variances


def test_group_numbers_may_have_gaps_and_any_order() -> None:
    rng = np.random.default_rng(4)
    cells, groups = made_cells(), rng.permutation(np.repeat(np.arange(40), 3))
    renamed = rng.permutation(1000)[:40][groups]
    errors = draw_row_errors(scored_part(cells), 2, rng=rng)
    one, other = (
        evidence_of(errors, part).row_variances for part in (scored_part(cells, groups), scored_part(cells, renamed))
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
    alone = [evidence_of(e, p).row_variances[0] for e, p in zip(errors, parts, strict=True)]
    assert evidence.row_variances[0] == pytest.approx(sum(alone) / 9, rel=0.02)  # of a mean of three


def test_more_rows_than_can_be_resampled_are_bundled_with_the_same_variance() -> None:
    rng = np.random.default_rng(6)
    part = scored_part(made_cells(5 * MAX_UNITS))
    errors = draw_row_errors(part, 2, rng=rng)
    evidence = evidence_of(errors, part)
    assert evidence.influences.shape == (1, MAX_UNITS)
    few = [
        loss_and_influences([errors.mean(axis=0)[rows]], [scored_part(part.cells[rows])])[1]
        for rows in np.split(np.arange(5 * MAX_UNITS), 5)
    ]
    expected = np.mean([(influence**2).sum() for influence in few]) / 5
    assert evidence.row_variances[0] == pytest.approx(expected, rel=0.1)


def test_training_variance_leaves_out_what_rows_explain() -> None:
    """Trainings that differ only in their errors on single rows have no variance by training."""
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


@pytest.mark.parametrize(("folds", "groups_each"), [(5, 2), (5, 3), (3, 8)])
def test_few_groups_in_a_fold_do_not_hide_their_variance(folds: int, groups_each: int) -> None:
    """Influences are centred in each fold, which costs one degree of freedom a fold."""
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
    """With one group left out at a time, only the losses of the folds show how groups differ."""
    rng = np.random.default_rng(25)
    parts = [scored_part(np.full((4, 2), 5), np.zeros(4)) for _ in range(6)]
    levels = rng.uniform(0.1, 0.3, 6)
    errors = [np.full((2, 4, 2), 5 * level) for level in levels]
    evidence = collect_evidence([made_configuration(errors, parts)], parts)
    assert evidence.row_variances[0] == pytest.approx(levels.var(ddof=1) / 6)
    assert evidence.row_df == 5


def test_a_single_group_leaves_the_rows_variance_unknown() -> None:
    part = scored_part(np.full((6, 2), 5), np.zeros(6))
    assert not evidence_of(np.full((2, 6, 2), 0.2), part).is_known


def test_single_trainings_of_few_configurations_have_their_whole_variance() -> None:
    """Subtracting the folds' means leaves 1 - 1/C of the variance; the estimate is corrected for that."""
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
