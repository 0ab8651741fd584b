"""The training and test loss: a mean squared error that counts the cells with behaviour twice.

    loss = sparse_aware_loss(reconstruction, target)

More than half of a COPUS table is exactly zero, so a plain mean rewards predicting nothing. The
loss is 0.7 x (mean over the cells whose target is not zero) + 0.3 x (mean over all cells); where no
target is non-zero it is the plain mean. Missing cells (NaN in the target) count in neither term.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONZERO_WEIGHT = 0.7
ALL_WEIGHT = 0.3


def sparse_aware_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """The loss of a batch, a scalar. `reconstruction` and `target` are [B, F]; NaN in `target` = missing.

    A batch without one observed cell has the loss 0.
    """
    observed = ~torch.isnan(target)
    nonzero = observed & (target != 0)
    squared_error = torch.where(observed, reconstruction - target, 0.0).square()
    return loss_from_sums(
        (squared_error * nonzero).sum(), nonzero.sum(), squared_error.sum(), observed.sum()
    )


def squared_error_sums(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Squared error of each row over its non-zero cells and over all its cells: [B, F], [B, F] -> [B, 2]."""
    error = torch.where(torch.isnan(target), 0.0, reconstruction - target)
    squared_error = error.square()
    return torch.stack([(squared_error * (target != 0)).sum(1), squared_error.sum(1)], dim=1)


def loss_from_sums(nonzero_error: Tensor, n_nonzero: Tensor, error: Tensor, n_observed: Tensor) -> Tensor:
    """The loss from squared errors and cell counts added up over any set of rows; all are scalars."""
    mean = error / n_observed.clamp(min=1)
    nonzero_mean = nonzero_error / n_nonzero.clamp(min=1)
    return torch.where(n_nonzero > 0, NONZERO_WEIGHT * nonzero_mean + ALL_WEIGHT * mean, mean)
