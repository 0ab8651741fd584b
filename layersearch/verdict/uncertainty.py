"""How sure measured losses are: their variation by row and by training, and what could be the best of them.

    evidence = weigh(configurations, parts)
    errors = draw_errors(evidence, 5000, rng)                       # [draws, C]
    is_tied = tied_with_best(evidence.losses, errors.total, confidence=0.95)

A measured loss differs from a configuration's true one (that of ever more trainings on these training rows,
scored on ever more rows) for two reasons, and both are counted:

- *Rows*: which ones happened to be scored. They are resampled (bootstrap; Efron 1979, doi:10.1214/aos/1176344552),
  the same resample for every configuration; where rows come in groups, whole groups. The loss is a ratio of sums, so
  what a row does to it is its influence: the derivative of the loss by the row's weight.
- *Training*: initialisation, batch order, dropout. Its variance is estimated from the repeats. Those are few, so each
  configuration's estimate is moderated by what the others have in common, relative to their loss (Smyth 2004,
  doi:10.2202/1544-6115.1027), and errors are drawn from Student's t with the degrees of freedom that this leaves.
  Resampling five repeats would understate the variance by a fifth and know nothing of tails. Trainings count as
  independent between configurations: pairing them by repeat gains nothing, since initial weights differ (measured:
  a correlation of 0.00 ± 0.02 on the published table). A study's variants of one configuration share them, and so are
  correlated (0.2 to 1.0): taken as independent their differences get too wide an interval; `study.py` pairs them.

The tied set holds every configuration that the data do not rule out as the best: *multiple comparisons with the best*
(Hsu 1984, Annals of Statistics 12, 1136-1144; Hsu 1996, "Multiple Comparisons: Theory and Methods"), with the critical
value of the largest of all standardised differences taken from the drawn errors (Romano & Wolf 2005,
doi:10.1198/016214504000000539). It contains the truly best configuration with about the stated confidence, however
many are compared. `benchmarks/calibration.py` counts how often that is so. Plain NumPy; knows nothing of models,
training or files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from layersearch.space.ranking import ConfigurationResult
from losses import sum_weights

ROW_PIECES = 5  # into so many are the rows cut where some have to be held back
MAX_UNITS = 819 * ROW_PIECES  # more rows (or groups) are resampled, and kept, in bundles: the same variance, bounded
MOST_COMPARED = 2e9  # draws x contenders², a few seconds; with more, the first screening is the last
ROUNDED = 1e-6  # a variance that is less than this share of those it is the difference of may be lost to rounding


class ScoredPart(NamedTuple):
    """The rows that the trials of one fold (or, without folds, all trials) are scored on."""

    cells: np.ndarray  # [N_part, 2] cells of each row (or bundle of rows) that are not zero, that are observed
    units: np.ndarray  # [N_part] what is resampled: the number of each row's group, or of the row (or bundle) itself
    n_units: int  # how many rows (or groups) that are: more than are resampled where these are bundles


@dataclass(frozen=True)
class Evidence:
    """C losses and what is known of their errors. G units (rows, groups, or bundles of them)."""

    losses: np.ndarray  # [C]
    influences: (
        np.ndarray
    )  # [C, G] by how much each unit moves the loss, scaled to the variance of an unbiased estimate
    training_variances: np.ndarray  # [C] of the mean over all trainings
    training_df: float  # degrees of freedom of these; 0 where nothing is known of them
    row_df: int  # degrees of freedom of the row variances; 0 with a single unit

    @property
    def is_known(self) -> bool:
        """Whether both variances can be told."""
        return self.training_df > 0 and self.row_df > 0

    @property
    def row_variances(self) -> np.ndarray:
        """[C]."""
        return np.asarray((self.influences**2).sum(axis=1))

    @property
    def standard_errors(self) -> np.ndarray:
        """[C] of the losses, by rows and training."""
        return np.asarray(np.sqrt(self.row_variances + self.training_variances))


class Errors(NamedTuple):
    """Drawn errors of C losses, by their two sources, each [draws, C]."""

    rows: np.ndarray
    training: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """[draws, C]."""
        return np.asarray(self.rows + self.training)


def bundle_rows(n_rows: int, groups: np.ndarray | None = None) -> np.ndarray | None:
    """Which of at most `MAX_UNITS` bundles each row is in, [N]; None where they are few enough to be kept one by one.

    Whatever is said of rows here rests on sums over bundles, so these are all that need be kept of many rows. `groups`
    [N]: of each row, if they come in groups; a bundle holds whole ones. A fifth of the bundles (`ROW_PIECES`) is a
    fifth of the rows or groups, whether they are bundled or not.
    """
    return None if n_rows <= MAX_UNITS else _units(n_rows, groups) % MAX_UNITS


def scored_part(cells: np.ndarray, groups: np.ndarray | None = None, bundles: np.ndarray | None = None) -> ScoredPart:
    """From the cells [N, 2] of the rows, and the group [N] of each if they come in groups.

    With `bundles`, what `bundle_rows` says of these N rows, the cells are those of the bundles [G, 2].
    """
    units = _units(len(cells) if bundles is None else len(bundles), groups)
    return ScoredPart(cells, units if bundles is None else np.arange(len(cells)), int(units.max()) + 1)


def _units(n_rows: int, groups: np.ndarray | None) -> np.ndarray:
    return np.arange(n_rows) if groups is None else np.asarray(np.unique(groups, return_inverse=True)[1])


def count_units(parts: Sequence[ScoredPart]) -> int:
    """How many rows or groups all parts hold."""
    return sum(part.n_units for part in parts)


def weigh(configurations: Sequence[ConfigurationResult], parts: Sequence[ScoredPart]) -> Evidence:
    """The evidence of configurations that did not fail, each trained as often as the others; one part per fold."""
    weighed = [_weigh_one(configuration, parts) for configuration in configurations]
    losses = np.array([configuration.final_test_loss for configuration in configurations])
    influences = np.stack([influence for influence, _ in weighed])
    variances, df = moderated_variances(_training_variances(configurations), *_training_df(configurations), losses)
    noise = np.array([noise for _, noise in weighed])  # that part of a training's luck that averages out over rows
    n_trainings = configurations[0].losses.size
    return Evidence(losses, influences, np.maximum(variances - noise, 0) / n_trainings, df, row_df(parts))


def _centred_by_part(parts: Sequence[ScoredPart]) -> bool:
    """Whether each part's units vary around its own loss; where a part has only one, all do around the common one."""
    return min(count_units([part]) for part in parts) > 1


