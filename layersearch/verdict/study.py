"""What a study of the training options shows: main effects and interactions of its factors, with intervals.

    study = analyse(ranking, parts, factors, own={"dropout": 0.1}, epochs=20, confidence=0.95, seed=42)
    study.main_effects[0].estimate, study.main_effects[0].interval, study.strongest

Symbols:
    C configurations (hidden layers) · V variants, the combinations of the factors' levels · E contrasts
    R repeats · K folds · G units (`evidence.py`) · D draws

A study trains every configuration with every combination of levels (`space/factors.py`). The *main effect* of a level
is the loss at this level minus the loss at the factor's reference level, a mean over the configurations and over the
other factors' levels. An *interaction* is the change of one factor's effect when another factor leaves its reference
level. Both are contrasts: sums of losses with weights that add up to zero (Montgomery, "Design and Analysis of
Experiments", chapter 5).

A contrast has the two sources of error of `evidence.py`.

Rows:
    The bootstrap over units, of the contrast's influences. What a row adds to all levels alike cancels.

Training:
    The variants of a configuration share the initial weights, batches and dropout patterns of a repeat (common random
    numbers). A contrast is therefore taken within each repeat, and its variance is estimated from its values in the
    repeats of a configuration. The variances s²_c of the configurations add up; the degrees of freedom of the sum are
    those of Satterthwaite 1946 (doi:10.2307/3002019), in which s⁴ f / (f + 2), an unbiased estimate, stands for σ⁴.
    Configurations count as independent. They share batches and dropout patterns in a repeat, yet the variance of the
    mean effect over 19 configurations is only 1.1 ± 0.1 times what independence gives (50 repeats, published table).

The intervals of all main effects hold simultaneously at the stated confidence, and so do those of all interactions;
the interval of the strongest interaction is therefore valid although it was selected. The simultaneous intervals are
balanced: each is as likely to miss as any other (Beran 1988, "Balanced simultaneous confidence sets", Journal of the
American Statistical Association 83, 679-686). `benchmarks/study_calibration.py` counts how often they hold.
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
from layersearch.space.naming import config_text
from layersearch.space.ranking import ConfigurationResult
from layersearch.table.scoring import ScoredPart
from layersearch.verdict.evidence import Evidence, row_degrees_of_freedom, unit_influences
from layersearch.verdict.uncertainty import Interval, draw_errors
from layersearch.words import level_text

DRAWS = 20_000  # enough for three significant digits of the bounds


class MainEffect(NamedTuple):
    """The change of the loss from a factor's reference level to another level. Negative is better."""

    factor: str
    level: Level
    reference: Level
    estimate: float
    standard_error: float | None  # None, like the interval, where the variance by training is unknown
    interval: Interval | None  # holds simultaneously with those of all main effects
    by_configuration: np.ndarray  # [C] the effect for each configuration alone


class Interaction(NamedTuple):
    """The change of the first factor's effect when the second goes from its reference level to this level."""

    factors: tuple[str, str]
    levels: tuple[Level, Level]
    references: tuple[Level, Level]
    estimate: float
    standard_error: float | None
    interval: Interval | None  # holds simultaneously with those of all interactions


@dataclass(frozen=True)
class Study:
    """The results of a study, from the complete part of its design."""

    epochs: int
    confidence: float
    asked: Factors  # as the command asked for them
    factors: Factors  # those with at least two levels left to compare, with these levels
    references: Mapping[str, Level]  # by factor
    layers: tuple[Layers, ...]  # [C] the configurations that the effects are means over
    repeats: int
    folds: int
    losses: np.ndarray  # [C, levels of the first factor, levels of the second, ...], mean over the trainings
    main_effects: tuple[MainEffect, ...]
    interactions: tuple[Interaction, ...]
    strongest: Interaction | None  # largest relative to its interval; None with a single factor
    left_out: tuple[str, ...]  # configurations and levels that the effects do not include, and why

    @property
    def is_known(self) -> bool:
        """Whether the effects have intervals."""
        return any(effect.interval for effect in self.main_effects)

    @property
    def mean_loss(self) -> float:
        """Mean loss over all variants."""
        return float(self.losses.mean())

    def mean_losses(self, *names: str) -> np.ndarray:
        """Returns the mean loss by the levels of these factors, with axes in the order of `factors`."""
        kept = [1 + place for place, factor in enumerate(self.factors) if factor.name in names]
        others = tuple(axis for axis in range(self.losses.ndim) if axis not in kept)
        return np.asarray(self.losses.mean(axis=others))


