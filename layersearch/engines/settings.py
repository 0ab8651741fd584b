"""The settings and the split table that all trainings of a search share, and an estimate of their duration.

    settings = TrainingSettings(latent_dim=3, epochs=20, batch_size=32, ...)
    table = SplitTable(values, train_rows, test_rows)

Learning-rate schedule: cosine annealing without restarts (Loshchilov & Hutter 2017, arXiv:1608.03983).
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from layersearch.engines.stack.plan import Room
from layersearch.engines.weights import Start
from layersearch.options import TrainingOptions
from layersearch.space.configurations import options_of
from layersearch.space.trials import Trial
from models import Normalizations


@dataclass(frozen=True)
class TrainingSettings:
    """The settings that all trainings of a search share."""

    latent_dim: int
    epochs: int
    batch_size: int
    initial_lr: float
    eta_min: float
    weight_decay: float
    dropout: float
    seed: int
    patience: int = 0  # epochs without improvement before a training stops early; 0 turns early stopping off
    min_delta: float = 0.0  # the validation loss must fall by more than this to count as an improvement
    normalization: str = "layer"  # normalization of the hidden layers: "layer" (LayerNorm) or "none"
    input_normalization: str = "layer"  # normalization of the input: "layer" or "none"
    start: Start | None = None  # saved weights to start from, and whether their encoder is frozen
    pause_after: int | None = None  # number of epochs to pause after; the learning-rate schedule covers all `epochs`
    room: Room | None = None  # size of all stacks of the stacked engine; None: the size that the trials need

    @classmethod
    def of(cls, options: TrainingOptions, latent_dim: int, seed: int, start: Start | None = None) -> Self:
        """Returns the settings for the options of the command."""
        names = {f.name for f in fields(cls)}
        own = {name: value for name, value in vars(options).items() if name in names}
        return cls(latent_dim=latent_dim, seed=seed, start=start, **own)

    @property
    def normalizations(self) -> Normalizations:
        """Both normalizations, as keyword arguments for models, parameter counts and the kernel's layer tables."""
        return {"normalization": self.normalization, "input_normalization": self.input_normalization}

    @property
    def freezes_encoder(self) -> bool:
        """Whether the encoder is frozen, so that only the decoder is trained."""
        return self.start is not None and self.start.freezes

    @property
    def stops_early(self) -> bool:
        """Whether trainings use early stopping and keep their best weights."""
        return self.patience > 0

    @property
    def end(self) -> int:
        """The number of epochs after which a training finishes or pauses."""
        return min(self.epochs, self.pause_after or self.epochs)

    @cached_property
    def learning_rates(self) -> np.ndarray:
        """The learning rate of each epoch, [E]: cosine annealing from `initial_lr` towards `eta_min`."""
        progress = np.arange(self.epochs) / self.epochs
        return self.eta_min + (self.initial_lr - self.eta_min) * (1 + np.cos(np.pi * progress)) / 2


def settings_of(trial: Trial, settings: TrainingSettings) -> TrainingSettings:
    """Returns the shared settings, updated with the options that a study varies and the trial's configuration sets."""
    options: dict[str, Any] = options_of(trial.config)
    return replace(settings, **options) if options else settings


@dataclass(frozen=True)
class SplitTable:
    """The scaled table and its split into training, test and validation rows, all on one device."""

    values: Tensor  # [N, F] float32, NaN = missing
    train: Tensor  # [N_train] int64
    test: Tensor  # [N_test] int64
    validation: Tensor | None = None  # [N_validation] int64, rows for early stopping, disjoint from the others
    bundles: np.ndarray | None = None  # [N_test] int64, the bundle of each test row; very many rows are summed by it

    @property
    def input_dim(self) -> int:
        """F, the number of columns."""
        return self.values.shape[1]

    @property
    def scored_cells(self) -> np.ndarray:
        """The numbers of non-zero and of observed cells of each test row (or bundle), [N_test, 2] int64."""
        targets = self.values[self.test]
        observed = ~targets.isnan()
        return self.bundled(torch.stack([((targets != 0) & observed).sum(1), observed.sum(1)], dim=1).cpu().numpy())

    def bundled(self, of_rows: np.ndarray) -> np.ndarray:
        """Sums values of the test rows over the bundles, in float64; without bundles returns them unchanged.

        [N_test, 2] -> [G, 2], where G is the number of bundles.
        """
        if self.bundles is None:
            return of_rows
        sums = [np.bincount(self.bundles, column) for column in of_rows.T]
        return np.stack(sums, axis=1).astype(of_rows.dtype)

    @property
    def is_test(self) -> np.ndarray:
        """A mask of the test rows, [N] bool."""
        is_test = np.zeros(len(self.values), dtype=bool)
        is_test[self.test.cpu().numpy()] = True
        return is_test


def nominal_seconds(engine: str, n_parameters: int, n_rows: int, settings: TrainingSettings) -> float:
    """Returns a rough estimate of the duration of one training on `n_rows` rows and one core, in seconds.

    It is an overhead for each step plus a time for each multiplication, both constant, so that plans based on it do not
    depend on the machine. For the stacked engine it is the time of a whole stack, which is about that of one training.
    """
    rules = {"compiled": (2e-5, 1.5e-10), "reference": (1.5e-3, 3e-10), "stacked": (1e-3, 1e-11)}
    overhead, per_product = rules[engine]
    batch_size = min(settings.batch_size, n_rows)
    steps = settings.epochs * -(-n_rows // batch_size)
    return steps * (overhead + per_product * n_parameters * batch_size)
