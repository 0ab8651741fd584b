"""What regularisation does: the main effects and the interactions of a study's factors, with intervals.

    study = analyse(ranking, parts, factors, own={"dropout": 0.1}, epochs=20, confidence=0.95, seed=42)
    study.main_effects[0].estimate, study.main_effects[0].interval, study.strongest

`study_plan.py` says what is crossed. In a complete design (every configuration with every combination of levels) the
effect of a level is the mean, over configurations and the other factors' levels, of its loss minus that of the
factor's reference level. An interaction says by how much one factor's effect changes where another factor leaves its
reference level. Both are contrasts: sums of losses whose weights add up to zero (Montgomery, "Design and Analysis of
Experiments", chapter 5).

Their errors have the two sources of `uncertainty.py`:

- *Rows*: the same bootstrap, of the contrast's influences. What a row adds to all levels alike cancels.
- *Training*: the variants of one configuration start from the same weights and see the same batches and dropout
  patterns in a repeat (common random numbers), so a contrast is taken within each repeat, and what scatters is its
  value there. Within a configuration this is the variance over the repeats; configurations add up, with degrees of
  freedom by Satterthwaite 1946 (doi:10.2307/3002019), in which s⁴ f / (f + 2) stands for σ⁴, whose estimate without
  bias it is. Configurations count as independent: though those of a repeat share batches and dropout patterns, the
  variance of an effect's mean over 19 of them is 1.1 ± 0.1 times what that says (50 repeats, the published table).

All intervals of the main effects hold at once with the stated confidence, and so do those of all interactions: so the
strongest interaction's holds although it was chosen. They are balanced, each as likely as any other to miss (Beran
1988, "Balanced simultaneous confidence sets", Journal of the American Statistical Association 83, 679-686).
`benchmarks/study_calibration.py` counts how often that is so. Plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np

from layersearch.randomness import stream_key
from layersearch.space.configurations import Configuration, Layers, Variant, layers_of
from layersearch.space.factors import Factor, Factors, Level, all_options
from layersearch.space.ranking import ConfigurationResult
from layersearch.verdict.uncertainty import Evidence, ScoredPart, draw_errors, row_df, unit_influences
from layersearch.verdict.verdict import Interval
from layersearch.words import level_text

DRAWS = 20_000  # so that the bounds' third figure stands


class MainEffect(NamedTuple):
    """By how much a level changes the loss against the factor's reference level. Negative is better."""

    factor: str
    level: Level
    reference: Level
    estimate: float
    by_configuration: np.ndarray  # [C] of each alone
    standard_error: float | None  # None, and so the interval, where luck in training is unknown
    interval: Interval | None  # holds together with those of all main effects


class Interaction(NamedTuple):
    """By how much the first factor's effect changes where the second is at this level, not at its reference."""

    factors: tuple[str, str]
    levels: tuple[Level, Level]
    references: tuple[Level, Level]
    estimate: float
    standard_error: float | None
    interval: Interval | None  # holds together with those of all interactions, so for the strongest, too


@dataclass(frozen=True)
class Study:
    """What a study has shown, of the complete part of its design. C configurations."""

    epochs: int
    confidence: float
    asked: Factors  # all that was to be crossed
    factors: Factors  # those of which at least two levels could be compared, with these levels
    references: Mapping[str, Level]  # by factor
    layers: tuple[Layers, ...]  # [C] the effects are means over these
    repeats: int
    folds: int
    losses: np.ndarray  # [C, levels of the first factor, levels of the second, ...] means over the trainings
    main_effects: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    strongest: Interaction | None  # the largest for its interval; None with a single factor
    left_out: tuple[str, ...]  # what is in none of the effects, and why

    @property
    def is_known(self) -> bool:
        """Whether there are intervals."""
        return any(effect.interval for effect in self.main_effects)

    def mean_losses(self, *names: str) -> np.ndarray:
        """The mean loss by the levels of these factors, in the order of `factors`."""
        kept = [1 + place for place, factor in enumerate(self.factors) if factor.name in names]
        others = tuple(axis for axis in range(self.losses.ndim) if axis not in kept)
        return np.asarray(self.losses.mean(axis=others))


