"""The verdict: whether the best measured configuration really wins, what is tied with it, and what is recommended.

    verdict = judge(ranking, parts, baselines, confidence=0.95, seed=42)
    verdict.best.config, verdict.recommended.config, verdict.is_proven, verdict.standings[config].difference_interval

The words used throughout the program are defined here:
    *best measured*  the configuration with the lowest mean test loss;
    *tied*           in the confidence set of the best (`uncertainty.tied_with_best`); the best measured always is;
    *recommended*    the smallest configuration shown to be as good: the upper bound of its loss above that of the best
                     measured is at most `margin` of the latter's loss, where the bounds of all smaller configurations
                     hold together (`uncertainty.upper_bounds`). It is the best measured if there is none;
    *proven*         the best measured is the only tied one, even with half of the error probability;
    *known*          luck can be told from merit, which takes two trainings of each configuration and two scored units.

The statistics are in `evidence.py` and `uncertainty.py`, the verdict's sentences in `report/statement.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from layersearch.randomness import stream_key
from layersearch.space.configurations import Configuration
from layersearch.space.ranking import ConfigurationResult
from layersearch.table.scoring import ScoredPart, count_units
from layersearch.verdict.evidence import Evidence, collect_evidence, loss_and_influences
from layersearch.verdict.study import Study
from layersearch.verdict.uncertainty import (
    Errors,
    Interval,
    draw_errors,
    expected_optimism,
    intervals,
    tied_with_best,
    upper_bounds,
)
from layersearch.words import COLUMN_MEANS, LINEAR, PRINCIPAL

POWER = 0.8  # probability with which the suggested number of repeats would show a smaller one to be as good
MOST_REPEATS = 1000  # a suggestion of more repeats would be of no use


@dataclass(frozen=True)
class Standing:
    """What is known of one configuration. All but `on_front` are None unless the verdict is known."""

    standard_error: float | None = None  # of its loss, by rows and training
    difference: float | None = None  # its loss minus that of the best measured
    difference_interval: Interval | None = None
    is_tied: bool | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Baseline:
    """A simple method that a configuration should beat."""

    name: str
    loss: float
    difference: float  # the best measured configuration's loss minus this one
    difference_interval: Interval | None  # None unless the verdict is known
    not_beaten_by: int  # number of configurations without a lower loss
    components: int | None = None  # of PCA and of the linear autoencoder


class Recommendation(NamedTuple):
    """The recommended configuration, and why it is that one."""

    configuration: ConfigurationResult
    bound: float | None  # its loss is at most this much above that of the best measured; None of the best itself
    repeats_needed: int | None  # with which a smaller one than the best might be shown to be as good; None if with none
    has_smaller: bool  # whether there are smaller configurations than the best measured


@dataclass(frozen=True)
class Verdict:
    """What a search has shown, of the configurations that finished. The module's docstring defines the terms."""

    confidence: float
    best: ConfigurationResult  # the best measured
    tied: tuple[ConfigurationResult, ...]  # best measured first; empty unless the verdict is known
    margin: float  # share of the best measured loss by which the recommended may be worse; 0 for none
    recommendation: Recommendation
    standings: Mapping[Configuration, Standing]
    front: tuple[ConfigurationResult, ...]  # the Pareto front, smallest first
    objectives: tuple[str, ...]
    all_baselines: tuple[Baseline, ...]
    best_interval: Interval | None  # of the best measured loss, by rows and training; None unless the verdict is known
    optimism: float | None  # by how much the best measured loss is too low; None if unknown or cross-validated
    is_known: bool
    relative_sd: float  # standard deviation of one training's loss, relative to the loss, of the best measured
    training_df: float  # its degrees of freedom; 0 where it is unknown
    n_configurations: int
    resampled: str  # "rows", or "groups" where these are the units; who knows of groups says so
    n_resampled: int
    study: Study | None = None  # the effects of the factors, with --study

    @property
    def is_proven(self) -> bool:
        """Whether the best measured is better than all others with the stated confidence."""
        return len(self.tied) == 1 < self.n_configurations

    @property
    def recommended(self) -> ConfigurationResult:
        """The recommended configuration; the best measured unless the verdict is known."""
        return self.recommendation.configuration

    @property
    def baselines(self) -> tuple[Baseline, ...]:
        """The baselines that are spoken of and drawn: not the column means, since the best constant is fairer."""
        return tuple(baseline for baseline in self.all_baselines if baseline.name != COLUMN_MEANS)

    @property
    def linear(self) -> Baseline | None:
        """The linear autoencoder, the fairest of the baselines."""
        return next((baseline for baseline in self.all_baselines if baseline.name == LINEAR), None)


