"""Whether the latent space means anything: how well it agrees with labels that no training saw, and with what else.

    chosen = choose_rows(labels, groups, most_columns=24, seed=42)          # raises LabelError, a sentence
    agreement = measure(chosen, {"latent": codes, "pca": components, "columns": scaled}, confidence=0.95, seed=42)
    clusters = prefer_clusters(codes, seed=42)                              # where there are no labels

Three measures, each of three spaces: the latent one, PCA with as many components, and the scaled columns themselves
(missing cells 0, as the model sees them). scikit-learn computes them.

- *Nearest neighbours*: the share of rows whose label most of their 15 nearest neighbours among the other folds' rows
  have (Cover & Hart 1967, doi:10.1109/TIT.1967.1053964); five stratified folds, which keep groups whole. To be held
  against the share of the commonest label.
- *Silhouette* (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7), from -1 to 1: whether rows lie nearer to those of
  their own label than to those of the next.
- *Adjusted Rand index* (Hubert & Arabie 1985, doi:10.1007/BF01908075), 1 for the same partition and 0 for chance: of
  the labels and a Gaussian mixture with as many components, fitted without them.

All rows with a label count, training rows too: neither the model nor PCA has seen a label, so that these cannot
flatter one, while the test rows alone are a fifth, too few for small classes. The test rows' own accuracy is reported
beside it.

Intervals: percentiles of a bootstrap (Efron 1979, doi:10.1214/aos/1176344552) over rows, or whole groups, of what each
row adds; the same draws for all spaces, so that differences are paired. Model, folds and mixture stay as they are: an
interval speaks of other rows, not of another training (nor of another start of the mixture's: on the published table
its index moves by about 0.02 with that).

The number of clusters without labels: the mixture with the lowest BIC (Schwarz 1978, doi:10.1214/aos/1176344136;
Fraley & Raftery 2002, doi:10.1198/016214502760047131).
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

from layersearch.latent.labels import numbered
from layersearch.randomness import stream_key

MOST_ROWS, LEAST_DRAWN = 5_000, 500  # of more rows so many are drawn: the work grows with their square
MOST_CELLS = 2_500_000  # and fewer of wide tables, but never less than the latter
LEAST_ROWS = 5  # of a label; rarer ones are left out
MOST_LABELS = 20  # a column with more is of identifiers
NEIGHBOURS, FOLDS, DRAWS = 15, 5, 1_000
MOST_CLUSTERS, ROWS_EACH = 10, 10  # of a mixture without labels; rows that each component needs
MOST_MIXED = 30  # dimensions that a mixture is fitted in; of more the first principal components
LEAST_SPREAD = 0.01  # added to a mixture's variances, in units of a column's mean variance: many cells are exactly 0
MEASURES = ("knn_accuracy", "silhouette", "adjusted_rand_index")


class LabelError(Exception):
    """These labels cannot be compared with anything; the message says why."""


@dataclass(frozen=True)
class Chosen:
    """The n rows that are compared, and their labels."""

    column: str
    rows: np.ndarray  # [n] of the table
    label: np.ndarray  # [n] place in `names`
    names: list[str]
    units: np.ndarray  # [n] what is resampled: the number of each row's group, or of the row itself
    by_group: bool
    n_labelled: int  # rows of the table with a label
    n_rare: int  # of these, rows whose label is too rare

    @property
    def counts(self) -> np.ndarray:
        """Rows of each label."""
        return np.bincount(self.label, minlength=len(self.names))


class Measured(NamedTuple):
    """A value and its interval; None where it cannot be told."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Agreement:
    """What was measured, by measure and space."""

    chosen: Chosen
    neighbours: int
    folds: int
    confidence: float
    values: Mapping[str, Mapping[str, Measured]]
    differences: Mapping[str, Measured]  # by measure: the latent space's minus PCA's
    on_test_rows: Mapping[str, float | None]  # accuracy by space

    @property
    def majority_share(self) -> float:
        """The accuracy of who always says the commonest label."""
        return float(self.chosen.counts.max() / len(self.chosen.rows))

    def entry(self) -> dict[str, Any]:
        """For the JSON."""
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
    """Which rows are compared: all with a label that is not too rare, or so many of them drawn by seed.

    labels [N] · groups [N] int or None · most_columns: of the widest space. Raises LabelError.
    """
    number, names = numbered(labels)
    rows = np.flatnonzero(number >= 0)
    n_labelled = len(rows)
    most = int(np.clip(MOST_CELLS // max(most_columns, 1), LEAST_DRAWN, MOST_ROWS))
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
    """All measures of all spaces, each [n, its columns] of the rows chosen; is_test [n] bool.

    The spaces "latent" and "pca" have to be among them: their difference is told.
    """
    folds = list(_folds(chosen, seed))
    neighbours = min(NEIGHBOURS, int(chosen.counts.min()), *(len(train) for train, _ in folds))
    draws = _draw_weights(chosen, seed)
    correct = {name: _correct(chosen, space, folds, neighbours) for name, space in spaces.items()}
    drawn: dict[str, dict[str, np.ndarray]] = {measure: {} for measure in MEASURES}  # [1 + draws], the first is real
    for name, space in spaces.items():
        drawn["knn_accuracy"][name] = _means(correct[name], chosen, draws)
        drawn["silhouette"][name] = _means(silhouette_samples(space, chosen.label), chosen, draws)
        drawn["adjusted_rand_index"][name] = _rand_indices(chosen, _mixed(space, chosen, seed), draws)
    return Agreement(
        chosen,
        neighbours,
        len(folds),
        confidence,
        {m: {name: _measured(of, confidence) for name, of in drawn[m].items()} for m in MEASURES},
        {m: _measured(drawn[m]["latent"] - drawn[m]["pca"], confidence) for m in MEASURES},
        {name: float(right[is_test].mean()) if is_test.any() else None for name, right in correct.items()},
    )


def _folds(chosen: Chosen, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training and scored rows of each fold; a fold of no rows is none."""
    n_folds = min(FOLDS, int(chosen.counts.min()), int(chosen.units.max()) + 1)
    kind, groups = (StratifiedGroupKFold, chosen.units) if chosen.by_group else (StratifiedKFold, None)
    splitter = kind(n_folds, shuffle=True, random_state=_state(seed, "folds"))
    for train, scored in splitter.split(chosen.label, chosen.label, groups):
        if len(train) and len(scored):
            yield train, scored


def _correct(
    chosen: Chosen, space: np.ndarray, folds: list[tuple[np.ndarray, np.ndarray]], neighbours: int
) -> np.ndarray:
    """[n] whether a row's neighbours tell its label."""
    correct = np.zeros(len(space), dtype=bool)
    for train, scored in folds:
        model = KNeighborsClassifier(neighbours).fit(space[train], chosen.label[train])
        correct[scored] = model.predict(space[scored]) == chosen.label[scored]
    return correct


def _draw_weights(chosen: Chosen, seed: int) -> np.ndarray:
    """[1 + draws, units] how often each row or group counts: first once each, then as drawn."""
    n_units = int(chosen.units.max()) + 1
    drawn = _generator(seed, "bootstrap").integers(n_units, size=(DRAWS, n_units), dtype=np.int32)
    weights = np.stack([np.bincount(row, minlength=n_units) for row in drawn]).astype(np.float32)
    return np.concatenate([np.ones((1, n_units), np.float32), weights])


def _means(values: np.ndarray, chosen: Chosen, weights: np.ndarray) -> np.ndarray:
    """[1 + draws] means of values [n] over the rows as drawn."""
    sums, sizes = np.bincount(chosen.units, values), np.bincount(chosen.units)
    return np.asarray((weights @ sums) / (weights @ sizes))


def _rand_indices(chosen: Chosen, cluster: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[1 + draws] adjusted Rand indices of the labels and clusters [n] of the rows as drawn.

    Of a row that is drawn twice, the pair with itself does not count: it would always agree.
    """
    k, n_units = len(chosen.names), weights.shape[1]
    cell = chosen.label * k + cluster
    tables = np.bincount(chosen.units * k * k + cell, minlength=n_units * k * k).reshape(n_units, k * k)
    rows, squares = (  # [1 + draws, k, k] weights of the rows in each cell, and their squares
        (of @ tables.astype(np.float32)).astype(np.float64).reshape(-1, k, k) for of in (weights, weights**2)
    )

    def pairs(*axes: int) -> np.ndarray:
        """Of different rows in one cell, the cells along these axes being one."""
        return np.asarray((rows.sum(axis=axes) ** 2 - squares.sum(axis=axes)) / 2)

    together, by_label, by_cluster = pairs().sum(axis=(1, 2)), pairs(2).sum(axis=1), pairs(1).sum(axis=1)
    expected = by_label * by_cluster / np.maximum(pairs(1, 2), 1)
    most = (by_label + by_cluster) / 2
    same = most == expected  # both are one group, or each row is one of its own
    return np.asarray(np.where(same, 1.0, (together - expected) / np.where(same, 1.0, most - expected)))


def _measured(drawn: np.ndarray, confidence: float) -> Measured:
    """From [1 + draws], the first of which is the real value."""
    low, high = np.quantile(drawn[1:], [(1 - confidence) / 2, (1 + confidence) / 2])
    return Measured(float(drawn[0]), (float(low), float(high)))


def _mixed(space: np.ndarray, chosen: Chosen, seed: int) -> np.ndarray:
    """[n] the component of a Gaussian mixture that each row falls to."""
    ready = for_mixture(space)
    fitted = _fit_mixture(ready, len(chosen.names), seed)
    return np.zeros(len(space), dtype=int) if fitted is None else np.asarray(fitted.predict(ready))


def for_mixture(space: np.ndarray) -> np.ndarray:
    """[n, at most 30] float64 in units of a column's mean variance, which changes no distance but for the unit."""
    centred = space - space.mean(axis=0, dtype=np.float64)
    if centred.shape[1] > MOST_MIXED and centred.any():
        centred = PCA(min(MOST_MIXED, len(centred)), random_state=0).fit_transform(centred)
    unit = np.sqrt((centred**2).mean())
    return np.asarray(centred / unit if unit > 0 else centred)


def _fit_mixture(ready: np.ndarray, n_components: int, seed: int) -> GaussianMixture | None:
    """None where rows are too alike for so many components."""
    if len(np.unique(ready, axis=0)) < n_components:
        return None
    return GaussianMixture(
        n_components, reg_covar=LEAST_SPREAD, max_iter=500, random_state=_state(seed, "mixture")
    ).fit(ready)


@dataclass(frozen=True)
class Clusters:
    """How many clusters there are, by BIC."""

    bic: list[float]  # of 1, 2, … components
    assignment: np.ndarray  # [N] cluster of each row, from 0, the largest first
    n_fitted: int  # rows that the mixtures were fitted to

    @property
    def preferred(self) -> int:
        """The number with the lowest BIC."""
        return int(np.argmin(self.bic)) + 1

    @property
    def is_bound(self) -> bool:
        """Whether more components than were tried might be better still."""
        return self.preferred == len(self.bic)

    def entry(self) -> dict[str, Any]:
        """For the JSON."""
        return {
            "preferred": self.preferred,
            "at_least": self.is_bound and self.preferred > 1,
            "bic": self.bic,
            "rows": self.n_fitted,
            "sizes": np.bincount(self.assignment).tolist(),
        }


def prefer_clusters(codes: np.ndarray, *, seed: int) -> Clusters:
    """Gaussian mixtures of 1 to 10 components on codes [N, L], finite; at least 10 rows each."""
    ready = for_mixture(codes)
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


def _state(seed: int, *name: object) -> int:
    """A seed for scikit-learn."""
    return stream_key(seed, "agreement", *name) % 2**32


def _generator(seed: int, *name: object) -> np.random.Generator:
    return np.random.default_rng(stream_key(seed, "agreement", *name))
