"""The compiled engine: a trial trained by `kernel.py`, on the CPU, as many at a time as there are cores.

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

from layersearch.engines.lifecycle import (
    Checkpoints,
    Clock,
    InMemory,
    SplitTable,
    Trainer,
    TrainingSettings,
    build_model,
    diverged_result,
    finished_result,
    first_state,
    is_exhausted,
    nominal_seconds,
    note_validation,
    paused_result,
    settings_of,
    stream_name,
    weights_generator,
)
from layersearch.randomness import batch_order, dropout_threshold, stream_key
from layersearch.space.trials import Trial, TrialResult
from models import flatten

CALL_SECONDS = 5.0  # of nominal cost, that the kernel is left alone for
ORDER_ENTRIES = 2**20  # batch orders made at a time, in rows: 4 MB, or a single epoch
ORDERS_KEPT = 2**24  # in rows: 64 MB


class BatchOrders:
    """The batch orders of some epochs, [E, N_train] int32; the last that were used are kept, up to `ORDERS_KEPT`.

    All configurations of a repeat (and fold) share them. For any thread.
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
    """`flatten(build_model(trial, …))`, [P] float32, by its layer table: building a model takes a millisecond."""
    from layersearch.engines.kernel import step as kernel

    if settings.start:
        return flatten(build_model(trial, int(layers[0, kernel.N_IN]), settings))
    generator = weights_generator(trial, settings)
    flat = torch.zeros(kernel.n_parameters(layers))
    flat[: layers[0, kernel.WEIGHT] // 2] = 1  # the gain of the input's LayerNorm, if there is one
    for n_in, n_out, weight, bias, gain, *_ in layers.tolist():
        nn.init.xavier_uniform_(flat[weight:bias].view(n_out, n_in), generator=generator)
        if gain:
            flat[gain : gain + n_out] = 1
    return flat.numpy()


def compiled_trainer(table: SplitTable, settings: TrainingSettings, checkpoints: Checkpoints | None = None) -> Trainer:
    """Trains trials in `kernel.py`. The returned function may be called from many threads at once.

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
    learning_rates = settings.learning_rates
    block = max(1, ORDER_ENTRIES // n_train)  # epochs
    end = min(settings.epochs, settings.pause_after or settings.epochs)

    def train(trial: Trial) -> TrialResult:
        own = settings_of(trial, settings)
        layers = kernel.layer_table(
            table.input_dim, own.latent_dim, trial.config, **own.normalizations, is_frozen=own.freezes_encoder
        )
        state = checkpoints.load(trial)
        if state is None:
            state = first_state(first_parameters(trial, layers, settings), settings)
        clock = Clock(state)
        work = kernel.allocate(layers, batch_size)
        errors = np.zeros((len(data), 2), dtype=np.float32)
        order_key = stream_key(settings.seed, *stream_name("order", trial))
        dropout_key = np.uint64(stream_key(settings.seed, *stream_name("dropout", trial)))
        nominal = nominal_seconds("compiled", state.parameters.size, n_train, replace(settings, epochs=1))
        at_a_time = 1 if settings.stops_early else max(1, int(CALL_SECONDS / nominal))
        while state.epoch < end and not is_exhausted(state, settings):
            start = state.epoch // block * block
            orders = _batch_orders(order_key, start, min(block, settings.epochs - start), n_train)
            some = slice(state.epoch, min(start + len(orders), state.epoch + at_a_time, end))
            n_epochs = some.stop - some.start
            finished = kernel.train_epochs(
                state.parameters, state.moments[0], state.moments[1], layers, work, data,
                train_part[orders[some.start - start : some.stop - start]], some.start, learning_rates[some],
                own.weight_decay, batch_size, dropout_key, dropout_threshold(own.dropout), test,
                state.train_losses[some], state.test_losses[some], errors,
            )  # fmt: skip
            state.epoch += finished
            state.seconds = clock.seconds
            if finished < n_epochs:
                return diverged_result(trial, state)
            if validation is not None and settings.stops_early:
                kernel.evaluate(state.parameters, layers, work, data, validation, errors)
                loss = kernel.loss_of_rows(errors, data, validation)
                note_validation(state, loss, state.parameters, settings)
            if state.epoch < end and clock.is_due():
                checkpoints.save(trial, state)
        if end < settings.epochs and not (state.epoch <= end and is_exhausted(state, settings)):
            return paused_result(trial, state, end, checkpoints)
        parameters = state.parameters if state.best_parameters is None else state.best_parameters
        kernel.evaluate(parameters, layers, work, data, scored, errors)
        return finished_result(
            trial,
            state,
            final_train_loss=kernel.loss_of_rows(errors, data, train_part),
            final_test_loss=kernel.loss_of_rows(errors, data, test),
            row_errors=table.bundled(errors[test_rows]),
            parameters=parameters,
            seconds=clock.seconds,
        )

    return train
