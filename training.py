"""A trial from its first to its last epoch, by either engine.

    training = Training(settings, {None: table}, "compiled", threads=2)
    for result in training.run(trials):
        ...

The reference engine is the plain PyTorch loop that defines what is right, on any device. The compiled
engine runs the same training in `kernel.py`, on the CPU, one trial per core. Both start from the same
initial weights and use the same batches and dropout patterns (`randomness.py`). A trial's numbers do
not depend on what else runs, in what order, or how often it was interrupted.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101. Cosine annealing: Loshchilov & Hutter 2017,
arXiv:1608.03983, one cycle without restarts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from journal import Journal, Key
from losses import loss_of_sums, sparse_aware_loss, squared_error_sums
from models import DynamicAutoencoder, flatten, load_flat
from randomness import batch_order, dropout_keep, dropout_threshold, stream_key, torch_generator
from search import Trial, TrialResult, TrialState, decoder_dims, encoder_dims
from workers import run_trials

Trainer = Callable[[Trial], TrialResult]

CHECKPOINT_SECONDS = 60.0  # of training a single trial, between two times that its state is saved
CALL_SECONDS = 5.0  # of nominal cost, that the kernel is left alone for
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's, as torch names them
ROWS_AT_A_TIME = 2**16  # pushed through a model in eval mode
ORDER_ENTRIES = 2**20  # batch orders held at a time per stream, in rows: 4 MB


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
    pause_after: int | None = None  # epochs, of a schedule that is that of all `epochs`

    @property
    def stops_early(self) -> bool:
        """Whether trials may stop before their last epoch, and keep their best weights."""
        return self.patience > 0

    @cached_property
    def learning_rates(self) -> np.ndarray:
        """Cosine annealing from `initial_lr` in the first epoch towards `eta_min` after the last, [E]."""
        progress = np.arange(self.epochs) / self.epochs
        return self.eta_min + (self.initial_lr - self.eta_min) * (1 + np.cos(np.pi * progress)) / 2


@dataclass(frozen=True)
class SplitTable:
    """The scaled table and which of its rows train and which test, all on one device."""

    values: Tensor  # [N, F] float32, NaN = missing
    train: Tensor  # [N_train] int64
    test: Tensor  # [N_test] int64
    validation: Tensor | None = None  # [N_validation] int64, to decide when to stop; not among the others

    @property
    def input_dim(self) -> int:
        """F, the columns of the table."""
        return self.values.shape[1]

    @property
    def scored_cells(self) -> np.ndarray:
        """Of each test row: how many cells are not zero, how many are observed, [N_test, 2] int64."""
        targets = self.values[self.test]
        observed = ~targets.isnan()
        return torch.stack([((targets != 0) & observed).sum(1), observed.sum(1)], dim=1).cpu().numpy()

    @property
    def is_test(self) -> np.ndarray:
        """Which rows test, [N] bool."""
        is_test = np.zeros(len(self.values), dtype=bool)
        is_test[self.test.cpu().numpy()] = True
        return is_test


def build_model(trial: Trial, input_dim: int, settings: TrainingSettings) -> DynamicAutoencoder:
    """The trial's model before training, on the CPU; its weights depend on the seed and the trial alone."""
    generator = torch_generator(settings.seed, *stream_name("weights", trial), trial.config)
    return DynamicAutoencoder(
        input_dim,
        settings.latent_dim,
        encoder_dims(trial.config),
        settings.dropout,
        decoder_dims=decoder_dims(trial.config),
        generator=generator,
    )


def stream_name(what: str, trial: Trial) -> tuple[object, ...]:
    """The name of a trial's stream of randomness: all configurations of a repeat (and fold) share it."""
    return (what, trial.repeat) if trial.fold is None else (what, trial.repeat, "fold", trial.fold)


def trained_model(result: TrialResult, table: SplitTable, settings: TrainingSettings) -> DynamicAutoencoder:
    """The model that a trial ended with, in eval mode, on the CPU."""
    model = build_model(result.trial, table.input_dim, settings)
    load_flat(model, result.parameters)
    return model.eval()


