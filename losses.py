"""The training and test loss: a mean squared error in which non-zero cells count more.

    loss = sparse_aware_loss(reconstruction, target)

More than half of a COPUS table is exactly zero, so a plain mean would reward predicting nothing. The loss is
0.7 x (mean over the cells whose target is not zero) + 0.3 x (mean over all cells). Where no target is non-zero, it is
the plain mean. Missing cells (NaN in the target) count in neither term.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONZERO_WEIGHT = 0.7
ALL_WEIGHT = 0.3


def sparse_aware_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Returns the loss of a batch, a scalar; or of each model in a stack, [M].

    Args:
        reconstruction: [B, F], or [M, B, F].
        target: the same shape; NaN = missing. A batch without any observed cell has the loss 0.
    """
    return (cell_weights(target) * (reconstruction - target.nan_to_num(nan=0.0)).square()).sum((-2, -1))


def cell_weights(target: Tensor) -> Tensor:
    """Returns each cell's weight in the loss: [..., B, F] -> [..., B, F], adding up to 1 over each batch."""
    observed = ~target.isnan()
    nonzero = (target != 0) & observed
    n_observed, n_nonzero = (cells.sum((-2, -1), keepdim=True) for cells in (observed, nonzero))  # [..., 1, 1]
    share = torch.where(n_nonzero > 0, ALL_WEIGHT, 1.0)
    return observed * (share / n_observed.clamp(min=1)) + nonzero * (NONZERO_WEIGHT / n_nonzero.clamp(min=1))


def squared_error_sums(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Returns each row's sums of squared errors over its non-zero and over its observed cells.

    Args:
        reconstruction: [..., N, F].
        target: [N, F], NaN = missing.

    Returns:
        [..., N, 2].
    """
    squared_error = torch.where(target.isnan(), 0.0, reconstruction - target).square()
    return torch.stack([(squared_error * (target != 0)).sum(-1), squared_error.sum(-1)], dim=-1)  # [..., N, 2]


def loss_of_sums(sums: Tensor, target: Tensor) -> float:
    """Returns the loss of any rows, from their `squared_error_sums` [N, 2] and targets [N, F]; sums in float64."""
    nonzero_weight, all_weight = weights_of(target)
    nonzero, total = sums.double().sum(0).tolist()
    return nonzero_weight * float(nonzero) + all_weight * float(total)


def weights_of(target: Tensor) -> tuple[float, float]:
    """Returns `sum_weights` of these targets [N, F]."""
    observed = ~target.isnan()
    return sum_weights(int(((target != 0) & observed).sum()), int(observed.sum()))


def sum_weights(n_nonzero: float, n_observed: float) -> tuple[float, float]:
    """Returns the two factors that turn sums of squared errors into the loss: for non-zero and for all observed cells.

    Args:
        n_nonzero: number of non-zero cells.
        n_observed: number of observed cells.
    """
    if n_nonzero > 0:
        return NONZERO_WEIGHT / n_nonzero, ALL_WEIGHT / n_observed
    return 0.0, 1 / max(n_observed, 1)
