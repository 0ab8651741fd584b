"""What the data say about the true losses: drawn errors, intervals, the confidence set of the best, and optimism.

    errors = draw_errors(evidence, 5000, rng)                                              # [D, C]
    bounds = intervals(evidence.losses, errors.total, confidence=0.95)                     # [C, 2]
    is_tied = tied_with_best(evidence.losses, errors.total, confidence=0.95)               # [C]

Symbols:
    C configurations · D draws · G units · R repeats (`evidence.py` defines units, influences and the true loss)
    L_c measured loss · e_c its error, measured minus true · s_cj standard deviation of e_c - e_j over the draws

`draw_errors` draws joint errors of all losses. The errors by rows are those of a bootstrap over units (Efron 1979,
doi:10.1214/aos/1176344552): every configuration sees the same resample, so what a hard row adds to all of them cancels
in their differences. A resample that contains unit g m_g times changes a loss by the sum of (m_g - 1) times the
unit's influence, to first order. The errors by training are independent between configurations; those of the
logarithms follow Student's t.

`tied_with_best` decides which configurations are *tied*: the data do not rule them out as the best. This is the
confidence set of multiple comparisons with the best (Hsu 1984, Annals of Statistics 12, 1136-1144; Hsu 1996, "Multiple
Comparisons: Theory and Methods"). Configuration c is in the set if its largest standardised difference,
max_j (L_c - L_j) / s_cj, is at most the quantile of max_j (e_c - e_j) / s_cj over the draws (Romano & Wolf 2005,
doi:10.1198/016214504000000539). The set contains the truly best configuration with about the stated confidence,
however many are compared. `benchmarks/calibration.py` counts how often it does.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from layersearch.verdict.evidence import Evidence

MOST_COMPARED = 2e9  # draws x contenders² that take a few seconds; with more, the first screening decides
ROUNDED = 1e-6  # a variance below this share of the two that it is the difference of may be a rounding error


class Interval(NamedTuple):
    """Bounds of an estimate or of a difference, at the stated confidence.

    The interval of a difference to the best measured is for that difference alone: it is adjusted neither for the
    number of differences nor for the choice of the best measured, which makes equals look more different than they
    are.
    """

    low: float
    high: float


class Errors(NamedTuple):
    """Drawn errors of C losses by their two sources, each [D, C]."""

    rows: np.ndarray
    training: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """[D, C] errors by rows and training together."""
        return np.asarray(self.rows + self.training)


def draw_errors(evidence: Evidence, n_draws: int, rng: np.random.Generator) -> Errors:
    """Returns `n_draws` joint errors of all losses.

    A draw's errors by rows are divided by sqrt(χ²_ν / ν) with the ν degrees of freedom of the row variances, which
    turns a normal distribution into Student's t and so accounts for the estimation of the variance.
    """
    n_configurations, n_units = evidence.influences.shape
    rows = np.empty((n_draws, n_configurations))
    at_a_time = max(1, 4_000_000 // n_units)
    for start in range(0, n_draws, at_a_time):
        part = slice(start, min(start + at_a_time, n_draws))
        counts = _resample(part.stop - part.start, n_units, rng)
        rows[part] = (counts - 1.0) @ evidence.influences.T  # [D, G] @ [G, C] -> [D, C]
    if evidence.row_df > 0:
        rows *= np.sqrt(evidence.row_df / rng.chisquare(evidence.row_df, size=(n_draws, 1)))
    training = np.zeros_like(rows)
    if evidence.training_df > 0:
        training += rng.standard_t(evidence.training_df, size=rows.shape) * np.sqrt(evidence.training_variances)
        training = _of_logarithms(training, evidence.losses)
    return Errors(rows, training)


def _of_logarithms(errors: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Returns errors [D, C] of losses [C] whose logarithms have these errors, relative to the losses.

    Losses of trainings are positive and skewed to the right: a true loss lies more often far above a mean of a few
    repeats than far below it. Errors that are small against the loss stay as they are.
    """
    positive = np.where(losses > 0, losses, 1.0)
    of_logarithms = -np.expm1(-np.clip(errors / positive, -8.0, 8.0)) * positive
    return np.where(losses > 0, of_logarithms, errors)


