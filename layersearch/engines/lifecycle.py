"""The parts of a training that all engines share: initial weights, checkpoints, early stopping and results.

state = checkpoints.load(trial) or first_state(flatten(build_model(trial, input_dim, settings)), settings)
while goes_on(state, settings):
    ...                                          # an engine trains one epoch, or several
result = finished_result(trial, state, **final)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch

from layersearch.engines.settings import SplitTable, TrainingSettings, settings_of
from layersearch.randomness import torch_generator
from layersearch.space.configurations import decoder_dims, encoder_dims, layers_of
from layersearch.space.trials import Trial, TrialResult, TrialState
from models import DynamicAutoencoder, load_flat

Trainer = Callable[[Trial], TrialResult]

CHECKPOINT_SECONDS = 60.0  # training time between two checkpoints of the same trial

# Models and randomness


def build_model(trial: Trial, input_dim: int, settings: TrainingSettings) -> DynamicAutoencoder:
    """Returns the trial's untrained model on the CPU.

    Its weights depend only on the seed, the trial, and the saved weights that `settings.start` may provide.
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


def trained_model(result: TrialResult, table: SplitTable, settings: TrainingSettings) -> DynamicAutoencoder:
    """Returns the model of a finished training, in eval mode on the CPU."""
    model = build_model(result.trial, table.input_dim, settings)
    load_flat(model, result.parameters)
    return model.eval()


def weights_generator(trial: Trial, settings: TrainingSettings) -> torch.Generator:
    """Returns the generator of a trial's initial weights; variants of the same layers in a study share it."""
    return torch_generator(settings.seed, *stream_name("weights", trial), layers_of(trial.config))


def stream_name(what: str, trial: Trial) -> tuple[object, ...]:
    """Returns the name of a random stream of a trial, which all configurations share in the same repeat and fold."""
    return (what, trial.repeat) if trial.fold is None else (what, trial.repeat, "fold", trial.fold)


# Checkpoints


class Checkpoints(Protocol):
    """A storage for the states of unfinished trainings; `journal/checkpoints.py` stores them on disk."""

    def load(self, trial: Trial) -> TrialState | None:
        """Returns the last saved state of a trial, or None."""

    def save(self, trial: Trial, state: TrialState) -> None:
        """Saves the state of a trial, replacing the last one."""

    def remove(self, trial: Trial) -> None:
        """Removes the state of a trial that is finished or given up."""


class InMemory:
    """Checkpoints in memory, for the lifetime of the process."""

    def __init__(self) -> None:
        self._states: dict[Trial, TrialState] = {}

    def load(self, trial: Trial) -> TrialState | None:
        """Returns and removes the last saved state, since the caller will modify it."""
        return self._states.pop(trial, None)

    def save(self, trial: Trial, state: TrialState) -> None:
        """Saves the state of a trial, replacing the last one."""
        self._states[trial] = state

    def remove(self, trial: Trial) -> None:
        """Removes the state of a trial."""
        self._states.pop(trial, None)


def is_long(seconds: float) -> bool:
    """Returns whether a training takes so long that its weights should be saved rather than trained again."""
    return seconds > CHECKPOINT_SECONDS


class Clock:
    """Measures the training time of a trial, including earlier runs, and determines when a checkpoint is due."""

    def __init__(self, state: TrialState | None = None) -> None:
        self._before = state.seconds if state else 0.0
        self._started = self._saved = self._lapped = time.monotonic()

    @property
    def seconds(self) -> float:
        """The training time so far, in seconds."""
        return self._before + time.monotonic() - self._started

    def lap(self) -> float:
        """Returns the seconds since the last call (at first: since the start)."""
        before, self._lapped = self._lapped, time.monotonic()
        return self._lapped - before

    def is_due(self) -> bool:
        """Returns True if `CHECKPOINT_SECONDS` have passed since it last did (at first: since the start)."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True


# From the first epoch to the last


def first_state(parameters: np.ndarray, settings: TrainingSettings) -> TrialState:
    """Returns the state before the first epoch from initial parameters [P]."""
    return TrialState(
        epoch=0,
        train_losses=np.zeros(settings.epochs),
        test_losses=np.zeros(settings.epochs),
        parameters=parameters,
        moments=np.zeros((2, parameters.size), dtype=np.float32),
        validation_losses=np.zeros(settings.epochs) if settings.stops_early else None,
    )


def goes_on(state: TrialState, settings: TrainingSettings) -> bool:
    """Returns whether another epoch should be trained."""
    return state.epoch < settings.end and not _is_exhausted(state, settings)


def has_paused(state: TrialState, settings: TrainingSettings) -> bool:
    """Returns whether a training that does not go on has paused, rather than finished or stopped early."""
    has_stopped = state.epoch <= settings.end and _is_exhausted(state, settings)
    return settings.end < settings.epochs and not has_stopped


def _is_exhausted(state: TrialState, settings: TrainingSettings) -> bool:
    return settings.stops_early and state.epoch - state.best_epoch >= settings.patience


def note_validation(state: TrialState, loss: float, parameters: np.ndarray, settings: TrainingSettings) -> None:
    """Records the validation loss after epoch `state.epoch`, and copies the parameters [P] if they are the best yet."""
    assert state.validation_losses is not None
    state.validation_losses[state.epoch - 1] = loss
    best = state.validation_losses[state.best_epoch - 1] if state.best_epoch else np.inf
    if loss < best - settings.min_delta:
        state.best_epoch, state.best_parameters = state.epoch, parameters.copy()


# Results


def finished_result(trial: Trial, state: TrialState, **final: Any) -> TrialResult:
    """Returns the result of a training that finished or stopped early; `final` are the remaining fields."""
    done = slice(state.epoch)
    return TrialResult(
        trial=trial,
        train_losses=state.train_losses[done],
        test_losses=state.test_losses[done],
        validation_losses=None if state.validation_losses is None else state.validation_losses[done],
        best_epoch=state.best_epoch or None,
        **final,
    )


def paused_result(trial: Trial, state: TrialState, settings: TrainingSettings, checkpoints: Checkpoints) -> TrialResult:
    """Returns the result of a training that pauses, and saves its state."""
    if state.epoch == settings.end:  # otherwise the checkpoint was already beyond the pause
        checkpoints.save(trial, state)
    return replace(_unfinished_result(trial, state, settings.end), is_paused=True)


def diverged_result(trial: Trial, state: TrialState) -> TrialResult:
    """Returns the result of a training whose loss was not finite in epoch `state.epoch + 1`."""
    return replace(_unfinished_result(trial, state, state.epoch), failed_epoch=state.epoch + 1)


def _unfinished_result(trial: Trial, state: TrialState, epochs: int) -> TrialResult:
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