def judge(
    ranking: Sequence[ConfigurationResult],
    parts: Sequence[ScoredPart],
    baselines: Mapping[str, Sequence[np.ndarray]],
    *,
    confidence: float,
    seed: int,
    margin: float = 0.05,
    components: int | None = None,
    objectives: Sequence[str] = ("loss", "params"),
) -> Verdict:
    """Returns the verdict on a ranking.

    Args:
        ranking: best first; at least one configuration finished.
        parts: the scored rows of each fold, or one part without folds.
        baselines: by name, the row errors [N_part, 2] of each part.
        confidence: of all intervals and of the tied set, between 0 and 1.
        seed: of the bootstrap.
        margin: share of the best measured loss by which a smaller configuration may be worse and still be recommended;
            0 recommends the best measured.
        components: number of components of PCA and of the linear autoencoder.
        objectives: of the Pareto front: "loss", and "params", "time" or both.
    """
    finished = [c for c in ranking if c.failure is None]
    evidence = collect_evidence(finished, parts)
    fixed = [loss_and_influences(errors, parts) for errors in baselines.values()]
    errors = draw_errors(_with_fixed(evidence, fixed), n_draws(len(finished), confidence), _generator(seed))
    own = Errors(errors.rows[:, : len(finished)], errors.training[:, : len(finished)])
    total, is_known = own.total, evidence.is_known
    is_tied = tied_with_best(evidence.losses, total, confidence) if is_known else np.zeros(len(finished), dtype=bool)
    tied = tuple(c for c, tie in zip(finished, is_tied, strict=True) if tie)
    front = pareto_front(finished, objectives, total if is_known else None, confidence)
    return Verdict(
        confidence=confidence,
        best=finished[0],
        tied=tied,
        margin=margin,
        recommendation=_recommend(finished, evidence, total, confidence, margin),
        standings=_standings(finished, evidence, total, is_tied, front, confidence),
        front=tuple(front),
        objectives=tuple(objectives),
        all_baselines=_compare_baselines(baselines, fixed, evidence, errors, confidence, components),
        best_interval=_interval(evidence.losses[0], total[:, 0], confidence) if is_known else None,
        optimism=expected_optimism(evidence, own.rows, _generator(seed)) if is_known and len(parts) == 1 else None,
        is_known=is_known,
        training_df=evidence.training_df,
        relative_sd=_relative_sd(evidence, finished[0].losses.size),
        n_configurations=len(finished),
        resampled="rows",
        n_resampled=count_units(parts),
    )


def _relative_sd(evidence: Evidence, n_trainings: int) -> float:
    """Returns the standard deviation of one training's loss of the best measured, relative to that loss."""
    loss = float(evidence.losses[0])
    return math.sqrt(float(evidence.training_variances[0]) * n_trainings) / loss if loss > 0 else 0.0


