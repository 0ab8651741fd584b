"""A smaller version of `benchmarks/study_calibration.py`, on the bundled synthetic sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import study_calibration
from calibration import SETTINGS, Population, train_population

from layersearch.files import SAMPLE_PATH
from layersearch.space.configurations import Layers
from layersearch.space.factors import cross, read_factors

STUDIES = 40
FACTORS = read_factors("dropout=0,0.1; normalization=layer,none")
LAYERS: list[Layers] = [(16,), (8,)]
QUICK = replace(SETTINGS, epochs=3, batch_size=64)


@pytest.fixture(scope="module")
def population() -> Population:
    """Returns 8 variants, each trained briefly 16 times."""
    return train_population(SAMPLE_PATH, list(cross(LAYERS, FACTORS)), 16, QUICK)


@pytest.mark.parametrize(("repeats", "has_effects"), [(2, True), (3, False), (5, True)])
def test_intervals_hold_the_truth_about_as_often_as_stated(
    population: Population, repeats: int, has_effects: bool
) -> None:
    """The bound is three binomial standard errors below the stated 95 %."""
    drawn_from = population if has_effects else study_calibration.equalised(population, LAYERS, FACTORS)
    counts = study_calibration.simulate(drawn_from, LAYERS, FACTORS, repeats, STUDIES)
    least = 0.95 - 3 * np.sqrt(0.95 * 0.05 / STUDIES)
    assert np.mean([count.main_hold for count in counts]) >= least
    assert np.mean([count.interactions_hold for count in counts]) >= least
    assert np.mean([count.strongest_holds for count in counts]) >= least


def test_intervals_are_no_wider_than_they_need_be(population: Population) -> None:
    """Intervals of half the width would hold too rarely."""
    counts = study_calibration.simulate(population, LAYERS, FACTORS, 5, STUDIES, shrink=0.5)
    assert np.mean([count.main_hold for count in counts]) < 0.85


def test_whole_groups_are_drawn_and_counted(population: Population) -> None:
    counts = study_calibration.simulate(population, LAYERS, FACTORS, 3, STUDIES, by_group=True)
    assert np.mean([count.main_hold for count in counts]) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / STUDIES)


def test_a_factor_without_effect_has_none_in_other_repeats_than_chose_the_configurations() -> None:
    """In the same repeats it would have one: those were lucky at the one level that chose the configurations."""
    factors = read_factors("dropout=0.1,0.2")
    layers: list[Layers] = [(width,) for width in range(20, 28)]
    trained = study_calibration.without_effect(train_population(SAMPLE_PATH, layers, 24, QUICK), factors)
    fresh, reused = (
        study_calibration.selection_bias(trained, layers, factors, chosen=1, repeats=2, n_studies=40, reuse=reuse)
        for reuse in (False, True)
    )
    assert abs(fresh.mean()) < 3 * fresh.std() / np.sqrt(len(fresh))
    assert reused.mean() > 3 * reused.std() / np.sqrt(len(reused))
