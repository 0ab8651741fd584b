"""What every engine does alike: a trial's settings, its start, its pauses and its result.

    state = first_state(flatten(build_model(trial, input_dim, settings)), settings)
    ...                                                  # an engine trains it, epoch by epoch
    result = finished_result(trial, state, **final)

Cosine annealing: Loshchilov & Hutter 2017, arXiv:1608.03983, one cycle without restarts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from layersearch.engines.stack.plan import Room
from layersearch.engines.weights import Start
from layersearch.randomness import torch_generator
from layersearch.space.configurations import decoder_dims, encoder_dims, layers_of, options_of
from layersearch.space.trials import Trial, TrialResult, TrialState
from models import DynamicAutoencoder

Trainer = Callable[[Trial], TrialResult]

CHECKPOINT_SECONDS = 60.0  # of training a single trial, between two times that its state is saved


@dataclass(frozen=True)
class TrainingSettings:
    """What all trials of a search share."""

    latent_dim: int
    epochs: int
    batch_size: int
    initial_lr: float
    eta_min: float
    weight_decay: float
    dropout: float
    seed: int
    patience: int = 0  # epochs without improvement after which a trial stops; 0: never
    min_delta: float = 0.0  # a smaller fall of the validation loss is no improvement
    normalization: str = "layer"  # of the hidden layers: "layer" (LayerNorm) or "none"
    input_normalization: str = "layer"  # of the input: the same
    start: Start | None = None  # saved weights to start from, and whether their encoder stays as it is
    pause_after: int | None = None  # epochs, of a schedule that is that of all `epochs`
    room: Room | None = None  # of all stacks, with the stacked engine; None: as much as is needed

    @property
    def normalizations(self) -> dict[str, Any]:
        """Both, by the names that models, parameter counts and the kernel's layer tables know."""
        return {"normalization": self.normalization, "input_normalization": self.input_normalization}

    @property
    def freezes_encoder(self) -> bool:
        """Whether only decoders are trained."""
        return self.start is not None and self.start.freezes

    @property
    def stops_early(self) -> bool:
        """Whether trials may stop before their last epoch, and keep their best weights."""
        return self.patience > 0

    @cached_property
    def learning_rates(self) -> np.ndarray:
        """Cosine annealing from `initial_lr` in the first epoch towards `eta_min` after the last, [E]."""
        progress = np.arange(self.epochs) / self.epochs
        return self.eta_min + (self.initial_lr - self.eta_min) * (1 + np.cos(np.pi * progress)) / 2


def settings_of(trial: Trial, settings: TrainingSettings) -> TrainingSettings:
    """The settings of this trial: those of all, but for the options that its configuration has of its own."""
    options: dict[str, Any] = options_of(trial.config)
    return replace(settings, **options) if options else settings


@dataclass(frozen=True)
class SplitTable:
    """The scaled table and which of its rows train and which test, all on one device."""

    values: Tensor  # [N, F] float32, NaN = missing
    train: Tensor  # [N_train] int64
    test: Tensor  # [N_test] int64
    validation: Tensor | None = None  # [N_validation] int64, to decide when to stop; not among the others
    bundles: np.ndarray | None = None  # [N_test] int64, where there are many: what is kept of them is kept in sums

    @property
    def input_dim(self) -> int:
        """F, the columns of the table."""
        return self.values.shape[1]

    @property
    def scored_cells(self) -> np.ndarray:
        """Of each test row (or bundle): how many cells are not zero, how many are observed, [N_test, 2] int64."""
        targets = self.values[self.test]
        observed = ~targets.isnan()
        return self.bundled(torch.stack([((targets != 0) & observed).sum(1), observed.sum(1)], dim=1).cpu().numpy())

    def bundled(self, of_rows: np.ndarray) -> np.ndarray:
        """What each test row has, [N_test, 2], added up in float64 by bundle, [G, 2]; as it is without bundles."""
        if self.bundles is None:
            return of_rows
        sums = [np.bincount(self.bundles, column) for column in of_rows.T]
        return np.stack(sums, axis=1).astype(of_rows.dtype)

    @property
    def is_test(self) -> np.ndarray:
        """Which rows test, [N] bool."""
        is_test = np.zeros(len(self.values), dtype=bool)
        is_test[self.test.cpu().numpy()] = True
        return is_test


def build_model(trial: Trial, input_dim: int, settings: TrainingSettings) -> DynamicAutoencoder:
    """The trial's model before training, on the CPU.

    Its weights depend on the seed, the trial, and what it starts from, alone.
    """
    own = settings_of(trial, settings)
    model = DynamicAutoencoder(
        input_dim,
        own.latent_dim,
        encoder_dims(trial.config),
        own.dropout,
        decoder_dims=decoder_dims(trial.config),
        **own.normalizations,
        generator=weights_generator(trial, settings),
    )
    if settings.start:
        settings.start.give(model)
    return model


def weights_generator(trial: Trial, settings: TrainingSettings) -> torch.Generator:
    """What the trial's initial weights are drawn from: the same for all options of the same layers."""
    return torch_generator(settings.seed, *stream_name("weights", trial), layers_of(trial.config))