def n_draws(n_configurations: int, confidence: float) -> int:
    """Returns how many errors to draw of each loss: enough for the quantiles, as far as gigabytes are not needed."""
    for_tails = min(max(5000, math.ceil(50 / (1 - confidence))), 200_000)
    return max(1000, min(for_tails, 10_000_000 // n_configurations))


def _generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(stream_key(seed, "bootstrap"))


def _standings(
    finished: Sequence[ConfigurationResult],
    evidence: Evidence,
    errors: np.ndarray,
    is_tied: np.ndarray,
    front: Sequence[ConfigurationResult],
    confidence: float,
) -> dict[Configuration, Standing]:
    front_configs = {c.config for c in front}
    if not evidence.is_known:
        return {c.config: Standing(on_front=c.config in front_configs) for c in finished}
    differences = evidence.losses - evidence.losses[0]
    bounds = intervals(differences, errors - errors[:, [0]], confidence)
    standard_errors = evidence.standard_errors.tolist()
    return {
        c.config: Standing(
            standard_error=standard_errors[i],
            difference=float(differences[i]),
            difference_interval=Interval(*bounds[i].tolist()),
            is_tied=bool(is_tied[i]),
            on_front=c.config in front_configs,
        )
        for i, c in enumerate(finished)
    }


def _recommend(
    finished: Sequence[ConfigurationResult], evidence: Evidence, errors: np.ndarray, confidence: float, margin: float
) -> Recommendation:
    """Returns the smallest configuration that is shown to be as good as the best measured."""
    best, allowed = finished[0], margin * float(evidence.losses[0])
    smaller = [i for i, c in enumerate(finished) if c.model_params < best.model_params]
    if not (smaller and evidence.is_known and margin > 0):
        return Recommendation(best, None, None, bool(smaller) and evidence.is_known)
    differences, drawn = evidence.losses[smaller] - evidence.losses[0], errors[:, smaller] - errors[:, [0]]
    bounds, quantile = upper_bounds(differences, drawn, confidence)
    shown = [place for place, bound in enumerate(bounds) if bound <= allowed]
    if shown:
        place = min(shown, key=lambda place: (finished[smaller[place]].model_params, bounds[place]))
        return Recommendation(finished[smaller[place]], float(bounds[place]), None, True)
    needed = _repeats_to_show(evidence, smaller, allowed, quantile, best.repeats)
    return Recommendation(best, None, needed, True)


def _repeats_to_show(
    evidence: Evidence, smaller: Sequence[int], allowed: float, quantile: float, repeats: int
) -> int | None:
    """Returns with about how many repeats a smaller configuration would be shown to be as good; None if with none.

    Shown with probability `POWER`, that is, if the measured difference is the true one. More repeats reduce the
    variance by training and leave that by rows as it is. The number is rounded up to one significant digit.
    """
    from scipy.special import ndtri

    room = (allowed - (evidence.losses[smaller] - evidence.losses[0])) / (quantile + ndtri(POWER))  # standard errors
    by_rows = ((evidence.influences[smaller] - evidence.influences[0]) ** 2).sum(axis=1)
    by_training = evidence.training_variances[smaller] + evidence.training_variances[0]
    left = np.where(room > 0, room**2 - by_rows, 0.0)
    if not (left > 0).any():
        return None
    needed = float((by_training[left > 0] / left[left > 0]).min()) * repeats
    if needed > MOST_REPEATS:
        return None
    step = int(10 ** math.floor(math.log10(max(needed, 1))))
    return max(repeats + 1, math.ceil(needed / step) * step)


# The chosen configuration on rows that did not choose it


class Estimate(NamedTuple):
    """A loss with its standard error and interval."""

    loss: float
    standard_error: float
    interval: Interval


def estimate_loss(
    configuration: ConfigurationResult, part: ScoredPart, verdict: Verdict, *, confidence: float, seed: int
) -> Estimate:
    """Returns the loss of one configuration on rows on which nothing was chosen.

    One configuration alone says little about the luck of training, so the search's relative standard deviation is
    taken.
    """
    alone = collect_evidence([configuration], [part])
    by_training = (verdict.relative_sd * alone.losses) ** 2 / configuration.losses.size
    evidence = replace(alone, training_variances=by_training, training_df=verdict.training_df)
    errors = draw_errors(evidence, n_draws(1, confidence), _generator(seed))
    interval = _interval(evidence.losses[0], errors.total[:, 0], confidence)
    return Estimate(configuration.final_test_loss, float(evidence.standard_errors[0]), interval)


def _interval(loss: float, errors: np.ndarray, confidence: float) -> Interval:
    """Returns the interval of one loss from its drawn errors [D]; a loss is never below 0."""
    low, high = intervals(np.array([loss]), errors[:, None], confidence)[0].tolist()
    return Interval(max(low, 0.0), high)


# The Pareto front


def pareto_front(
    finished: Sequence[ConfigurationResult],
    objectives: Sequence[str],
    errors: np.ndarray | None,
    confidence: float,
) -> list[ConfigurationResult]:
    """Returns the configurations on the Pareto front of loss and size, smallest first, allowing for the uncertainty.

    A configuration is on the front if each smaller one on the front is worse beyond the noise: the interval of the
    difference of their losses lies above zero.

    Args:
        finished: C configurations, best first.
        objectives: "loss", and those of "params" and "time" that make up the size.
        errors: [D, C] drawn errors of the losses; None to compare the losses as they are.
        confidence: of the intervals.
    """
    sizes = {c.config: tuple(_size(c, objective) for objective in objectives if objective != "loss") for c in finished}
    places = sorted(range(len(finished)), key=lambda i: (sizes[finished[i].config], finished[i].final_test_loss))
    front: list[int] = []
    for place in places:
        candidate = finished[place]
        smaller = [i for i in front if _fits_into(sizes[finished[i].config], sizes[candidate.config])]
        if all(_is_worse(finished, i, place, errors, confidence) for i in smaller):
            front.append(place)
    return [finished[place] for place in front]


def _size(configuration: ConfigurationResult, objective: str) -> float:
    if objective == "params":
        return configuration.model_params
    return float(np.mean([result.seconds for result in configuration.trials]))


def _fits_into(size: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(mine <= theirs for mine, theirs in zip(size, other, strict=True))


def _is_worse(
    finished: Sequence[ConfigurationResult], one: int, other: int, errors: np.ndarray | None, confidence: float
) -> bool:
    """Returns whether the loss of `one` is above that of `other`, beyond the noise where that is known."""
    difference = finished[one].final_test_loss - finished[other].final_test_loss
    if errors is None or difference <= 0:
        return difference > 0
    drawn = (errors[:, one] - errors[:, other])[:, None]
    return bool(intervals(np.array([difference]), drawn, confidence)[0, 0] > 0)


# The baselines


def _with_fixed(evidence: Evidence, fixed: Sequence[tuple[float, np.ndarray]]) -> Evidence:
    """Returns the evidence with the baselines behind the configurations: the same rows, and no luck in training."""
    if not fixed:
        return evidence
    losses, influences = zip(*fixed, strict=True)
    return Evidence(
        np.append(evidence.losses, losses),
        np.vstack([evidence.influences, *influences]),
        np.append(evidence.training_variances, np.zeros(len(fixed))),
        evidence.training_df,
        evidence.row_df,
    )


def _compare_baselines(
    baselines: Mapping[str, Sequence[np.ndarray]],
    fixed: Sequence[tuple[float, np.ndarray]],
    evidence: Evidence,
    errors: Errors,
    confidence: float,
    components: int | None,
) -> tuple[Baseline, ...]:
    losses = np.array([loss for loss, _ in fixed])
    differences = evidence.losses[0] - losses
    bounds = intervals(differences, errors.total[:, [0]] - errors.total[:, len(evidence.losses) :], confidence)
    return tuple(
        Baseline(
            name=name,
            loss=float(losses[i]),
            difference=float(differences[i]),
            difference_interval=Interval(*bounds[i].tolist()) if evidence.is_known else None,
            not_beaten_by=int((evidence.losses >= losses[i]).sum()),
            components=components if name in (PRINCIPAL, LINEAR) else None,
        )
        for i, name in enumerate(baselines)
    )
