"""The search space is complete, without duplicates and counted correctly; the costliest trials come first."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from layersearch.options import NORMALIZATIONS
from layersearch.space.configurations import ParameterCounts, Space, Variant, count_parameters, enumerate_configurations
from layersearch.space.trials import Trial, plan_trials
from models import DynamicAutoencoder


@pytest.mark.parametrize(
    ("widths", "max_layers", "count"),
    [([16, 32, 64], 1, 3), ([16, 32, 64], 2, 9), ([16, 32, 64], 3, 19), ([16, 32, 64, 128], 3, 34), ([7], 5, 5)],
)
def test_known_spaces_have_their_known_size(widths: list[int], max_layers: int, count: int) -> None:
    assert len(enumerate_configurations(widths, max_layers)) == count


@pytest.mark.parametrize("n_widths", [1, 2, 3, 5])
@pytest.mark.parametrize("max_layers", [1, 2, 3, 4, 6])
def test_the_count_is_that_of_the_enumeration(n_widths: int, max_layers: int) -> None:
    space = Space(range(1, n_widths + 1), max_layers)
    assert space.size == len(list(space.configurations()))


def test_the_space_holds_exactly_the_non_increasing_tuples() -> None:
    every = itertools.chain.from_iterable(itertools.product([3, 5, 9], repeat=layers) for layers in range(1, 5))
    expected = {config for config in every if list(config) == sorted(config, reverse=True)}
    configurations = enumerate_configurations([5, 3, 9], 4)
    assert set(configurations) == expected
    assert len(configurations) == len(expected)


def test_order_and_repetition_of_the_widths_do_not_matter() -> None:
    assert enumerate_configurations([64, 16, 64, 32], 3) == enumerate_configurations([16, 32, 64], 3)


def test_shallow_configurations_come_first_then_wide_ones() -> None:
    assert enumerate_configurations([16, 32], 2) == [(32,), (16,), (32, 32), (32, 16), (16, 16)]


@pytest.mark.parametrize(
    ("latent_dim", "config", "count"), [(3, (64, 64), 12_491), (2, (32, 16), 2_986), (3, (64, 64, 64), 21_067)]
)
def test_known_models_have_their_known_size(latent_dim: int, config: tuple[int, ...], count: int) -> None:
    assert count_parameters(24, latent_dim, config) == count


@pytest.mark.parametrize("input_dim", [1, 24, 60])
@pytest.mark.parametrize("latent_dim", [1, 3, 30])
@pytest.mark.parametrize("config", [(1,), (64,), (64, 32), (130, 7, 7), (9, 8, 5, 3, 2)])
@pytest.mark.parametrize("hidden", NORMALIZATIONS)
@pytest.mark.parametrize("of_input", NORMALIZATIONS)
def test_parameters_are_counted_as_the_model_has_them(
    input_dim: int, latent_dim: int, config: tuple[int, ...], hidden: str, of_input: str
) -> None:
    norms: dict[str, Any] = {"normalization": hidden, "input_normalization": of_input}
    model = DynamicAutoencoder(input_dim, latent_dim, config, **norms)
    size = sum(p.numel() for p in model.parameters())
    assert count_parameters(input_dim, latent_dim, config, **norms) == size
    assert count_parameters(input_dim, latent_dim, Variant(config, tuple(norms.items()))) == size
    assert ParameterCounts(input_dim, latent_dim, **norms)[config] == size


@pytest.mark.parametrize(("folds", "numbers"), [(0, [None]), (3, [0, 1, 2])])
def test_every_configuration_is_planned_for_every_repeat_and_fold_once(folds: int, numbers: list[int | None]) -> None:
    configurations = enumerate_configurations([16, 32, 64], 3)
    trials = plan_trials(configurations, 4, input_dim=24, latent_dim=3, folds=folds)
    assert len(trials) == len(set(trials))
    assert set(trials) == {Trial(c, repeat, fold) for c in configurations for repeat in range(4) for fold in numbers}


def test_costly_trials_start_first() -> None:
    trials = plan_trials([(16,), (64, 64), (8,), (64,)], 2, input_dim=24, latent_dim=3)
    assert [trial.config for trial in trials[::2]] == [(64, 64), (64,), (16,), (8,)]
    assert [trial.repeat for trial in trials] == [0, 1] * 4


def test_folds_of_a_repeat_are_planned_together() -> None:
    trials = plan_trials([(8,), (16,)], 2, input_dim=24, latent_dim=3, folds=2)
    assert [(trial.config, trial.repeat, trial.fold) for trial in trials[:4]] == [
        ((16,), 0, 0), ((16,), 0, 1), ((16,), 1, 0), ((16,), 1, 1),
    ]  # fmt: skip
