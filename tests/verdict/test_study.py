"""The statistics of a study: effects, their intervals, and what remains of an incomplete design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import make_parts, make_study_ranking, make_trial

from layersearch.space.configurations import Layers, Variant
from layersearch.space.factors import Factors, Level, cross, read_factors
from layersearch.space.ranking import ConfigurationResult, rank_configurations
from layersearch.verdict.study import Study, analyse, complete_part, contrast_variances, simultaneous
from losses import sum_weights

OWN: dict[str, Level] = {"dropout": 0.1, "weight_decay": 1e-4, "normalization": "layer", "input_normalization": "layer"}
LAYERS: list[Layers] = [(64,), (32, 16), ((32,), (64, 16))]
FACTORS = read_factors("dropout=0,0.1,0.3; normalization=layer,none")
CHANGES: Mapping[tuple[str, Level], float] = {("dropout", 0.3): 0.2, ("normalization", "none"): -0.1}


def study_of(ranking: Sequence[ConfigurationResult], factors: Factors = FACTORS, **changed: Any) -> Study:
    known: dict[str, Any] = {"own": OWN, "epochs": 20, "confidence": 0.95, "seed": 0}
    folds = ranking[0].folds if ranking[0].trials[0].trial.fold is not None else 0
    return analyse(ranking, make_parts(folds), factors, **known | changed)


def variants_with(*options: tuple[str, Level]) -> list[Variant]:
    return [variant for variant in cross(LAYERS, FACTORS) if set(options) <= set(variant.options)]


def test_a_main_effect_is_the_mean_difference_to_the_reference() -> None:
    ranking = make_study_ranking(LAYERS, FACTORS, CHANGES)
    losses = {c.config: c.final_test_loss for c in ranking}
    study = study_of(ranking)
    assert [(e.factor, e.level, e.reference) for e in study.main_effects] == [
        ("dropout", 0.0, 0.1),
        ("dropout", 0.3, 0.1),
        ("normalization", "none", "layer"),
    ]
    for effect in study.main_effects:
        at, reference = (
            np.mean([losses[v] for v in variants_with((effect.factor, level))])
            for level in (effect.level, effect.reference)
        )
        assert effect.estimate == pytest.approx(at - reference)
        assert effect.by_configuration.mean() == pytest.approx(effect.estimate)
        assert effect.interval is not None
        assert effect.interval.low < effect.estimate < effect.interval.high
    assert study.losses.shape == (3, 3, 2)
    assert study.mean_losses("dropout")[1] == pytest.approx(
        np.mean([losses[v] for v in variants_with(("dropout", 0.1))])
    )


def test_an_interaction_is_the_difference_of_differences() -> None:
    together: dict[tuple[tuple[str, Level], ...], float] = {(("dropout", 0.3), ("normalization", "none")): -0.15}
    ranking = make_study_ranking(LAYERS, FACTORS, CHANGES, together=together)
    losses = {c.config: c.final_test_loss for c in ranking}

    def mean(dropout: float, normalization: str) -> float:
        return float(
            np.mean([losses[v] for v in variants_with(("dropout", dropout), ("normalization", normalization))])
        )

    study = study_of(ranking)
    assert len(study.interactions) == 2
    assert study.strongest is study.interactions[1]
    assert study.strongest.levels == (0.3, "none")
    expected = (mean(0.3, "none") - mean(0.1, "none")) - (mean(0.3, "layer") - mean(0.1, "layer"))
    assert study.strongest.estimate == pytest.approx(expected)
    assert study.strongest.interval is not None
    assert study.strongest.interval.high < 0


def test_the_reference_is_the_commands_own_value_else_the_first() -> None:
    ranking = make_study_ranking(LAYERS, FACTORS)
    assert study_of(ranking).references == {"dropout": 0.1, "normalization": "layer"}
    other = study_of(ranking, own={"dropout": 0.5, "normalization": "none"})
    assert other.references == {"dropout": 0.0, "normalization": "none"}
    assert other.main_effects[0].estimate == pytest.approx(-study_of(ranking).main_effects[0].estimate)


def test_luck_that_a_repeat_shares_among_a_configurations_variants_cancels() -> None:
    def standard_errors(**luck: Any) -> np.ndarray:
        study = study_of(make_study_ranking(LAYERS, FACTORS, seed=3, **luck))
        return np.array([effect.standard_error for effect in study.main_effects])

    alike, shaken = standard_errors(shared_luck=0), standard_errors(shared_luck=0.1)
    noisy = standard_errors(own_luck=0.1)
    assert (shaken < 1.3 * alike).all()
    assert (noisy > 3 * alike).all()


def test_intervals_get_narrower_with_repeats_and_wider_with_confidence() -> None:
    few, many = (study_of(make_study_ranking(LAYERS, FACTORS, repeats=n, own_luck=0.05)) for n in (2, 20))
    sure = study_of(make_study_ranking(LAYERS, FACTORS, repeats=20, own_luck=0.05), confidence=0.999)

    def width(study: Study) -> float:
        return float(np.mean([e.interval.high - e.interval.low for e in study.main_effects if e.interval]))

    assert width(many) < width(few) / 2
    assert width(sure) > 1.3 * width(many)


def test_after_one_training_each_there_are_effects_and_no_intervals() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, repeats=1))
    assert not study.is_known
    assert {(e.standard_error, e.interval) for e in study.main_effects} == {(None, None)}
    assert {(i.standard_error, i.interval) for i in study.interactions} == {(None, None)}
    assert study.strongest is max(study.interactions, key=lambda i: abs(i.estimate))


def test_folds_of_one_repeat_tell_luck() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, repeats=1, folds=4))
    assert study.is_known
    assert (study.repeats, study.folds) == (1, 4)
    again = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, repeats=3, folds=4))
    assert again.main_effects[1].interval is not None
    assert again.main_effects[1].interval.low > 0


def test_one_factor_of_one_configuration_has_no_interaction() -> None:
    factors = read_factors("dropout=0,0.1")
    study = study_of(make_study_ranking([(8,)], factors, repeats=2), factors)
    assert (len(study.main_effects), study.interactions, study.strongest) == (1, (), None)
    assert study.is_known


def test_the_same_ranking_gives_the_same_study() -> None:
    ranking = make_study_ranking(LAYERS, FACTORS, CHANGES)
    one, other = study_of(ranking), study_of(ranking)
    assert [e[:-1] for e in one.main_effects] == [e[:-1] for e in other.main_effects]


# An incomplete design


def test_a_level_that_mostly_fails_is_left_out() -> None:
    failed = variants_with(("normalization", "none"))[1:]
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, failed=failed))
    assert study.left_out == ("normalization none (8 of 9 unfinished)",)
    assert [factor.name for factor in study.factors] == ["dropout"]
    assert [factor.name for factor in study.asked] == ["dropout", "normalization"]
    assert len(study.layers) == 3
    assert study.strongest is None


def test_a_configuration_that_fails_once_is_left_out_and_the_rest_is_as_without_it() -> None:
    failed = [v for v in variants_with(("dropout", 0.3), ("normalization", "none")) if v.layers == LAYERS[1]]
    study = study_of(make_study_ranking(LAYERS, FACTORS, CHANGES, failed=failed, own_luck=0, shared_luck=0))
    assert study.left_out == ("[32, 16] (1 of 6 unfinished)",)
    whole = study_of(make_study_ranking([LAYERS[0], LAYERS[2]], FACTORS, CHANGES, own_luck=0, shared_luck=0))
    assert set(study.layers) == set(whole.layers)
    assert [e.estimate for e in study.main_effects] == pytest.approx([e.estimate for e in whole.main_effects])


def test_the_reference_moves_on_where_it_failed() -> None:
    study = study_of(make_study_ranking(LAYERS, FACTORS, failed=variants_with(("dropout", 0.1))))
    assert study.references["dropout"] == 0.0
    assert study.left_out == ("dropout 0.1 (6 of 6 unfinished)",)


def test_what_was_not_trained_counts_as_unfinished() -> None:
    ranking = make_study_ranking(LAYERS, FACTORS)
    trained = [c for c in ranking if c.config.layers != (64,) or c.config.options[0] != ("dropout", 0.3)]
    assert study_of(trained).left_out == ("[64] (2 of 6 unfinished)",)


def test_where_nothing_is_left_there_is_no_effect() -> None:
    factors = read_factors("dropout=0,0.1")
    finished, other = cross([(8,)], factors)
    study = study_of(make_study_ranking([(8,)], factors, failed=[other]), factors)
    assert (study.main_effects, study.left_out) == ((), ("dropout 0.1 (1 of 1 unfinished)",))
    assert complete_part({finished: False, other: False}, factors) == (
        [], (), ("dropout 0 (1 of 1 unfinished)", "nothing is left to compare"),
    )  # fmt: skip


# Its parts


def test_degrees_of_freedom_add_up_where_variances_are_alike() -> None:
    """30 configurations with 2 degrees of freedom each have 60 together, up to the bias of the estimate."""
    rng = np.random.default_rng(0)
    alike = rng.normal(size=(400, 30, 3, 1))
    variances, df = contrast_variances(alike)
    assert 45 < np.median(df) <= 60
    assert variances.mean() == pytest.approx(1 / 90, rel=0.05)
    _, one = contrast_variances(alike[:, :1])
    assert set(one.tolist()) == {2.0}


def test_what_scatters_row_by_row_is_counted_once() -> None:
    """Here the luck of a training is nothing but independent scatter of its rows."""
    rng = np.random.default_rng(0)
    part, factors = make_parts()[0], read_factors("dropout=0,0.1")
    scatters = np.abs(rng.normal(1, 0.5, (2, 40, len(part.cells)))) * 0.03
    trials = [make_trial(config, repeat) for config in cross([(8,)], factors) for repeat in range(40)]
    noisy = []
    for trial, scatter in zip(trials, scatters.reshape(80, -1), strict=True):
        errors = scatter[:, None] * part.cells
        loss = float(errors.sum(axis=0) @ np.array(sum_weights(*part.cells.sum(axis=0).tolist())))
        noisy.append(replace(trial, row_errors=errors.astype(np.float32), final_test_loss=loss))
    ranking = rank_configurations(noisy, dict.fromkeys(cross([(8,)], factors), 100))
    (effect,) = study_of(ranking, factors).main_effects
    losses = np.array([c.losses[:, 0] for c in ranking])
    of_training = np.sqrt((losses[0] - losses[1]).var(ddof=1) / 40)
    assert effect.standard_error == pytest.approx(of_training, rel=0.2)


def test_simultaneous_intervals_hold_together_and_alone_more_often() -> None:
    rng = np.random.default_rng(0)
    errors = rng.normal(size=(20_000, 6)) * [1, 1, 1, 1, 1, 20]
    bounds = simultaneous(np.zeros(6), errors, 0.9)
    held = (np.abs(rng.normal(size=(20_000, 6)) * [1, 1, 1, 1, 1, 20]) <= bounds[:, 1]).T
    assert held.all(axis=0).mean() == pytest.approx(0.9, abs=0.01)
    assert held.mean(axis=1) == pytest.approx(np.full(6, 0.9 ** (1 / 6)), abs=0.01)


def test_a_study_of_the_most_levels_has_all_their_effects() -> None:
    text = "dropout=0,0.01,0.02,0.03,0.04,0.05,0.06,0.07,0.08,0.09; weight_decay=0,1,2,3,4,5,6,7,8,9"
    factors = read_factors(f"{text}; normalization=layer,none; input_normalization=layer,none")
    study = study_of(make_study_ranking([(4,), (8,)], factors, repeats=2, epochs=1), factors)
    assert len(study.main_effects) == 20
    assert len(study.interactions) == 81 + 4 * 9 + 1
