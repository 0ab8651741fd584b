"""A trial from its first to its last epoch, by either engine, and running many of them.

    train = make_trainer("compiled", {None: table}, settings)
    for result in run_trials(trials, train, threads=2):
        ...

The reference engine is the plain PyTorch loop that defines what is right, on any device. The compiled
engine runs the same training in `kernel.py`, on the CPU, one trial per core. Both start from the same
initial weights and use the same batches and dropout patterns (`randomness.py`). A trial's numbers do
not depend on what else runs, or in what order.

AdamW: Loshchilov & Hutter 2019, arXiv:1711.05101. Cosine annealing: Loshchilov & Hutter 2017,
arXiv:1608.03983, one cycle without restarts.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from losses import loss_of_sums, sparse_aware_loss, squared_error_sums
from models import DynamicAutoencoder, flatten, load_flat
from randomness import batch_order, dropout_keep, dropout_threshold, stream_key, torch_generator
from search import Trial, TrialResult

Trainer = Callable[[Trial], TrialResult]

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
    return DynamicAutoencoder(input_dim, settings.latent_dim, trial.config, settings.dropout, generator=generator)


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


def make_trainer(engine: str, tables: Mapping[int | None, SplitTable], settings: TrainingSettings) -> Trainer:
    """The function that trains one trial on `engine` ("compiled" or "reference") and on its fold's table."""
    make = {"compiled": compiled_trainer, "reference": reference_trainer}[engine]
    trainers = {fold: make(table, settings) for fold, table in tables.items()}
    return lambda trial: trainers[trial.fold](trial)


@dataclass(frozen=True)
class Training:
    """How trials are trained: everything that all of them share."""

    settings: TrainingSettings
    tables: Mapping[int | None, SplitTable]  # by fold; None: the training and test rows
    engine: str
    threads: int

    def trainer(self, factor: int = 1) -> Trainer:
        """The function that trains a trial, `factor` times as long as asked for."""
        return make_trainer(self.engine, self.tables, replace(self.settings, epochs=factor * self.settings.epochs))

    def run(self, trials: Sequence[Trial], factor: int = 1) -> Iterator[TrialResult]:
        """Trains all, as many at a time as there are threads; yields results as they finish."""
        return run_trials(trials, self.trainer(factor), self.threads)


