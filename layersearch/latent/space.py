"""Computes which columns each latent dimension follows, and how much of each column is reconstructed.

    axes = correlate(codes, table.values, columns)
    reconstruction = reconstruction_by_column(model, pca, table, columns)
    axes.entry(), reconstruction.entry()                                   # for the JSON

Used by `findings.py`; drawn by `pictures/latent/axes.py` and `pictures/latent/reconstruction.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layersearch.engines.settings import SplitTable
from layersearch.verdict.pca import PCA, column_means
from models import DynamicAutoencoder

MOST_DIMENSIONS = 24  # if there are more latent dimensions, those that vary most are kept
MOST_COLUMNS = 500  # in the JSON; if there are more, those with the largest correlation or best reconstruction
NO_VARIATION = 1e-6  # a dimension is constant if its SD is smaller, relative to its mean plus the largest SD
CELLS_AT_A_TIME = 2**20  # largest number of elements in a temporary array (8 MB)


@dataclass(frozen=True)
class Axes:
    """Pearson correlations of columns with latent dimensions; NaN if either does not vary."""

    columns: list[str]  # F names, in the table's order
    dimensions: list[int]  # numbers of the D dimensions kept, from 1
    n_dimensions: int  # number of latent dimensions
    collapsed: list[int]  # numbers, from 1, of all dimensions that do not vary
    correlations: np.ndarray  # [F, D]

    @property
    def strongest(self) -> np.ndarray:
        """Largest absolute correlation of each column, [F]; 0 if none is known."""
        return np.asarray(np.nan_to_num(np.abs(self.correlations)).max(axis=1))

    def order(self, most: int) -> np.ndarray:
        """Returns the indices of the `most` strongest columns, in the order in which they are drawn.

        Columns are grouped by the dimension that they correlate with most, and go from positive to negative within a
        group. Columns without any known correlation come last.
        """
        strongest = self.strongest
        kept = np.sort(np.argsort(-strongest, kind="stable")[:most])
        known = np.nan_to_num(self.correlations)
        partner = np.where(strongest > 0, np.abs(known).argmax(axis=1), known.shape[1])
        signed = known[np.arange(len(known)), np.minimum(partner, known.shape[1] - 1)]
        return np.asarray(sorted(kept, key=lambda f: (partner[f], -signed[f], f)), dtype=int)

    def entry(self) -> dict[str, Any]:
        """Returns the part of the JSON that holds these numbers."""
        shown = np.sort(np.argsort(-self.strongest, kind="stable")[:MOST_COLUMNS])
        return {
            "dimensions": self.dimensions,
            "collapsed_dimensions": self.collapsed,
            "correlations": {self.columns[f]: self.correlations[f] for f in shown},
        }


def correlate(codes: np.ndarray, values: Tensor, columns: Sequence[str]) -> Axes:
    """Computes the Pearson correlation of every column with every latent dimension.

    All rows in which the column is observed are used, training rows included, since correlations serve to name the axes
    and not to judge the model.

    Args:
        codes: Latent codes, [N, L], all finite.
        values: Scaled values, [N, F]; NaN is missing.
        columns: The names of the F columns.
    """
    mean, sd = codes.mean(axis=0, dtype=np.float64), codes.std(axis=0, dtype=np.float64)
    varies = sd > NO_VARIATION * (np.abs(mean) + sd.max())
    shown = np.sort(np.argsort(-sd, kind="stable")[:MOST_DIMENSIONS])
    z = np.where(varies[shown], (codes[:, shown] - mean[shown]) / np.where(varies, sd, 1)[shown], 0.0)  # [N, D]
    at_a_time = max(1, CELLS_AT_A_TIME // len(codes))
    parts = [_correlations(part.cpu().double().numpy(), z) for part in values.split(at_a_time, dim=1)]
    collapsed = (np.flatnonzero(~varies) + 1).tolist()
    return Axes(list(columns), (shown + 1).tolist(), codes.shape[1], collapsed, np.concatenate(parts))


def _correlations(values: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Returns the correlations [F, D] of values [N, F] (NaN: missing) with standardised codes [N, D]."""
    known = ~np.isnan(values)
    count = np.maximum(known.sum(axis=0), 1)[:, None]  # [F, 1]
    x = np.where(known, values, 0.0)
    x = np.where(known, x - x.sum(axis=0) / count[:, 0], 0.0)
    weight = known.T.astype(np.float64)
    z_mean = weight @ z / count  # [F, D]
    z_variance = weight @ z**2 / count - z_mean**2
    x_variance = (x**2).sum(axis=0)[:, None] / count
    varies = _varies(values)[:, None] & (z_variance > NO_VARIATION)
    scale = np.sqrt(np.where(varies, x_variance * z_variance, 1.0))
    return np.asarray(np.where(varies, np.clip(x.T @ z / count / scale, -1, 1), np.nan))