def row_df(parts: Sequence[ScoredPart]) -> int:
    """Degrees of freedom of what is estimated from the scatter of all units; 0 with a single one."""
    return count_units(parts) - (len(parts) if _centred_by_part(parts) else 1)


def weigh_fixed(errors_by_part: Sequence[np.ndarray], parts: Sequence[ScoredPart]) -> tuple[float, np.ndarray]:
    """Loss and influences [G] of something that is not trained by chance, from its row errors [N_part, 2]."""
    losses = [
        _loss(errors.sum(axis=0), part.cells.sum(axis=0)) for errors, part in zip(errors_by_part, parts, strict=True)
    ]
    stacked = [errors[None].astype(np.float64) for errors in errors_by_part]
    return float(np.mean(losses)), unit_influences(stacked, parts)[0]


def _weigh_one(configuration: ConfigurationResult, parts: Sequence[ScoredPart]) -> tuple[np.ndarray, float]:
    """Influences [G] of the mean loss, and the variance of one training's loss that its row-wise scatter explains."""
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
    """[R, G] from row errors [R, N_part, 2]: what each unit adds to the mean loss over the parts."""
    totals = [part.cells.sum(axis=0) for part in parts]
    means = [e.sum(axis=1, keepdims=True) / np.maximum(t, 1) for e, t in zip(errors_by_part, totals, strict=True)]
    by_part = _centred_by_part(parts)
    common, n_units = np.mean(means, axis=0), count_units(parts)  # means: each [R, 1, 2]
    pieces = []
    for errors, part, total, mean in zip(errors_by_part, parts, totals, means, strict=True):
        excess = errors - (mean if by_part else common) * part.cells  # [R, N_part, 2]
        by_row = excess @ np.array(sum_weights(*total.tolist())) / len(parts)  # [R, N_part]
        by_unit = _add_up(by_row, part.units)
        n = part.n_units if by_part else n_units
        pieces.append(by_unit * np.sqrt(n / max(n - 1, 1)))
    everything = np.concatenate(pieces, axis=1)
    if everything.shape[1] > MAX_UNITS:
        everything = _add_up(everything, np.arange(everything.shape[1]) % MAX_UNITS)
    return everything