def nominal_seconds(engine: str, n_parameters: int, n_rows: int, settings: TrainingSettings) -> float:
    """About how long one training takes on one core: a fixed rule, to weigh plans with. A step's overhead and sums."""
    overhead, per_product = {"compiled": (2e-5, 1.5e-10), "reference": (1.5e-3, 3e-10)}[engine]
    batch_size = min(settings.batch_size, n_rows)
    steps = settings.epochs * -(-n_rows // batch_size)
    return steps * (overhead + per_product * n_parameters * batch_size)


def run_trials(trials: Sequence[Trial], train: Trainer, threads: int) -> Iterator[TrialResult]:
    """Trains all trials, `threads` at a time, and yields results as they finish.

    Closing the iterator, or an exception, drops the trials that have not started and does not wait for the others.
    """
    if threads == 1:
        yield from map(train, trials)
        return
    pool = ThreadPoolExecutor(threads)
    try:
        for future in as_completed([pool.submit(train, trial) for trial in trials]):
            yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@lru_cache(maxsize=16)
def _batch_orders(key: int, first_epoch: int, n_epochs: int, n_rows: int) -> np.ndarray:
    """The batch orders of some epochs, [E, N_train] int32; kept, since all configurations of a repeat share them."""
    return np.stack([batch_order(key, epoch, n_rows) for epoch in range(first_epoch, first_epoch + n_epochs)])


# ------------------------------------------------------------------------------------------ compiled


def compiled_trainer(table: SplitTable, settings: TrainingSettings) -> Trainer:
    """Trains trials in `kernel.py`. The returned function may be called from many threads at once.

    Raises:
        ImportError: Numba is not installed.
    """
    import kernel

    values = table.values.cpu().numpy()
    data = np.ascontiguousarray(np.nan_to_num(values, nan=0.0))
    observed = np.ascontiguousarray(~np.isnan(values)).view(np.uint8)
    train_rows, test_rows = table.train.cpu().numpy(), table.test.cpu().numpy()
    scored = np.concatenate([test_rows, train_rows]).astype(np.int32)
    n_test, n_train = len(test_rows), len(train_rows)
    batch_size = min(settings.batch_size, n_train)
    learning_rates = settings.learning_rates

    def train(trial: Trial) -> TrialResult:
        started = time.perf_counter()
        parameters = flatten(build_model(trial, table.input_dim, settings))
        moments = np.zeros((2, parameters.size), dtype=np.float32)
        layers = kernel.layer_table(table.input_dim, settings.latent_dim, trial.config)
        work = kernel.allocate(layers, batch_size)
        errors = np.zeros((len(data), 2), dtype=np.float32)
        train_losses, test_losses = np.zeros(settings.epochs), np.zeros(settings.epochs)
        order_key = stream_key(settings.seed, *stream_name("order", trial))
        dropout_key = np.uint64(stream_key(settings.seed, *stream_name("dropout", trial)))
        epochs_at_a_time = max(1, ORDER_ENTRIES // n_train)
        for first in range(0, settings.epochs, epochs_at_a_time):
            span = slice(first, min(first + epochs_at_a_time, settings.epochs))
            n_epochs = span.stop - first
            orders = _batch_orders(order_key, first, n_epochs, n_train)
            finished = kernel.train_epochs(
                parameters, moments[0], moments[1], layers, work, data, observed,
                scored[n_test:][orders], first, learning_rates[span], settings.weight_decay, batch_size, dropout_key,
                dropout_threshold(settings.dropout), scored, n_test, span.stop == settings.epochs,
                train_losses[span], test_losses[span], errors,
            )  # fmt: skip
            if finished < n_epochs:
                return _diverged(trial, train_losses[: first + finished], test_losses[: first + finished], started)
        return TrialResult(
            trial=trial,
            train_losses=train_losses,
            test_losses=test_losses,
            final_train_loss=kernel.loss_of_rows(errors, data, observed, scored[n_test:]),
            final_test_loss=float(test_losses[-1]),
            row_errors=errors[test_rows],
            parameters=parameters,
            seconds=time.perf_counter() - started,
        )

    return train


def compile_kernel() -> None:
    """Compiles the kernel, or loads it from Numba's cache, by training a tiny trial.

    Raises:
        ImportError: Numba is not installed.
    """
    table = SplitTable(torch.ones(4, 2), torch.tensor([0, 1, 2]), torch.tensor([3]))
    settings = TrainingSettings(
        latent_dim=1, epochs=1, batch_size=2, initial_lr=0.001, eta_min=0.0, weight_decay=0.0, dropout=0.0, seed=0
    )
    compiled_trainer(table, settings)(Trial((2,), 0))


# ----------------------------------------------------------------------------------------- reference


def reference_trainer(table: SplitTable, settings: TrainingSettings) -> Trainer:
    """Trains trials as a plain PyTorch loop over one `DynamicAutoencoder` on the table's device."""
    device = table.values.device
    train_targets, test_targets = table.values[table.train], table.values[table.test]
    train_inputs, test_inputs = train_targets.nan_to_num(nan=0.0), test_targets.nan_to_num(nan=0.0)
    n_train = len(train_targets)
    batch_size = min(settings.batch_size, n_train)
    n_steps = -(-n_train // batch_size)

    def train(trial: Trial) -> TrialResult:
        started = time.perf_counter()
        model = build_model(trial, table.input_dim, settings).to(device)
        optimizer = make_optimizer(model, settings)
        order_key = stream_key(settings.seed, *stream_name("order", trial))
        dropout_key = stream_key(settings.seed, *stream_name("dropout", trial))
        train_losses: list[float] = []
        test_losses: list[float] = []
        test_sums = torch.empty(0)
        for epoch, learning_rate in enumerate(settings.learning_rates):
            optimizer.param_groups[0]["lr"] = float(learning_rate)
            order = torch.from_numpy(batch_order(order_key, epoch, n_train)).to(device)
            masks = dropout_masks(model, dropout_key, epoch, batch_size, n_steps)
            losses = []
            for step, batch in enumerate(order.split(batch_size)):
                step_masks = [mask[step, : len(batch)] for mask in masks]
                losses.append(reference_step(model, optimizer, train_targets[batch], step_masks))
            test_sums = _evaluate(model, test_inputs, test_targets)
            epoch_losses = float(torch.stack(losses).double().mean()), loss_of_sums(test_sums, test_targets)
            if not np.isfinite(epoch_losses).all():
                return _diverged(trial, np.array(train_losses), np.array(test_losses), started)
            train_losses.append(epoch_losses[0])
            test_losses.append(epoch_losses[1])
        return TrialResult(
            trial=trial,
            train_losses=np.array(train_losses),
            test_losses=np.array(test_losses),
            final_train_loss=loss_of_sums(_evaluate(model, train_inputs, train_targets), train_targets),
            final_test_loss=test_losses[-1],
            row_errors=test_sums.cpu().numpy(),
            parameters=flatten(model),
            seconds=time.perf_counter() - started,
        )

    def train_on_one_thread(trial: Trial) -> TrialResult:
        with one_torch_thread():
            return train(trial)

    return train_on_one_thread if device.type == "cpu" else train


def make_optimizer(model: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """The optimizer of both engines; its learning rate is set anew each epoch."""
    return torch.optim.AdamW(model.parameters(), lr=settings.initial_lr, weight_decay=settings.weight_decay, fused=True)


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


def _diverged(trial: Trial, train_losses: np.ndarray, test_losses: np.ndarray, started: float) -> TrialResult:
    """The result of a trial that stopped being finite in the epoch after these."""
    return TrialResult(
        trial=trial,
        train_losses=train_losses,
        test_losses=test_losses,
        final_train_loss=None,
        final_test_loss=None,
        row_errors=np.empty((0, 2), dtype=np.float32),
        parameters=np.empty(0, dtype=np.float32),
        seconds=time.perf_counter() - started,
        failed_epoch=len(test_losses) + 1,
    )