def _varies(values: np.ndarray) -> np.ndarray:
    """Returns whether the observed cells of each column differ, [F]."""
    low = np.where(np.isnan(values), np.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return np.asarray(high > low)


@dataclass(frozen=True)
class Reconstruction:
    """The share of each column's variance that is reconstructed, on the test rows; NaN if these do not vary."""

    columns: list[str]  # F names
    model: np.ndarray  # [F] share by the model
    pca: np.ndarray  # [F] share by PCA
    n_components: int  # number of components of PCA
    overall: tuple[float, float]  # share in all columns together, by model and by PCA
    n_rows: int  # number of test rows

    def order(self, most: int) -> np.ndarray:
        """Returns the indices of columns with a known share, best first: all, or `most` spread evenly over these."""
        known = np.flatnonzero(~np.isnan(self.model))
        ranked = known[np.argsort(-self.model[known], kind="stable")]
        shown = np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int)
        return np.asarray(ranked[shown])

    @property
    def unknown(self) -> list[str]:
        """Names of the columns that do not vary in the test rows."""
        return [self.columns[f] for f in np.flatnonzero(np.isnan(self.model))]

    def entry(self) -> dict[str, Any]:
        """Returns the part of the JSON that holds these numbers."""
        shown = range(len(self.columns))
        if len(self.columns) > MOST_COLUMNS:
            shown = np.sort(self.order(MOST_COLUMNS)).tolist()
        return {
            "rows": self.n_rows,
            "pca_components": self.n_components,
            "overall": {"model": self.overall[0], "pca": self.overall[1]},
            "by_column": {self.columns[f]: {"model": self.model[f], "pca": self.pca[f]} for f in shown},
        }


@torch.no_grad()
def reconstruction_by_column(
    model: DynamicAutoencoder, pca: PCA, table: SplitTable, columns: Sequence[str]
) -> Reconstruction:
    """Computes how much of each column a model and PCA reconstruct.

    The share of a column is 1 - (sum of squared errors) / (sum of squared deviations from the training mean), over its
    observed cells in the test rows. It is below 0 if the column's training mean would reconstruct it better.

    Args:
        model: The model, in eval mode.
        pca: PCA, fitted on the training rows.
        table: Scaled values with training and test rows.
        columns: The names of the F columns.
    """
    values = table.values.cpu()
    train, test = values[table.train.cpu()], values[table.test.cpu()]
    means = column_means(train)
    sums = torch.zeros(3, test.shape[1], dtype=torch.float64)  # squared errors of model and PCA, squared deviations
    for chunk in test.split(max(1, CELLS_AT_A_TIME // test.shape[1])):
        guesses = [model(chunk.nan_to_num(nan=0.0))[0], pca.reconstruct(chunk), means]
        sums += torch.stack([((guess - chunk.double()) ** 2).nan_to_num(nan=0.0).sum(0) for guess in guesses])
    of_model, of_pca, total = sums.numpy()
    varies = _varies(test.numpy())
    scale = np.where(varies, total, 1.0)
    whole = float(total.sum()) or np.nan
    return Reconstruction(
        list(columns),
        np.where(varies, 1 - of_model / scale, np.nan),
        np.where(varies, 1 - of_pca / scale, np.nan),
        pca.axes.shape[1],
        (1 - float(of_model.sum()) / whole, 1 - float(of_pca.sum()) / whole),
        len(test),
    )
