"""Measures how well a latent space agrees with labels not used in training, and how many clusters it has.

    chosen = choose_rows(labels, groups, most_columns=24, seed=42)          # raises LabelError
    agreement = measure(chosen, {"latent": codes, "pca": components, "columns": scaled}, is_test, ...)
    clusters = prefer_clusters(codes, seed=42)                              # for tables without labels

Used by `findings.py`; drawn by `pictures/latent/agreement.py`. Three measures are computed in three spaces: the latent
space, PCA with as many components, and the scaled columns themselves (missing cells are 0, as in the model's input).
The computations use scikit-learn.

- *Nearest neighbours*: the share of rows whose label is the commonest one among their 15 nearest neighbours in the
  other folds (Cover & Hart 1967, doi:10.1109/TIT.1967.1053964). There are five stratified folds, which keep groups
  together. For comparison, the share of the commonest label is reported.
- *Silhouette* (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7), from -1 to 1: whether rows lie nearer to those with
  their own label than to those with the next nearest label.
- *Adjusted Rand index* (Hubert & Arabie 1985, doi:10.1007/BF01908075) of the labels and of a Gaussian mixture that is
  fitted without them and has as many components: 1 for identical partitions, 0 on average for random ones.

All rows with a label are used, training rows included. Neither the model nor PCA has seen a label, so training rows
favour neither of them, and the test rows alone are a fifth of the table, too few for small classes. The accuracy on the
test rows alone is reported as well.

Intervals are percentiles of a bootstrap (Efron 1979, doi:10.1214/aos/1176344552) that resamples the contributions of
single rows, or of whole groups. All spaces share the same draws, so differences are paired. Model, folds and mixture
stay fixed: an interval covers the variation between samples of rows, but not between trainings or between starts of the
mixture. The likeliest of ten starts is taken: on the published table its index for PCA is then 0.18 to 0.20 over six
seeds, where a single start is sometimes at 0.24. In many dimensions there are fewer starts, to save time.

The number of clusters without labels is that of the mixture with the lowest BIC (Schwarz 1978,
doi:10.1214/aos/1176344136; Fraley & Raftery 2002, doi:10.1198/016214502760047131).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_samples
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier

from layersearch.latent.labels import number_labels
from layersearch.randomness import stream_key

MOST_ROWS = 5_000  # rows compared; larger tables are sampled, since the time grows with the square of their number
MOST_CELLS = 2_500_000  # largest number of rows times columns that is compared
LEAST_SAMPLE = 500  # smallest number of rows in a sample, however many columns there are
LEAST_ROWS = 5  # labels with fewer rows are left out
MOST_LABELS = 20  # a column with more labels is assumed to hold identifiers
NEIGHBOURS, FOLDS, DRAWS = 15, 5, 1_000
MOST_CLUSTERS = 10  # largest number of components of a mixture that is fitted without labels
ROWS_EACH = 10  # smallest number of rows for each of its components
MOST_MIXTURE_DIMENSIONS = 30  # above this, mixtures are fitted to the first principal components
# Added to a mixture's variances, in units of the mean variance of a column. Without it, a component could collapse
# onto the many cells that are exactly 0.
LEAST_VARIANCE = 0.01
MOST_STARTS, START_COST = 10, 2e7  # largest number of starts, and their largest rows x dimensions² x components
MEASURES = ("knn_accuracy", "silhouette", "adjusted_rand_index")


class LabelError(Exception):
    """The labels cannot be compared with the latent space; the message says why."""


@dataclass(frozen=True)
class Chosen:
    """The n rows that are compared, and their labels."""

    column: str  # name of the label column
    rows: np.ndarray  # [n] indices of the table's rows
    label: np.ndarray  # [n] index in `names`
    names: list[str]
    units: np.ndarray  # [n] number of each row's group, or of the row itself: what the bootstrap resamples
    by_group: bool
    n_labelled: int  # rows of the table with a label
    n_rare: int  # rows left out because their label is too rare

    @property
    def counts(self) -> np.ndarray:
        """Number of rows with each label."""
        return np.bincount(self.label, minlength=len(self.names))


class Measured(NamedTuple):
    """A value and its bootstrap interval."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement:
    """The result of `measure`."""

    chosen: Chosen
    neighbours: int
    folds: int
    confidence: float
    values: Mapping[str, Mapping[str, Measured]]  # values[measure][space]
    differences: Mapping[str, Measured]  # differences[measure]: latent space minus PCA
    on_test_rows: Mapping[str, float | None]  # nearest-neighbour accuracy by space; None without test rows

    @property
    def majority_share(self) -> float:
        """The accuracy of always predicting the commonest label."""
        return float(self.chosen.counts.max() / len(self.chosen.rows))

    def entry(self) -> dict[str, Any]:
        """Returns the part of the JSON that holds these numbers."""
        chosen = self.chosen
        return {
            "label_column": chosen.column,
            "labels": dict(zip(chosen.names, chosen.counts.tolist(), strict=True)),
            "rows": len(chosen.rows),
            "rows_with_rare_labels": chosen.n_rare,
            "resampled": "groups" if chosen.by_group else "rows",
            "confidence": self.confidence,
            "neighbours": self.neighbours,
            "folds": self.folds,
            "majority_share": self.majority_share,
            "knn_accuracy_on_test_rows": dict(self.on_test_rows),
            **{
                measure: {
                    **{space: found._asdict() for space, found in self.values[measure].items()},
                    "latent_minus_pca": self.differences[measure]._asdict(),
                }
                for measure in MEASURES
            },
        }


