"""The measured losses and the two sources of their error: the rows that were scored, and the luck of each training.

    evidence = collect_evidence(configurations, parts)
    evidence.losses, evidence.row_variances, evidence.training_variances       # each [C]

Symbols:
    C configurations · R repeats · K folds (1 without folds) · N scored rows · G units
    A unit is a scored row, a group of rows where rows come in groups, or a bundle of units (`table/scoring.py`).
    A part is the scored rows of one fold, or all test rows where there are no folds.

A configuration's *true loss* is the mean loss of infinitely many trainings on these training rows, scored on
infinitely many rows like those that were scored. The measured loss differs from it for two reasons, which are taken
as independent of each other.

Rows:
    Which rows happened to be scored. The loss is a ratio of sums over units. The *influence* of a unit is the
    derivative of the loss by that unit's weight, times sqrt(n / (n - 1)) for n units. The sum of the squared
    influences then estimates the variance of the loss over samples of n units without bias to first order: it is the
    infinitesimal jackknife (Efron 1982, doi:10.1137/1.9781611970319).

Training:
    Initial weights, batch order and dropout. The variance of one training's loss is estimated from the repeats within
    each fold. There are few repeats, so the estimates of all configurations are moderated towards what they have in
    common (`variances.py`), which also gives their degrees of freedom. (Resampling five repeats instead would
    understate the variance by a fifth and miss the heavy tails.) Trainings of different
    configurations count as independent. Pairing them by repeat would gain nothing, since their initial weights
    differ: the correlation on the published table is 0.00 ± 0.02. Variants of one configuration in a study do share
    initial weights, and their losses correlate (0.2 to 1.0). Taking them as independent makes the intervals of their
    differences too wide; `study.py` therefore pairs them.

Two trainings of a configuration also differ row by row. This scatter is in the variance of the repeats and again in
the influences of the mean loss. It is subtracted from the variance by training, so that it counts once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from layersearch.space.ranking import ConfigurationResult
from layersearch.table import scoring
from layersearch.table.scoring import ScoredPart, count_units
from layersearch.verdict.variances import moderated_variances
from losses import sum_weights


@dataclass(frozen=True)
class Evidence:
    """The losses of C configurations and the variances of their errors; G units."""

    losses: np.ndarray  # [C]
    influences: np.ndarray  # [C, G] scaled so that their squares add up to an unbiased variance
    training_variances: np.ndarray  # [C] variance by training of the mean over all trainings
    training_df: float  # degrees of freedom of the training variances; 0 where these are unknown
    row_df: int  # degrees of freedom of the row variances; 0 with a single unit

    @property
    def is_known(self) -> bool:
        """Whether both variances could be estimated."""
        return self.training_df > 0 and self.row_df > 0

    @property
    def row_variances(self) -> np.ndarray:
        """[C] variance of each loss by the choice of rows."""
        return np.asarray((self.influences**2).sum(axis=1))

    @property
    def standard_errors(self) -> np.ndarray:
        """[C] standard error of each loss, by rows and training together."""
        return np.asarray(np.sqrt(self.row_variances + self.training_variances))


def collect_evidence(configurations: Sequence[ConfigurationResult], parts: Sequence[ScoredPart]) -> Evidence:
    """Returns the evidence of C configurations.

    Args:
        configurations: none of them failed, and all were trained equally often.
        parts: the scored rows of each fold, or one part without folds.
    """
    collected = [_influences_and_noise(configuration, parts) for configuration in configurations]
    losses = np.array([configuration.final_test_loss for configuration in configurations])
    influences = np.stack([influence for influence, _ in collected])
    variances, df = moderated_variances(_training_variances(configurations), _training_df(configurations), losses)
    noise = np.array([noise for _, noise in collected])  # the row-wise scatter, which is in the influences already
    n_trainings = configurations[0].losses.size
    training = np.maximum(variances - noise, 0) / n_trainings
    return Evidence(losses, influences, training, df, row_degrees_of_freedom(parts))


# The rows


def row_degrees_of_freedom(parts: Sequence[ScoredPart]) -> int:
    """Returns the degrees of freedom of a variance over all units: 0 with a single unit."""
    return count_units(parts) - (len(parts) if _is_centred_by_part(parts) else 1)


def _is_centred_by_part(parts: Sequence[ScoredPart]) -> bool:
    """Whether each part's units vary around its own loss. Where a part has one unit, all vary around the common one."""
    return min(count_units([part]) for part in parts) > 1


