"""The convergence probe: its budget, the trend beyond the noise, and the suggested number of epochs."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from builders import make_failed_trial, make_trial, make_verdict, recommending

from layersearch.space.configurations import Configuration
from layersearch.space.ranking import ConfigurationResult, rank_configurations
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import scored_part
from layersearch.verdict.probe import (
    FACTORS,
    FREE,
    MOST_DOUBLINGS,
    REPEATS,
    USUAL_SD,
    Probe,
    ProbePlan,
    plan_probe,
    read_probe,
)
from layersearch.verdict.verdict import Verdict

BEST: Configuration = (64, 64)
SMALLEST: Configuration = (16,)
MIDDLE: Configuration = (64,)
LAST: Configuration = (16, 16)
PARAMS: dict[Configuration, int] = {BEST: 4000, SMALLEST: 1000, MIDDLE: 3000, LAST: 2000}
ASKED: dict[Configuration, float] = {BEST: 0.040, SMALLEST: 0.041, MIDDLE: 0.042, LAST: 0.05}
EPOCHS = 20
CELLS = np.tile([4, 8], (30, 1))  # 30 rows of 8 cells, half of them zero
PART = scored_part(CELLS)
RELATIVE_SD = 0.03


def scored(config: Configuration, repeat: int, loss: float) -> TrialResult:
    """Returns a trial of which every row has this loss, so that it does not matter which rows there are."""
    return dataclasses.replace(make_trial(config, repeat, loss=loss), row_errors=(loss * CELLS).astype(np.float32))


# What is probed


def ranked(repeats: int = 5, fold: int | None = None) -> list[ConfigurationResult]:
    trials = [make_trial(config, r, fold, loss=loss) for config, loss in ASKED.items() for r in range(repeats)]
    return rank_configurations(trials, PARAMS)


def verdict_on(ranking: list[ConfigurationResult]) -> Verdict:
    (smallest,) = (c for c in ranking if c.config == SMALLEST)
    return recommending(make_verdict(ranking), smallest)


def planned(search_cost: float, repeats: int = 5, fold: int | None = None) -> ProbePlan | None:
    """Returns the plan where a training costs a second for each 1000 parameters."""
    ranking = ranked(repeats, fold)
    return plan_probe(verdict_on(ranking), ranking, lambda c: c.model_params / 1000, search_cost)


# Once the length asked for, the three cost 4 + 1 + 3 = 8 seconds.
PLANS = [
    (8 * 6 * 3, 3, (2, 4), 3),
    (8 * 6 * 3 - 1, 3, (2, 4), 2),
    (8 * 6, 3, (2, 4), 1),
    (8 * 6 - 1, 3, (2,), 2),
    (8 * 2, 3, (2,), 1),
    (8 * 2 - 1, 1, (2,), 1),
    (4 * 2, 1, (2,), 1),
]


@pytest.mark.parametrize(("budget", "n_configurations", "factors", "repeats"), PLANS)
def test_as_much_is_probed_as_a_tenth_of_the_search_pays(
    budget: float, n_configurations: int, factors: tuple[int, ...], repeats: int
) -> None:
    plan = planned(10 * budget)
    assert plan is not None
    configs = [configuration.config for configuration in plan.configurations]
    assert configs == [BEST, SMALLEST, MIDDLE][:n_configurations]
    assert plan.factors == factors
    assert set(plan.trials) == {Trial(config, repeat) for config in configs for repeat in range(repeats)}
    assert len(plan.trials) == n_configurations * repeats


def test_a_probe_that_costs_more_than_its_budget_is_none() -> None:
    assert planned(10 * (4 * 2 - 0.1)) is None


def test_what_hardly_takes_time_is_probed_whatever_the_search_took() -> None:
    ranking = ranked()
    verdict = verdict_on(ranking)
    cost = FREE / (3 * sum(FACTORS) * REPEATS)
    for each, expected in ((0.999 * cost, REPEATS), (1.001 * cost, REPEATS - 1)):
        plan = plan_probe(verdict, ranking, lambda _, each=each: each, search_cost=0.0)  # type: ignore[misc]
        assert plan is not None
        assert len(plan.trials) == 3 * expected


@pytest.mark.parametrize(("repeats", "probed"), [(1, 1), (2, 2), (5, REPEATS)])
def test_no_more_repeats_are_probed_than_there_are(repeats: int, probed: int) -> None:
    plan = planned(1e9, repeats)
    assert plan is not None
    assert {trial.repeat for trial in plan.trials} == set(range(probed))


def test_with_folds_the_first_one_is_probed() -> None:
    plan = planned(1e9, fold=0)
    assert plan is not None
    assert {trial.fold for trial in plan.trials} == {0}


def test_failed_configurations_are_not_probed() -> None:
    results = [make_trial(BEST), *(make_failed_trial(config) for config in (SMALLEST, MIDDLE, LAST))]
    ranking = rank_configurations(results, PARAMS)
    plan = plan_probe(make_verdict(ranking), ranking, lambda _: 0.0, 0.0)
    assert plan is not None
    assert [configuration.config for configuration in plan.configurations] == [BEST]


# What it says

N_REPEATS = 3


def read(curves: Mapping[Configuration, Sequence[float]], *, relative_sd: float | None = RELATIVE_SD) -> Probe | None:
    """Returns the probe of configurations with these losses after 1, 2 and perhaps 4 times the epochs; NaN diverged."""
    factors = FACTORS[: len(curves[BEST]) - 1]
    repeats = range(N_REPEATS)
    asked = rank_configurations([scored(c, r, losses[0]) for c, losses in curves.items() for r in repeats], PARAMS)
    configurations = tuple(sorted(asked, key=lambda c: list(curves).index(c.config)))
    trials = tuple(Trial(c, r) for c in curves for r in repeats)
    results = {
        factor: [
            make_failed_trial(c, r) if np.isnan(losses[i]) else scored(c, r, losses[i])
            for c, losses in curves.items()
            for r in repeats
        ]
        for i, factor in enumerate(factors, start=1)
    }
    plan = ProbePlan(configurations, factors, trials)
    return read_probe(plan, results, epochs=EPOCHS, part=PART, relative_sd=relative_sd)


def certain(curves: Mapping[Configuration, Sequence[float]], *, relative_sd: float | None = RELATIVE_SD) -> Probe:
    probe = read(curves, relative_sd=relative_sd)
    assert probe is not None
    return probe


def test_losses_are_those_of_the_configurations_at_each_length() -> None:
    probe = certain({BEST: (0.04, 0.03, 0.025), SMALLEST: (0.042, 0.033, 0.03)})
    assert probe.epochs == (20, 40, 80)
    assert probe.configs == (BEST, SMALLEST)
    assert probe.repeats == N_REPEATS
    np.testing.assert_allclose(probe.losses, [(0.04, 0.03, 0.025), (0.042, 0.033, 0.03)], rtol=1e-6)
    assert probe.fall == pytest.approx((0.015 + 0.012) / 2, rel=1e-5)


def test_the_noise_is_two_standard_errors_of_the_fall() -> None:
    losses = {BEST: (0.04, 0.03, 0.025), SMALLEST: (0.042, 0.033, 0.03)}
    by_training = [(RELATIVE_SD * loss) ** 2 / N_REPEATS for curve in losses.values() for loss in (curve[0], curve[-1])]
    assert certain(losses).noise == pytest.approx(2 * np.sqrt(sum(by_training)) / len(losses), rel=1e-5)


def test_where_the_luck_of_training_is_unknown_a_usual_one_is_taken() -> None:
    losses = {BEST: (0.04, 0.03, 0.025)}
    assert certain(losses, relative_sd=None).noise == certain(losses, relative_sd=USUAL_SD).noise > 0


def test_rows_that_disagree_add_to_the_noise() -> None:
    plan_losses = {BEST: (0.04, 0.039, 0.038)}
    quiet = certain(plan_losses)
    asked = rank_configurations([scored(BEST, r, 0.04) for r in range(N_REPEATS)], PARAMS)
    trials = tuple(Trial(BEST, r) for r in range(N_REPEATS))
    gains = 1 + 0.5 * np.resize([1, -1], (len(CELLS), 1))  # every other row gains, the others lose
    longer = [dataclasses.replace(t, row_errors=(t.row_errors * gains).astype(np.float32)) for t in asked[0].trials]
    plan = ProbePlan(tuple(asked), FACTORS, trials)
    probe = read_probe(plan, dict.fromkeys(FACTORS, longer), epochs=EPOCHS, part=PART, relative_sd=RELATIVE_SD)
    assert probe is not None
    assert probe.losses[0] == pytest.approx([0.04] * 3, rel=1e-5)
    assert probe.noise > 2 * quiet.noise


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("relative_sd", [0.001, 0.003, 0.01, 0.03])
def test_losses_that_keep_falling_ask_for_the_epochs_from_which_doubling_gains_no_more_than_the_noise(
    share: float, relative_sd: float
) -> None:
    losses = [1.0, 0.8, 0.8 - 0.2 * share]  # each doubling gains this share of what the one before gained
    noise = 2 * relative_sd * np.sqrt((losses[1] ** 2 + losses[2] ** 2) / N_REPEATS)
    enough = next(n for n in itertools.count(2) if 0.2 * share**n <= noise or n == 2 + MOST_DOUBLINGS)
    suggested = certain({BEST: losses}, relative_sd=relative_sd).suggested_epochs
    assert suggested == pytest.approx(EPOCHS * 2**enough, rel=0.2), "a round number near it"


@pytest.mark.parametrize(
    ("losses", "epochs"),
    [
        ((0.0400, 0.0395, 0.0398), None),  # flat: within the noise
        ((0.0400, 0.0350, 0.0350), 40),  # one doubling was enough
        ((0.0400, 0.0360, 0.0355), 80),  # the second gained no more than the noise
        ((0.0400, 0.0300, 0.0200), 600),  # no end in sight
        ((0.0400, 0.0450, 0.0500), None),  # rising
        ((0.0400, 0.0350), 80),  # known of one doubling only: half as much is taken to be gained by the next
    ],
)
def test_suggested_epochs_follow_the_trend(losses: tuple[float, ...], epochs: int | None) -> None:
    probe = certain({BEST: losses})
    assert probe.suggested_epochs == epochs
    assert probe.is_long_enough == (epochs is None)
    assert probe.overfits == (losses[-1] > 0.045)


def test_without_noise_every_fall_is_followed() -> None:
    assert certain({BEST: (0.04, 0.0399, 0.03985)}, relative_sd=0.0).suggested_epochs == 600
    assert certain({BEST: (0.04, 0.04, 0.04)}, relative_sd=0.0).suggested_epochs is None


@pytest.mark.parametrize(
    ("best", "smallest", "overtakes"),
    [
        ((0.040, 0.035, 0.034), (0.042, 0.033, 0.030), True),
        ((0.040, 0.035, 0.034), (0.042, 0.034, 0.0338), False),  # within the noise
        ((0.040, 0.035, 0.030), (0.042, 0.038, 0.034), False),
    ],
)
def test_the_order_changes_where_the_longest_training_turns_it_round_beyond_the_noise(
    best: Sequence[float], smallest: Sequence[float], overtakes: bool
) -> None:
    assert certain({BEST: best, SMALLEST: smallest}).overtaking == ((SMALLEST, BEST) if overtakes else None)


def test_what_diverges_when_trained_longer_is_left_out_but_without_the_best_nothing_is_said() -> None:
    nan = float("nan")
    probe = certain({BEST: (0.04, 0.035, 0.034), SMALLEST: (0.042, 0.04, nan), MIDDLE: (0.043, 0.04, 0.039)})
    assert probe.configs == (BEST, MIDDLE)
    assert read({BEST: (0.04, nan, 0.034), SMALLEST: (0.042, 0.04, 0.039)}) is None


def test_the_order_in_which_trainings_finish_changes_no_bit() -> None:
    asked = rank_configurations([scored(BEST, r, 0.04) for r in range(N_REPEATS)], PARAMS)
    plan = ProbePlan(tuple(asked), (2,), tuple(Trial(BEST, r) for r in range(N_REPEATS)))
    for loss in np.linspace(1, 2, 20).tolist():
        longer = [scored(BEST, 0, loss), *(scored(BEST, r, loss * 2**-53) for r in (1, 2))]  # no sum of these is exact
        probes = [
            read_probe(plan, {2: order}, epochs=EPOCHS, part=PART, relative_sd=RELATIVE_SD)
            for order in itertools.permutations(longer)
        ]
        assert len({probe.losses.tobytes() for probe in probes if probe}) == 1
