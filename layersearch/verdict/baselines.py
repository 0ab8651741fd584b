"""The baselines that a search has to beat: the best constant, PCA, and a linear autoencoder with the same loss.

    errors = baseline_errors(table, latent_dim=3)  # {"PCA": [N_test, 2], …}
    losses = {name: loss_of_sums(sums, test_targets) for name, sums in errors.items()}

All are fitted on the training rows and scored on the test rows like the autoencoders (`losses.py`), in float64 on the
CPU. The column means are computed too, for the results file; of all constants, the best one is the fairer rival.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from layersearch.engines.reference import one_torch_thread
from layersearch.engines.settings import SplitTable
from layersearch.verdict.linear import fit_linear
from layersearch.verdict.pca import column_means, fit_pca, rows_at_a_time
from layersearch.words import BEST_CONSTANT, COLUMN_MEANS, LINEAR, PRINCIPAL
from losses import squared_error_sums, weights_of


def baseline_errors(table: SplitTable, latent_dim: int) -> dict[str, Tensor]:
    """Returns by baseline the `squared_error_sums` of the test rows, [N_test, 2] float64 on the CPU.

    PCA and the linear autoencoder have `latent_dim` components, or fewer if the training rows vary in fewer
    directions. From F components on they reconstruct every row exactly. A column without any value in the training
    rows counts as 0.
    """
    with one_torch_thread():  # takes a few ms; more threads take seconds when they wait for a busy core
        values = table.values.cpu()
        train, test = values[table.train.cpu()], values[table.test.cpu()]
        means, constant, pca = column_means(train), best_constant(train), fit_pca(train, latent_dim)
        linear = fit_linear(train, pca)
        reconstructions: dict[str, Callable[[Tensor], Tensor]] = {
            COLUMN_MEANS: means.expand_as,
            BEST_CONSTANT: constant.expand_as,
            PRINCIPAL: pca.reconstruct,
            LINEAR: linear.reconstruct,
        }
        chunks = test.split(rows_at_a_time(test, 1))
        return {
            name: torch.cat([squared_error_sums(reconstruct(chunk), chunk) for chunk in chunks])
            for name, reconstruct in reconstructions.items()
        }


def best_constant(rows: Tensor) -> Tensor:
    """Returns the one row that reconstructs all rows with the lowest loss: [N, F], NaN = missing -> [F] float64.

    It is each column's mean, weighted as the loss weights the cells; 0 in a column without any value.
    """
    nonzero_weight, all_weight = weights_of(rows)
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    weight = torch.zeros_like(total)
    for chunk in rows.split(rows_at_a_time(rows, 1)):
        cells = chunk.double()
        total += (all_weight + nonzero_weight) * cells.nansum(0)  # cells that are zero add nothing
        observed = ~cells.isnan()
        weight += all_weight * observed.double().sum(0) + nonzero_weight * (observed & (cells != 0)).double().sum(0)
    return torch.where(weight > 0, total / weight.clamp(min=torch.finfo(weight.dtype).tiny), 0.0)