def stream_name(what: str, trial: Trial) -> tuple[object, ...]:
    """The name of a trial's stream of randomness: all configurations of a repeat (and fold) share it."""
    return (what, trial.repeat) if trial.fold is None else (what, trial.repeat, "fold", trial.fold)


class Checkpoints(Protocol):
    """Where the state of a long trial is kept while it is trained (`journal.py`)."""

    def load(self, trial: Trial) -> TrialState | None:
        """The state that was saved last."""

    def save(self, trial: Trial, state: TrialState) -> None:
        """Keeps it in place of the last."""

    def remove(self, trial: Trial) -> None:
        """The trial is finished, or given up."""


class InMemory:
    """Keeps states as long as the process lives."""

    def __init__(self) -> None:
        self._states: dict[Trial, TrialState] = {}

    def load(self, trial: Trial) -> TrialState | None:
        """The state that was saved last; it is handed over."""
        return self._states.pop(trial, None)

    def save(self, trial: Trial, state: TrialState) -> None:
        """Keeps it in place of the last."""
        self._states[trial] = state

    def remove(self, trial: Trial) -> None:
        """Forgets it."""
        self._states.pop(trial, None)


def nominal_seconds(engine: str, n_parameters: int, n_rows: int, settings: TrainingSettings) -> float:
    """About how long one training takes on one core: a fixed rule, to weigh plans with. A step's overhead and sums.

    Stacked, it takes so long alone, and about as long with all others of its stack.
    """
    rules = {"compiled": (2e-5, 1.5e-10), "reference": (1.5e-3, 3e-10), "stacked": (1e-3, 1e-11)}
    overhead, per_product = rules[engine]
    batch_size = min(settings.batch_size, n_rows)
    steps = settings.epochs * -(-n_rows // batch_size)
    return steps * (overhead + per_product * n_parameters * batch_size)


def is_long(seconds: float) -> bool:
    """Whether a training that takes so long is worth more care than to train it again."""
    return seconds > CHECKPOINT_SECONDS


class Clock:
    """How long a trial has been trained, earlier runs included, and when its state is to be saved."""

    def __init__(self, state: TrialState | None = None) -> None:
        self._before = state.seconds if state else 0.0
        self._started = self._saved = self._lapped = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def lap(self) -> float:
        """The seconds since the last lap."""
        before, self._lapped = self._lapped, time.monotonic()
        return self._lapped - before

    def is_due(self) -> bool:
        """Whether `CHECKPOINT_SECONDS` have passed since this was last true."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True


def first_state(parameters: np.ndarray, settings: TrainingSettings) -> TrialState:
    """A trial that is about to start."""
    return TrialState(
        epoch=0,
        train_losses=np.zeros(settings.epochs),
        test_losses=np.zeros(settings.epochs),
        parameters=parameters,
        moments=np.zeros((2, parameters.size), dtype=np.float32),
        validation_losses=np.zeros(settings.epochs) if settings.stops_early else None,
    )


def is_exhausted(state: TrialState, settings: TrainingSettings) -> bool:
    """Whether so many epochs went by without improvement that the trial stops."""
    return settings.stops_early and state.epoch - state.best_epoch >= settings.patience


def note_validation(state: TrialState, loss: float, parameters: np.ndarray, settings: TrainingSettings) -> None:
    """The epoch that was just done, number `state.epoch`, has this validation loss and these `parameters`."""
    assert state.validation_losses is not None
    state.validation_losses[state.epoch - 1] = loss
    best = state.validation_losses[state.best_epoch - 1] if state.best_epoch else np.inf
    if loss < best - settings.min_delta:
        state.best_epoch, state.best_parameters = state.epoch, parameters.copy()


def finished_result(trial: Trial, state: TrialState, **final: Any) -> TrialResult:
    """The result of a trial that came to its end, or stopped early."""
    done = slice(state.epoch)
    return TrialResult(
        trial=trial,
        train_losses=state.train_losses[done],
        test_losses=state.test_losses[done],
        validation_losses=None if state.validation_losses is None else state.validation_losses[done],
        best_epoch=state.best_epoch or None,
        **final,
    )


def paused_result(trial: Trial, state: TrialState, end: int, checkpoints: Checkpoints) -> TrialResult:
    """The result of a trial that waits after `end` epochs, its state saved. It may be further already."""
    if state.epoch == end:
        checkpoints.save(trial, state)
    return replace(_without_end(trial, state, end), is_paused=True)


def diverged_result(trial: Trial, state: TrialState) -> TrialResult:
    """The result of a trial that stopped being finite in the epoch after those of `state`."""
    return replace(_without_end(trial, state, state.epoch), failed_epoch=state.epoch + 1)


def _without_end(trial: Trial, state: TrialState, epochs: int) -> TrialResult:
    return TrialResult(
        trial=trial,
        train_losses=state.train_losses[:epochs],
        test_losses=state.test_losses[:epochs],
        final_train_loss=None,
        final_test_loss=None,
        row_errors=np.empty((0, 2), dtype=np.float32),
        parameters=np.empty(0, dtype=np.float32),
        seconds=state.seconds,
        validation_losses=None if state.validation_losses is None else state.validation_losses[:epochs],
    )