def _resample(n_draws: int, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """Returns how often each resample contains each unit, [D, G]; faster than drawing from a multinomial."""
    drawn = rng.integers(0, n_units, (n_draws, n_units)) + n_units * np.arange(n_draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_draws * n_units).reshape(n_draws, n_units)


def intervals(estimates: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """Returns the interval of each estimate, [C, 2], from its drawn errors [D, C].

    It is the basic bootstrap interval: the estimate minus the upper and the lower quantile of its errors.
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(errors, [tail, 1 - tail], axis=0)
    return np.stack([estimates - high, estimates - low], axis=1)


def upper_bounds(differences: np.ndarray, errors: np.ndarray, confidence: float) -> tuple[np.ndarray, float]:
    """Returns upper bounds of differences to one loss that hold together at this confidence, and how far they reach.

    Args:
        differences: [C] losses minus the one that they are compared with.
        errors: [D, C] drawn errors of the differences.
        confidence: with which all true differences are at most the bounds.

    Returns:
        The bounds [C], each the difference plus q of its standard deviations, and q. It is the quantile of the largest
        standardised deviation over the draws (Hsu 1996, "Multiple Comparisons: Theory and Methods").
    """
    spread = _spread(errors)
    reach = float(np.quantile((-errors / spread).max(axis=1), confidence))
    return differences + reach * spread, reach


# The confidence set of the best


def tied_with_best(losses: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """Returns which configurations are tied for best, [C] bool, from their losses [C] and drawn errors [D, C].

    They are those in the confidence set of the best. Where the set has a single member at this confidence, it is taken
    at half the error rate instead. Of two equal configurations either may be wrongly ruled out, so without this rule
    one of them would be called proven twice as often as the error rate allows.
    """
    tied = confidence_set_of_best(losses, errors, confidence)
    return confidence_set_of_best(losses, errors, (1 + confidence) / 2) if tied.sum() == 1 else tied


def confidence_set_of_best(losses: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """Returns which configurations the data do not rule out as the best, [C] bool; see the module's docstring.

    A first screening compares each configuration with the best measured at Bonferroni's bound. Each of the contenders
    that it leaves is then tested against all of them at once. The time of that grows with the square of their number;
    beyond `MOST_COMPARED` all contenders are in the set, which is the cautious side.
    """
    n_configurations = len(losses)
    if n_configurations == 1:
        return np.array([True])
    tail, best = 1 - confidence, int(losses.argmin())
    others = np.arange(n_configurations) != best
    differences = errors - errors[:, [best]]
    spread = _spread(differences)
    bound = np.quantile((differences / spread)[:, others], 1 - tail / (n_configurations - 1))
    contenders = np.flatnonzero((losses - losses[best]) / spread <= max(bound, 0.0))
    tied = np.zeros(n_configurations, dtype=bool)
    if len(contenders) ** 2 * len(errors) > MOST_COMPARED:
        tied[contenders] = True
        return tied
    measured, drawn = losses[contenders], errors[:, contenders]
    for candidate, loss, error, spread in zip(contenders, measured, drawn.T, _spreads(drawn), strict=True):
        critical = max(np.quantile(((error[:, None] - drawn) / spread).max(axis=1), confidence), 0.0)
        tied[candidate] = ((loss - measured) / spread).max() <= critical
    return tied


def _spreads(errors: np.ndarray) -> np.ndarray:
    """Returns the `_spread` of the difference of any two of C drawn errors [D, C], by their covariances: [C, C]."""
    covariances = np.atleast_2d(np.cov(errors, rowvar=False, ddof=0))
    sums = np.add.outer(covariances.diagonal(), covariances.diagonal())
    squares = sums - 2 * covariances
    spreads: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    for error, row, is_rounded in zip(errors.T, spreads, squares <= ROUNDED * sums, strict=True):
        row[is_rounded] = _spread(error[:, None] - errors[:, is_rounded])
    return spreads


def _spread(differences: np.ndarray) -> np.ndarray:
    """Returns the standard deviations of drawn differences [D, C]; 1 where it is 0, as of a loss with itself."""
    spread = differences.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


# Optimism


def expected_optimism(evidence: Evidence, rows: np.ndarray, rng: np.random.Generator) -> float:
    """Returns by how much the lowest of the losses [C] is too low because it was chosen for being low.

    It is the expectation under the bootstrap: the mean, over the draws, of how far the lowest loss falls below its own
    true loss if the measured losses are the true ones. It is never negative. The errors by training are normal here:
    the wide tails that make intervals safe would make this mean far too large. In `benchmarks/in_earnest.py` it is 0.6
    to 1.7 times the true one where that is about 1 % of the loss or more, and up to 0.0003 too high where it is less.

    Args:
        evidence: of C configurations.
        rows: [D, C] drawn errors by rows.
        rng: draws the errors by training.
    """
    errors = rows + rng.standard_normal(rows.shape) * np.sqrt(evidence.training_variances)
    chosen = (evidence.losses + errors).argmin(axis=1)
    return max(0.0, float(-errors[np.arange(len(errors)), chosen].mean()))