def loss_and_influences(errors_by_part: Sequence[np.ndarray], parts: Sequence[ScoredPart]) -> tuple[float, np.ndarray]:
    """Returns the loss and the influences [G] of something without luck in training, from its row errors [N_part, 2].

    A baseline is one; so are the mean row errors of several trainings.
    """
    losses = [
        loss_of(errors.sum(axis=0), part.cells.sum(axis=0)) for errors, part in zip(errors_by_part, parts, strict=True)
    ]
    stacked = [errors[None].astype(np.float64) for errors in errors_by_part]
    return float(np.mean(losses)), unit_influences(stacked, parts)[0]


def _influences_and_noise(configuration: ConfigurationResult, parts: Sequence[ScoredPart]) -> tuple[np.ndarray, float]:
    """Returns the influences [G] of the mean loss, and the variance of one training's loss by its row-wise scatter."""
    errors_by_part = [
        np.stack([result.row_errors for result in configuration.trials[k :: len(parts)]]).astype(np.float64)
        for k in range(len(parts))
    ]  # each [R, N_part, 2]
    repeats = configuration.repeats
    by_repeat = unit_influences(errors_by_part, parts)  # [R, G]
    mean = by_repeat.mean(axis=0)
    if repeats < 2:
        return mean, 0.0
    scatter = ((by_repeat - mean) ** 2).sum() / (repeats - 1)  # of a repeat's mean over its folds
    return mean, float(scatter) * len(parts)


def unit_influences(errors_by_part: Sequence[np.ndarray], parts: Sequence[ScoredPart]) -> np.ndarray:
    """Returns the influence of each unit on the mean loss over the parts, [R, G].

    Args:
        errors_by_part: row errors of R losses in each part, [R, N_part, 2] float64, as `TrialResult.row_errors`.
        parts: the scored rows of each part.
    """
    totals = [part.cells.sum(axis=0) for part in parts]
    means = [e.sum(axis=1, keepdims=True) / np.maximum(t, 1) for e, t in zip(errors_by_part, totals, strict=True)]
    by_part = _is_centred_by_part(parts)
    common, n_units = np.mean(means, axis=0), count_units(parts)  # means: each [R, 1, 2]
    pieces = []
    for errors, part, total, mean in zip(errors_by_part, parts, totals, means, strict=True):
        excess = errors - (mean if by_part else common) * part.cells  # [R, N_part, 2]
        by_row = excess @ np.array(sum_weights(*total.tolist())) / len(parts)  # [R, N_part]
        by_unit = _add_up(by_row, part.units)
        n = part.n_units if by_part else n_units
        pieces.append(by_unit * np.sqrt(n / max(n - 1, 1)))
    everything = np.concatenate(pieces, axis=1)
    if everything.shape[1] > scoring.MAX_UNITS:
        everything = _add_up(everything, np.arange(everything.shape[1]) % scoring.MAX_UNITS)
    return everything


def _add_up(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Returns the sum of the values in each bin, [R, N] -> [R, bins]."""
    n_bins = int(bins.max()) + 1
    if n_bins == len(bins):
        return values[:, np.argsort(bins)]
    return np.stack([np.bincount(bins, row, n_bins) for row in values])


def loss_of(sums: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns the losses [*] of sums of row errors [*, 2] over rows with so many non-zero and observed cells [2]."""
    return np.asarray(sums @ np.array(sum_weights(*cells.tolist())))


# Training


def _training_variances(configurations: Sequence[ConfigurationResult]) -> np.ndarray:
    """Returns the variance of one training's loss of each configuration, [C]; NaN with a single training each.

    With several repeats it is the variance over the repeats of a fold. With one repeat of several folds it is the
    residual variance of the folds' losses after the effects of fold and configuration; this contains the variation of
    rows and of training sets as well.
    """
    losses = np.stack([configuration.losses for configuration in configurations])  # [C, R, K]
    n_configurations, repeats, folds = losses.shape
    if repeats > 1:
        return np.asarray(losses.var(axis=1, ddof=1).mean(axis=1))
    if folds == 1:
        return np.full(n_configurations, np.nan)
    fold_losses = losses[:, 0]  # [C, K]
    if n_configurations == 1:
        return np.asarray(fold_losses.var(axis=1, ddof=1))
    difficulty = fold_losses.mean(axis=0)
    return np.asarray((fold_losses - difficulty).var(axis=1, ddof=1) / (1 - 1 / n_configurations))


def _training_df(configurations: Sequence[ConfigurationResult]) -> int:
    """Returns the degrees of freedom of each configuration's variance."""
    repeats, folds = configurations[0].losses.shape
    return int(folds * (repeats - 1) if repeats > 1 else folds - 1)