@torch.no_grad()
def encode_table(model: DynamicAutoencoder, table: SplitTable) -> tuple[np.ndarray, np.ndarray]:
    """Of every row: latent coordinates [N, L], and mean squared error over its observed cells [N], in scaled units."""
    codes, errors = [], []
    for values in table.values.cpu().split(ROWS_AT_A_TIME):
        reconstruction, latent = model(values.nan_to_num(nan=0.0))
        codes.append(latent)
        errors.append(squared_error_sums(reconstruction, values)[:, 1] / (~values.isnan()).sum(1))
    return torch.cat(codes).numpy(), torch.cat(errors).numpy()


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


def make_trainer(
    engine: str,
    tables: Mapping[int | None, SplitTable],
    settings: TrainingSettings,
    checkpoints: Checkpoints | None = None,
) -> Trainer:
    """The function that trains one trial on `engine` ("compiled" or "reference") and on its fold's table."""
    make = {"compiled": compiled_trainer, "reference": reference_trainer}[engine]
    trainers = {fold: make(table, settings, checkpoints) for fold, table in tables.items()}
    return lambda trial: trainers[trial.fold](trial)


@dataclass(frozen=True)
class Training:
    """How trials are trained, and kept: everything that all of them share.

    With a journal nothing is trained that it holds already, and everything that is trained goes there at once.
    """

    settings: TrainingSettings
    tables: Mapping[int | None, SplitTable]  # by fold; None: the training and test rows
    engine: str
    threads: int
    journal: Journal | None = None
    stops: Callable[[], bool] = field(default=lambda: False)  # whether to train no more
    on_fewer: Callable[[int], None] = field(default=lambda threads: None)  # told where memory is short
    states: dict[int, InMemory] = field(default_factory=dict)  # of what pauses, by epochs, where there is no journal

    def settings_for(self, factor: int = 1, pause_after: int | None = None) -> TrainingSettings:
        """The settings of trials that are `factor` times as long as asked for, or pause after so many epochs."""
        return replace(self.settings, epochs=factor * self.settings.epochs, pause_after=pause_after)

    def trainer(self, factor: int = 1, pause_after: int | None = None) -> Trainer:
        """The function that trains a trial, from where it paused if it did."""
        settings = self.settings_for(factor, pause_after)
        return make_trainer(self.engine, self.tables, settings, self._checkpoints(settings.epochs))

    def run(self, trials: Sequence[Trial], factor: int = 1, *, pause_after: int | None = None) -> Iterator[TrialResult]:
        """Trains all, `factor` times as long as asked for, as many at a time as there are threads.

        Yields results as they finish, those of the journal first, and fewer than asked for once `stops` says so.
        """
        kept = self.kept(trials, factor, pause_after=pause_after)
        yield from kept.values()
        missing = [trial for trial in trials if trial not in kept]
        train = self.trainer(factor, pause_after)
        for result in run_trials(missing, train, self.threads, stops=self._stops, on_fewer=self.on_fewer):
            if self.journal:
                may_be_chosen = factor == 1 and result.trial.fold is None
                with_weights = may_be_chosen and result.seconds > CHECKPOINT_SECONDS
                key = Key(result.trial, factor * self.settings.epochs, pause_after if result.is_paused else None)
                self.journal.append(key, result, with_weights=with_weights)
            if not result.is_paused:
                self._checkpoints(factor * self.settings.epochs).remove(result.trial)
            yield result
        if self.journal:
            self.journal.sync(at_once=True)

    def kept(
        self, trials: Sequence[Trial], factor: int = 1, *, pause_after: int | None = None
    ) -> dict[Trial, TrialResult]:
        """Those that the journal holds."""
        if self.journal is None:
            return {}
        found = {trial: self._find(trial, factor * self.settings.epochs, pause_after) for trial in trials}
        return {trial: result for trial, result in found.items() if result}

    def _find(self, trial: Trial, epochs: int, pause_after: int | None) -> TrialResult | None:
        """What the journal holds of this one: where it paused, or its end if it came to that by then."""
        assert self.journal is not None
        result = self.journal.find(Key(trial, epochs, pause_after))
        if result is None and pause_after is not None:
            end = self.journal.find(Key(trial, epochs))
            if end and (end.failed_epoch or len(end.test_losses)) <= pause_after:
                return end
        return result

    def drop(self, trials: Sequence[Trial]) -> None:
        """These have paused and will not go on."""
        for trial in trials:
            self._checkpoints(self.settings.epochs).remove(trial)

    def with_weights(self, result: TrialResult) -> TrialResult | None:
        """The same result, its weights made again if they were not kept; from now on they are. None if told to stop."""
        if result.has_failed:
            return result
        if not result.parameters.size:
            made = list(run_trials([result.trial], self.trainer(), 1, stops=self._stops))
            if not made:
                return None
            result = made[0]
        if self.journal:
            self.journal.append_weights(Key(result.trial, self.settings.epochs), result)
            self._checkpoints(self.settings.epochs).remove(result.trial)
        return result

    def _checkpoints(self, epochs: int) -> Checkpoints:
        return self.journal.checkpoints(epochs) if self.journal else self.states.setdefault(epochs, InMemory())

    def _stops(self) -> bool:
        if self.journal:
            self.journal.sync()
        return self.stops()