class _Contrasts(NamedTuple):
    """E contrasts of V variants."""

    names: list[tuple[tuple[str, Level, Level], ...]]  # (factor, level, reference), of an interaction two of them
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
    """Returns the effects of the factors, from the complete part of the design (see `complete_part`).

    Args:
        ranking: the variants, finished or not.
        parts: the scored rows of each fold, or one part without folds.
        factors: the factors and levels that were asked for.
        own: by factor, the value that the command has without the study. It is the reference level if it is among the
            levels; otherwise the first level is.
        epochs: of each training.
        confidence: of the simultaneous intervals.
        seed: of the bootstrap.
        draws: least number of drawn errors.
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
    evidence, by_configuration, df = estimate_contrasts(design, losses, contrasts.weights, parts)
    is_known = bool(df.min() > 0 and evidence.row_df > 0)
    draws = _n_draws(draws, len(df), confidence)
    bounds = _bounds(contrasts, evidence, df, confidence, draws, seed) if is_known else [None] * len(df)
    errors = evidence.standard_errors.tolist() if is_known else [None] * len(df)
    found = zip(contrasts.names, evidence.losses.tolist(), by_configuration, errors, bounds, strict=True)
    main: list[MainEffect] = []
    interactions: list[Interaction] = []
    for name, estimate, own_estimates, error, bound in found:
        if len(name) == 1:
            main.append(MainEffect(*name[0], estimate, error, bound, own_estimates))
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
    """Returns the interval of each contrast, simultaneous over the main effects and over the interactions."""
    errors = draw_contrast_errors(evidence, df, draws, seed)
    bounds = np.empty((len(df), 2))
    is_main = np.array([len(name) == 1 for name in contrasts.names])
    for kind in (is_main, ~is_main):
        if kind.any():
            bounds[kind] = simultaneous(evidence.losses[kind], errors[:, kind], confidence)
    return [Interval(*bound) for bound in bounds.tolist()]


def _strength(interaction: Interaction) -> float:
    """Returns the size of an interaction in half widths of its interval; without an interval its size."""
    size = abs(interaction.estimate)
    if interaction.interval is None:
        return size
    half = (interaction.interval.high - interaction.interval.low) / 2
    return size / half if half > 0 else math.inf if size > 0 else 0.0


def _n_draws(least: int, n_contrasts: int, confidence: float) -> int:
    """Returns how many errors to draw: enough for the quantiles, as far as gigabytes are not needed."""
    for_tails = min(max(least, math.ceil(100 / (1 - confidence))), 200_000)
    return max(2000, min(for_tails, 20_000_000 // n_contrasts))


# Which part of the design is complete


def complete_part(
    is_finished: Mapping[Configuration, bool], factors: Factors
) -> tuple[list[Layers], Factors, tuple[str, ...]]:
    """Returns configurations and levels of which every combination finished, and in words what is left out.

    The configuration or level with the largest share of unfinished variants is removed, a configuration before a level
    with the same share, until no unfinished variant is left.

    Args:
        is_finished: by variant, whether it finished; variants that were not trained may be missing.
        factors: the factors and levels that were asked for.
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
    if axis and not isinstance(what, tuple):
        return f"{factors[axis - 1].name} {level_text(what)}"
    return config_text(what)


# Contrasts


def make_contrasts(factors: Factors, references: Mapping[str, Level]) -> _Contrasts:
    """Returns the weights of all main effects, then of all interactions, with variants as `all_options` lists them."""
    variants = [dict(options) for options in all_options(factors)]
    signs = {  # by level: +1 where a variant has it, -1 where it has the reference level, else 0
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


def estimate_contrasts(
    design: Sequence[Sequence[ConfigurationResult]],
    losses: np.ndarray,
    weights: np.ndarray,
    parts: Sequence[ScoredPart],
) -> tuple[Evidence, np.ndarray, np.ndarray]:
    """Estimates the contrasts.

    Args:
        design: [C][V] the variants.
        losses: [C, V, R, K] their losses.
        weights: [E, V] of the contrasts.
        parts: the scored rows of each fold.

    Returns:
        The evidence of the E contrasts; each contrast by configuration, [E, C]; and the degrees of freedom of their
        training variances, [E], 0 where these are unknown.
    """
    values = np.einsum("ev,cvrk->ecrk", weights, losses)
    influences, noise = _influences(design, weights, parts)
    variances, df = contrast_variances(values)
    of_rows = (influences**2).sum(axis=1)
    share = 1 - np.divide(noise, of_rows, out=np.zeros_like(noise), where=of_rows > 0)
    influences *= np.sqrt(np.maximum(share, 0))[:, None]
    evidence = Evidence(
        values.mean(axis=(1, 2, 3)), influences, variances, float(df.min()), row_degrees_of_freedom(parts)
    )
    return evidence, values.mean(axis=(2, 3)), df


def _influences(
    design: Sequence[Sequence[ConfigurationResult]], weights: np.ndarray, parts: Sequence[ScoredPart]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the influences of each contrast, [E, G], and the part of their variance that is due to training, [E].

    The trainings' scatter row by row is in the variance over the repeats as well and must not count twice. Here it is
    subtracted from the variance by rows, which is known more precisely; `collect_evidence` subtracts it from the
    variance by training.
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


def contrast_variances(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variances by training of the means of contrasts [E, C, R, K], and their degrees of freedom: each [E].

    With one repeat of several folds they are estimated from the folds, which includes the variation of the rows.
    Unknown variances are 0 with 0 degrees of freedom.
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
    """Returns joint errors of E contrasts, [D, E]: a bootstrap by rows, Student's t by training.

    The errors by training are drawn independently, although the contrasts share trainings. This makes simultaneous
    intervals slightly too wide, never too narrow (Šidák 1967, doi:10.1080/01621459.1967.10482935).
    """
    rng = np.random.default_rng(stream_key(seed, "study"))
    rows = replace(evidence, training_variances=np.zeros(len(df)), training_df=0.0)
    luck = rng.standard_t(df, size=(n_draws, len(df)))
    return np.asarray(draw_errors(rows, n_draws, rng).rows + luck * np.sqrt(evidence.training_variances))


def simultaneous(estimates: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """Returns intervals that hold simultaneously at this confidence, [E, 2], from estimates [E] and errors [D, E].

    Each interval extends to the same quantile of its own absolute errors. The quantile is chosen so that in the stated
    share of the draws no error exceeds its own (Beran 1988).
    """
    sizes = np.sort(np.abs(errors), axis=0)
    ranks = np.abs(errors).argsort(axis=0).argsort(axis=0)  # [D, E]
    reach = int(np.quantile(ranks.max(axis=1), confidence, method="higher"))
    return np.stack([estimates - sizes[reach], estimates + sizes[reach]], axis=1)