class _Contrasts(NamedTuple):
    """E contrasts of V variants."""

    names: list[tuple[tuple[str, Level, Level], ...]]  # one factor, level and reference; or two
    weights: np.ndarray  # [E, V]


def analyse(
    ranking: Sequence[ConfigurationResult],
    parts: Sequence[ScoredPart],
    factors: Factors,
    *,
    own: Mapping[str, Level],
    epochs: int,
    confidence: float,
    seed: int,
    draws: int = DRAWS,
) -> Study:
    """The study over ranked variants; of configurations that were not trained with all options what is complete.

    `own`: by factor, the value that the command has without the study: the reference level where it is among the
    levels, else the first is. `parts`: the scored rows, one part per fold, or one part. `draws`: of errors, at least.
    """
    finished = {c.config: c for c in ranking if c.failure is None}
    layers, kept, left_out = complete_part({c.config: c.failure is None for c in ranking}, factors)
    compared = tuple(factor for factor in kept if len(factor.levels) > 1)
    references = {f.name: own[f.name] if own.get(f.name) in f.levels else f.levels[0] for f in kept}
    design = [[finished[Variant(one, options)] for options in all_options(kept)] for one in layers]  # [C, V]
    contrasts = make_contrasts(kept, references)
    if not contrasts.names:
        return Study(epochs, confidence, factors, (), {}, (), 0, 0, np.empty(0), (), (), None, left_out)
    losses = np.array([[variant.losses for variant in row] for row in design])  # [C, V, R, K]
    evidence, by_configuration, df = weigh_contrasts(design, losses, contrasts.weights, parts)
    is_known = bool(df.min() > 0 and evidence.row_df > 0)
    draws = _n_draws(draws, len(df), confidence)
    bounds = _bounds(contrasts, evidence, df, confidence, draws, seed) if is_known else [None] * len(df)
    errors = evidence.standard_errors.tolist() if is_known else [None] * len(df)
    found = zip(contrasts.names, evidence.losses.tolist(), by_configuration, errors, bounds, strict=True)
    main: list[MainEffect] = []
    interactions: list[Interaction] = []
    for name, estimate, own_estimates, error, bound in found:
        if len(name) == 1:
            main.append(MainEffect(*name[0], estimate, own_estimates, error, bound))
        else:
            one, other = name
            pairs = (one[0], other[0]), (one[1], other[1]), (one[2], other[2])
            interactions.append(Interaction(*pairs, estimate, error, bound))
    return Study(
        epochs=epochs,
        confidence=confidence,
        asked=factors,
        factors=compared,
        references=references,
        layers=tuple(layers),
        repeats=losses.shape[2],
        folds=losses.shape[3],
        losses=losses.mean(axis=(2, 3)).reshape(len(layers), *(len(factor.levels) for factor in compared)),
        main_effects=tuple(main),
        interactions=tuple(interactions),
        strongest=max(interactions, key=_strength, default=None),
        left_out=left_out,
    )


def _bounds(
    contrasts: _Contrasts, evidence: Evidence, df: np.ndarray, confidence: float, draws: int, seed: int
) -> list[Interval | None]:
    """The interval of each contrast: those of all main effects hold together, and those of all interactions."""
    errors = draw_contrast_errors(evidence, df, draws, seed)
    bounds = np.empty((len(df), 2))
    is_main = np.array([len(name) == 1 for name in contrasts.names])
    for kind in (is_main, ~is_main):
        if kind.any():
            bounds[kind] = simultaneous(evidence.losses[kind], errors[:, kind], confidence)
    return [Interval(*bound) for bound in bounds.tolist()]


def _strength(interaction: Interaction) -> float:
    """How many half widths of its interval it is large; without intervals its size."""
    size = abs(interaction.estimate)
    if interaction.interval is None:
        return size
    half = (interaction.interval.high - interaction.interval.low) / 2
    return size / half if half > 0 else math.inf if size > 0 else 0.0