def choose_rows(labels: pd.Series[Any], groups: np.ndarray | None, *, most_columns: int, seed: int) -> Chosen:
    """Chooses the rows to compare: all whose label is not too rare, or a random sample of them if there are many.

    Args:
        labels: The label of each row, [N], missing if it has none; the series has the name of its column.
        groups: The group of each row, [N], or None.
        most_columns: The number of columns of the space that has most.
        seed: Seed of the sample.

    Raises:
        LabelError: There are too few or too many labels, or all rows are in one group.
    """
    number, names = number_labels(labels)
    rows = np.flatnonzero(number >= 0)
    n_labelled = len(rows)
    most = int(np.clip(MOST_CELLS // max(most_columns, 1), LEAST_SAMPLE, MOST_ROWS))
    if n_labelled > most:
        rows = np.sort(_generator(seed, "rows").permutation(rows)[:most])
    counts = np.bincount(number[rows], minlength=len(names))
    kept = np.flatnonzero(counts >= LEAST_ROWS)
    column = str(labels.name)
    if len(kept) < 2:
        raise LabelError(f"fewer than two values of '{column}' have {LEAST_ROWS} rows or more")
    if len(kept) > MOST_LABELS:
        raise LabelError(
            f"{len(kept):,} values of '{column}' have {LEAST_ROWS} rows or more; more than {MOST_LABELS} such values "
            "are taken for identifiers, not for labels"
        )
    n_drawn, rows = len(rows), rows[np.isin(number[rows], kept)]
    units = np.arange(len(rows)) if groups is None else np.unique(groups[rows], return_inverse=True)[1]
    if units.max() < 1:
        raise LabelError(f"all rows with a value of '{column}' are one group")
    return Chosen(
        column,
        rows,
        np.searchsorted(kept, number[rows]),
        [names[place] for place in kept],
        units,
        groups is not None,
        n_labelled,
        n_drawn - len(rows),
    )


def measure(
    chosen: Chosen, spaces: Mapping[str, np.ndarray], is_test: np.ndarray, *, confidence: float, seed: int
) -> Agreement:
    """Computes all measures in all spaces.

    Args:
        chosen: The n rows to compare.
        spaces: Coordinates of these rows by name, [n, D]; "latent" and "pca", whose difference is reported, and others.
        is_test: Whether each row is a test row, [n].
        confidence: Confidence level of the intervals.
        seed: Seed of folds, bootstrap and mixtures.
    """
    folds = list(_folds(chosen, seed))
    neighbours = min(NEIGHBOURS, int(chosen.counts.min()), *(len(train) for train, _ in folds))
    draws = _bootstrap_weights(chosen, seed)
    correct = {name: _classified_correctly(chosen, space, folds, neighbours) for name, space in spaces.items()}
    drawn: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in MEASURES}  # [1 + draws], first not resampled
    for name, space in spaces.items():
        drawn["knn_accuracy"][name] = _bootstrap_means(correct[name], chosen, draws)
        drawn["silhouette"][name] = _bootstrap_means(silhouette_samples(space, chosen.label), chosen, draws)
        drawn["adjusted_rand_index"][name] = _rand_indices(chosen, _mixture_components(space, chosen, seed), draws)
    return Agreement(
        chosen,
        neighbours,
        len(folds),
        confidence,
        {m: {name: _with_interval(of, confidence) for name, of in drawn[m].items()} for m in MEASURES},
        {m: _with_interval(drawn[m]["latent"] - drawn[m]["pca"], confidence) for m in MEASURES},
        {name: float(right[is_test].mean()) if is_test.any() else None for name, right in correct.items()},
    )


def _folds(chosen: Chosen, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the training rows and the scored rows of each fold that has both."""
    n_folds = min(FOLDS, int(chosen.counts.min()), int(chosen.units.max()) + 1)
    kind, groups = (StratifiedGroupKFold, chosen.units) if chosen.by_group else (StratifiedKFold, None)
    splitter = kind(n_folds, shuffle=True, random_state=_sklearn_seed(seed, "folds"))
    for train, scored in splitter.split(chosen.label, chosen.label, groups):
        if len(train) and len(scored):
            yield train, scored


def _classified_correctly(
    chosen: Chosen, space: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], neighbours: int
) -> np.ndarray:
    """Returns whether the nearest neighbours of each row predict its label, [n]."""
    correct = np.zeros(len(space), dtype=bool)
    for train, scored in folds:
        model = KNeighborsClassifier(neighbours).fit(space[train], chosen.label[train])
        correct[scored] = model.predict(space[scored]) == chosen.label[scored]
    return correct


def _bootstrap_weights(chosen: Chosen, seed: int) -> np.ndarray:
    """Returns the weight of each row or group, [1 + draws, units]: first 1 for each, then as resampled."""
    n_units = int(chosen.units.max()) + 1
    drawn = _generator(seed, "bootstrap").integers(n_units, size=(DRAWS, n_units), dtype=np.int32)
    weights = np.stack([np.bincount(row, minlength=n_units) for row in drawn]).astype(np.float32)
    return np.concatenate([np.ones((1, n_units), np.float32), weights])


def _bootstrap_means(values: np.ndarray, chosen: Chosen, weights: np.ndarray) -> np.ndarray:
    """Returns the means of values [n] over the resampled rows, [1 + draws]."""
    sums, sizes = np.bincount(chosen.units, values), np.bincount(chosen.units)
    return np.asarray((weights @ sums) / (weights @ sizes))


def _rand_indices(chosen: Chosen, cluster: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the adjusted Rand indices of labels and clusters [n] over the resampled rows, [1 + draws].

    Pairs of a row with its own duplicate are not counted, since they would always agree.
    """
    k, n_units = len(chosen.names), weights.shape[1]
    cell = chosen.label * k + cluster
    tables = np.bincount(chosen.units * k * k + cell, minlength=n_units * k * k).reshape(n_units, k * k)
    rows, squares = (  # [1 + draws, k, k] weights of the rows in each cell, and their squares
        (of @ tables.astype(np.float32)).astype(np.float64).reshape(-1, k, k) for of in (weights, weights**2)
    )

    def pairs(*axes: int) -> np.ndarray:
        """Returns how many pairs of different rows share a cell, after merging the cells along these axes."""
        return np.asarray((rows.sum(axis=axes) ** 2 - squares.sum(axis=axes)) / 2)

    together, by_label, by_cluster = pairs().sum(axis=(1, 2)), pairs(2).sum(axis=1), pairs(1).sum(axis=1)
    expected = by_label * by_cluster / np.maximum(pairs(1, 2), 1)
    most = (by_label + by_cluster) / 2
    same = most == expected  # both partitions have a single part, or one part for each row
    return np.asarray(np.where(same, 1.0, (together - expected) / np.where(same, 1.0, most - expected)))


def _with_interval(drawn: np.ndarray, confidence: float) -> Measured:
    """Returns the first of [1 + draws] values and the percentile interval of the others."""
    low, high = np.quantile(drawn[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Measured(float(drawn[0]), (float(low), float(high)))


def _mixture_components(space: np.ndarray, chosen: Chosen, seed: int) -> np.ndarray:
    """Returns the most probable component of a Gaussian mixture for each row, [n]."""
    ready = _ready_for_mixture(space)
    cost = len(ready) * ready.shape[1] ** 2 * len(chosen.names)
    starts = int(np.clip(START_COST // max(cost, 1), 1, MOST_STARTS))
    fitted = _fit_mixture(ready, len(chosen.names), seed, starts)
    return np.zeros(len(space), dtype=int) if fitted is None else np.asarray(fitted.predict(ready))


def _ready_for_mixture(space: np.ndarray) -> np.ndarray:
    """Returns centred float64 coordinates [n, at most 30], divided by one number so that the mean variance is 1."""
    centred = space - space.mean(axis=0, dtype=np.float64)
    if centred.shape[1] > MOST_MIXTURE_DIMENSIONS and centred.any():
        centred = PCA(min(MOST_MIXTURE_DIMENSIONS, len(centred)), random_state=0).fit_transform(centred)
    unit = np.sqrt((centred**2).mean())
    return np.asarray(centred / unit if unit > 0 else centred)


def _fit_mixture(ready: np.ndarray, n_components: int, seed: int, starts: int = 1) -> GaussianMixture | None:
    """Fits a Gaussian mixture, the likeliest of some starts; None if there are fewer different rows than components."""
    if len(np.unique(ready, axis=0)) < n_components:
        return None
    return GaussianMixture(
        n_components,
        reg_covar=LEAST_VARIANCE,
        max_iter=500,
        n_init=starts,
        random_state=_sklearn_seed(seed, "mixture"),
    ).fit(ready)


@dataclass(frozen=True)
class Clusters:
    """The number of clusters with the lowest BIC, and these clusters."""

    bic: list[float]  # BIC of the mixtures with 1, 2, … components
    assignment: np.ndarray  # [N] cluster of each row; 0 is the largest
    n_fitted: int  # number of rows to which the mixtures were fitted

    @property
    def preferred(self) -> int:
        """The number of components with the lowest BIC."""
        return int(np.argmin(self.bic)) + 1

    @property
    def is_bound(self) -> bool:
        """Whether the largest number tried is the best, so that even more might be better."""
        return self.preferred == len(self.bic)

    def entry(self) -> dict[str, Any]:
        """Returns the part of the JSON that holds these numbers."""
        return {
            "preferred": self.preferred,
            "at_least": self.is_bound and self.preferred > 1,
            "bic": self.bic,
            "rows": self.n_fitted,
            "sizes": np.bincount(self.assignment).tolist(),
        }


def prefer_clusters(codes: np.ndarray, *, seed: int) -> Clusters:
    """Finds the number of clusters in finite codes [N, L] by fitting Gaussian mixtures of 1 to 10 components.

    Mixtures with fewer than 10 rows for each component are not tried.
    """
    ready = _ready_for_mixture(codes)
    fitted = np.arange(len(ready))
    if len(ready) > MOST_ROWS:
        fitted = np.sort(_generator(seed, "clusters").permutation(len(ready))[:MOST_ROWS])
    mixtures = []
    for n_components in range(1, max(1, min(MOST_CLUSTERS, len(fitted) // ROWS_EACH)) + 1):
        mixture = _fit_mixture(ready[fitted], n_components, seed)
        if mixture is None:
            break
        mixtures.append(mixture)
    bic = [float(mixture.bic(ready[fitted])) for mixture in mixtures]
    found = mixtures[int(np.argmin(bic))].predict(ready)
    by_size = np.argsort(-np.bincount(found), kind="stable")
    return Clusters(bic, np.argsort(by_size)[found], len(fitted))


def _sklearn_seed(seed: int, *name: object) -> int:
    """Returns a seed in the range that scikit-learn accepts."""
    return stream_key(seed, "agreement", *name) % 2**32


def _generator(seed: int, *name: object) -> np.random.Generator:
    return np.random.default_rng(stream_key(seed, "agreement", *name))
