"""The search space: which hidden layers are tried, and as which trials.

    configurations = enumerate_configurations([16, 32, 64], max_layers=3)   # 19 tuples
    trials = plan_trials(configurations, repeats=5, input_dim=24, latent_dim=3)

A configuration is a non-increasing tuple of hidden widths, encoder order; the decoder is its
mirror image. A trial is one training of one configuration. Nothing here knows of tensors, files
or plots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from math import comb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

Configuration = tuple[int, ...]


@dataclass(frozen=True)
class Trial:
    """One training of one configuration; `repeat` and `fold` count from 0.

    With a fold it trains on the other folds of the training rows and is scored on this one; without, it
    trains on all training rows and is scored on the test rows.
    """

    config: Configuration
    repeat: int
    fold: int | None = None


@dataclass(frozen=True)
class TrialResult:
    """What one trial left behind. E epochs, N_test rows it is scored on, P parameters.

    `failed_epoch` is None, or the epoch (from 1) in which the trial stopped being finite; the curves
    then end before that epoch, the final losses are None, and `parameters` and `row_errors` are empty.
    `parameters` are empty too where they were not kept.
    """

    trial: Trial
    train_losses: np.ndarray  # [E] float64, mean batch loss while training (dropout on)
    test_losses: np.ndarray  # [E] float64, loss of the whole test set in eval mode
    final_train_loss: float | None  # loss of the whole training set in eval mode after the last epoch
    final_test_loss: float | None  # == test_losses[-1]
    row_errors: np.ndarray  # [N_test, 2] float32: squared error over non-zero cells, over all cells
    parameters: np.ndarray  # [P] float32, flat (models.flatten), after the last epoch
    seconds: float
    failed_epoch: int | None = None
    out_of_memory: bool = False  # then all is empty

    @property
    def has_failed(self) -> bool:
        """Whether it has no final loss."""
        return self.failed_epoch is not None or self.out_of_memory


@dataclass
class TrialState:
    """A trial between two epochs: all that one hands to the next. It is trained in place."""

    epoch: int  # how many are done
    train_losses: np.ndarray  # [E] float64, of which the first `epoch` are known
    test_losses: np.ndarray  # [E]
    parameters: np.ndarray  # [P] float32
    moments: np.ndarray  # [2, P] float32, of AdamW
    seconds: float  # spent so far


def no_memory_for(trial: Trial) -> TrialResult:
    """The result of a trial that does not fit into memory."""
    import numpy as np

    curve, nothing = np.empty(0), np.empty(0, dtype=np.float32)
    return TrialResult(trial, curve, curve, None, None, nothing.reshape(0, 2), nothing, 0.0, out_of_memory=True)


def enumerate_configurations(hidden_dims: Iterable[int], max_layers: int) -> list[Configuration]:
    """All non-increasing tuples of 1 to `max_layers` widths, shortest first, then widest first."""
    widths = sorted(set(hidden_dims), reverse=True)
    return [config for layers in range(1, max_layers + 1) for config in combinations_with_replacement(widths, layers)]


def count_configurations(n_widths: int, max_layers: int) -> int:
    """How many configurations `enumerate_configurations` returns, without making them.

    A multiset of size k from n is chosen in C(n + k - 1, k) ways; over k = 1..K they add up to
    C(n + K, K) - 1.
    """
    return comb(n_widths + max_layers, max_layers) - 1


def count_parameters(input_dim: int, latent_dim: int, config: Sequence[int]) -> int:
    """Trainable parameters of the `DynamicAutoencoder` of this shape."""
    encoder = [input_dim, *config, latent_dim]
    decoder = [latent_dim, *reversed(config), input_dim]
    linear = sum((n_in + 1) * n_out for dims in (encoder, decoder) for n_in, n_out in pairwise(dims))
    layer_norms = 2 * input_dim + 2 * 2 * sum(config)
    return linear + layer_norms


def plan_trials(
    configurations: Sequence[Configuration], repeats: int, *, input_dim: int, latent_dim: int, folds: int = 0
) -> list[Trial]:
    """Every configuration `repeats` times (in each of so many `folds`), costliest first: all cores finish together.

    The cost of a training is taken as proportional to the parameter count.
    """
    by_cost = sorted(configurations, key=lambda config: count_parameters(input_dim, latent_dim, config), reverse=True)
    numbers = range(folds) if folds else [None]
    return [Trial(config, repeat, fold) for config in by_cost for repeat in range(repeats) for fold in numbers]
