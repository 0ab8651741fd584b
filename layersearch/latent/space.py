"""What the latent space holds: which column each dimension goes with, and how much of each column is kept.

    axes = correlate(codes, table.values, columns)
    kept = reconstruction_by_column(model, pca, table, columns)
    axes.entry(), kept.entry()                                   # for the JSON

Plain NumPy on what a model made of the table; the pictures are `latent_axes_plot.py` and `reconstruction_plot.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from layersearch.engines.settings import SplitTable
from layersearch.verdict.baselines import PCA, column_means
from models import DynamicAutoencoder

MOST_DIMENSIONS = 24  # of more latent dimensions those that vary most
MOST_COLUMNS = 500  # in the JSON; of more those that correlate, or are kept, most
NO_VARIATION = 1e-6  # a dimension with a smaller SD, relative to its mean or to the largest SD, is constant
CELLS_AT_A_TIME = 2**20  # numbers in a temporary array: 8 MB


@dataclass(frozen=True)
class Axes:
    """Pearson correlations, NaN where one of the two does not vary."""

    columns: list[str]  # F, in the table's order
    dimensions: list[int]  # D, from 1
    n_dimensions: int
    collapsed: list[int]  # dimensions of all, from 1, that do not vary
    correlations: np.ndarray  # [F, D]

    @property
    def strongest(self) -> np.ndarray:
        """[F] the largest absolute correlation of each column; 0 where none is known."""
        return np.asarray(np.nan_to_num(np.abs(self.correlations)).max(axis=1))

    def order(self, most: int) -> np.ndarray:
        """The `most` strongest columns, by the dimension that they go with most, from positive to negative."""
        strongest = self.strongest
        kept = np.sort(np.argsort(-strongest, kind="stable")[:most])
        known = np.nan_to_num(self.correlations)
        partner = np.where(
            strongest > 0, np.abs(known).argmax(axis=1), known.shape[1]
        )  # what goes with none comes last
        signed = known[np.arange(len(known)), np.minimum(partner, known.shape[1] - 1)]
        return np.asarray(sorted(kept, key=lambda f: (partner[f], -signed[f], f)), dtype=int)

    def entry(self) -> dict[str, Any]:
        """For the JSON."""
        shown = np.sort(np.argsort(-self.strongest, kind="stable")[:MOST_COLUMNS])
        return {
            "dimensions": self.dimensions,
            "collapsed_dimensions": self.collapsed,
            "correlations": {self.columns[f]: self.correlations[f] for f in shown},
        }


def correlate(codes: np.ndarray, values: Tensor, columns: Sequence[str]) -> Axes:
    """Pearson correlation of every column with every latent dimension, over all rows where the cell is not missing.

    codes [N, L], finite · values [N, F] as scaled for the model, NaN = missing. Training rows count too: this is to
    name the axes, not to judge them.
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
    """[N, F] with NaN, [N, D] -> [F, D]."""
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
    """[F] whether the observed cells differ."""
    low = np.where(np.isnan(values), np.inf, values).min(axis=0)
    high = np.where(np.isnan(values), -np.inf, values).max(axis=0)
    return np.asarray(high > low)


@dataclass(frozen=True)
class Reconstruction:
    """Share of each column's variance that is kept, on the test rows; NaN where these do not vary."""

    columns: list[str]  # F
    model: np.ndarray  # [F]
    pca: np.ndarray  # [F]
    n_components: int  # of PCA
    overall: tuple[float, float]  # model, PCA: of all columns together
    n_rows: int

    def order(self, most: int) -> np.ndarray:
        """The columns whose share is known, best kept first; of more than `most` every so many-th."""
        known = np.flatnonzero(~np.isnan(self.model))
        ranked = known[np.argsort(-self.model[known], kind="stable")]
        shown = np.linspace(0, len(ranked) - 1, min(most, len(ranked))).round().astype(int)
        return np.asarray(ranked[shown])

    @property
    def unknown(self) -> list[str]:
        """Columns that do not vary in the test rows."""
        return [self.columns[f] for f in np.flatnonzero(np.isnan(self.model))]

    def entry(self) -> dict[str, Any]:
        """For the JSON."""
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
    """1 - squared error / squared deviation from the training mean, over the observed cells of the test rows.

    The training mean is what the model would say that knows nothing, so that a column can come out below 0.
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
