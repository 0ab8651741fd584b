"""The training and test loss: a mean squared error in which non-zero cells count more.

    loss = sparse_aware_loss(reconstruction, target)

More than half of the cells of a COPUS table are exactly zero, so a plain mean would reward predicting zeros. The loss
is 0.7 x (mean over the cells whose target is not zero) + 0.3 x (mean over all cells). If all targets are zero, it is
the plain mean. Missing cells (NaN in the target) count in neither term.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONZERO_WEIGHT = 0.7
ALL_WEIGHT = 0.3


def sparse_aware_loss(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Returns the loss of a batch, a scalar, or of each model in a stack, [M].

    Args:
        reconstruction: [B, F] or [M, B, F].
        target: the same shape, NaN = missing. The loss of a batch in which all cells are missing is 0.
    """
    return (cell_weights(target) * (reconstruction - target.nan_to_num(nan=0.0)).square()).sum((-2, -1))


def cell_weights(target: Tensor) -> Tensor:
    """Returns the weight of each cell in the loss, [..., B, F] for targets [..., B, F]; a batch's weights sum to 1."""
    observed = ~target.isnan()
    nonzero = (target != 0) & observed
    n_observed, n_nonzero = (cells.sum((-2, -1), keepdim=True) for cells in (observed, nonzero))  # [..., 1, 1]
    share = torch.where(n_nonzero > 0, ALL_WEIGHT, 1.0)
    return observed * (share / n_observed.clamp(min=1)) + nonzero * (NONZERO_WEIGHT / n_nonzero.clamp(min=1))


def squared_error_sums(reconstruction: Tensor, target: Tensor) -> Tensor:
    """Returns the sums of squared errors of each row, over its non-zero cells and over its observed cells.

    Args:
        reconstruction: [..., N, F].
        target: [N, F], NaN = missing.

    Returns:
        [..., N, 2], the non-zero cells first.
    """
    squared_error = torch.where(target.isnan(), 0.0, reconstruction - target).square()
    return torch.stack([(squared_error * (target != 0)).sum(-1), squared_error.sum(-1)], dim=-1)  # [..., N, 2]


def loss_of_sums(sums: Tensor, target: Tensor) -> float:
    """Returns the loss of rows from their `squared_error_sums` [N, 2] and targets [N, F], summed in float64."""
    nonzero_weight, all_weight = weights_of(target)
    nonzero, total = sums.double().sum(0).tolist()
    return nonzero_weight * float(nonzero) + all_weight * float(total)


def weights_of(target: Tensor) -> tuple[float, float]:
    """Returns the `sum_weights` of targets [N, F]."""
    observed = ~target.isnan()
    return sum_weights(int(((target != 0) & observed).sum()), int(observed.sum()))


def sum_weights(n_nonzero: float, n_observed: float) -> tuple[float, float]:
    """Returns the factors by which the loss weights the two `squared_error_sums` (non-zero cells, observed cells).

    Args:
        n_nonzero: number of non-zero cells.
        n_observed: number of observed cells.
    """
    if n_nonzero > 0:
        return NONZERO_WEIGHT / n_nonzero, ALL_WEIGHT / n_observed
    return 0.0, 1 / max(n_observed, 1)
