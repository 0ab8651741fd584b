"""Bayesian search: proposals stay inside the space, repeat after an interruption, and are never trained twice."""

from __future__ import annotations

import math
from collections.abc import Callable

import optuna
import pytest
from builders import make_failed_trial, make_trial

from layersearch.search.bayesian import PATIENCE, Values, bayesian, make_study, parameters_of, propose
from layersearch.space.configurations import Configuration, Space
from layersearch.space.ranking import ConfigurationResult

SPACE = Space([8, 16, 32, 64, 128], 4)
SPACES = [SPACE, Space([8, 16, 32], 3, "any"), Space([8, 16], 3, "asymmetric"), Space(range(4, 257), 6)]
BEHIND_AN_ENCODER = [Space([8, 16, 32], 3, arrangement, encoder=(16, 8)) for arrangement in ("decreasing", "any")]


def loss_of(config: Configuration) -> float:
    """Returns a loss with its minimum at [64, 32]."""
    depth = 0.01 * abs(len(config) - 2)
    return 0.03 + depth + sum(0.01 * abs(math.log2(w) - t) for w, t in zip(config, (6, 5, 4, 4), strict=False))


def result_of(config: Configuration) -> ConfigurationResult:
    return ConfigurationResult(config, 1000 * sum(config), (make_trial(config, loss=loss_of(config), epochs=1),))


def values_of(result: ConfigurationResult) -> Values:
    return None if result.failure else [result.final_test_loss]


def searched(
    study: optuna.Study,
    n: int = 20,
    batch_size: int = 3,
    *,
    seed: int = 1,
    space: Space = SPACE,
    answer: Callable[[Configuration], ConfigurationResult] = result_of,
    values: Callable[[ConfigurationResult], Values] = values_of,
) -> list[list[Configuration]]:
    """Returns the batches that the plan asks for."""
    batches = []
    plan = bayesian(space, study, n_trials=n, batch_size=batch_size, seed=seed, values_of=values)
    try:
        batch = next(plan)
        while True:
            batches.append(list(batch.configurations))
            batch = plan.send([answer(config) for config in batch.configurations])
    except StopIteration:
        return batches


@pytest.mark.parametrize("space", [*SPACES[:3], *BEHIND_AN_ENCODER], ids=str)
def test_every_configuration_can_be_proposed(space: Space) -> None:
    for config in space.configurations():
        assert propose(space, optuna.trial.FixedTrial(parameters_of(space, config))) == config  # type: ignore[arg-type]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.arrangement} {space.size}")
def test_proposals_keep_to_the_space(space: Space) -> None:
    answer = lambda config: ConfigurationResult(config, 1, (make_trial(config, loss=0.04, epochs=1),))  # noqa: E731
    batches = searched(make_study(1, ["loss"]), 12, space=space, answer=answer)
    configurations = [config for batch in batches for config in batch]
    assert len(set(configurations)) == len(configurations) == 12
    for config in configurations:
        halves = config if space.arrangement == "asymmetric" and isinstance(config[0], tuple) else (config, ())
        assert all(set(half) <= set(space.widths) and len(half) <= space.max_layers for half in halves)
        if space.arrangement == "decreasing":
            assert list(config) == sorted(config, reverse=True)


def test_bounds_never_change() -> None:
    study = make_study(1, ["loss"])
    searched(study, 40)
    bounds: dict[str, set[str]] = {}
    for trial in study.trials:
        for name, distribution in trial.distributions.items():
            bounds.setdefault(name, set()).add(str(distribution))
    assert set(bounds) == {"layers", "width_1", "share_2", "share_3", "share_4"}
    assert all(len(seen) == 1 for seen in bounds.values())


def test_the_same_seed_proposes_the_same() -> None:
    batches = searched(make_study(1, ["loss"]))
    assert batches == searched(make_study(1, ["loss"]))
    assert batches != searched(make_study(2, ["loss"]))
    assert [len(batch) for batch in batches] == [3] * 6 + [2]


def test_a_longer_search_begins_like_a_shorter_one() -> None:
    assert searched(make_study(1, ["loss"]), 30)[:5] == searched(make_study(1, ["loss"]), 15)


def test_results_are_told_in_the_order_of_asking() -> None:
    study = make_study(1, ["loss"])
    searched(study)
    told = [trial for trial in study.trials if trial.value is not None]
    assert [trial.number for trial in told] == sorted(trial.number for trial in told)
    for trial in told:
        assert trial.value == pytest.approx(loss_of(eval(trial.user_attrs["configuration"])))


def test_it_finds_what_a_random_search_hardly_does() -> None:
    found = [config for batch in searched(make_study(1, ["loss"]), 30, 1) for config in batch]
    assert min(map(loss_of, found)) < 0.045
    assert sum(map(loss_of, found[20:])) < sum(map(loss_of, found[:10]))


def test_a_space_that_is_exhausted_ends_the_search() -> None:
    small = Space([8, 16], 2)
    batches = searched(make_study(1, ["loss"]), 100, 4, space=small)
    assert sorted(config for batch in batches for config in batch) == sorted(small.configurations())


def test_what_is_known_is_answered_without_training() -> None:
    study = make_study(1, ["loss"])
    batches = searched(study, 5, 1, space=Space([8, 16], 2))
    assert len([config for batch in batches for config in batch]) == 5
    assert len(study.trials) > 5
    assert all(trial.state.is_finished() for trial in study.trials)
    values: dict[str, set[float | None]] = {}
    for trial in study.trials:
        values.setdefault(trial.user_attrs["configuration"], set()).add(trial.value)
    assert len(values) == 5
    assert all(len(seen) == 1 for seen in values.values())
    assert len(study.trials) < 5 * (PATIENCE + 2)


def test_a_failure_is_told_as_one() -> None:
    study = make_study(1, ["loss"])

    def answer(config: Configuration) -> ConfigurationResult:
        return ConfigurationResult(config, 1, (make_failed_trial(config),)) if len(config) == 4 else result_of(config)

    searched(study, 30, answer=answer)
    failed = [t for t in study.trials if t.state == optuna.trial.TrialState.FAIL]
    assert failed
    assert all(trial.params["layers"] == 4 for trial in failed)


def test_two_objectives_spread_over_sizes() -> None:
    study = make_study(1, ["loss", "params"])
    searched(study, 30, values=lambda result: [result.final_test_loss, float(result.model_params)])
    assert study.metric_names == ["loss", "params"]
    front = study.best_trials
    assert len({trial.values[1] for trial in front}) >= 3