def nominal_seconds(engine: str, n_parameters: int, n_rows: int, settings: TrainingSettings) -> float:
    """About how long one training takes on one core: a fixed rule, to weigh plans with. A step's overhead and sums."""
    overhead, per_product = {"compiled": (2e-5, 1.5e-10), "reference": (1.5e-3, 3e-10)}[engine]
    batch_size = min(settings.batch_size, n_rows)
    steps = settings.epochs * -(-n_rows // batch_size)
    return steps * (overhead + per_product * n_parameters * batch_size)


class _Clock:
    """How long a trial has been trained, earlier runs included, and when its state is to be saved."""

    def __init__(self, state: TrialState) -> None:
        self._before = state.seconds
        self._started = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def is_due(self) -> bool:
        """Whether `CHECKPOINT_SECONDS` have passed since this was last true."""
        if time.monotonic() - self._saved < CHECKPOINT_SECONDS:
            return False
        self._saved = time.monotonic()
        return True


def _first_state(parameters: np.ndarray, settings: TrainingSettings) -> TrialState:
    """A trial that is about to start."""
    return TrialState(
        epoch=0,
        train_losses=np.zeros(settings.epochs),
        test_losses=np.zeros(settings.epochs),
        parameters=parameters,
        moments=np.zeros((2, parameters.size), dtype=np.float32),
        validation_losses=np.zeros(settings.epochs) if settings.stops_early else None,
    )


def _is_exhausted(state: TrialState, settings: TrainingSettings) -> bool:
    """Whether so many epochs went by without improvement that the trial stops."""
    return settings.stops_early and state.epoch - state.best_epoch >= settings.patience


def _note_validation(state: TrialState, loss: float, parameters: np.ndarray, settings: TrainingSettings) -> None:
    """The epoch that was just done, number `state.epoch`, has this validation loss and these `parameters`."""
    assert state.validation_losses is not None
    state.validation_losses[state.epoch - 1] = loss
    best = state.validation_losses[state.best_epoch - 1] if state.best_epoch else np.inf
    if loss < best - settings.min_delta:
        state.best_epoch, state.best_parameters = state.epoch, parameters.copy()


@lru_cache(maxsize=16)
def _batch_orders(key: int, first_epoch: int, n_epochs: int, n_rows: int) -> np.ndarray:
    """The batch orders of some epochs, [E, N_train] int32; kept, since all configurations of a repeat share them."""
    return np.stack([batch_order(key, epoch, n_rows) for epoch in range(first_epoch, first_epoch + n_epochs)])


# ------------------------------------------------------------------------------------------ compiled


def compiled_trainer(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """Trains trials in `kernel.py`. The returned function may be called from many threads at once.

    Raises:
        ImportError: Numba is not installed.
    """
    import kernel

    checkpoints = InMemory() if checkpoints is None else checkpoints
    values = table.values.cpu().numpy()
    data = np.ascontiguousarray(np.nan_to_num(values, nan=0.0))
    observed = np.ascontiguousarray(~np.isnan(values)).view(np.uint8)
    train_rows, test_rows = table.train.cpu().numpy(), table.test.cpu().numpy()
    scored = np.concatenate([test_rows, train_rows]).astype(np.int32)
    test, train_part = scored[: len(test_rows)], scored[len(test_rows) :]
    validation = None if table.validation is None else table.validation.cpu().numpy().astype(np.int32)
    n_train = len(train_rows)
    batch_size = min(settings.batch_size, n_train)
    learning_rates = settings.learning_rates
    block = max(1, ORDER_ENTRIES // n_train)  # epochs
    end = min(settings.epochs, settings.pause_after or settings.epochs)

    def train(trial: Trial) -> TrialResult:
        state = checkpoints.load(trial)
        if state is None:
            state = _first_state(flatten(build_model(trial, table.input_dim, settings)), settings)
        clock = _Clock(state)
        layers = kernel.layer_table(table.input_dim, settings.latent_dim, trial.config)
        work = kernel.allocate(layers, batch_size)
        errors = np.zeros((len(data), 2), dtype=np.float32)
        order_key = stream_key(settings.seed, *stream_name("order", trial))
        dropout_key = np.uint64(stream_key(settings.seed, *stream_name("dropout", trial)))
        nominal = nominal_seconds("compiled", state.parameters.size, n_train, replace(settings, epochs=1))
        at_a_time = 1 if settings.stops_early else max(1, int(CALL_SECONDS / nominal))
        while state.epoch < end and not _is_exhausted(state, settings):
            start = state.epoch // block * block
            orders = _batch_orders(order_key, start, min(block, settings.epochs - start), n_train)
            some = slice(state.epoch, min(start + len(orders), state.epoch + at_a_time, end))
            n_epochs = some.stop - some.start
            finished = kernel.train_epochs(
                state.parameters, state.moments[0], state.moments[1], layers, work, data, observed,
                train_part[orders[some.start - start : some.stop - start]], some.start, learning_rates[some],
                settings.weight_decay, batch_size, dropout_key, dropout_threshold(settings.dropout), test,
                state.train_losses[some], state.test_losses[some], errors,
            )  # fmt: skip
            state.epoch += finished
            state.seconds = clock.seconds
            if finished < n_epochs:
                return _diverged(trial, state)
            if validation is not None and settings.stops_early:
                kernel.evaluate(state.parameters, layers, work, data, observed, validation, errors)
                loss = kernel.loss_of_rows(errors, data, observed, validation)
                _note_validation(state, loss, state.parameters, settings)
            if state.epoch < end and clock.is_due():
                checkpoints.save(trial, state)
        if end < settings.epochs and not (state.epoch <= end and _is_exhausted(state, settings)):
            return _paused(trial, state, end, checkpoints)
        parameters = state.parameters if state.best_parameters is None else state.best_parameters
        kernel.evaluate(parameters, layers, work, data, observed, scored, errors)
        return _finished(
            trial,
            state,
            final_train_loss=kernel.loss_of_rows(errors, data, observed, train_part),
            final_test_loss=kernel.loss_of_rows(errors, data, observed, test),
            row_errors=errors[test_rows],
            parameters=parameters,
            seconds=clock.seconds,
        )

    return train


def try_out(engine: str) -> str:
    """Trains a small trial on the CPU: compiles the kernel, or loads it from Numba's cache, where `engine` has one.

    Returns the digest of its bits. They depend on the processor, on libraries and on settings of theirs that no
    version tells.

    Raises:
        ImportError: Numba is not installed.
    """
    values = torch.arange(40 * 24).remainder(97).reshape(40, 24) / 97  # exact anywhere
    table = SplitTable(values, torch.arange(33), torch.arange(33, 40))
    settings = TrainingSettings(
        latent_dim=3, epochs=2, batch_size=32, initial_lr=0.01, eta_min=1e-6, weight_decay=1e-4, dropout=0.1, seed=0
    )
    make = {"compiled": compiled_trainer, "reference": reference_trainer}[engine]
    result = make(table, settings)(Trial((33, 17), 0))
    digest = hashlib.blake2b(result.parameters.tobytes() + result.row_errors.tobytes(), digest_size=8)
    return digest.hexdigest()


# ----------------------------------------------------------------------------------------- reference


def reference_trainer(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """Trains trials as a plain PyTorch loop over one `DynamicAutoencoder` on the table's device."""
    checkpoints = InMemory() if checkpoints is None else checkpoints
    device = table.values.device
    train_targets, test_targets = table.values[table.train], table.values[table.test]
    train_inputs, test_inputs = train_targets.nan_to_num(nan=0.0), test_targets.nan_to_num(nan=0.0)
    validation = None if table.validation is None else table.values[table.validation]
    n_train = len(train_targets)
    batch_size = min(settings.batch_size, n_train)
    n_steps = -(-n_train // batch_size)
    end = min(settings.epochs, settings.pause_after or settings.epochs)

    def train(trial: Trial) -> TrialResult:
        model = build_model(trial, table.input_dim, settings)
        state = checkpoints.load(trial) or _first_state(flatten(model), settings)
        load_flat(model, state.parameters)
        model, clock = model.to(device), _Clock(state)
        optimizer = make_optimizer(model, settings)
        if state.epoch:
            set_moments(optimizer, state.moments, state.epoch * n_steps)
        order_key = stream_key(settings.seed, *stream_name("order", trial))
        dropout_key = stream_key(settings.seed, *stream_name("dropout", trial))

        def run_epoch(epoch: int) -> float:
            """Returns the mean loss of its batches."""
            optimizer.param_groups[0]["lr"] = float(settings.learning_rates[epoch])
            order = torch.from_numpy(batch_order(order_key, epoch, n_train)).to(device)
            masks = dropout_masks(model, dropout_key, epoch, batch_size, n_steps)
            losses = []
            for step, batch in enumerate(order.split(batch_size)):
                step_masks = [mask[step, : len(batch)] for mask in masks]
                losses.append(reference_step(model, optimizer, train_targets[batch], step_masks))
            return float(torch.stack(losses).double().mean())

        def bring_up_to_date() -> None:
            state.parameters, state.moments = flatten(model), get_moments(optimizer)

        while state.epoch < end and not _is_exhausted(state, settings):
            epoch = state.epoch
            state.train_losses[epoch] = run_epoch(epoch)
            state.test_losses[epoch] = loss_of_sums(_evaluate(model, test_inputs, test_targets), test_targets)
            state.seconds = clock.seconds
            if not np.isfinite([state.train_losses[epoch], state.test_losses[epoch]]).all():
                return _diverged(trial, state)
            state.epoch += 1
            if validation is not None and settings.stops_early:
                sums = _evaluate(model, validation.nan_to_num(nan=0.0), validation)
                _note_validation(state, loss_of_sums(sums, validation), flatten(model), settings)
            if state.epoch < end and clock.is_due():
                bring_up_to_date()
                checkpoints.save(trial, state)
        if end < settings.epochs and not (state.epoch <= end and _is_exhausted(state, settings)):
            if optimizer.state:
                bring_up_to_date()
            return _paused(trial, state, end, checkpoints)
        if state.best_parameters is not None:
            load_flat(model, state.best_parameters)
        test_sums = _evaluate(model, test_inputs, test_targets)
        return _finished(
            trial,
            state,
            final_train_loss=loss_of_sums(_evaluate(model, train_inputs, train_targets), train_targets),
            final_test_loss=loss_of_sums(test_sums, test_targets),
            row_errors=test_sums.cpu().numpy(),
            parameters=flatten(model),
            seconds=clock.seconds,
        )

    def train_on_one_thread(trial: Trial) -> TrialResult:
        with one_torch_thread():
            return train(trial)

    return train_on_one_thread if device.type == "cpu" else train


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """The optimizer of both engines; its learning rate is set anew each epoch."""
    return torch.optim.AdamW(model.parameters(), lr=settings.initial_lr, weight_decay=settings.weight_decay, fused=True)


def get_moments(optimizer: torch.optim.Optimizer) -> np.ndarray:
    """Both moments of AdamW, in the order of `models.flatten`, [2, P] float32."""
    states = [optimizer.state[parameter] for parameter in optimizer.param_groups[0]["params"]]
    flat = [torch.cat([state[name].ravel() for state in states]) for name in MOMENTS]
    return torch.stack(flat).cpu().numpy()


def set_moments(optimizer: torch.optim.Optimizer, moments: np.ndarray, step: int) -> None:
    """As if the optimizer had done `step` steps and come to these `moments` [2, P]."""
    start, state = 0, {}
    for number, parameter in enumerate(optimizer.param_groups[0]["params"]):
        part = torch.from_numpy(moments[:, start : start + parameter.numel()])
        shaped = {name: values.view_as(parameter).clone() for name, values in zip(MOMENTS, part, strict=True)}
        state[number] = {"step": torch.tensor(float(step)), **shaped}
        start += parameter.numel()
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def reference_step(
    model: DynamicAutoencoder, optimizer: torch.optim.Optimizer, target: Tensor, masks: Sequence[Tensor]
) -> Tensor:
    """One training step on the batch `target` [B, F] (NaN = missing) with these dropout masks; returns its loss."""
    reconstruction = forward_with_masks(model, target.nan_to_num(nan=0.0), masks)
    loss = sparse_aware_loss(reconstruction, target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def forward_with_masks(model: DynamicAutoencoder, x: Tensor, masks: Sequence[Tensor]) -> Tensor:
    """`model(x)[0]` with each dropout layer replaced by the product with its mask, [B, H] of 0 and 1/(1-p)."""
    remaining = iter(masks)
    x = model.input_norm(x)
    for layer in [*model.encoder, *model.decoder]:
        if not isinstance(layer, nn.Dropout):
            x = layer(x)
        elif masks:
            x = x * next(remaining)
    return x


def dropout_masks(model: DynamicAutoencoder, key: int, epoch: int, batch_size: int, n_steps: int) -> list[Tensor]:
    """The masks of an epoch: per dropout layer [n_steps, B, H] of 0 and 1/(1-p); none without dropout.

    A layer's pattern is numbered by the Linear layer in front of it, counted from the input.
    """
    if model.dropout == 0:
        return []
    device = next(model.parameters()).device
    layers = [layer for layer in [*model.encoder, *model.decoder] if isinstance(layer, nn.Linear)]
    masks = []
    for number, layer in enumerate(layers):
        if number not in (len(model.hidden_dims), len(layers) - 1):  # neither the latent nor the output
            keep = dropout_keep(key, epoch, number, layer.out_features, batch_size, n_steps, model.dropout)
            masks.append(torch.from_numpy(keep).to(device).float().contiguous() / (1 - model.dropout))
    return masks


@torch.no_grad()
def _evaluate(model: DynamicAutoencoder, inputs: Tensor, targets: Tensor) -> Tensor:
    """`squared_error_sums` of all rows in eval mode, [N, 2]; leaves the model in training mode."""
    model.eval()
    sums = [
        squared_error_sums(model(x)[0], target)
        for x, target in zip(inputs.split(ROWS_AT_A_TIME), targets.split(ROWS_AT_A_TIME), strict=True)
    ]
    model.train()
    return torch.cat(sums)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """More threads only slow matrices of this size down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _finished(trial: Trial, state: TrialState, **final: Any) -> TrialResult:
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


def _paused(trial: Trial, state: TrialState, end: int, checkpoints: Checkpoints) -> TrialResult:
    """The result of a trial that waits after `end` epochs, its state saved. It may be further already."""
    if state.epoch == end:
        checkpoints.save(trial, state)
    return replace(_without_end(trial, state, end), is_paused=True)


def _diverged(trial: Trial, state: TrialState) -> TrialResult:
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