def _n_draws(least: int, n_contrasts: int, confidence: float) -> int:
    """Enough for the tails of the rarest of them, as far as that does not take gigabytes."""
    for_tails = min(max(least, math.ceil(100 / (1 - confidence))), 200_000)
    return max(2000, min(for_tails, 20_000_000 // n_contrasts))


# Which part of the design is complete


def complete_part(
    is_finished: Mapping[Configuration, bool], factors: Factors
) -> tuple[list[Layers], Factors, tuple[str, ...]]:
    """The configurations and levels of which every combination finished, and in words what that leaves out.

    `is_finished`: by variant, whether it did; one that was not trained is missing there. The configuration or level
    with the largest share of unfinished variants goes first, until none is left: of equals a configuration.
    """
    layers = list(dict.fromkeys(layers_of(config) for config in is_finished))
    names: list[list[Any]] = [layers, *(list(factor.levels) for factor in factors)]
    missing = np.array(
        [[not is_finished.get(Variant(one, options), False) for options in all_options(factors)] for one in layers]
    ).reshape([len(some) for some in names])
    left_out: list[str] = []
    while missing.any():
        axes = range(missing.ndim)
        shares = [missing.mean(axis=tuple(other for other in axes if other != axis)) for axis in axes]
        axis = max((a for a in axes if len(names[a]) > 1), key=lambda a: (shares[a].max(), -a), default=None)
        if axis is None:
            return [], (), (*left_out, "nothing is left to compare")
        place = int(shares[axis].argmax())
        there = np.take(missing, place, axis)
        what = _name(names[axis][place], axis, factors)
        left_out.append(f"{what} ({int(there.sum())} of {there.size} unfinished)")
        missing = np.delete(missing, place, axis)
        names[axis] = [name for number, name in enumerate(names[axis]) if number != place]
    kept = tuple(Factor(factor.name, tuple(levels)) for factor, levels in zip(factors, names[1:], strict=True))
    return list(names[0]), kept, tuple(left_out)


def _name(what: Layers | Level, axis: int, factors: Factors) -> str:
    from layersearch.space.naming import config_text

    if axis and not isinstance(what, tuple):
        return f"{factors[axis - 1].name} {level_text(what)}"
    return config_text(what)


# Contrasts


def make_contrasts(factors: Factors, references: Mapping[str, Level]) -> _Contrasts:
    """The weights of all main effects, then of all interactions, over the variants in the order of `all_options`."""
    variants = [dict(options) for options in all_options(factors)]
    signs = {  # of each level but the reference: +1 where the variant has it, -1 where it has the reference, else 0
        (f.name, level): np.array([(v[f.name] == level) - (v[f.name] == references[f.name]) for v in variants], float)
        for f in factors
        for level in f.levels
        if level != references[f.name]
    }
    singles = [[name for name in signs if name[0] == factor.name] for factor in factors]
    pairs = [pair for one, other in combinations(singles, 2) for pair in product(one, other)]
    chosen: list[tuple[tuple[str, Level], ...]] = [(name,) for some in singles for name in some]
    chosen += pairs
    n_levels = {factor.name: len(factor.levels) for factor in factors}
    weights = [
        math.prod(signs[name] for name in names) * math.prod(n_levels[name] for name, _ in names) / len(variants)
        for names in chosen
    ]
    named = [tuple((name, level, references[name]) for name, level in names) for names in chosen]
    return _Contrasts(named, np.array(weights).reshape(len(named), len(variants)))


def weigh_contrasts(
    design: Sequence[Sequence[ConfigurationResult]],
    losses: np.ndarray,
    weights: np.ndarray,
    parts: Sequence[ScoredPart],
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Estimates of E contrasts and what is known of their errors, each contrast by configuration, [E, C], and the
    degrees of freedom of their training variances [E]; 0 where nothing is known of these.

    `design` [C][V]: the variants; `losses` [C, V, R, K]; `weights` [E, V].
    """
    values = np.einsum("ev,cvrk->ecrk", weights, losses)
    influences, noise = _influences(design, weights, parts)
    variances, df = training_variances(values)
    of_rows = (influences**2).sum(axis=1)
    share = 1 - np.divide(noise, of_rows, out=np.zeros_like(noise), where=of_rows > 0)
    influences *= np.sqrt(np.maximum(share, 0))[:, None]
    evidence = Evidence(values.mean(axis=(1, 2, 3)), influences, variances, float(df.min()), row_df(parts))
    return evidence, values.mean(axis=(2, 3)), df


def _influences(
    design: Sequence[Sequence[ConfigurationResult]], weights: np.ndarray, parts: Sequence[ScoredPart]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each contrast the influences [E, G] of the mean, and the part of their variance [E] that is luck in training.

    Trainings scatter row by row, too. That is in the variance over repeats already, and not to be counted twice; here
    it is taken off the rows' part, which is known well (`uncertainty.weigh` takes it off the trainings').
    """
    n_folds, repeats = len(parts), design[0][0].repeats
    mean, noise = np.zeros(0), np.zeros(len(weights))
    for variants in design:
        sums, squares = np.zeros(0), np.zeros(len(weights))
        for repeat in range(repeats):
            trials = [variant.trials[repeat * n_folds : (repeat + 1) * n_folds] for variant in variants]
            errors = [np.stack([some[fold].row_errors for some in trials]).astype(float) for fold in range(n_folds)]
            of_repeat = weights @ unit_influences(errors, parts)  # [E, V] @ [V, G]
            sums = of_repeat + sums if sums.size else of_repeat
            squares += (of_repeat**2).sum(axis=1)
        if repeats > 1:
            scatter = squares - (sums**2).sum(axis=1) / repeats
            noise += np.maximum(scatter, 0) / (repeats - 1)
        mean = mean + sums if mean.size else sums
    return mean / (repeats * len(design)), noise / (repeats * len(design) ** 2)


def training_variances(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variance by training of the mean of contrasts [E, C, R, K], and its degrees of freedom: each [E].

    With one repeat of several folds: from what scatters over the folds, rows and all. Unknown variances are 0 and have
    no degrees of freedom.
    """
    n_contrasts, n_configurations, repeats, folds = values.shape
    if repeats == 1 and folds == 1:
        return np.zeros(n_contrasts), np.zeros(n_contrasts)
    if repeats == 1:
        by_fold = values.mean(axis=(1, 2))  # [E, K]
        return by_fold.var(axis=1, ddof=1) / folds, np.full(n_contrasts, folds - 1.0)
    within = values.var(axis=2, ddof=1).mean(axis=2)  # [E, C]
    f = folds * (repeats - 1)
    squared, fourth = within.sum(axis=1) ** 2, (within**2).sum(axis=1) / (f + 2)
    df = np.divide(squared, fourth, out=np.full(n_contrasts, f + 2.0), where=fourth > 0) - 2
    df = np.clip(df, f, f * n_configurations)
    return within.sum(axis=1) / (repeats * folds * n_configurations**2), df


def draw_contrast_errors(evidence: Evidence, df: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
    """Joint errors of E contrasts, [draws, E]: a bootstrap over rows, Student's t over trainings.

    Luck in training is drawn for each on its own, though contrasts share some: that makes intervals that hold together
    a little too wide, never too narrow (Šidák 1967, doi:10.1080/01621459.1967.10482935).
    """
    rng = np.random.default_rng(stream_key(seed, "study"))
    rows = replace(evidence, training_variances=np.zeros(len(df)), training_df=0.0)
    luck = rng.standard_t(df, size=(n_draws, len(df)))
    return np.asarray(draw_errors(rows, n_draws, rng).rows + luck * np.sqrt(evidence.training_variances))


def simultaneous(estimates: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """[E, 2] intervals around estimates [E] that hold all at once with this confidence; drawn errors [draws, E].

    Each reaches to the same quantile of its own absolute errors: that which no error of a draw exceeds in the stated
    share of the draws.
    """
    sizes = np.sort(np.abs(errors), axis=0)
    ranks = np.abs(errors).argsort(axis=0).argsort(axis=0)  # [draws, E]
    reach = int(np.quantile(ranks.max(axis=1), confidence, method="higher"))
    return np.stack([estimates - sizes[reach], estimates + sizes[reach]], axis=1)
