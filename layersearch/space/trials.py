"""Trials: single trainings of a configuration, their results, and their state between two epochs.

    trials = plan_trials(space.configurations(), repeats=5, input_dim=24, latent_dim=3)

A trial is a configuration with the number of a repeat and, with cross-validation, of a fold. The engines turn a `Trial`
into a `TrialResult`; a `TrialState` is what they save in a checkpoint during training. NumPy is not imported, so that
the command line can be checked quickly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layersearch.space.configurations import Configuration, count_parameters

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Trial:
    """One training of one configuration.

    Without a fold the model is trained on all training rows and scored on the test rows. With a fold it is trained on
    the other folds of the training rows and scored on this one.
    """

    config: Configuration
    repeat: int  # counted from 0
    fold: int | None = None  # counted from 0


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial with E epochs, N_test scored rows and P parameters.

    A trial that fails has no final losses. Its curves end before `failed_epoch`, and its `parameters` and `row_errors`
    are empty. A paused trial has the curves of its epochs so far and no final losses; it is either continued or
    dropped. With early stopping the curves end where the training stopped, and all final values belong to the weights
    of `best_epoch`.
    """

    trial: Trial
    train_losses: np.ndarray  # [E] float64, mean loss of the batches during the epoch, with dropout
    test_losses: np.ndarray  # [E] float64, loss of all scored rows after the epoch, without dropout
    final_train_loss: float | None  # loss of all training rows with the final weights, without dropout
    final_test_loss: float | None  # loss of the scored rows with the final weights
    # [N_test, 2] float32, each row's squared error summed over its non-zero cells and over all its observed cells; for
    # more than `scoring.MAX_UNITS` rows, the sums over bundles of rows, which bounds the size
    row_errors: np.ndarray
    parameters: np.ndarray  # [P] float32, the final weights as `models.flatten` lays them out; empty if not kept
    seconds: float
    failed_epoch: int | None = None  # the epoch, counted from 1, in which a value was not finite
    out_of_memory: bool = False  # if so, all else is empty
    is_paused: bool = False
    validation_losses: np.ndarray | None = None  # [E] loss of the validation rows, with early stopping
    best_epoch: int | None = None  # counted from 1; None without early stopping

    @property
    def has_failed(self) -> bool:
        """Whether the trial will never have a final loss."""
        return self.failed_epoch is not None or self.out_of_memory


@dataclass
class TrialState:
    """The state of a trial between two epochs: all that the next epoch needs. The engines update it in place."""

    epoch: int  # number of epochs completed
    train_losses: np.ndarray  # [E] float64, of which the first `epoch` are known
    test_losses: np.ndarray  # [E] float64, likewise
    parameters: np.ndarray  # [P] float32
    moments: np.ndarray  # [2, P] float32, first and second moments of AdamW
    seconds: float = 0.0  # training time so far
    validation_losses: np.ndarray | None = None  # [E] with early stopping
    best_epoch: int = 0  # the epoch with the lowest validation loss, counted from 1; 0 before the first
    best_parameters: np.ndarray | None = None  # [P] after that epoch


def plan_trials(
    configurations: Sequence[Configuration], repeats: int, *, input_dim: int, latent_dim: int, folds: int = 0
) -> list[Trial]:
    """Returns the trials of some configurations: `repeats` for each and, with cross-validation, for each fold.

    The trials with the most parameters, which take longest, come first, so that all cores finish at about the same
    time.
    """
    by_cost = sorted(configurations, key=lambda config: count_parameters(input_dim, latent_dim, config), reverse=True)
    numbers = range(folds) if folds else [None]
    return [Trial(config, repeat, fold) for config in by_cost for repeat in range(repeats) for fold in numbers]


def no_memory_for(trial: Trial) -> TrialResult:
    """Returns the result of a trial that does not fit into memory."""
    import numpy as np

    curve, nothing = np.empty(0), np.empty(0, dtype=np.float32)
    return TrialResult(trial, curve, curve, None, None, nothing.reshape(0, 2), nothing, 0.0, out_of_memory=True)
