"""Counts how often the intervals of simulated studies contain a known truth.

    python benchmarks/study_calibration.py [--data_path TABLE] [--studies 400]

Every variant is trained many times on a real split. These trainings and test rows (or whole groups of rows) are taken
as the population, whose mean losses are the truth. A simulated study draws rows and, for each configuration, repeats
from it with replacement. The repeats are the same for all variants of a configuration, since these share initial
weights, batches and dropout patterns. Scenarios: losses as they are; every factor without effect, by scaling errors.

A second part simulates `--study_configs`: the best configurations are chosen by their losses with the options of the
command, and the effect of a factor without effect is measured both in the repeats used for the choice and in others.

The counts are printed with their binomial standard error. `tests/verdict/test_study_calibration.py` runs a smaller
version.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np  # `calibration` adds the project's modules to the path
from calibration import CONFIDENCE, SETTINGS, Population, draw_rows, share, train_population, trial_result

from layersearch.files import SAMPLE_PATH
from layersearch.journal.identity import describe_environment
from layersearch.space.configurations import Layers
from layersearch.space.factors import Factors, Level, cross, read_factors
from layersearch.space.ranking import rank_configurations
from layersearch.space.trials import Trial, TrialResult
from layersearch.table.scoring import scored_part
from layersearch.verdict.study import Interaction, MainEffect, Study, analyse, make_contrasts

STUDY = "dropout=0,0.1,0.3; normalization=layer,none; input_normalization=layer,none"
OWN: dict[str, Level] = {"dropout": 0.1, "normalization": "layer", "input_normalization": "layer"}
POPULATION_REPEATS = 40


class Count(NamedTuple):
    """The result of one simulated study."""

    main_hold: bool  # the intervals of all main effects contain the truth
    interactions_hold: bool  # the intervals of all interactions contain the truth
    strongest_holds: bool  # the interval of the strongest interaction contains the truth
    shares: float  # share of the intervals of main effects that contain the truth
    half_width: float  # mean half width of the intervals of main effects


def equalised(population: Population, layers: Sequence[Layers], factors: Factors) -> Population:
    """Returns the population with the variants of a configuration scaled to one loss, so no factor has an effect."""
    truth = population.truth.reshape(len(layers), -1)
    factors_ = (truth.mean(axis=1, keepdims=True) / truth).ravel()
    return replace(population, errors=population.errors * factors_[:, None, None, None])


def simulate(
    population: Population,
    layers: Sequence[Layers],
    factors: Factors,
    repeats: int,
    n_studies: int,
    *,
    by_group: bool = False,
    shrink: float = 1.0,
    seed: int = 0,
) -> list[Count]:
    """Draws studies with `repeats` repeats and compares each with the truth; `shrink` scales all intervals."""
    rng = np.random.default_rng(seed)
    truth = population.truth.reshape(len(layers), -1).mean(axis=0)  # [V]
    effects = make_contrasts(factors, OWN).weights @ truth
    counts = []
    for number in range(n_studies):
        rows, groups = draw_rows(population, by_group, rng)
        drawn = {one: rng.integers(0, population.errors.shape[1], repeats) for one in layers}
        results = draw_trials(population, layers, factors, drawn, rows)
        study = study_of(population, results, rows, groups, factors, seed=number)
        counts.append(_count(study, effects, shrink))
    return counts


def draw_trials(
    population: Population,
    layers: Sequence[Layers],
    factors: Factors,
    trainings: dict[Layers, np.ndarray],
    rows: np.ndarray,
) -> list[TrialResult]:
    """Returns the trials of all variants of some configurations: the trainings with these numbers, on these rows."""
    places = {config: place for place, config in enumerate(population.configurations)}
    return [
        trial_result(Trial(config, repeat), population.errors[places[config], training][rows], population.cells[rows])
        for one in layers
        for config in cross([one], factors)
        for repeat, training in enumerate(trainings[one])
    ]


def study_of(
    population: Population,
    results: Sequence[TrialResult],
    rows: np.ndarray,
    groups: np.ndarray | None,
    factors: Factors,
    *,
    seed: int,
) -> Study:
    """Analyses these trials as the command does and returns the study."""
    ranking = rank_configurations(results, population.parameters)
    part = scored_part(population.cells[rows], groups)
    return analyse(
        ranking, [part], factors, own=OWN, epochs=SETTINGS.epochs, confidence=CONFIDENCE, seed=seed, draws=5000
    )


def _count(study: Study, effects: np.ndarray, shrink: float) -> Count:
    found: list[MainEffect | Interaction] = [*study.main_effects, *study.interactions]
    bounds = np.array([effect.interval for effect in found])  # [E, 2]
    centre = np.array([[effect.estimate] for effect in found])
    bounds = centre + shrink * (bounds - centre)
    holds = (bounds[:, 0] <= effects) & (effects <= bounds[:, 1])
    n_main = len(study.main_effects)
    assert study.strongest
    strongest = n_main + study.interactions.index(study.strongest)
    return Count(
        main_hold=bool(holds[:n_main].all()),
        interactions_hold=bool(holds[n_main:].all()),
        strongest_holds=bool(holds[strongest]),
        shares=float(holds[:n_main].mean()),
        half_width=float((bounds[:n_main, 1] - bounds[:n_main, 0]).mean() / 2),
    )


def selection_bias(
    population: Population,
    layers: Sequence[Layers],
    factors: Factors,
    *,
    chosen: int,
    repeats: int,
    n_studies: int,
    reuse: bool,
    seed: int = 0,
) -> np.ndarray:
    """Returns the effects of the first factor on the configurations chosen with the command's options, [n_studies].

    They are measured in repeats other than those used for the choice or, with `reuse`, in the same ones. Both use the
    same rows, as in the command.
    """
    rng = np.random.default_rng(seed)
    own = tuple((factor.name, OWN[factor.name]) for factor in factors)
    effects = []
    for number in range(n_studies):
        rows, _ = draw_rows(population, False, rng)
        trainings = {one: rng.integers(0, population.errors.shape[1], 2 * repeats) for one in layers}
        first = {one: some[:repeats] for one, some in trainings.items()}
        results = [r for r in draw_trials(population, layers, factors, first, rows) if r.trial.config.options == own]
        best = [c.config.layers for c in rank_configurations(results, population.parameters)[:chosen]]
        second = first if reuse else {one: some[repeats:] for one, some in trainings.items()}
        study = study_of(
            population, draw_trials(population, best, factors, second, rows), rows, None, factors, seed=number
        )
        effects.append(study.main_effects[0].estimate)
    return np.array(effects)


def without_effect(population: Population, factors: Factors) -> Population:
    """Returns a population with two variants of each configuration that do not differ.

    Both variants have all trainings of the configuration, in orders that differ at each position.
    """
    half = population.errors.shape[1] // 2
    errors = np.stack([population.errors, np.roll(population.errors, half, axis=1)], axis=1)  # [C, 2, T, N, 2]
    variants = tuple(cross(population.configurations, factors))
    sizes = {variant: population.parameters[variant.layers] for variant in variants}
    errors = errors.reshape(len(variants), *population.errors.shape[1:])
    return replace(population, configurations=variants, parameters=sizes, errors=errors)


def main() -> None:
    """Runs and prints all scenarios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data_path", type=Path, default=SAMPLE_PATH)
    parser.add_argument("--studies", type=int, default=400, help="simulated per scenario")
    arguments = parser.parse_args()
    import torch

    print(describe_environment(torch.device("cpu"), "compiled", 1)["processor"])
    layers: list[Layers] = [(64,), (64, 64), (32,), (32, 16)]
    factors = read_factors(STUDY)
    population = train_population(arguments.data_path, list(cross(layers, factors)), POPULATION_REPEATS, SETTINGS)
    null = equalised(population, layers, factors)
    print(f"1. {len(layers)} configurations x {STUDY}, {CONFIDENCE:.0%} intervals, n = {arguments.studies} each")
    for title, some, repeats, by_group in [
        ("5 repeats", population, 5, False),
        ("5 repeats, whole groups drawn", population, 5, True),
        ("3 repeats", population, 3, False),
        ("2 repeats", population, 2, False),
        ("5 repeats, no effects", null, 5, False),
        ("3 repeats, no effects", null, 3, False),
        ("2 repeats, no effects", null, 2, False),
    ]:
        print_counts(title, simulate(some, layers, factors, repeats, arguments.studies, by_group=by_group))
    one = layers[:1]
    alone = replace(population, configurations=population.configurations[:12], errors=population.errors[:12])
    for repeats in (5, 3, 2):
        counts = simulate(alone, one, factors, repeats, arguments.studies)
        print_counts(f"one configuration, {repeats} repeats", counts)

    many: list[Layers] = [(width,) for width in (64, 60, 56, 52, 48, 44, 40, 36)]
    halves = read_factors("dropout=0.1,0.2")
    trained = train_population(arguments.data_path, many, POPULATION_REPEATS, SETTINGS)
    trained = without_effect(trained, halves)
    print("\n2. A factor without effect, the best 2 of 8 configurations crossed, 3 repeats; mean of its effect")
    for title, reuse in (("in the repeats that chose them", True), ("in other repeats", False)):
        effects = selection_bias(trained, many, halves, chosen=2, repeats=3, n_studies=arguments.studies, reuse=reuse)
        print(f"  {title}: {effects.mean():+.6f} ± {effects.std(ddof=1) / np.sqrt(len(effects)):.6f}")


def print_counts(title: str, counts: Sequence[Count]) -> None:
    """Prints the counts of one scenario."""
    print(title)
    print(f"  all main effects' intervals hold   {share([c.main_hold for c in counts])}")
    print(f"  all interactions' intervals hold   {share([c.interactions_hold for c in counts])}")
    print(f"  that of the strongest holds        {share([c.strongest_holds for c in counts])}")
    print(f"  of single main effects' intervals  {100 * np.mean([c.shares for c in counts]):.1f} %")
    print(f"  half width of main effects         {np.mean([c.half_width for c in counts]):.5f}", flush=True)


if __name__ == "__main__":
    main()