def _add_up(values: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """[R, N] -> [R, bins]: the sum of the values in each bin."""
    n_bins = int(bins.max()) + 1
    if n_bins == len(bins):
        return values[:, np.argsort(bins)]
    return np.stack([np.bincount(bins, row, n_bins) for row in values])


def _loss(sums: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The loss from sums of errors [*, 2] over rows that hold `cells` [2]: [*]."""
    return np.asarray(sums @ np.array(sum_weights(*cells.tolist())))


# What training adds


def _training_variances(configurations: Sequence[ConfigurationResult]) -> np.ndarray:
    """[C] variance of one training's loss; NaN where each was trained once.

    Within each fold over the repeats. With one repeat of several folds, what is left of the folds' losses when
    fold and configuration are taken off: it holds the row-wise scatter and the training sets' as well.
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


def _training_df(configurations: Sequence[ConfigurationResult]) -> tuple[int, int]:
    """Of each configuration's variance, and of all together."""
    repeats, folds = configurations[0].losses.shape
    if repeats > 1:
        return folds * (repeats - 1), folds * (repeats - 1) * len(configurations)
    return folds - 1, (folds - 1) * max(len(configurations) - 1, 1)


def moderated_variances(variances: np.ndarray, df: int, pooled_df: int, losses: np.ndarray) -> tuple[np.ndarray, float]:
    """Variances [C] with `df` degrees of freedom each, `pooled_df` together, moved towards their common level.

    Returns them and their new degrees of freedom.

    Smyth 2004, section 6.2, on variances relative to the squared losses [C]: the prior's location and degrees of
    freedom are those that fit the mean and variance of the logarithms. Unknown variances (df 0) count as 0.
    """
    if df == 0:
        return np.zeros_like(variances), 0.0
    from scipy.special import digamma, polygamma

    scale = losses**2
    relative = np.divide(variances, scale, out=np.zeros_like(variances), where=scale > 0)
    logs = np.log(relative[relative > 0])
    if len(logs) < 2:
        return variances, float(df)
    centred = logs - digamma(df / 2) + np.log(df / 2)
    spread = centred.var(ddof=1) - polygamma(1, df / 2)
    if spread <= 0:  # no sign that they differ at all
        return np.full_like(variances, np.exp(centred.mean())) * scale, float(pooled_df)
    prior_df = 2 * _inverse_trigamma(float(spread))
    prior = np.exp(centred.mean() + digamma(prior_df / 2) - np.log(prior_df / 2))
    return (prior_df * prior + df * relative) / (prior_df + df) * scale, min(prior_df + df, float(pooled_df))


def _inverse_trigamma(value: float) -> float:
    """The y with trigamma(y) = value > 0, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = polygamma(1, y)
        step = trigamma * (1 - trigamma / value) / polygamma(2, y)
        y += step
        if -step < 1e-8 * y:
            break
    return float(y)


# Drawing errors, and what follows from them


def draw_errors(evidence: Evidence, n_draws: int, rng: np.random.Generator) -> Errors:
    """`n_draws` joint errors of all losses.

    Row part: a bootstrap over units, widened to Student's t.
    """
    n_configurations, n_units = evidence.influences.shape
    rows = np.empty((n_draws, n_configurations))
    at_a_time = max(1, 4_000_000 // n_units)
    for start in range(0, n_draws, at_a_time):
        part = slice(start, min(start + at_a_time, n_draws))
        counts = _resample(part.stop - part.start, n_units, rng)
        rows[part] = (counts - 1.0) @ evidence.influences.T  # [draws, G] @ [G, C] -> [draws, C]
    if evidence.row_df > 0:
        rows *= np.sqrt(evidence.row_df / rng.chisquare(evidence.row_df, size=(n_draws, 1)))
    training = np.zeros_like(rows)
    if evidence.training_df > 0:
        training += rng.standard_t(evidence.training_df, size=rows.shape) * np.sqrt(evidence.training_variances)
    return Errors(rows, training)


def _resample(n_draws: int, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """How often each unit is drawn in each of the resamples of all units, [draws, G]; faster than a multinomial."""
    drawn = rng.integers(0, n_units, (n_draws, n_units)) + n_units * np.arange(n_draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=n_draws * n_units).reshape(n_draws, n_units)


def intervals(estimates: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """[C, 2] the interval of each estimate [C] (basic bootstrap) from its drawn errors [draws, C]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(errors, [tail, 1 - tail], axis=0)
    return np.stack([estimates - high, estimates - low], axis=1)


def probabilities_of_being_best(losses: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """[C] in how many of the draws, as a share, each has the lowest loss once its error is taken off."""
    return np.bincount((losses - errors).argmin(axis=1), minlength=len(losses)) / len(errors)


def tied_with_best(losses: np.ndarray, errors: np.ndarray, confidence: float) -> np.ndarray:
    """[C] bool: which configurations are not ruled out as the best; losses [C], drawn errors [draws, C].

    A first screening against the best measured, with Bonferroni's bound, leaves the contenders; each of them is then
    tested against all others at once. That takes time by the square of their number: beyond `MOST_COMPARED` all of
    them count as tied, which errs towards caution.
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
    """`_spread` of the differences of any two of C drawn errors [draws, C], by their covariances: [C, C]."""
    covariances = np.atleast_2d(np.cov(errors, rowvar=False, ddof=0))
    sums = np.add.outer(covariances.diagonal(), covariances.diagonal())
    squares = sums - 2 * covariances
    spreads: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    for error, row, is_rounded in zip(errors.T, spreads, squares <= ROUNDED * sums, strict=True):
        row[is_rounded] = _spread(error[:, None] - errors[:, is_rounded])
    return spreads


def _spread(differences: np.ndarray) -> np.ndarray:
    """[C] standard deviation of drawn differences [draws, C]; 1 where there is none (a configuration with itself)."""
    spread = differences.std(axis=0)
    return np.where(spread > 0, spread, 1.0)


def estimate_optimism(
    configurations: Sequence[ConfigurationResult], part: ScoredPart, evidence: Evidence, errors: Errors
) -> float | None:
    """By how much the best measured loss is too low because it was chosen for being low.

    One repeat and a fifth of the rows are held back, the best is chosen on the rest, and what it loses on those held
    back is averaged over all repeats and fifths. That is the optimism of a somewhat smaller search; the drawn errors
    say by which factor it shrinks with the full one. Unbiased or nearly so, but uncertain, as any estimate from a
    single search: it can come out negative. Needs two repeats, and rows to hold back: else None. Without folds.
    """
    repeats = configurations[0].repeats
    pieces = part.units % ROW_PIECES
    cells = np.stack([part.cells[pieces == piece].sum(axis=0) for piece in range(ROW_PIECES)])  # [F, 2]
    sums = np.stack([[_piece_sums(result.row_errors, pieces) for result in c.trials] for c in configurations])
    gaps = []  # sums: [C, R, F, 2]
    usable = np.flatnonzero(cells[:, 0] if cells[:, 0].any() else cells[:, 1])
    if len(usable) < 2:
        return None
    for piece in usable:
        kept = np.arange(ROW_PIECES) != piece
        chosen_on = _loss(sums[:, :, kept].sum(axis=2), cells[kept].sum(axis=0))  # [C, R]
        held_back = _loss(sums[:, :, piece], cells[piece])  # [C, R]
        for repeat in range(repeats):
            seen = np.delete(chosen_on, repeat, axis=1).mean(axis=1)
            unseen = held_back[:, repeat]
            chosen = seen.argmin()
            gaps.append((unseen[chosen] - unseen.mean()) - (seen[chosen] - seen.mean()))
    wider = errors.rows * np.sqrt(len(usable) / (len(usable) - 1)) + errors.training * np.sqrt(repeats / (repeats - 1))
    full, smaller = (_resampled_optimism(evidence.losses, drawn) for drawn in (errors.total, wider))
    return float(np.mean(gaps) * full / smaller) if smaller > 0 else 0.0


def _piece_sums(row_errors: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    """[N, 2] -> [F, 2]."""
    return np.stack([np.bincount(pieces, row_errors[:, i], ROW_PIECES) for i in range(2)], axis=1)


def _resampled_optimism(losses: np.ndarray, errors: np.ndarray) -> float:
    """How much lower the lowest of the disturbed losses is than what its configuration measured, on average."""
    chosen = (losses + errors).argmin(axis=1)
    return float(-errors[np.arange(len(errors)), chosen].mean())
