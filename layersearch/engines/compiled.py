"""The compiled engine: trains trials with the kernel (`kernel/step.py`) on the CPU, one on each core.

train = compiled_trainer(table, settings)
result = train(trial)
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from layersearch.engines import lifecycle
from layersearch.engines.lifecycle import Checkpoints, Clock, InMemory, Trainer
from layersearch.engines.settings import SplitTable, TrainingSettings, nominal_seconds, settings_of
from layersearch.randomness import batch_order, dropout_threshold, stream_key
from layersearch.space.trials import Trial, TrialResult
from models import flatten

CALL_SECONDS = 5.0  # estimated duration of one call of the kernel, which trains several epochs
ORDER_ENTRIES = 2**20  # row numbers of batch orders that are computed at a time (4 MB), at least one epoch
ORDERS_KEPT = 2**24  # row numbers of batch orders in the cache (64 MB)


class BatchOrders:
    """A thread-safe cache of batch orders, which all configurations of a repeat and fold share.

    Called with a stream's key, the first epoch, the number of epochs and the number of training rows, it returns the
    batch orders of these epochs, [E, N_train] int32. It keeps the most recently used, up to `ORDERS_KEPT` row numbers.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, ...], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, key: int, first_epoch: int, n_epochs: int, n_rows: int) -> np.ndarray:
        name = (key, first_epoch, n_epochs, n_rows)
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        orders = np.stack([batch_order(key, epoch, n_rows) for epoch in range(first_epoch, first_epoch + n_epochs)])
        with self._lock:
            self._kept[name] = orders
            while sum(kept.size for kept in self._kept.values()) > ORDERS_KEPT:
                self._kept.popitem(last=False)
        return orders


_batch_orders = BatchOrders()


def first_parameters(trial: Trial, layers: np.ndarray, settings: TrainingSettings) -> np.ndarray:
    """Returns a trial's initial parameters [P] float32, equal to `flatten(build_model(trial, ...))` but 1 ms faster.

    Args:
        trial: the trial.
        layers: its layer table (`kernel.step.layer_table`).
        settings: settings common to all trials.
    """
    from layersearch.engines.kernel import step as kernel

    if settings.start:
        return flatten(lifecycle.build_model(trial, int(layers[0, kernel.N_IN]), settings))
    generator = lifecycle.weights_generator(trial, settings)
    flat = torch.zeros(kernel.n_parameters(layers))
    flat[: layers[0, kernel.WEIGHT] // 2] = 1  # gain of the input's LayerNorm, if it has one
    for n_in, n_out, weight, bias, gain, *_ in layers.tolist():
        nn.init.xavier_uniform_(flat[weight:bias].view(n_out, n_in), generator=generator)
        if gain:
            flat[gain : gain + n_out] = 1
    return flat.numpy()


def compiled_trainer(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """Returns a thread-safe function that trains one trial with the compiled kernel.

    Raises:
        ImportError: Numba is not installed.
    """
    from layersearch.engines.kernel import step as kernel

    checkpoints = InMemory() if checkpoints is None else checkpoints
    data = np.ascontiguousarray(table.values.cpu().numpy())
    train_rows, test_rows = table.train.cpu().numpy(), table.test.cpu().numpy()
    scored = np.concatenate([test_rows, train_rows]).astype(np.int32)
    test, train_part = scored[: len(test_rows)], scored[len(test_rows) :]
    validation = None if table.validation is None else table.validation.cpu().numpy().astype(np.int32)
    n_train = len(train_rows)
    batch_size = min(settings.batch_size, n_train)
    block = max(1, ORDER_ENTRIES // n_train)  # number of epochs whose orders are computed at a time

    def train(trial: Trial) -> TrialResult:
        own = settings_of(trial, settings)
        layers = kernel.layer_table(
            table.input_dim, own.latent_dim, trial.config, **own.normalizations, is_frozen=own.freezes_encoder
        )
        state = checkpoints.load(trial)
        if state is None:
            state = lifecycle.first_state(first_parameters(trial, layers, settings), settings)
        clock = Clock(state)
        work = kernel.allocate(layers, batch_size)
        errors = np.zeros((len(data), 2), dtype=np.float32)
        order_key = stream_key(settings.seed, *lifecycle.stream_name("order", trial))
        dropout_key = np.uint64(stream_key(settings.seed, *lifecycle.stream_name("dropout", trial)))
        nominal = nominal_seconds("compiled", state.parameters.size, n_train, replace(settings, epochs=1))
        at_a_time = 1 if settings.stops_early else max(1, int(CALL_SECONDS / nominal))
        while lifecycle.goes_on(state, settings):
            start = state.epoch // block * block
            orders = _batch_orders(order_key, start, min(block, settings.epochs - start), n_train)
            some = slice(state.epoch, min(start + len(orders), state.epoch + at_a_time, settings.end))
            n_epochs = some.stop - some.start
            finished = kernel.train_epochs(
                state.parameters, state.moments[0], state.moments[1], layers, work, data,
                train_part[orders[some.start - start : some.stop - start]], some.start, own.learning_rates[some],
                own.weight_decay, batch_size, dropout_key, dropout_threshold(own.dropout), test,
                state.train_losses[some], state.test_losses[some], errors,
            )  # fmt: skip
            state.epoch += finished
            state.seconds = clock.seconds
            if finished < n_epochs:
                return lifecycle.diverged_result(trial, state)
            if validation is not None and settings.stops_early:
                kernel.evaluate(state.parameters, layers, work, data, validation, errors)
                loss = kernel.loss_of_rows(errors, data, validation)
                lifecycle.note_validation(state, loss, state.parameters, settings)
            if state.epoch < settings.end and clock.is_due():
                checkpoints.save(trial, state)
        if lifecycle.has_paused(state, settings):
            return lifecycle.paused_result(trial, state, settings, checkpoints)
        parameters = state.parameters if state.best_parameters is None else state.best_parameters
        kernel.evaluate(parameters, layers, work, data, scored, errors)
        return lifecycle.finished_result(
            trial,
            state,
            final_train_loss=kernel.loss_of_rows(errors, data, train_part),
            final_test_loss=kernel.loss_of_rows(errors, data, test),
            row_errors=table.bundled(errors[test_rows]),
            parameters=parameters,
            seconds=clock.seconds,
        )

    return train
