"""The verdict: what is tied, recommended and proven, the Pareto front, and the comparison with baselines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from row_errors import draw_row_errors, made_cells, made_configuration

from layersearch.space.configurations import Configuration, count_parameters
from layersearch.space.ranking import ConfigurationResult, rank_configurations
from layersearch.space.trials import TrialResult
from layersearch.table.scoring import ScoredPart, scored_part
from layersearch.verdict.evidence import Evidence, collect_evidence
from layersearch.verdict.verdict import Verdict, estimate_loss, judge, pareto_front

PART = scored_part(made_cells())
PARAMS = {config: count_parameters(24, 3, config) for config in [(64, 64), (64,), (32,), (16,), (8,), (4,)]}


def ranking_of(
    means: dict[Configuration, float], *, repeats: int = 5, luck: float = 0.03, parts: Sequence[ScoredPart] = (PART,)
) -> list[ConfigurationResult]:
    """Returns a search in which the same rows are hard for all configurations, and each training has its own luck."""
    rng = np.random.default_rng(0)
    difficulty = [draw_row_errors(part, 1, mean=1.0, luck=0.0, rng=rng) for part in parts]
    results: list[TrialResult] = []
    for config, mean in means.items():
        levels = mean * (1 + luck * rng.standard_normal((len(parts), repeats, 1, 1)))
        errors = [hard * level for hard, level in zip(difficulty, levels, strict=True)]
        results += made_configuration(errors, parts, config).trials
    return rank_configurations(results, PARAMS)


def judged(means: dict[Configuration, float], *, repeats: int = 5, luck: float = 0.03, **options: object) -> Verdict:
    settings = {"confidence": 0.95, "seed": 0, **options}
    return judge(ranking_of(means, repeats=repeats, luck=luck), [PART], {}, **settings)  # type: ignore[arg-type]


EQUALS: dict[Configuration, float] = {(64, 64): 0.0400, (64,): 0.0404, (32,): 0.0406, (16,): 0.06, (8,): 0.08}
CLEAR: dict[Configuration, float] = {(64, 64): 0.03, (64,): 0.04, (32,): 0.05}


def test_near_equals_are_tied() -> None:
    verdict = judged(EQUALS)
    assert verdict.is_known
    assert not verdict.is_proven
    assert {c.config for c in verdict.tied} == {(64, 64), (64,), (32,)}
    assert verdict.best.config == verdict.tied[0].config


def test_a_clear_winner_is_proven() -> None:
    verdict = judged(CLEAR)
    assert verdict.is_proven
    assert [c.config for c in verdict.tied] == [(64, 64)]
    assert verdict.recommended is verdict.best


def test_after_one_training_each_nothing_is_proven() -> None:
    verdict = judged(CLEAR, repeats=1)
    assert not verdict.is_known
    assert not verdict.is_proven
    assert verdict.tied == ()
    assert verdict.recommended is verdict.best
    assert verdict.optimism is None
    for standing in verdict.standings.values():
        assert standing.difference_interval is None
        assert standing.is_tied is None


def test_one_configuration_is_not_proven_better_than_nothing() -> None:
    verdict = judged({(64,): 0.04})
    assert verdict.n_configurations == 1
    assert not verdict.is_proven


def test_standings_hold_loss_differences_and_what_is_known_of_them() -> None:
    verdict = judged(EQUALS)
    best = verdict.standings[verdict.best.config]
    assert best.difference == 0
    assert best.difference_interval == (0, 0)
    for c in ranking_of(EQUALS):
        standing = verdict.standings[c.config]
        assert standing.standard_error
        assert standing.difference is not None
        assert standing.difference_interval is not None
        assert standing.difference == pytest.approx(c.final_test_loss - verdict.best.final_test_loss)
        assert standing.difference_interval.low <= standing.difference <= standing.difference_interval.high
        assert standing.is_tied == (c.config in {tied.config for tied in verdict.tied})


def test_the_same_seed_gives_the_same_verdict_and_another_nearly() -> None:
    one, same, other = judged(EQUALS), judged(EQUALS), judged(EQUALS, seed=1)
    assert one.standings == same.standings
    assert one.standings != other.standings
    ours, theirs = (verdict.standings[(16,)].difference_interval for verdict in (one, other))
    assert ours == pytest.approx(theirs, abs=0.0005)


def test_a_baseline_is_compared_on_the_same_rows() -> None:
    """Rows that are hard for all do not widen the interval of the difference."""
    ranking = ranking_of(CLEAR, luck=0.001)
    rng = np.random.default_rng(0)
    errors = draw_row_errors(PART, 1, mean=1.0, luck=0.0, rng=rng)[0] * 0.041
    verdict = judge(ranking, [PART], {"PCA": [errors]}, confidence=0.95, seed=0)
    (baseline,) = verdict.baselines
    assert baseline.loss == pytest.approx(ranking[1].final_test_loss * 0.041 / 0.04, rel=0.01)
    assert baseline.not_beaten_by == 1
    assert baseline.difference == pytest.approx(verdict.best.final_test_loss - baseline.loss)
    assert baseline.difference_interval is not None
    width = baseline.difference_interval.high - baseline.difference_interval.low
    assert width < 0.6 * 2 * 1.96 * (verdict.standings[verdict.best.config].standard_error or 0)


def test_the_recommended_is_the_smallest_that_is_shown_to_be_as_good() -> None:
    losses = {(64, 64): 0.0400, (64,): 0.0403, (32,): 0.0404, (16,): 0.060}
    certain = judged(losses, repeats=5, luck=0.002)
    assert certain.recommended.config == (32,)
    bound = certain.recommendation.bound
    assert bound is not None
    assert (certain.standings[(32,)].difference or 0) < bound <= 0.05 * certain.best.final_test_loss
    assert judged(losses, repeats=5, luck=0.002, margin=0.0).recommended is not certain.recommended
    assert judged(losses, repeats=5, luck=0.002, margin=0.0).recommended.config == (64, 64)


def test_a_tied_configuration_that_may_be_much_worse_is_not_recommended() -> None:
    noisy = judged({(64, 64): 0.040, (64,): 0.041}, repeats=3, luck=0.06)
    assert len(noisy.tied) == 2
    assert noisy.recommended is noisy.best
    assert noisy.recommendation.bound is None


def test_more_repeats_are_named_where_luck_in_training_hides_that_a_smaller_one_is_as_good() -> None:
    losses: dict[Configuration, float] = {(64, 64): 0.0400, (64,): 0.0410}
    noisy = judged(losses, repeats=3)
    assert noisy.recommended is noisy.best
    needed = noisy.recommendation.repeats_needed
    assert needed is not None
    assert 4 <= needed <= 1000
    assert judged(losses, repeats=2 * needed).recommended.config == (64,)


def test_more_repeats_are_not_promised_where_rows_hide_it() -> None:
    rng = np.random.default_rng(1)
    results: list[TrialResult] = []
    for config, mean in {(64, 64): 0.0400, (64,): 0.0401}.items():
        rows = draw_row_errors(PART, 1, mean=mean, luck=0.0, rng=rng)  # each finds other rows hard
        results += made_configuration([np.repeat(rows, 4, axis=0)], [PART], config).trials
    ranking = rank_configurations(results, PARAMS)
    verdict = judge(ranking, [PART], {}, confidence=0.95, seed=0)
    assert verdict.recommended is verdict.best
    assert verdict.recommendation.repeats_needed is None


def test_the_front_drops_what_a_smaller_one_matches_within_the_noise() -> None:
    verdict = judged(EQUALS)
    assert [c.config for c in verdict.front] == [(8,), (16,), (32,)]
    assert verdict.standings[(32,)].on_front
    assert not verdict.standings[(64, 64)].on_front


def test_without_known_noise_the_front_is_that_of_the_measured_losses() -> None:
    finished = ranking_of(EQUALS, repeats=1)
    front = pareto_front(finished, ["loss", "params"], None, 0.95)
    losses = [c.final_test_loss for c in front]
    assert losses == sorted(losses, reverse=True)
    assert front[-1] is finished[0]


def test_the_front_weighs_time_where_asked() -> None:
    """All trials of `made_configuration` take the same time, so the number of parameters decides."""
    finished = ranking_of(CLEAR)
    errors = np.zeros((100, 3))
    by_time = pareto_front(finished, ["loss", "time"], errors, 0.95)
    assert [c.config for c in by_time] == [(64, 64)]
    by_both = pareto_front(finished, ["loss", "params", "time"], errors, 0.95)
    assert [c.config for c in by_both] == [(32,), (64,), (64, 64)]


def test_folds_are_judged_together_and_without_optimism() -> None:
    parts = [scored_part(made_cells(60, seed=s)) for s in range(3)]
    ranking = ranking_of(EQUALS, repeats=2, parts=parts)
    verdict = judge(ranking, parts, {"PCA": [0.05 * p.cells for p in parts]}, confidence=0.95, seed=0)
    assert verdict.is_known
    assert verdict.n_resampled == 180
    assert verdict.optimism is None
    assert verdict.baselines[0].loss == pytest.approx(0.05)


def test_one_repeat_of_several_folds_is_enough_for_a_verdict() -> None:
    parts = [scored_part(made_cells(60, seed=s)) for s in range(5)]
    verdict = judge(ranking_of(CLEAR, repeats=1, parts=parts), parts, {}, confidence=0.95, seed=0)
    assert verdict.is_known
    assert verdict.is_proven


def test_failed_configurations_take_no_part() -> None:
    from builders import make_failed_trial

    finished = [trial for c in ranking_of(CLEAR) for trial in c.trials]
    ranking = rank_configurations([*finished, make_failed_trial((4,))], PARAMS)
    verdict = judge(ranking, [PART], {}, confidence=0.95, seed=0)
    assert verdict.n_configurations == 3
    assert (4,) not in verdict.standings


def test_an_estimate_counts_the_luck_of_the_search() -> None:
    verdict = judged(EQUALS)
    for repeats in (1, 2, 5):
        configuration = ranking_of({(64,): 0.04}, repeats=repeats)[0]
        found = estimate_loss(configuration, PART, verdict, confidence=0.95, seed=0)
        assert found.loss == configuration.final_test_loss
        assert found.interval.low < found.loss < found.interval.high
        by_rows = collect_evidence([configuration], [PART]).row_variances[0]
        luck = (verdict.relative_sd * found.loss) ** 2 / repeats
        assert found.standard_error**2 == pytest.approx(by_rows + luck)


def test_the_work_for_a_configuration_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at all configurations happens a few times in all, not once for each configuration."""
    looks: list[int] = []

    def note(evidence: Evidence) -> np.ndarray:
        looks.append(len(evidence.losses))
        return np.asarray((evidence.influences**2).sum(axis=1))

    monkeypatch.setattr(Evidence, "row_variances", property(note))
    judged(EQUALS)
    assert 0 < len(looks) < len(EQUALS)


def test_hundreds_of_near_equals_are_judged_in_bounded_work() -> None:
    """There are fewer draws of many configurations, but never too few for the quantiles."""
    from layersearch.verdict.verdict import n_draws

    assert n_draws(19, 0.95) == 5000
    assert n_draws(19, 0.999) == 50_000
    assert n_draws(10_000, 0.95) == 1000


def test_a_loss_of_zero_is_judged() -> None:
    nothing = np.zeros((3, len(PART.cells), 2))
    results = [
        trial
        for config, level in [((64,), 0.0), ((32,), 0.04), ((16,), 0.05)]
        for trial in made_configuration([nothing + level * PART.cells], [PART], config).trials
    ]
    verdict = judge(rank_configurations(results, PARAMS), [PART], {}, confidence=0.95, seed=0)
    assert verdict.is_proven
    assert all(np.isfinite(standing.standard_error or 0.0) for standing in verdict.standings.values())
